"""A login by SCRAM: neither side tells the password, and each proves that it knows it (RFC 5802)."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from protocols.amqp.codec import frames
from protocols.amqp.codec import performatives as p
from protocols.amqp.sasl import Login
from protocols.amqp.settings import Amqp10Settings
from protocols.amqp.spec import check
from tests.protocols.amqp.raw import Raw
from tests.protocols.amqp.stand import Stand
from tests.protocols.scramclient import NAMES, final, kept


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("scram"), users=[("ana", "plain secret", ()), ("bob", "other", ())]).start()
    for mechanism in NAMES:
        made.do(lambda mechanism=mechanism: made.scram.set("ana", mechanism, kept(mechanism, b"secret")))
    yield made
    made.stop()


def begin(stand, mechanism, user="ana", *, initial=True):
    """The connection, the client's first message and the server's."""
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.SASL_HEADER)
    assert raw.bytes(8) == frames.SASL_HEADER
    assert set(raw.expect(p.SaslMechanisms).mechanisms) >= {"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"}
    bare = b"n=%b,r=client" % user.encode()
    raw.send(p.SaslInit(mechanism, b"n,," + bare if initial else None), kind=frames.SASL)
    if not initial:
        assert raw.expect(p.SaslChallenge).challenge == b""
        raw.send(p.SaslResponse(b"n,," + bare), kind=frames.SASL)
    return raw, bare, raw.expect(p.SaslChallenge).challenge


@pytest.mark.parametrize("mechanism", NAMES)
@pytest.mark.parametrize("initial", [True, False])
def test_who_proves_the_password_is_in_and_the_server_proves_it_too(stand, mechanism, initial):
    raw, bare, challenge = begin(stand, mechanism, initial=initial)
    answer, theirs = final(mechanism, b"secret", bare, challenge)
    raw.send(p.SaslResponse(answer), kind=frames.SASL)
    assert raw.expect(p.SaslChallenge).challenge == theirs
    raw.send(p.SaslResponse(b""), kind=frames.SASL)
    assert raw.expect(p.SaslOutcome).outcome == 0
    raw.open("by-scram")
    assert {row["user"] for row in stand.do(stand.amqp.clients_snapshot) if row["client_id"] == "by-scram"} == {"ana"}
    raw.send(p.Close())
    assert raw.closed() is None


@pytest.mark.parametrize(("user", "password"), [("ana", b"wrong"), ("ana", b"plain secret"), ("bob", b"other"),
                                                ("nobody", b"x")])
def test_who_does_not_is_out(stand, user, password):
    raw, bare, challenge = begin(stand, "SCRAM-SHA-256", user)
    raw.send(p.SaslResponse(final("SCRAM-SHA-256", password, bare, challenge)[0]), kind=frames.SASL)
    assert raw.expect(p.SaslOutcome).outcome == 1
    assert raw.gone()


@pytest.mark.parametrize("response", [b"", b"n,,", b"y,,n=ana,r=x", b"\xff" * 100, b"n,,n=ana,r="])
def test_a_first_message_that_is_none_is_out(stand, response):
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.SASL_HEADER)
    raw.bytes(8)
    raw.expect(p.SaslMechanisms)
    raw.send(p.SaslInit("SCRAM-SHA-256", response), kind=frames.SASL)
    assert raw.expect(p.SaslOutcome).outcome == 1


def test_where_nobody_has_such_a_password_it_is_not_offered(tmp_path):
    other = Stand(tmp_path, users=[("ana", "secret", ())]).start()
    try:
        raw = Raw(other.port, login=False)
        assert raw.sasl("SCRAM-SHA-256", b"n,,n=ana,r=x") == 1
        assert not [name for name in raw.mechanisms if name.startswith("SCRAM")]
    finally:
        other.stop()


def offered(stand):
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.SASL_HEADER)
    raw.bytes(8)
    found = raw.expect(p.SaslMechanisms).mechanisms
    raw.socket.close()
    return found


def test_the_configuration_says_which_mechanisms_there_are_and_in_which_order(tmp_path):
    other = Stand(tmp_path, users=[("ana", "plain secret", ())], settings=Amqp10Settings(
        mechanisms=("XOAUTH2", "SCRAM-SHA-256", "PLAIN", "ANONYMOUS"))).start()
    try:
        assert offered(other) == ("XOAUTH2", "PLAIN"), "nobody has a SCRAM password, and all have to log in"
        for mechanism in NAMES:
            other.do(lambda mechanism=mechanism: other.scram.set("ana", mechanism, kept(mechanism, b"secret")))
        assert offered(other) == ("XOAUTH2", "SCRAM-SHA-256", "PLAIN")
        raw = Raw(other.port, login=False)
        assert raw.sasl("SCRAM-SHA-512", b"n,,n=ana,r=x") == 1, "it was not offered"
        assert Raw(other.port, login=False).sasl("PLAIN", b"\0ana\0plain secret") == 0
    finally:
        other.stop()


@pytest.mark.parametrize(("secure", "wanted", "found"), [
    (False, (), ("SCRAM-SHA-512", "PLAIN", "OAUTHBEARER", "XOAUTH2")), (True, (), ("PLAIN", "OAUTHBEARER", "XOAUTH2")),
    (True, ("PLAIN", "SCRAM-SHA-512"), ("PLAIN", "SCRAM-SHA-512")), (True, ("EXTERNAL",), ("EXTERNAL",))])
def test_scram_is_not_pushed_on_who_need_not_have_a_password_for_it(secure, wanted, found):
    """Clients prefer it to PLAIN, which nobody can overhear where there is TLS."""
    scram = SimpleNamespace(usable=("SCRAM-SHA-512",))
    login = Login(SimpleNamespace(open=False), "here", None, plain=True, scram=scram, wanted=wanted, secure=secure)
    assert login.mechanisms == found


def test_a_mechanism_that_is_none_is_no_setting():
    (wrong,) = check(Amqp10Settings(mechanisms=("PLAIN", "CRAM-MD5")))
    assert wrong.startswith("amqp10.mechanisms: ")
    assert not list(check(Amqp10Settings(mechanisms=("PLAIN",))))
