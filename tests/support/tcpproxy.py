"""A TCP proxy that breaks connections on purpose: cut, refuse, stall one way, delay, end after n bytes.

Runs on the loop of the test. Bytes are passed on as they come; nothing in it knows what they mean.

    proxy = TcpProxy(target_port); await proxy.start()        # clients connect to proxy.port
    proxy.cut()                     # every open connection ends with a reset, at both ends
    proxy.refuse()                  # new connections are reset; refuse(False) ends that
    proxy.stall("up")               # client → target: nothing passes and nobody is told; "down", "both"; resume()
    proxy.delay_s = 0.25            # each way, from now on; order is kept
    proxy.close_after(10_000)       # the next connections end, each after n bytes in all, both ways together
"""
from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import cast

UP, DOWN, BOTH = "up", "down", "both"
PENDING_BYTES_MAX = 1024 * 1024     # per direction; beyond it the sender's TCP window fills, as on a real network


class TcpProxy:
    def __init__(self, target_port: int, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """port: where clients connect; 0 takes a free one (see self.port after start())."""
        self.host = host
        self.port = port
        self.target_port = target_port
        self.delay_s = 0.0
        self.accepted = 0               # connections so far, refused ones not counted
        self.refused = 0
        self.bytes_up = 0               # from clients, passed on
        self.bytes_down = 0
        self.stalled: set[str] = set()
        self._refusing = False
        self._close_after: int | None = None
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._dialling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Half(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.cut()
        for task in self._dialling:
            task.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def __aenter__(self) -> TcpProxy:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def open_connections(self) -> int:
        return len(self._pairs)

    def cut(self) -> int:
        """Reset every open connection; how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def refuse(self, on: bool = True) -> None:
        self._refusing = on

    def stall(self, direction: str = BOTH) -> None:
        self.stalled |= {UP, DOWN} if direction == BOTH else {direction}

    def resume(self) -> None:
        """End a stall and a refusal. What was held back passes now."""
        self.stalled.clear()
        self._refusing = False
        for pair in list(self._pairs):
            pair.flush()

    def close_after(self, byte_count: int | None) -> None:
        """End each connection that is opened from now on after so many bytes, perhaps in the middle of a frame."""
        self._close_after = byte_count

    def accept(self, client: _Half) -> None:
        if self._refusing:
            self.refused += 1
            client.reset()
            return
        client.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._dial(client))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, client: _Half) -> None:
        target = _Half(None)
        try:
            await asyncio.get_running_loop().create_connection(lambda: target, self.host, self.target_port)
        except OSError:
            client.reset()
            return
        self.accepted += 1
        pair = _Pair(self, client, target, self._close_after)
        client.pair, target.pair = pair, pair
        self._pairs.add(pair)
        for data in client.early:
            pair.received(client, data)
        client.transport.resume_reading()
        if client.lost:
            pair.reset()

    def forget(self, pair: _Pair) -> None:
        self._pairs.discard(pair)


class _Half(asyncio.Protocol):
    """One of the two connections of a pair."""

    transport: asyncio.Transport

    def __init__(self, proxy: TcpProxy | None) -> None:
        """proxy: of the accepted side; None on the side that was dialled."""
        self._proxy = proxy
        self.pair: _Pair | None = None
        self.full = False
        self.lost = False
        self.early: list[bytes] = []        # what came before there was a pair: uvloop reads on after a pause

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._proxy is not None:
            self._proxy.accept(self)

    def data_received(self, data: bytes) -> None:
        if self.pair is None:
            self.early.append(data)
        else:
            self.pair.received(self, data)

    def eof_received(self) -> bool:
        self.data_received(b"")
        return True

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.pair is not None:
            self.pair.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.pair is not None:
            self.pair.lost(self, exc)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.lost:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.transport.abort()


class _Direction:
    """What flows from one half to the other."""

    def __init__(self, name: str, source: _Half, sink: _Half) -> None:
        self.name = name
        self.source = source
        self.sink = sink
        self.waiting: deque[tuple[float, bytes]] = deque()      # due, bytes; empty bytes are the end
        self.pending = 0
        self.timer: asyncio.TimerHandle | None = None


class _Pair:
    def __init__(self, proxy: TcpProxy, client: _Half, target: _Half, left: int | None) -> None:
        self._proxy = proxy
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._directions = (_Direction(UP, client, target), _Direction(DOWN, target, client))

    def received(self, half: _Half, data: bytes) -> None:
        direction = self._directions[0 if half is self._directions[0].source else 1]
        direction.waiting.append((self._loop.time() + self._proxy.delay_s, data))
        direction.pending += len(data)
        if direction.pending > PENDING_BYTES_MAX:
            half.transport.pause_reading()
        self._flush(direction)

    def flush(self) -> None:
        for direction in self._directions:
            self._flush(direction)

    def _flush(self, direction: _Direction) -> None:
        if direction.timer is not None:
            direction.timer.cancel()
            direction.timer = None
        while direction.waiting and direction.name not in self._proxy.stalled and not direction.sink.full:
            due_s, data = direction.waiting[0]
            if due_s > self._loop.time():
                direction.timer = self._loop.call_at(due_s, self._flush, direction)
                return
            direction.waiting.popleft()
            direction.pending -= len(data)
            self._pass(direction, data)
            if direction.sink.lost:
                return
        if direction.source.lost and not direction.waiting:
            direction.sink.transport.close()
        elif direction.pending <= PENDING_BYTES_MAX and not direction.source.lost:
            direction.source.transport.resume_reading()

    def _pass(self, direction: _Direction, data: bytes) -> None:
        if direction.sink.transport.is_closing():
            return
        if not data:
            direction.sink.transport.write_eof()
            return
        if self._left is not None:
            data = data[:self._left]
            self._left -= len(data)
        direction.sink.transport.write(data)
        if direction.name == UP:
            self._proxy.bytes_up += len(data)
        else:
            self._proxy.bytes_down += len(data)
        if self._left == 0:
            self._end()

    def lost(self, half: _Half, error: Exception | None) -> None:
        """One end is gone. A stalled network would not tell the other one, so a stall keeps it."""
        other = next(direction.sink for direction in self._directions if direction.source is half)
        if other.lost:
            self._proxy.forget(self)
        elif error is not None and not self._proxy.stalled:
            other.reset()
        elif error is None and not any(direction.waiting for direction in self._directions):
            other.transport.close()

    def _end(self) -> None:
        for direction in self._directions:
            direction.waiting.clear()
            direction.sink.transport.close()

    def reset(self) -> None:
        for direction in self._directions:
            if direction.timer is not None:
                direction.timer.cancel()
            direction.waiting.clear()
            direction.sink.reset()
        self._proxy.forget(self)
