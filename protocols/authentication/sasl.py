"""SASL exchanges: bytes of the client in, an identity, a refusal or a challenge out. For all protocols. No asyncio.

    PLAIN           one message: authorization id, user, password, each but the last ended by NUL      Source: RFC 4616
    OAUTHBEARER     one message: a header with n,a=…, then key=value pairs between \\x01, of which auth has the token;
                    a wrong one is answered with JSON, which the client answers with \\x01    Sources: RFC 7628, KIP-255
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from protocols.authentication.authenticator import Authenticator
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

REFUSED = Refusal(Reason.BAD_CREDENTIALS, "Authentication failed")
_BEARER = "bearer "


class Challenge(msgspec.Struct, frozen=True):
    """Bytes for the client; with an identity, the last ones of a login."""

    data: bytes
    identity: Identity | None = None


Done = Callable[[Identity | Refusal | Challenge], None]


class Exchange(Protocol):
    """One login under way."""

    def step(self, data: bytes, done: Done) -> None:
        """The client's next bytes; done is called once."""


class Plain:
    def __init__(self, authenticator: Authenticator, protocol: str, client_id: str, address: str) -> None:
        self._authenticator = authenticator
        self._protocol = protocol
        self._client_id = client_id
        self._address = address

    def step(self, data: bytes, done: Done) -> None:
        parts = data.split(b"\0")
        try:
            authorization, user, password = parts[0].decode(), parts[1].decode(), parts[2]
        except (IndexError, UnicodeDecodeError):
            done(REFUSED)
            return
        if len(parts) != 3 or not user or authorization not in ("", user):
            done(REFUSED)
            return
        self._authenticator.authenticate(user, password, self._protocol, self._client_id, self._address, done)


class OauthBearer:
    def __init__(self, authenticator: Authenticator, protocol: str, client_id: str, address: str) -> None:
        self._authenticator = authenticator
        self._protocol = protocol
        self._client_id = client_id
        self._address = address
        self._refusal: Refusal | None = None

    def step(self, data: bytes, done: Done) -> None:
        if self._refusal is not None:               # the client has taken note of the JSON
            done(self._refusal)
            return
        token = _token_of(data)
        if token is None:
            done(REFUSED)
            return

        def answered(outcome: Identity | Refusal) -> None:
            if isinstance(outcome, Refusal):
                self._refusal = outcome
                done(Challenge(b'{"status":"invalid_token"}'))
            else:
                done(outcome)

        self._authenticator.authenticate(None, token, self._protocol, self._client_id, self._address, answered)


def _token_of(data: bytes) -> bytes | None:
    header, _, rest = data.partition(b"\x01")
    if not header.startswith(b"n,"):
        return None
    for pair in rest.split(b"\x01"):
        key, _, value = pair.partition(b"=")
        if key == b"auth" and value[:len(_BEARER)].lower() == _BEARER.encode():
            return value[len(_BEARER):].strip()
    return None
