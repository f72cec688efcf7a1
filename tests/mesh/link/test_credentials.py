"""Who may link: the table of proofs × entries. Every no looks the same from outside."""
from __future__ import annotations

import hashlib
import hmac
import logging

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.link.proof.credentials import Doorkeeper, resolve_peers
from mesh.link.settings import LinkPeerTable

NOW_MS = 1_700_000_000_000
NOW_S = NOW_MS // 1000
SECRET = "0123456789abcdef"
JWT_SECRET = "k" * 32


def pem(key: object, private: bool) -> str:
    if private:
        return key.private_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return key.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def allowed(
    peers: list[LinkPeerTable], node: str = "graz", token: str | None = None, certificate: str | None = None, *,
    loopback: bool = True, anonymous: bool = False,
) -> str | None:
    """The entry's node that let it in, or None."""
    keeper = Doorkeeper(resolve_peers(peers), anonymous=anonymous)
    found = keeper.check(node, token, certificate, loopback=loopback, now_ms=NOW_MS)
    return None if found is None else found.entry.table.node


def token(key: str = JWT_SECRET, algorithm: str = "HS256", **changes: object) -> str:
    claims: dict[str, object] = {"sub": "graz", "exp": NOW_S + 60, **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm=algorithm)


@pytest.mark.parametrize(("sent", "result"), [
    (SECRET, "graz"), (SECRET[:-1], None), (SECRET + "x", None), ("", None), (None, None), ("\ud800", None),
])
def test_a_shared_secret(sent: str | None, result: str | None) -> None:
    assert allowed([LinkPeerTable("graz", token=SECRET)], token=sent) == result


def test_a_secret_is_for_its_node_only() -> None:
    assert allowed([LinkPeerTable("graz", token=SECRET)], node="lyon", token=SECRET) is None


def test_the_secret_of_many_does_not_pose_as_a_node_with_its_own() -> None:
    peers = [LinkPeerTable("*", token=SECRET), LinkPeerTable("cloud", token="f" * 16)]
    assert allowed(peers, node="edge-17", token=SECRET) == "*"
    assert allowed(peers, node="cloud", token=SECRET) is None
    assert allowed(peers, node="cloud", token="f" * 16) == "cloud"


def test_two_entries_for_one_node_let_a_secret_be_changed() -> None:
    peers = [LinkPeerTable("graz", token=SECRET), LinkPeerTable("graz", token="f" * 16)]
    assert allowed(peers, token=SECRET) == allowed(peers, token="f" * 16) == "graz"


@pytest.mark.parametrize(("certificate", "result"), [("graz", "graz"), ("lyon", None), (None, None)])
def test_a_certificate_must_have_the_name_of_the_node(certificate: str | None, result: str | None) -> None:
    assert allowed([LinkPeerTable("graz")], certificate=certificate) == result
    assert allowed([LinkPeerTable("*")], certificate=certificate) == ("*" if result else None)


def test_a_certificate_of_another_name_is_refused_whatever_the_token() -> None:
    assert allowed([LinkPeerTable("graz", token=SECRET)], token=SECRET, certificate="lyon") is None
    assert allowed([LinkPeerTable("graz", token=SECRET)], token=SECRET, certificate="graz") == "graz"
    assert allowed([LinkPeerTable("graz", token=SECRET)], certificate="graz") is None


def test_nobody_is_let_in_without_peers_but_from_this_machine() -> None:
    assert allowed([], anonymous=True) == "graz"
    assert allowed([], anonymous=True, loopback=False) is None
    assert allowed([], anonymous=False) is None
    assert allowed([LinkPeerTable("lyon", token=SECRET)], anonymous=True) is None


@pytest.mark.parametrize("changes", [
    {"exp": NOW_S - 61}, {"exp": None}, {"exp": "soon"}, {"exp": True}, {"exp": 2**60}, {"sub": "lyon"}, {"sub": None},
    {"nbf": NOW_S + 61}, {"nbf": "x"}, {"sub": 5},
])
def test_a_jwt_must_be_for_this_node_and_now(changes: dict[str, object]) -> None:
    assert allowed([LinkPeerTable("graz", jwt_key=JWT_SECRET)], token=token()) == "graz"
    try:
        sent = token(**changes)
    except TypeError:                       # PyJWT does not even make some of them: sign by hand
        import base64
        import json
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (
            {"alg": "HS256", "typ": "JWT"}, {"sub": "graz", "exp": NOW_S + 60, **changes})]
        signature = hmac.new(JWT_SECRET.encode(), b".".join(parts), hashlib.sha256).digest()
        sent = b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    assert allowed([LinkPeerTable("graz", jwt_key=JWT_SECRET)], token=sent) is None


def test_a_jwt_with_issuer_and_audience() -> None:
    peer = LinkPeerTable("graz", jwt_key=JWT_SECRET, jwt_issuer="me", jwt_audience="links")
    assert allowed([peer], token=token(iss="me", aud=["links", "x"])) == "graz"
    for changes in ({"iss": "me"}, {"aud": "links"}, {"iss": "you", "aud": "links"}, {"iss": "me", "aud": "other"}):
        assert allowed([peer], token=token(**changes)) is None


def test_a_jwt_of_another_key_or_algorithm(rsa_key: rsa.RSAPrivateKey) -> None:
    public = pem(rsa_key, private=False)
    peer = LinkPeerTable("*", jwt_key=public)
    assert allowed([peer], token=token(pem(rsa_key, private=True), "RS256")) == "*"
    other = rsa.generate_private_key(65537, 2048)
    assert allowed([peer], token=token(pem(other, private=True), "RS256")) is None
    assert allowed([peer], token=token(JWT_SECRET, "HS256")) is None
    none = jwt.encode({"sub": "graz", "exp": NOW_S + 60}, None, algorithm="none")
    assert allowed([peer], token=none) is None
    assert allowed([LinkPeerTable("*", jwt_key=JWT_SECRET)], token=none) is None


def test_a_jwt_on_an_elliptic_curve() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    peer = LinkPeerTable("*", jwt_key=pem(key, private=False))
    assert allowed([peer], token=token(pem(key, private=True), "ES256")) == "*"


@pytest.mark.parametrize("sent", ["", "x", "a.b.c", "..", "e30.e30.", "\x00", "é.é.é", "e30." * 1000, "[" * 10_000])
def test_garbage_is_no_jwt(sent: str) -> None:
    assert allowed([LinkPeerTable("graz", jwt_key=JWT_SECRET)], token=sent) is None


def test_the_log_says_why_without_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        allowed([LinkPeerTable("graz", token=SECRET)], token="guess-guess-guess")
    assert "link from graz refused: wrong token" in caplog.text
    assert SECRET not in caplog.text and "guess" not in caplog.text
