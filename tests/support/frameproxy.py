"""A proxy between two nodes that knows WebSocket frames: doubles them, lets them overtake, breaks inside one.

    with FrameProxy(target_port) as proxy:      # a thread of its own; nodes dial proxy.port
        proxy.doubling = proxy.reorder = 0.1    # chance per message, data messages only, after the handshake
        proxy.delay_s = 0.25                    # each way
        proxy.stall("up"); proxy.resume()       # dialler → target: nothing passes and nobody is told
        proxy.cut(); proxy.refuse()             # reset all connections; reset new ones, until resume()
        proxy.break_inside()                    # pass a part of the next frame, then reset

Bytes are never changed, but for the offer of compression, which is taken out of the request when frames=True: a doubled
frame would put the two ends' dictionaries out of step, which no network does. Link frames are checked end to end, so
what overtakes or comes twice must change nothing.

    frame:  FIN+opcode | MASK+length (7 bits, or 126 + 2 bytes, or 127 + 8 bytes) | mask (4) | payload   RFC 6455 §5.2
"""
from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter

from tests.support.loopthread import LoopThread

UP, DOWN, BOTH = "up", "down", "both"
HANDSHAKE_MESSAGES = 2              # of each direction: Hello and Welcome come first and once
HELD_S = 0.3                        # how far a message may fall back
BUFFER_BYTES = 1024 * 1024
BINARY_FIN = 0x82


class FrameProxy:
    """See the module's head. Its knobs may be turned from any thread."""

    def __init__(self, target_port: int, *, port: int = 0, seed: int = 0, frames: bool = True,
                 target_host: str = "127.0.0.1", host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port
        self.target_host, self.target_port = target_host, target_port
        self.frames = frames
        self.rng = random.Random(seed)
        self.doubling = self.reorder = 0.0
        self.delay_s = 0.0
        self.stalled: set[str] = set()
        self.refusing = False
        self.counts: Counter[str] = Counter()
        self.break_next = False
        self._flows: set[_Flow] = set()
        self._loop = LoopThread("frame-proxy")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> FrameProxy:
        self._loop.start()
        self._server = self._loop.wait(asyncio.start_server(self._accept, self.host, self.port, limit=BUFFER_BYTES))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        async def end() -> None:
            if self._server is not None:
                self._server.close()
            for flow in list(self._flows):
                flow.reset()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.wait(end())
        self._loop.stop()

    def __enter__(self) -> FrameProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- faults ------------------------------------------------------------------------------------------------------
    def cut(self) -> int:
        """Reset every connection, with all that is under way. How many there were."""
        async def reset() -> int:
            flows = list(self._flows)
            for flow in flows:
                flow.reset()
            return len(flows)

        return self._loop.wait(reset())

    def refuse(self) -> None:
        """Down: connections are reset, now and from now on."""
        self.refusing = True
        self.cut()

    def stall(self, direction: str = BOTH) -> None:
        self.stalled |= {UP, DOWN} if direction == BOTH else {direction}

    def resume(self) -> None:
        self.stalled.clear()
        self.refusing = False
        self._loop.call(lambda: [flow.wake() for flow in self._flows])

    def break_inside(self) -> None:
        """The next data frame is passed on in part, then its connection is reset."""
        self.break_next = True

    def calm(self) -> None:
        self.doubling = self.reorder = self.delay_s = 0.0
        self.break_next = False
        self.resume()

    @property
    def connections(self) -> int:
        return len(self._flows)

    # --- connections -------------------------------------------------------------------------------------------------
    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.refusing or UP in self.stalled or DOWN in self.stalled:
                _reset(writer)
                return
            try:
                far = await asyncio.open_connection(self.target_host, self.target_port, limit=BUFFER_BYTES)
            except OSError:
                _reset(writer)
                return
            self.counts["connections"] += 1
            flow = _Flow(self, (reader, writer), far)
            self._flows.add(flow)
            try:
                await flow.run()
            finally:
                self._flows.discard(flow)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass                                    # the proxy stops: 3.11 prints a traceback of such a handler
        finally:
            self._tasks.discard(task)


class _Flow:
    """One connection through the proxy."""

    def __init__(self, proxy: FrameProxy, near: tuple, far: tuple) -> None:
        self.proxy = proxy
        self.writers = (near[1], far[1])
        self._up = _Direction(self, UP, near[0], far[1])
        self._down = _Direction(self, DOWN, far[0], near[1])

    async def run(self) -> None:
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(self._up.run()), asyncio.ensure_future(self._down.run())],
            return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        for direction in (self._up, self._down):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(direction.emptied(), 1.0)
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        for writer in self.writers:
            writer.close()
        for direction in (self._up, self._down):
            direction.end()

    def wake(self) -> None:
        self._up.wake()
        self._down.wake()

    def reset(self) -> None:
        for writer in self.writers:
            _reset(writer)
        for direction in (self._up, self._down):
            direction.end()


