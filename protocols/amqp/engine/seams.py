"""What the parts of the engine ask of each other, and of what stands behind links. No import goes back up.

    Connection ─► Session ─► SendingLink   ─► SourceNode       we send: a queue, a subscription, answers
        │            └─────► ReceivingLink ─► TargetNode       we receive: a queue, a topic, a coordinator
        └─► Container       decides who may open, and what an attach is attached to
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import AmqpFault

if TYPE_CHECKING:
    from protocols.amqp.codec.performatives import Attach, Open


class Alike(Protocol):
    """What messages have in common that begin with the same bytes and are as long."""

    @property
    def start(self) -> bytes: ...


class SourceNode(Protocol):
    """What a SendingLink sends from. Called on the loop's thread; may raise LinkFault, which detaches the link."""

    def credit_changed(self) -> None:
        """link.room() is not what it was."""

    def settle(self, held: Any, state: Composite | None, *, settled: bool) -> None:
        """The receiver has said what becomes of a delivery. state None: settled without one.

        held: what was given to link.send(). settled False: it wants to hear that we have settled, too: link.settled().
        """

    def accepted(self, held: list[Any]) -> None:
        """Of each: settled, and accepted."""

    def drain(self) -> None:
        """Send all there is, as far as credit goes, then call link.drained()."""

    def detach(self, *, closed: bool) -> None:
        """The link is gone: closed for good, or only detached, also by losing the connection."""


class TargetNode(Protocol):
    """What a ReceivingLink receives for. May raise LinkFault."""

    def take(self, delivery: Any, message: bytes) -> None:
        """A message has come whole. delivery: an engine.receiving.Incoming."""

    def alike(self) -> Alike | None:
        """What the last message was like; None: the next ones are to be looked at one by one."""

    def knows(self, alike: Alike) -> bool:
        """Would it take what is like that without a second look?"""

    def take_alike(self, alike: Alike, deliveries: list[Any], payloads: list[bytes]) -> None:
        """Messages that are like that, and what they have behind its start. Raises nothing."""

    def detach(self, *, closed: bool) -> None: ...


class LooksAtEach:
    """TargetNode for which no two messages are alike."""

    __slots__ = ()

    def alike(self) -> Alike | None:
        return None

    def knows(self, alike: Alike) -> bool:
        return False

    def take_alike(self, alike: Alike, deliveries: list[Any], payloads: list[bytes]) -> None:
        raise NotImplementedError


class SessionSide(Protocol):
    """What a link asks of its session."""

    connection: ConnectionSide
    channel: int
    ended: bool

    def send(self, performative: Composite) -> None: ...
    def room(self) -> int: ...
    def send_deliveries(self, link: Any, pack: Any, prefix: bytes, tag: int, messages: list[bytes], held: list[Any], *,
                        settled: bool) -> bool: ...
    def send_delivery(self, link: Any, start: bytes, tag: bytes, message: bytes, held: Any, *, settled: bool,
                      message_format: int, tracked: bool = True, resumed: bool = False) -> None: ...
    def flow_of_link(self, handle: int, delivery_count: int, credit: int, *, drain: bool, available: int | None,
                     echo: bool) -> None: ...
    def forget(self, link: Any) -> None: ...
    def answer(self, first: int, last: int, state: Composite, *, settled: bool) -> None: ...
    def run_room(self) -> int: ...
    def ran(self, count: int) -> None: ...
    def to_be_settled(self, delivery_id: int, link: Any, tag: bytes) -> None: ...


class ConnectionSide(Protocol):
    """What sessions and links ask of their connection."""

    @property
    def container(self) -> Container: ...
    @property
    def paused(self) -> bool: ...
    @property
    def frame_max(self) -> int: ...

    container_id: str
    partial_bytes: int
    waiting_bytes: int
    tags: int                   # of deliveries that were answered and are the peer's to settle
    closed: bool
    full: bool
    withholds_credit: bool      # senders get none, for a while
    run: Any                    # what the next transfers may be like: runs.py

    def say(self, channel: int, performative: Composite) -> None: ...
    def write_frame(self, channel: int, body: bytes) -> None: ...
    def write_frames(self, frames: list[bytes]) -> None: ...
    def answers_wait(self, session: Any) -> None: ...
    def flush_answers(self) -> None: ...
    def long_work(self, work: Iterator[None]) -> None:
        """Within a frame: what it asks for takes long. Nothing behind it is looked at before."""

    def has_room(self) -> None:
        """Sessions have to look again whether they may send."""

    def fail_link(self, link: Any, fault: AmqpFault) -> None: ...


class Container(Protocol):
    """Behind a connection: this node."""

    @property
    def session_window(self) -> int: ...
    @property
    def handles_max(self) -> int: ...
    @property
    def link_credit(self) -> int: ...
    @property
    def full_frames(self) -> bool:
        """Leave nothing out at the end of a performative."""

    @property
    def message_bytes_max(self) -> int: ...
    @property
    def partial_bytes_max(self) -> int: ...
    @property
    def waiting_bytes_max(self) -> int: ...

    def opened(self, connection: Any, open: Open) -> None:
        """open has come. Calls connection.accept_open() or connection.refuse_open()."""

    def session_ended(self, session: Any) -> None:
        """Called once its links have let go."""

    def attach_source(self, link: Any, attach: Attach) -> None:
        """A receiver wants to read. Calls link.accept() or link.refuse(), now or later. May raise LinkFault."""

    def attach_target(self, link: Any, attach: Attach) -> None: ...
    def before_settlement(self, connection: Any) -> None:
        """A performative other than transfer comes: what was received before it counts before it."""

    def count(self, name: str, number: int = 1) -> None:
        """For the metrics."""
