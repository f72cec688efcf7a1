"""The seam between a byte stream and a protocol: what each side may call on the other. No asyncio here.

A byte stream is a TCP or TLS socket (sockets.py) or the binary frames of a WebSocket (websocket/). A protocol
gives a ConnectionHandler for each new stream:

    stream opened     handler = server.connection(channel)
    bytes arrived     handler.receive_data(data, now_s)         one call per read, with everything that was read
    peer closed, or   handler.eof()                             exactly once, the last call
    stream lost
    write buffer over its high-water mark    handler.pause_writing()      and under the low one: resume_writing()

All calls are made on the event loop thread. A handler never blocks and never raises: a peer's fault ends in
channel.close(), a fault of ours too (with a traceback in the log).
"""
from __future__ import annotations

from typing import Protocol


class ByteChannel(Protocol):
    """The byte stream under a connection, as its handler sees it. One object per connection."""

    @property
    def address(self) -> str:
        """The peer, such as "127.0.0.1:50312"; "" when unknown."""

    @property
    def tls_identity(self) -> str | None:
        """Common name of the verified client certificate, None without one."""

    @property
    def secure(self) -> bool:
        """It comes over TLS that ends in this node."""

    def write(self, data: bytes) -> None:
        """Send bytes, in order. Never blocks; what the socket does not take is buffered (see buffered_bytes).

        Writes of one loop turn are sent together. After close() it is a no-op. On a WebSocket one call is one frame.
        """

    def close(self) -> None:
        """Send what is buffered, then close. Idempotent. handler.eof() follows later, never from within this call."""

    def abort(self) -> None:
        """Close now and throw away what is buffered. Idempotent."""

    def buffered_bytes(self) -> int:
        """Bytes written but not yet taken by the socket."""

    def pause_reading(self) -> None:
        """Deliver no more data until resume_reading(). Both are idempotent."""

    def resume_reading(self) -> None: ...

    def over(self) -> bool:
        """Asked now and then by a handler in receive_data(): has it had its part of this turn?"""

    def put_back(self, data: bytes) -> None:
        """What the handler has not looked at, when its part is over or it is not ready: receive_data() brings it again,
        before what follows, in a later turn.
        """


class ConnectionHandler(Protocol):
    """A protocol's end of one connection."""

    def receive_data(self, data: bytes, now_s: float) -> None:
        """Everything that one read gave. now_s: monotonic seconds."""

    def eof(self) -> None:
        """The stream is gone, for whatever reason. Called exactly once; nothing may be written any more."""

    def pause_writing(self) -> None:
        """The write buffer passed its high-water mark."""

    def resume_writing(self) -> None:
        """The write buffer is below its low-water mark again."""

    def describe(self) -> str:
        """Protocol, client and peer, for operators."""


class ConnectionFactory(Protocol):
    """A protocol's server object: makes a handler for each new stream."""

    def connection(self, channel: ByteChannel, now_s: float) -> ConnectionHandler: ...
