"""SASL exchanges: bytes of the client in, an identity, a refusal or a challenge out. For all protocols. No asyncio.

    PLAIN           one message: authorization id, user, password, each but the last ended by NUL      Source: RFC 4616
    OAUTHBEARER     one message: a header with n,a=…, then key=value pairs between \\x01, of which auth has the token;
                    a wrong one is answered with JSON, which the client answers with \\x01    Sources: RFC 7628, KIP-255
    XOAUTH2         the same with user=… in the place of the header, as Google and Azure's go-amqp write it

What these messages say is read here only; protocols with exchanges of their own (AMQP) use plain_of() and bearer_of().
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from protocols.authentication.authenticator import Authenticator
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

REFUSED = Refusal(Reason.BAD_CREDENTIALS, "Authentication failed")
INVALID_TOKEN = b'{"status":"invalid_token"}'           # RFC 7628 §3.2.2
_BEARER = "bearer "


def chosen(possible: Iterable[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Which mechanisms to offer: those that can be used here, of those that the configuration names, in its order.
    It names none: all that can be used.
    """
    possible = tuple(possible)
    return tuple(name for name in wanted if name in possible) if wanted else possible


def unknown_mechanisms(section: str, wanted: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    """What is wrong with a setting mechanisms."""
    for name in wanted:
        if name not in known:
            yield f"{section}.mechanisms: expected names of {', '.join(known)}, got {name!r}"


def plain_of(response: bytes) -> tuple[str, bytes] | None:
    """User and password of PLAIN. None: it is none, or wants to act for somebody else than who logs in."""
    parts = response.split(b"\0")
    if len(parts) != 3:
        return None
    try:
        authorization, user = parts[0].decode(), parts[1].decode()
    except UnicodeDecodeError:
        return None
    return (user, parts[2]) if authorization in ("", user) else None


def bearer_of(response: bytes) -> tuple[str, bytes] | None:
    """User ("": not said) and token of OAUTHBEARER or XOAUTH2. None: it is neither."""
    try:
        header, *pairs = response.decode().split("\x01")
    except UnicodeDecodeError:
        return None
    if header.startswith("n,"):                             # no channel binding
        user = header[2:].removeprefix("a=").rstrip(",")
    elif header.startswith("user="):
        user = header.removeprefix("user=")
    else:
        return None
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key == "auth" and value[:len(_BEARER)].lower() == _BEARER:
            token = value[len(_BEARER):].strip()
            return (user, token.encode()) if token else None
    return None


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
        found = plain_of(data)
        if found is None or not found[0]:
            done(REFUSED)
            return
        self._authenticator.authenticate(*found, self._protocol, self._client_id, self._address, done)


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
        found = bearer_of(data)
        if found is None:
            done(REFUSED)
            return

        def answered(outcome: Identity | Refusal) -> None:
            if isinstance(outcome, Refusal):
                self._refusal = outcome
                done(Challenge(INVALID_TOKEN))
            else:
                done(outcome)

        self._authenticator.authenticate(None, found[1], self._protocol, self._client_id, self._address, answered)