class _Direction:
    """From one reader to the other writer: handshake, then frame by frame, each at its due time."""

    def __init__(self, flow: _Flow, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._flow, self._name, self._reader, self._writer = flow, name, reader, writer
        self._proxy = flow.proxy
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, bytes]] = []      # due, number, frame; in order of due time
        self._number = 0
        self._messages = 0
        self._last_due_s = 0.0
        self._pending_bytes = 0
        self._changed = asyncio.Event()
        self._sender = self._loop.create_task(self._send())

    async def run(self) -> None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if self._name == UP and self._proxy.frames:
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"sec-websocket-ext")]
                head = b"\r\n".join(lines)
            self._queue(head, 0.0)
            while True:
                frame = await self._read_frame()
                self._take(frame)
                while self._pending_bytes > BUFFER_BYTES:       # as a network: it holds so much, then the sender waits
                    self._changed.clear()
                    await self._changed.wait()
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self._queue(error.partial, 0.0)
        except OSError:
            self._flow.reset()

    async def _read_frame(self) -> bytes:
        head = await self._reader.readexactly(2)
        length = head[1] & 0x7F
        if length == 126:
            head += await self._reader.readexactly(2)
            (length,) = struct.unpack_from(">H", head, 2)
        elif length == 127:
            head += await self._reader.readexactly(8)
            (length,) = struct.unpack_from(">Q", head, 2)
        if head[1] & 0x80:
            length += 4
        return head + await self._reader.readexactly(length)

    def _take(self, frame: bytes) -> None:
        proxy, rng = self._proxy, self._proxy.rng
        data = frame[0] == BINARY_FIN
        self._messages += data
        if not data or self._messages <= HANDSHAKE_MESSAGES:
            self._queue(frame, 0.0)
            return
        proxy.counts["messages"] += 1
        if proxy.break_next:
            proxy.break_next = False
            proxy.counts["broken inside"] += 1
            self._writer.write(frame[:rng.randrange(1, len(frame))])
            self._flow.reset()
            return
        held_s = 0.0
        if rng.random() < proxy.reorder:
            proxy.counts["reordered"] += 1
            held_s = rng.uniform(0.01, HELD_S)
        self._queue(frame, held_s)
        if rng.random() < proxy.doubling:
            proxy.counts["doubled"] += 1
            self._queue(frame, rng.uniform(0.0, HELD_S))

    def _queue(self, frame: bytes, held_s: float) -> None:
        due_s = max(self._last_due_s, self._loop.time() + self._proxy.delay_s)
        self._last_due_s = due_s
        self._number += 1
        self._waiting.append((due_s + held_s, self._number, frame))
        if held_s or (len(self._waiting) > 1 and self._waiting[-2][0] > due_s):
            self._waiting.sort()
        self._pending_bytes += len(frame)
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    def end(self) -> None:
        self._sender.cancel()

    async def emptied(self) -> None:
        while self._waiting and self._name not in self._proxy.stalled:
            await asyncio.sleep(0.01)

    async def _send(self) -> None:
        while True:
            if not self._waiting or self._name in self._proxy.stalled:
                self._changed.clear()
                await self._changed.wait()
                continue
            wait_s = self._waiting[0][0] - self._loop.time()
            if wait_s > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait_s)
                continue
            _, _, frame = self._waiting.pop(0)
            self._pending_bytes -= len(frame)
            self._changed.set()
            try:
                self._writer.write(frame)
                await self._writer.drain()
            except OSError:
                self._flow.reset()
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
