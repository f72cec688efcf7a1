"""SCRAM by the example of the RFC, and what is no such exchange."""
from __future__ import annotations

import base64
import hashlib

import pytest

from protocols.kafka.logins import scram
from protocols.kafka.logins.exchange import Challenge
from protocols.kafka.logins.scram import Scram, credential_of
from routing.errors import Refusal
from routing.rights.policy import Identity
from tests.protocols.mqtt.harness import Users

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
        exchange = Scram("SCRAM-SHA-256", lambda user, _: known if user == name else None, b"secret", Users(), "c",
                         "127.0.0.1:1")

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
