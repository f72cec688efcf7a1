"""The client of one connection as its channels see it: who it is, what was agreed, the way out, and what waits.

Held by a connection, which tells it of the stream; channels and their methods know the peer and not the connection.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from protocols.amqp091.broker import Broker
from protocols.amqp091.codec import frames
from protocols.amqp091.codec.methods import Method, encode_method
from protocols.amqp091.codec.tables import Table
from protocols.scheduling.longwork import LongWork
from protocols.transport.wire import ByteChannel
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.topology.queue import Queue
    from protocols.amqp091.topology.streamqueue import StreamReading
    from routing.cursors.delivery import Delivery


class Peer:
    """See the module's head. Loop thread only."""

    __slots__ = ("_holds", "_identity", "_on_error", "acks", "broker", "capabilities", "client_id", "closed",
                 "frame_max", "login_name", "partial_bytes", "paused", "properties", "stream", "vhost", "wrote")

    def __init__(self, broker: Broker, stream: ByteChannel, on_error: Callable[[Exception], None]) -> None:
        """on_error: called with what guarded work raises."""
        self.broker = broker
        self.stream = stream
        self.closed = False                         # nothing may be written, nothing more is read
        self.paused = False                         # the socket's write buffer is over its high-water mark
        self.wrote = False                          # since the heartbeat asked
        self._identity: Identity | None = None      # once the login is accepted
        self.login_name = ""                        # as the client gave it
        self.client_id = ""
        self.properties: Table = {}                 # as the client told them
        self.capabilities: frozenset[str] = frozenset()
        self.vhost = "/"
        self.frame_max = broker.settings.pre_auth_bytes_max
        self.partial_bytes = 0                      # of bodies that have not come whole
        self.acks: dict[Queue | StreamReading, list[Delivery]] = {} # acked in this read, and not told to the core yet
        self._on_error = on_error
        self._holds = 0

    # -- who it is --------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        assert self._identity is not None
        return self._identity

    @identity.setter
    def identity(self, identity: Identity) -> None:
        self._identity = identity

    @property
    def is_known(self) -> bool:
        return self._identity is not None

    @property
    def shown_id(self) -> str:
        """For operators: what the client calls its connection, or where it is from."""
        return self.client_id or f"amqp-{self.stream.address}"

    def describe(self) -> str:
        name = f" {self.client_id!r}" if self.client_id else ""
        return f"AMQP 0-9-1 client{name} of {self.login_name!r} at {self.stream.address}"

    # -- the way out ------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.wrote = True
        self.broker.counters.bytes_out += len(data)
        self.stream.write(data)

    def send(self, channel: int, method: Method) -> None:
        if not self.closed:
            self.write(frames.method_frame(channel, encode_method(method)))

    # -- acks -------------------------------------------------------------------------------------------------

    def flush_acks(self) -> None:
        """Tell the core what was acked, one call per queue."""
        acks, self.acks = self.acks, {}
        for queue, deliveries in acks.items():
            queue.core.ack(deliveries)

    # -- waiting ----------------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Nothing of what has come is looked at."""
        return self._holds > 0

    def hold(self) -> None:
        """Look at nothing behind this method, until release() was called as often."""
        self._holds += 1
        if self._holds == 1:
            self.stream.pause_reading()

    def release(self) -> None:
        self._holds -= 1
        if not self._holds and not self.closed:
            self.stream.resume_reading()

    def after(self, when: Callable[[Callable[[], None]], None], work: Callable[[], None]) -> None:
        """Do work when something is done: when() calls what it is given, maybe at once. Nothing behind this method is
        looked at before.
        """
        self.hold()

        def done() -> None:
            if not self.closed:
                self.guarded(work)
            self.release()

        when(done)

    def long_work(self, work: Iterator[None]) -> None:
        """Within a method: what it asks for takes long. Nothing behind it is looked at before."""
        LongWork(self.broker.router.turns, self, work, self.guarded).start()

    def guarded(self, work: Callable[[], None]) -> None:
        """Do something for the client outside of a read: what it raises ends what it has to."""
        try:
            work()
        except Exception as error:                  # a fault of ours, too, is the end of this connection only
            self._on_error(error)
