"""SCRAM by the example of the RFC, and what is no such exchange."""
from __future__ import annotations

import base64
import hashlib
import secrets

import pytest

from protocols.authentication import scram
from protocols.authentication.decoys import Decoys, kind_of
from protocols.authentication.sasl import Challenge
from protocols.authentication.scram import Scram, credential_of
from protocols.authentication.scram_passwords import ScramPasswords
from routing.errors import Refusal
from routing.rights.policy import Identity
from tests.protocols.mqtt.harness import Users
from tests.support.routing import Desk

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FINAL = b"c=biws,r=" + NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


@pytest.fixture
def begin(monkeypatch):
    """Makes an exchange in which user has the password pencil."""
    monkeypatch.setattr(scram.secrets, "token_urlsafe", lambda _: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, 4096)
    known = credential_of("SCRAM-SHA-256", 4096, SALT, salted)

    def make(name="user"):
        exchange = Scram("SCRAM-SHA-256", lambda user, _: known if user == name else None, Decoys(b"secret").of,
                         Users(), "kafka", "c", "127.0.0.1:1")

        def step(data):
            answers = []
            exchange.step(data, answers.append)
            return answers[0]
        return step
    return make


def test_the_example_of_rfc_7677(begin):
    step = begin()
    assert step(FIRST).data == b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    last = step(FINAL)
    assert last.data == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert isinstance(last.identity, Identity) and last.identity.user == "user"


@pytest.mark.parametrize("final", [
    FINAL.replace(b"p=d", b"p=e"), FINAL.replace(b"biws", b"eSws"), FINAL.replace(NONCE, NONCE[:-1]),
    FINAL.rpartition(b",p=")[0], FINAL[:-8], b"", b",p=", FINAL.replace(b",p=", b",x=y,p="), FINAL[:70] + b"\xff",
], ids=repr)
def test_a_proof_that_is_not_right_is_refused(begin, final):
    step = begin()
    step(FIRST)
    assert isinstance(step(final), Refusal)


@pytest.mark.parametrize("first", [
    b"", b"n", b"n,,", b"y,,n=user,r=x", b"p=tls-unique,,n=user,r=x", b"n,,r=x,n=user", b"n,,n=user", b"n,,n=,r=x",
    b"n,,n=user,r=", b"n,,n=us=er,r=x", b"n,,n=user,r=x,tokenauth=true", b"n,a=other,n=user,r=x",
    b"n,,n=user,r=" + b"x" * 1_000, b"n,,m=ext,n=user,r=x", b"n,,n=\xff,r=x",
], ids=repr)
def test_what_is_no_first_message_is_refused(begin, first):
    assert isinstance(begin()(first), Refusal)


def test_an_unknown_user_gets_a_salt_too_and_always_the_same_one(begin):
    answers = [begin("somebody else")(FIRST) for _ in range(2)]
    assert isinstance(answers[0], Challenge) and answers[0] == answers[1]
    step = begin("somebody else")
    step(FIRST)
    assert isinstance(step(FINAL), Refusal)


def test_a_name_may_have_commas_and_equals_signs(begin):
    assert isinstance(begin()(b"n,,n=a=2Cb=3Dc,r=x"), Challenge)


def made(salt, iterations=4096):
    return credential_of("SCRAM-SHA-256", iterations, salt, b"salted")


def kafkas_salt():
    """As Kafka's own tools make one: 130 bits as a number of base 36."""
    number, text = secrets.randbits(130), ""
    while number:
        number, digit = divmod(number, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return text.encode()


def asked(logins, user):
    """What anybody is told of a user before he has proven anything: salt and iterations."""
    answers = []
    logins.begin("SCRAM-SHA-256", "kafka", "c", "127.0.0.1:1").step(b"n,,n=%b,r=x" % user.encode(), answers.append)
    _, salt, iterations = answers[0].data.split(b",")
    return kind_of(base64.b64decode(salt[2:]), int(iterations[2:])), salt


@pytest.mark.parametrize("make", [kafkas_salt, lambda: secrets.token_bytes(64), lambda: secrets.token_bytes(16)],
                         ids=["Kafka's tools", "librdkafka", "16 bytes"])
def test_a_salt_does_not_tell_who_has_a_password(tmp_path, make):
    logins = ScramPasswords(Desk(tmp_path).router, Users())
    for number in range(200):
        logins.set(f"known {number}", "SCRAM-SHA-256", made(make(), 8192))
    known = {asked(logins, f"known {number}")[0] for number in range(200)}
    unknown = {asked(logins, f"nobody {number}")[0] for number in range(200)}
    assert known == unknown
    lengths = [[len(asked(logins, f"{who} {number}")[1]) for number in range(200)] for who in ("known", "nobody")]
    assert set(lengths[0]) == set(lengths[1])


def test_salts_of_several_tools_are_as_frequent_among_those_of_nobody(tmp_path):
    logins = ScramPasswords(Desk(tmp_path).router, Users())
    for number in range(100):
        logins.set(f"known {number}", "SCRAM-SHA-256", made(secrets.token_bytes(64) if number % 4 else kafkas_salt()))
    kinds = [asked(logins, f"nobody {number}")[0].size for number in range(400)]
    assert set(kinds) == {64, 0} and 60 < kinds.count(0) < 140


def test_the_salt_of_nobody_is_the_same_after_a_restart(tmp_path):
    """A known one's is: another one would tell them apart."""
    desk = Desk(tmp_path)
    before = asked(ScramPasswords(desk.router, Users()), "nobody")
    desk.run()
    desk.close()
    assert asked(ScramPasswords(Desk(tmp_path).router, Users()), "nobody") == before


def changed(users):
    for told in users.on_users:
        told()


@pytest.mark.parametrize("change", [
    lambda users: users.passwords.pop("ana"), lambda users: users.passwords.update(ana=b"another one")],
    ids=["deleted", "another password"])
def test_a_scram_password_ends_with_the_user_and_with_a_new_password(tmp_path, change):
    desk, users = Desk(tmp_path), Users()
    users.passwords = {"ana": b"first", "bob": b"his"}
    logins = ScramPasswords(desk.router, users)
    for name in ("ana", "bob"):
        logins.set(name, "SCRAM-SHA-256", made(b"0123456789"))
    changed(users)                                          # a reload that changes nobody
    assert logins.users() == ["ana", "bob"]
    change(users)
    changed(users)
    assert logins.users() == ["bob"]
    users.passwords["ana"] = b"made anew"
    changed(users)
    desk.run()
    desk.close()
    again = ScramPasswords(Desk(tmp_path).router, users)
    changed(users)
    assert again.users() == ["bob"] and again.find("ana", "SCRAM-SHA-256") is None
