"""The part of mesh/identity/identity.py that a protocol needs: who is this, and may they connect?"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from routing.errors import Refusal
from routing.rights.policy import Identity


class Authenticator(Protocol):
    """The part of mesh/identity/identity.py that a protocol needs."""

    @property
    def open(self) -> bool:
        """True when no users, keys or issuers are configured: everybody on this machine is let in as anonymous."""

    def authenticate(
        self, username: str | None, password: bytes | None, protocol: str, client_id: str, address: str,
        done: Callable[[Identity | Refusal], None], certificate_name: str | None = None,
    ) -> Callable[[], None] | None:
        """Who is this, and may they connect? done hears it, at once or after a thread has computed a hash.

        password: also an API key or a token.  protocol: the spec's name, for rules and logs.  address: "host:port".
        certificate_name: ByteChannel.tls_identity; it is the user name of a client that shows nothing else.
        Returns a function to call when the client goes away before the answer; None when the answer was given.
        """

    @property
    def on_users(self) -> list[Callable[[], None]]:
        """Called when users are not what they were."""

    def mark_of(self, username: str) -> str | None:
        """Of a user of the configuration or made at run time: another one when the user was made anew, or has another
        password. None: there is no such user.
        """

    def proven(self, username: str, good: bool, protocol: str, client_id: str, address: str,
               done: Callable[[Identity | Refusal], None]) -> None:
        """A protocol has checked a proof for itself (SCRAM): may the user connect? A bad one is like a wrong password.

        done hears it at once: the same refusal for a user who is not known, is locked out or has given a bad proof.
        """
