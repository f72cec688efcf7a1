"""SCRAM: a login in which neither side tells the password.                              Sources: RFC 5802, RFC 7677

    client  n,,n=<user>,r=<nonce>                                  server  r=<nonce><ours>,s=<salt>,i=<iterations>
    client  c=biws,r=<both nonces>,p=<proof>                       server  v=<signature>

The server keeps a salt and two keys from which nobody gets the password back. For a user who is not known the exchange
goes on with a salt made of the name (decoys.py), and ends like that of a wrong password.
"""
from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

from protocols.authentication.authenticator import Authenticator
from protocols.authentication.sasl import REFUSED, Challenge, Done
from routing.rights.policy import Identity

MECHANISMS = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
NONCE_CHARACTERS_MAX = 200


class Credential(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a password."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes
    mark: str = ""                  # of the user as he was when it was set; "": by an earlier version


def credential_of(mechanism: str, iterations: int, salt: bytes, salted_password: bytes) -> Credential:
    """From what AlterUserScramCredentials brings.                                                  Source: KIP-554"""
    name = MECHANISMS[mechanism]
    client_key = hmac.digest(salted_password, b"Client Key", name)
    return Credential(iterations, salt, hashlib.new(name, client_key).digest(),
                      hmac.digest(salted_password, b"Server Key", name))


Find = Callable[[str, str], Credential | None]          # by user and mechanism
Decoy = Callable[[str, str], tuple[bytes, int]]         # the same → salt and iterations, see decoys.py


class Scram:
    """An Exchange (sasl.py)."""

    def __init__(self, mechanism: str, find: Find, decoy: Decoy, authenticator: Authenticator, protocol: str,
                 client_id: str, address: str) -> None:
        self._mechanism = mechanism
        self._hash = MECHANISMS[mechanism]
        self._find = find
        self._decoy = decoy
        self._authenticator = authenticator
        self._protocol = protocol
        self._client_id = client_id
        self._address = address
        self._user = ""
        self._known: Credential | None = None
        self._nonce = b""
        self._header = b""              # how it has to say once more that there is no channel binding
        self._said = b""                # both first messages, as the signatures cover them

    def step(self, data: bytes, done: Done) -> None:
        if self._nonce:
            self._second(data, done)
        else:
            self._first(data, done)

    def _first(self, data: bytes, done: Done) -> None:
        parts = data.split(b",", 2)
        try:
            binding, authorization, bare = parts
            fields = bare.split(b",")
            wanted = _name(_value(authorization, b"a=")) if authorization else ""
            user, nonce = _name(_value(fields[0], b"n=")), _value(fields[1], b"r=")
        except (IndexError, ValueError):
            done(REFUSED)
            return
        if binding != b"n" or wanted not in ("", user) or not user or len(fields) > 2 \
                or not 0 < len(nonce) <= NONCE_CHARACTERS_MAX:              # of extensions none is known
            done(REFUSED)
            return
        self._user = user
        self._header = b"c=" + base64.b64encode(b"n,%b," % authorization)
        self._known = self._find(user, self._mechanism)
        decoy = self._decoy(user, self._mechanism)      # made in any case, so that it costs the same
        salt, iterations = decoy if self._known is None else (self._known.salt, self._known.iterations)
        self._nonce = nonce + secrets.token_urlsafe(18).encode()
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, base64.b64encode(salt), iterations)
        self._said = bare + b"," + answer
        done(Challenge(answer))

    def _second(self, data: bytes, done: Done) -> None:
        said, _, proof = data.rpartition(b",p=")
        fields = said.split(b",")
        good = len(fields) == 2 and fields[0] == self._header and fields[1] == b"r=" + self._nonce
        whole = self._said + b"," + said
        known = self._known or Credential(0, b"", bytes(32), bytes(32))
        signature = hmac.digest(known.stored_key, whole, self._hash)
        try:
            given = base64.b64decode(proof, validate=True)
        except binascii.Error:
            given = b""
        client_key = bytes(a ^ b for a, b in zip(given, signature)) if len(given) == len(signature) else b""
        good = hmac.compare_digest(hashlib.new(self._hash, client_key).digest(), known.stored_key) and good
        answer = b"v=" + base64.b64encode(hmac.digest(known.server_key, whole, self._hash))
        self._authenticator.proven(
            self._user, good and self._known is not None, self._protocol, self._client_id, self._address,
            lambda outcome: done(Challenge(answer, outcome) if isinstance(outcome, Identity) else outcome))


def _value(field: bytes, key: bytes) -> bytes:
    """Raises ValueError."""
    if not field.startswith(key):
        raise ValueError("another field")
    return field[len(key):]


def _name(text: bytes) -> str:
    """A name in which comma and equals sign are written =2C and =3D. Raises ValueError."""
    for part in text.split(b"=")[1:]:
        if part[:2] not in (b"2C", b"3D"):
            raise ValueError("a lone =")
    return text.replace(b"=2C", b",").replace(b"=3D", b"=").decode()
