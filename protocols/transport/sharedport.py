"""A listener that protocols share: the first bytes of a connection say whose it is. Sans-IO.

    AMQP 0 0 9 1 ─┐                    ┌─► the factory that registered this header
    AMQP 3 1 0 0 ─┼─► SharedPort ──────┤
    anything else ┘                    └─► the default, which says what it thinks of it

One protocol owns the port: it makes it, gives it to its SocketListener, and calls tick() and shutdown(). Others find it
as parts.servers[owner].port and register what their connections begin with. A handler is made once it is clear whose
the connection is, and has then all that came. Source: AMQP 1.0 §2.2, AMQP 0-9-1 §4.2.2 (both name port 5672).
"""
from __future__ import annotations

from protocols.transport.wire import ByteChannel, ConnectionFactory, ConnectionHandler


class SharedPort:
    """ConnectionFactory of protocols/transport/wire.py. Loop thread only."""

    def __init__(self, default: ConnectionFactory, timeout_s: float) -> None:
        """default: gets every connection that begins as nobody said. timeout_s: for the first bytes to come."""
        self._default = default
        self._timeout_s = timeout_s
        self._factories: dict[bytes, ConnectionFactory] = {}
        self._undecided: dict[_Opening, float] = {}         # since when, the oldest first

    def register(self, header: bytes, factory: ConnectionFactory) -> None:
        """Connections that begin so are of this factory. No header may be the beginning of another one."""
        clash = [known for known in self._factories if known.startswith(header) or header.startswith(known)]
        assert header and not clash, f"{header!r} beside {clash}"
        self._factories[header] = factory

    def connection(self, channel: ByteChannel, now_s: float) -> ConnectionHandler:
        if not self._factories:
            return self._default.connection(channel, now_s)
        opening = _Opening(self, channel, now_s)
        self._undecided[opening] = now_s
        return opening

    @property
    def undecided(self) -> int:
        """Connections that have not said enough to be anybody's."""
        return len(self._undecided)

    def tick(self, now_s: float) -> None:
        """Let go of those that say nothing. now_s: monotonic seconds."""
        while self._undecided:
            opening, since_s = next(iter(self._undecided.items()))
            if now_s - since_s < self._timeout_s:
                return
            del self._undecided[opening]
            opening.channel.close()

    def shutdown(self) -> None:
        for opening in self._undecided:
            opening.channel.close()
        self._undecided.clear()

    def whose(self, data: bytes) -> ConnectionFactory | None:
        """None: too little to tell."""
        for header, factory in self._factories.items():
            if data.startswith(header):
                return factory
        return None if any(header.startswith(data) for header in self._factories) else self._default

    def left(self, opening: _Opening) -> None:
        self._undecided.pop(opening, None)


class _Opening:
    """The handler of one connection: keeps the first bytes until it is clear whose they are, then hands all on."""

    __slots__ = ("_began_s", "_handler", "_head", "_paused", "_port", "channel")

    def __init__(self, port: SharedPort, channel: ByteChannel, now_s: float) -> None:
        self._port = port
        self.channel = channel
        self._began_s = now_s
        self._head = b""                # shorter than the longest header
        self._handler: ConnectionHandler | None = None
        self._paused = False

    def receive_data(self, data: bytes, now_s: float) -> None:
        handler = self._handler
        if handler is None:
            data = self._head + data
            factory = self._port.whose(data)
            if factory is None:
                self._head = data
                return
            self._head = b""
            self._port.left(self)
            handler = self._handler = factory.connection(self.channel, self._began_s)
            if self._paused:
                handler.pause_writing()
        handler.receive_data(data, now_s)

    def eof(self) -> None:
        self._port.left(self)
        if self._handler is not None:
            self._handler.eof()

    def pause_writing(self) -> None:
        self._paused = True
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._handler is not None:
            self._handler.resume_writing()

    def describe(self) -> str:
        return self._handler.describe() if self._handler is not None else f"a new connection of {self.channel.address}"
