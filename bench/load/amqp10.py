"""A load of AMQP 1.0: publishers and consumers of one queue on raw sockets, the same for every broker.

Frames are made and read by hand, so that the client takes little of the machine. Durable messages of 100 bytes, each
confirmed by its disposition; consumers ack what one read has brought by one disposition, and renew credit at half.
"""
from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable

from bench.load.clients import BenchError
from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import Composite, encode_composite

PAYLOAD_BYTES = 100
UNCONFIRMED = 1_000             # per publisher
CREDIT = 1_000                  # per consumer
BURST = 100                     # messages of one write
WINDOW = 0x7FFFFFFF
READ_BYTES = 256 * 1024
SETUP_TIMEOUT_S = 30.0
_TRANSFER, _DISPOSITION, _FLOW = 0x14, 0x15, 0x13
_HEAD = b"\x00\x53\x14\xc0\x0f\x05\x43\x70"
_REST = b"\x43\x42\x00\x53\x70\xc0\x02\x01\x41\x00\x53\x75\xa0" + bytes((PAYLOAD_BYTES,))
_FRAME_BYTES = 8 + len(_HEAD) + 4 + 6 + len(_REST) + PAYLOAD_BYTES
_PREFIX = _FRAME_BYTES.to_bytes(4, "big") + b"\x02\x00\x00\x00" + _HEAD
_FRAME = _PREFIX + b"\0\0\0\0\xa0\x04\0\0\0\0" + _REST + bytes(8) + b"x" * (PAYLOAD_BYTES - 8)
_STAMP_AT = _FRAME_BYTES - PAYLOAD_BYTES
_NS = struct.Struct(">Q")


