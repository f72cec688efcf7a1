"""The seam by which one protocol declares what another one keeps: queues, exchanges and bindings, in RabbitMQ's terms.

AMQP 0-9-1 keeps them (its server says `declaring`); AMQP 1.0 asks for them by its /management. Loop thread only.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from routing.consumers.consumer import Consumer
from routing.consumers.definition.spec import Start
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Identity


class Outcome(NamedTuple):
    """code: 200, or a reply code of AMQP 0-9-1 §1.1 (403, 404, 405, 406, …). values: of the answer."""

    code: int
    text: str = ""
    values: Mapping[str, Any] = {}


Done = Callable[[Outcome], None]


class Routed(NamedTuple):
    """Where a message of an exchange goes. copies: queues that no topic filter gives it to."""

    wanted: bool
    copies: tuple[str, ...]


class Declarer(Protocol):
    """For one client, who has what it declares exclusive."""

    def do(self, method: str, arguments: Mapping[str, Any], done: Done) -> None:
        """method: "queue.declare", "exchange.bind" and so on, arguments: its fields by name. done hears it when it is
        on disk, maybe at once.
        """

    def bindings(self, source: str, destination: str, to_exchange: bool, done: Done) -> None:
        """values: bindings, a list of key and arguments of each. Of what the client may know of."""

    def take_identity(self, identity: Identity) -> None: ...

    def close(self) -> None:
        """The client has gone, and its exclusive queues with it."""


class StreamPlace(Protocol):
    """A reader's own place in a stream."""

    @property
    def consumer(self) -> Consumer: ...
    def leave(self) -> None:
        """The reader has gone."""


class Declaring(Protocol):
    def declarer(self, identity: Identity) -> Declarer: ...
    def queue(self, name: str) -> Mapping[str, Any] | None:
        """Of a queue that is there: durable, auto_delete, exclusive, type, arguments, message_count, consumer_count."""

    def stream_topic(self, name: str) -> str | None:
        """The topic straight to a queue of type stream; None: there is none of that name."""

    def read_stream(self, name: str, identity: Identity, start: Start, in_flight: int) -> StreamPlace | Refusal:
        """A place of its own for one more reader of a stream that is there."""

    def has_exchange(self, name: str) -> bool: ...
    def route(self, exchange: str, key: str, event: Event) -> Routed | None:
        """None: there is no such exchange."""
