"""Raw MQTT clients for load: prepared bytes out, frame lengths in. No library, no object per message.

Called by load.py and the rows. Sockets do not block. A Publisher sends whole chunks of prepared packets and counts
PUBACKs; a Subscriber counts PUBLISH frames and acknowledges QoS 1 with one buffer per read. Both work on strided slices
(`data[0::frame_bytes]`), so that a message costs them well under 0.1 µs. Only what differs from the expected frame goes
through the slow path, one frame at a time.
"""
from __future__ import annotations

import random
import socket
import struct
import time

from bench.load.packets import (
    DISCONNECT,
    MARKED,
    MARKED_PAYLOAD,
    PAYLOAD_BYTES,
    PLAIN_PAYLOAD,
    acknowledgement,
    acknowledgements,
    connect,
    frame_end,
    publish,
    subscribe,
)

READ_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
RING_CHUNKS = 16                        # prepared chunks per publisher: ids stay unique far beyond the window
SOCKET_BUFFER_BYTES = 1024 * 1024
_STAMP = struct.Struct(">Q")


class BenchError(Exception):
    """The broker closed, refused or answered what it must not; the run has no figure."""


def dial(port: int, first: bytes) -> socket.socket:
    """Connect, send `first` (a CONNECT) and wait for CONNACK 0. Returns the socket, blocking still."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(first)
    answer = read_packet(sock)
    if answer[0] != 0x20 or answer[3] != 0:
        raise BenchError(f"CONNECT was answered by {answer[:8].hex()}")
    return sock


def read_packet(sock: socket.socket) -> bytes:
    """One whole packet, byte by byte at its head, so that nothing behind it is taken."""
    data = bytearray()
    while frame_end(data, 0, len(data)) < 0:
        more = sock.recv(1)
        if not more:
            raise BenchError("the broker closed the connection")
        data += more
    return bytes(data)


class Publisher:
    """Sends chunks while fewer than `window` messages are unacknowledged (QoS 1) or as the caller allows (QoS 0)."""

    def __init__(self, port: int, client_id: str, topics: list[str], *, qos: int, version: int = 4, window: int = 1000,
                 chunk_events: int = 0, rare_topic: str | None = None) -> None:
        """topics: of one length; used in turn. rare_topic: takes one message in 100, at random places."""
        self.sock = dial(port, connect(client_id, version=version))
        self.sock.setblocking(False)
        self.qos = qos
        self.window = window
        self.sent = self.acked = self.refused = 0
        self.blocked = False
        self._pending: memoryview | None = None
        self._carry = b""
        self._next = 0
        self._prepare(topics, version, chunk_events, rare_topic)

    def _prepare(self, topics: list[str], version: int, chunk_events: int, rare_topic: str | None) -> None:
        frame_bytes = len(publish(topics[0], PLAIN_PAYLOAD, self.qos, 1, version))
        fitting = CHUNK_BYTES // frame_bytes
        self.chunk_events = chunk_events or (min(fitting, max(1, self.window // 2)) if self.qos else fitting)
        self._stamp_at = frame_bytes - PAYLOAD_BYTES + 1
        self._chunks: list[bytearray] = []
        chooser = random.Random(7)
        packet_id = 0
        for _ in range(RING_CHUNKS):
            chunk = bytearray()
            for index in range(self.chunk_events):
                packet_id = packet_id % 60_000 + 1
                topic = topics[packet_id % len(topics)]
                if rare_topic is not None and chooser.random() < 0.01:
                    topic = rare_topic
                chunk += publish(topic, MARKED_PAYLOAD if index == 0 else PLAIN_PAYLOAD, self.qos, packet_id, version)
            self._chunks.append(chunk)
        self.rare_per_ring = sum(chunk.count(rare_topic.encode()) for chunk in self._chunks) if rare_topic else 0

    @property
    def ring_events(self) -> int:
        return self.chunk_events * RING_CHUNKS

    @property
    def idle(self) -> bool:
        return self._pending is None and (self.qos == 0 or self.acked >= self.sent)

    def push(self, room: int) -> int:
        """Send chunks while the window and `room` allow it. Returns how many messages were begun."""
        begun = 0
        while not self.blocked:
            if self._pending is None:
                if begun >= room:                               # the last chunk may go over by its length
                    break
                if self.qos and self.sent - self.acked + self.chunk_events > self.window:
                    break
                chunk = self._chunks[self._next]
                self._next = (self._next + 1) % RING_CHUNKS
                _STAMP.pack_into(chunk, self._stamp_at, time.monotonic_ns())
                self._pending = memoryview(chunk)
                self.sent += self.chunk_events
                begun += self.chunk_events
            try:
                written = self.sock.send(self._pending)
            except BlockingIOError:
                self.blocked = True
                break
            self._pending = self._pending[written:] if written < len(self._pending) else None
        return begun

    def receive(self) -> int:
        """Count PUBACKs. Returns how many came."""
        before = self.acked
        try:
            data = self._carry + self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        if len(data) == len(self._carry):
            raise BenchError("the broker closed a publisher's connection")
        count = len(data) // 4
        if data[0:4 * count:4] == b"\x40" * count and data[1:4 * count:4] == b"\x02" * count:
            self.acked += count
            self._carry = data[4 * count:]
            return count
        start = 0
        while (end := frame_end(data, start, len(data))) > 0:
            kind = data[start] & 0xF0
            if kind == 0x40:
                self.acked += 1
                self.refused += end - start > 4 and data[start + 4] >= 0x80
            elif kind == 0xE0:
                raise BenchError(f"the broker sent DISCONNECT {data[start:end].hex()}")
            start = end
        self._carry = data[start:]
        return self.acked - before

    def close(self) -> None:
        close(self.sock)


class Subscriber:
    """Counts deliveries of one filter and acknowledges QoS 1."""

    def __init__(self, port: int, client_id: str, topic_filter: str | None, *, topic_bytes: int, qos: int,
                 version: int = 4, clean: bool = True, expiry_s: int = 0) -> None:
        """topic_filter None: the session has its subscription already. topic_bytes: length of the topics delivered."""
        self.sock = dial(port, connect(client_id, version=version, clean=clean, expiry_s=expiry_s))
        if topic_filter is not None:
            self.sock.sendall(subscribe(1, topic_filter, qos, version))
            self._wait_for_suback()
        self.sock.setblocking(False)
        self.received = self.acknowledged = 0
        self.latencies_ns: list[int] = []
        head = 2 + 2 + topic_bytes
        self._id_at = head if qos else 0
        self._marker_at = head + (2 if qos else 0) + (1 if version == 5 else 0)
        self.frame_bytes = self._marker_at + PAYLOAD_BYTES
        self._first = bytes([0x30 | qos << 1])
        self._second = bytes([self.frame_bytes - 2])
        self._version = version
        self._buffer = bytearray(READ_BYTES + 64 * 1024)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._out = bytearray()

    def _wait_for_suback(self) -> None:
        while True:
            answer = read_packet(self.sock)
            if answer[0] == 0x90:
                if answer[-1] >= 0x80:
                    raise BenchError(f"SUBSCRIBE was answered by {answer.hex()}")
                return

    def receive(self) -> int:
        """Read once; count; acknowledge. Returns the number of deliveries read."""
        try:
            size = self.sock.recv_into(self._view[self._filled:self._filled + READ_BYTES])
        except BlockingIOError:
            return 0
        if size == 0:
            raise BenchError("the broker closed a subscriber's connection")
        stop = self._filled + size
        count = stop // self.frame_bytes
        used = count * self.frame_bytes
        buffer, step = self._buffer, self.frame_bytes
        if count and buffer[0:used:step] == self._first * count and buffer[1:used:step] == self._second * count:
            if self._id_at:
                self._out += acknowledgements(0x40, buffer[self._id_at:used:step], buffer[self._id_at + 1:used:step])
            markers = buffer[self._marker_at:used:step]
            if (place := markers.find(MARKED)) >= 0:
                now_ns = time.monotonic_ns()
                while place >= 0:
                    self.latencies_ns.append(now_ns - _STAMP.unpack_from(buffer, place * step + self._marker_at + 1)[0])
                    place = markers.find(MARKED, place + 1)
        else:
            count, used = self._slow(stop)
        self.received += count
        self._filled = stop - used
        if self._filled:
            buffer[0:self._filled] = buffer[used:stop]
        if self._out:
            self.flush()
        return count

    def _slow(self, stop: int) -> tuple[int, int]:
        """Frame by frame. Returns deliveries counted and bytes used."""
        buffer, start, count = self._buffer, 0, 0
        while (end := frame_end(buffer, start, stop)) > 0:
            kind, qos = buffer[start] & 0xF0, buffer[start] >> 1 & 3
            if kind == 0x30:
                count += 1
                topic_at = start + 2 if buffer[start + 1] < 0x80 else start + 3
                id_at = topic_at + 2 + (buffer[topic_at] << 8 | buffer[topic_at + 1])
                if qos:
                    self._out += acknowledgement(0x40, buffer[id_at] << 8 | buffer[id_at + 1])
                if buffer[end - PAYLOAD_BYTES] == MARKED:
                    sent_ns = _STAMP.unpack_from(buffer, end - PAYLOAD_BYTES + 1)[0]
                    self.latencies_ns.append(time.monotonic_ns() - sent_ns)
            elif kind == 0xE0:
                raise BenchError(f"the broker sent DISCONNECT {bytes(buffer[start:end]).hex()}")
            start = end
        return count, start

    def flush(self) -> None:
        try:
            written = self.sock.send(self._out)
        except BlockingIOError:
            return
        self.acknowledged += written // 4
        del self._out[:written]

    @property
    def owes(self) -> bool:
        """Acknowledgements wait for room in the socket."""
        return bool(self._out)

    def close(self) -> None:
        close(self.sock)


def close(sock: socket.socket) -> None:
    """The protocol's own goodbye, then the socket."""
    try:
        sock.setblocking(True)
        sock.settimeout(2)
        sock.sendall(DISCONNECT)
    except OSError:
        pass
    sock.close()
