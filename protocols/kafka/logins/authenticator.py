"""What the server asks of the node about who somebody is."""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from routing.errors import Refusal
from routing.rights.policy import Identity


class Authenticator(Protocol):
    """mesh/identity/identity.py."""

    @property
    def open(self) -> bool: ...

    def authenticate(
        self, username: str | None, password: bytes | None, protocol: str, client_id: str, address: str,
        done: Callable[[Identity | Refusal], None], certificate_name: str | None = None,
    ) -> Callable[[], None] | None: ...
