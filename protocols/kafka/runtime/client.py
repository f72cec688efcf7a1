"""Client: who is at the other end of a connection, as far as handlers may know and change it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from protocols.authentication.sasl import Exchange
from protocols.kafka.runtime.fetch_sessions import Session
from routing.errors import Refusal
from routing.publishing.publisher import Publisher
from routing.rights.policy import Identity


class Client(Protocol):
    """A connection, as handlers see it (connection.py)."""

    publisher: Publisher | None
    software: str                       # what ApiVersions said: name and version
    mechanism: str                      # of a login that was announced (SaslHandshake); "": none
    exchange: Exchange | None           # a login of several steps that is under way
    fetch_session: Session | None
    on_closed: dict[object, Callable[[], None]]     # called when the connection ends; by who wants to hear of it

    @property
    def identity(self) -> Identity:
        """Who it is; nobody, who may do nothing, before a login."""

    @property
    def is_logged_in(self) -> bool: ...

    @property
    def is_logging_in(self) -> bool:
        """A login has begun and is not over."""

    @property
    def address(self) -> str:
        """"host:port" of the peer."""

    @property
    def local_address(self) -> str:
        """Where the peer came to, as "host:port"; "" when unknown."""

    def log_in(self, identity: Identity) -> Refusal | None:
        """From now on this is who it is. Returns why not: its user has no room for one more connection."""

    def hold_answer(self, size: int) -> None:
        """So many fetched bytes go to this client: they count to its user's share until the socket has taken them."""

    def keep_session(self, session: Session | None) -> bool:
        """Keep a fetch session, or what has become of it, instead of another one. False: there is no room, so none."""

    def end_after_answer(self) -> None:
        """Close once what is being answered has been sent."""
