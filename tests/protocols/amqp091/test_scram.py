"""A login by SCRAM: neither side tells the password, and each proves that it knows it (RFC 5802)."""
from __future__ import annotations

import pytest

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.settings import AmqpSettings
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand
from tests.protocols.scramclient import NAMES, final, kept


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    made = Stand(tmp_path_factory.mktemp("scram"), users=[("ana", "plain secret", ()), ("bob", "other", ())]).start()
    for mechanism in NAMES:
        made.do(lambda mechanism=mechanism: made.scram.set("ana", mechanism, kept(mechanism, b"secret")))
    yield made
    made.stop()


def begin(stand, mechanism, user="ana"):
    """The connection, the client's first message and the server's."""
    raw = Raw(stand.port, login=False)
    raw.send_raw(frames.PROTOCOL_HEADER)
    offered = raw.expect(methods.ConnectionStart).mechanisms.split()
    assert offered == [b"PLAIN", b"AMQPLAIN", b"SCRAM-SHA-512", b"SCRAM-SHA-256"]
    bare = b"n=%b,r=client" % user.encode()
    raw.send(0, methods.ConnectionStartOk({"capabilities": raw.capabilities}, mechanism, b"n,," + bare, "en_US"))
    return raw, bare, raw.expect(methods.ConnectionSecure).challenge


@pytest.mark.parametrize("mechanism", NAMES)
def test_who_proves_the_password_is_in_and_the_server_proves_it_too(stand, mechanism):
    raw, bare, challenge = begin(stand, mechanism)
    answer, theirs = final(mechanism, b"secret", bare, challenge)
    raw.send(0, methods.ConnectionSecureOk(answer))
    assert raw.expect(methods.ConnectionSecure).challenge == theirs
    raw.send(0, methods.ConnectionSecureOk(b""))
    offered = raw.expect(methods.ConnectionTune)
    raw.send(0, methods.ConnectionTuneOk(offered.channel_max, offered.frame_max, 0))
    raw.send(0, methods.ConnectionOpen("/"))
    raw.expect(methods.ConnectionOpenOk)
    assert {row["user"] for row in stand.do(stand.amqp.clients_snapshot)} == {"ana"}
    raw.close()


@pytest.mark.parametrize(("user", "password"), [("ana", b"wrong"), ("ana", b"plain secret"), ("bob", b"other"),
                                                ("nobody", b"x")])
def test_who_does_not_is_out_and_hears_no_more_than_that(stand, user, password):
    raw, bare, challenge = begin(stand, "SCRAM-SHA-256", user)
    raw.send(0, methods.ConnectionSecureOk(final("SCRAM-SHA-256", password, bare, challenge)[0]))
    code, text = raw.closed()
    assert code == 403 and "mechanism SCRAM-SHA-256" in text


@pytest.mark.parametrize("method", [
    methods.ConnectionTuneOk(10, 4096, 0), methods.ConnectionOpen("/"),
    methods.ConnectionStartOk({}, "PLAIN", b"\0ana\0plain secret", "en_US")])
def test_nothing_else_counts_in_the_middle_of_it(stand, method):
    raw, _, _ = begin(stand, "SCRAM-SHA-512")
    raw.send(0, method)
    assert raw.closed()[0] == 503


def test_without_tls_scram_is_offered_where_passwords_are_not(tmp_path):
    from protocols.amqp091.settings import AmqpSettings
    stand = Stand(tmp_path, users=[("ana", "x", ())], settings=AmqpSettings(passwords_need_tls=True)).start()
    try:
        stand.do(lambda: stand.scram.set("ana", "SCRAM-SHA-256", kept("SCRAM-SHA-256", b"secret")))
        raw = Raw(stand.port, login=False)
        raw.send_raw(frames.PROTOCOL_HEADER)
        assert raw.expect(methods.ConnectionStart).mechanisms == b"SCRAM-SHA-256"
        raw.close()
    finally:
        stand.stop()


def test_the_configuration_says_which_mechanisms_there_are_and_others_are_refused(tmp_path):
    other = Stand(tmp_path, users=[("ana", "secret", ())], settings=AmqpSettings(mechanisms=("AMQPLAIN",))).start()
    try:
        raw = Raw(other.port, login=False)
        raw.send_raw(frames.PROTOCOL_HEADER)
        assert raw.expect(methods.ConnectionStart).mechanisms == b"AMQPLAIN"
        raw.send(0, methods.ConnectionStartOk({"capabilities": raw.capabilities}, "PLAIN", b"\0ana\0secret", "en_US"))
        assert raw.expect(methods.ConnectionClose).reply_code == 403
    finally:
        other.stop()