class Peer:
    """A connection with one session and one link."""

    def __init__(self, port: int, container: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SETUP_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.socket.sendall(frames.SASL_HEADER)
        self._bytes(8)
        self._expect(p.SaslMechanisms)
        self._say(p.SaslInit("PLAIN", b"\0guest\0guest"), frames.SASL)
        if self._expect(p.SaslOutcome).outcome:
            raise BenchError("the login is refused")
        self.socket.sendall(frames.AMQP_HEADER)
        self._bytes(8)
        self._say(p.Open(container, "localhost", 65_536, 10))
        self._expect(p.Open)
        self._say(p.Begin(None, 0, WINDOW, WINDOW))
        self._expect(p.Begin)

    def attach(self, attach: p.Attach) -> None:
        self._say(attach)
        answer = self._expect(p.Attach)
        if (answer.target if attach.role is p.SENDER else answer.source) is None:
            raise BenchError(f"the link is refused: {self._expect(p.Detach).error}")

    def _say(self, performative: Composite, kind: int = frames.AMQP) -> None:
        self.socket.sendall(frames.frame(0, encode_composite(performative), kind))

    def _bytes(self, count: int) -> bytes:
        while len(self.data) < count:
            more = self.socket.recv(READ_BYTES)
            if not more:
                raise BenchError("the broker has closed the connection")
            self.data += more
        found, self.data = self.data[:count], self.data[count:]
        return found

    def _expect(self, wanted: type[Composite]) -> Composite:
        while True:
            rest = self._bytes(int.from_bytes(self._bytes(4), "big") - 4)
            body = rest[rest[0] * 4 - 4:]
            if not body:
                continue
            found = hot.decode_performative(body, 0, len(body))
            if isinstance(found, wanted):
                return found
            if isinstance(found, p.Flow) and isinstance(self, Publisher):
                self.take_flow(found)
            elif not isinstance(found, p.Flow):
                raise BenchError(f"{found.name} in place of {wanted.name}: {found}")


def burst(first: int, count: int, stamp: bytes) -> bytes:
    """Frames of as many messages, by columns: their number is the delivery-id and the tag."""
    frames_ = bytearray(_FRAME * count)
    numbers = struct.pack(f">{count}I", *range(first, first + count))
    for byte in range(4):
        column = numbers[byte::4]
        frames_[len(_PREFIX) + byte::_FRAME_BYTES] = column
        frames_[len(_PREFIX) + 6 + byte::_FRAME_BYTES] = column
    for byte, value in enumerate(stamp):
        frames_[_STAMP_AT + byte::_FRAME_BYTES] = bytes((value,)) * count
    return bytes(frames_)


def alike(data: bytes, position: int, size: int) -> int:
    """How many transfers of the same size stand at position, one behind the other."""
    count = (len(data) - position) // size
    stop = position + count * size
    wanted = size.to_bytes(4, "big")
    for place, value in ((3, wanted[3]), (10, _TRANSFER), (2, wanted[2]), (1, wanted[1]), (0, wanted[0])):
        column = data[position + place:stop:size]
        count = min(count, len(column) - len(column.lstrip(bytes((value,)))))
    return count


class Publisher(Peer):
    """rate: messages a second; 0: as fast as it goes."""

    def __init__(self, port: int, address: str, capabilities: tuple[str, ...], name: str, rate: float = 0.0) -> None:
        self.sent = self.confirmed = self.allowed = 0
        self.rate = rate
        self.began_s = 0.0
        super().__init__(port, name)
        self.attach(p.Attach(name, 0, p.SENDER, p.UNSETTLED, p.FIRST, p.Source(name),
                             p.Target(address, capabilities=capabilities), initial_delivery_count=0))
        self.socket.setblocking(False)
        self._out = b""
        if self.data:
            self.read(b"")

    def take_flow(self, flow: p.Flow) -> None:
        if flow.handle is not None and flow.link_credit is not None:
            self.allowed = (flow.delivery_count or 0) + flow.link_credit

    def read(self, data: bytes) -> None:
        data = self.data + data
        position, end = 0, len(data)
        while end - position >= 8:
            size = int.from_bytes(data[position:position + 4], "big")
            if end - position < size:
                break
            body = position + 8
            code = data[body + 2] if size > 8 else 0
            if code == _DISPOSITION:
                found = hot.decode_disposition(data, body + 3, position + size)
                if not isinstance(found.state, p.Accepted):
                    raise BenchError(f"a message is not accepted: {found}")
                self.confirmed += (found.last if found.last is not None else found.first) - found.first + 1
            elif code == _FLOW:
                self.take_flow(hot.decode_flow(data, body + 3, position + size))
            elif code:
                raise BenchError(f"from the broker: {hot.decode_performative(data, body, position + size)}")
            position += size
        self.data = data[position:]

    def write(self, now_s: float) -> bool:
        """As many as may go in one burst. True: more may."""
        if self._out and not self._flush():
            return False
        room = min(UNCONFIRMED - (self.sent - self.confirmed), self.allowed - self.sent, BURST)
        if self.rate:
            room = min(room, int((now_s - self.began_s) * self.rate) - self.sent)
        if room <= 0 or (room < BURST // 4 and not self.rate):
            return False
        self._out = burst(self.sent, room, _NS.pack(time.monotonic_ns()))
        self.sent += room
        return self._flush() and room == BURST

    def _flush(self) -> bool:
        try:
            done = self.socket.send(self._out)
        except BlockingIOError:
            return False
        self._out = self._out[done:]
        return not self._out


class Consumer(Peer):
    def __init__(self, port: int, address: str, capabilities: tuple[str, ...], name: str) -> None:
        self.received = self._flowed = self._acked = 0
        self.latencies_ns: list[int] | None = None
        super().__init__(port, name)
        self.attach(p.Attach(name, 0, p.RECEIVER, p.UNSETTLED, p.FIRST, p.Source(address, capabilities=capabilities),
                             p.Target(name)))
        self._credit()
        self.socket.setblocking(False)

    def _credit(self) -> None:
        self._flowed = self.received
        self.socket.setblocking(True)
        self._say(p.Flow(self.received, WINDOW, 0, WINDOW, 0, self.received, CREDIT))
        self.socket.setblocking(False)

    def read(self, data: bytes) -> None:
        data = self.data + data
        position, end, came = 0, len(data), 0
        latencies, now_ns = self.latencies_ns, time.monotonic_ns()
        while end - position >= 8:
            size = int.from_bytes(data[position:position + 4], "big")
            if end - position < size:
                break
            if size > 8 and data[position + 10] == _TRANSFER:
                count = alike(data, position, size)
                came += count
                if latencies is not None:
                    for at in range(position + size - PAYLOAD_BYTES, position + count * size, size):
                        latencies.append(now_ns - int.from_bytes(data[at:at + 8], "big"))
                position += count * size
                continue
            elif size > 8 and data[position + 10] != _FLOW:
                raise BenchError(f"from the broker: {hot.decode_performative(data, position + 8, position + size)}")
            position += size
        self.data = data[position:]
        if came:
            self.received += came
            self.socket.setblocking(True)
            self.socket.sendall(frames.frame(0, hot.disposition(
                p.RECEIVER, self._acked, self.received - 1, True, p.ACCEPTED)))
            self.socket.setblocking(False)
            self._acked = self.received
            if self.received - self._flowed >= CREDIT // 2:
                self._credit()


def run(port: int, address: str, capabilities: tuple[str, ...], pairs: int, warm_s: float, seconds: float,
        cpu_s: Callable[[], float], rate: float = 0.0) -> dict[str, float]:
    """rate: of all publishers together; 0: as fast as it goes, and no latencies."""
    consumers = [Consumer(port, address, capabilities, f"consumer-{number}") for number in range(pairs)]
    publishers = [Publisher(port, address, capabilities, f"publisher-{number}", rate / pairs)
                  for number in range(pairs)]
    selector = selectors.DefaultSelector()
    for peer in (*consumers, *publishers):
        selector.register(peer.socket, selectors.EVENT_READ, peer)
    began_s = time.monotonic()
    for publisher in publishers:
        publisher.began_s = began_s
    measuring = False
    first = begun_cpu_s = 0.0
    try:
        while (now_s := time.monotonic()) < began_s + warm_s + seconds:
            if not measuring and now_s >= began_s + warm_s:
                measuring, started_s = True, now_s
                first, begun_cpu_s = sum(one.received for one in consumers), cpu_s()
                for consumer in consumers:
                    consumer.latencies_ns = [] if rate else None
            more = [publisher for publisher in publishers if publisher.write(now_s)]
            for key, _ in selector.select(0 if more else 0.001):
                key.data.read(key.data.socket.recv(READ_BYTES))
        took_s, count = time.monotonic() - started_s, sum(one.received for one in consumers) - first
        used_s = cpu_s() - begun_cpu_s
        settle(selector, publishers, consumers)
    finally:
        selector.close()
        for peer in (*consumers, *publishers):
            peer.socket.close()
    if not count:
        raise BenchError("nothing has come")
    latencies = sorted(one for consumer in consumers for one in consumer.latencies_ns or ())
    lost = sum(one.confirmed for one in publishers) - sum(one.received for one in consumers)
    return {"rate": count / took_s, "cpu_us": used_s / count * 1e6, "lost": max(lost, 0),
            "p50_ms": latencies[len(latencies) // 2] / 1e6 if latencies else float("nan"),
            "p99_ms": latencies[len(latencies) * 99 // 100] / 1e6 if latencies else float("nan")}


def settle(selector: selectors.BaseSelector, publishers: list[Publisher], consumers: list[Consumer]) -> None:
    """Until all that was confirmed has come, or nothing comes any more."""
    quiet_s = time.monotonic() + 3
    while time.monotonic() < quiet_s and sum(one.received for one in consumers) < sum(one.sent for one in publishers):
        for key, _ in selector.select(0.1):
            key.data.read(key.data.socket.recv(READ_BYTES))
            quiet_s = time.monotonic() + 3
