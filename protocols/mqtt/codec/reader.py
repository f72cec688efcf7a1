"""Splits what one read gave into packets; the hot loop of the way in. Sans-IO.

Used by connection.py, which gets every packet in order: runs of plain PUBLISH as a list of Events, runs of 4-byte acks
as a tuple of packet ids, everything else by itself. A packet that is not whole yet waits here, and it is joined
once it is, so that one sent byte by byte costs linear time [MQTT-6.0.0-2]. Its size is checked before anything is kept
[MQTT-3.2.2-15].

A PUBLISH is plain when it has QoS 0 or 1, no RETAIN and no properties. Publishers send many of them that differ in
payload and packet id only, so after two of them the bytes before those are remembered and compared as a whole. Those
that follow are cut by one struct for all of them, which costs a third of cutting each:

    | 0x3x | remaining length | topic |  packet id (QoS 1)  | 0x00 (v5) | payload |
    └───────── prefix ────────────────┘ (for QoS 0 in v5 with the 0x00)
"""
from __future__ import annotations

from struct import Struct, iter_unpack
from typing import Protocol

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt.codec import packets, reasons
from protocols.mqtt.codec.packets import VERSION_5
from protocols.transport.stranger import TLS, looks_like
from routing.event import Event

# After so much the target is asked whether its part of the turn is over: what follows may cost a thousand times more.
LOOK_PACKETS = 16                   # the long way
LOOK_ACKS = 2_048
LOOK_SAME = 2_048                   # PUBLISHes of one topic: some milliseconds with all that they cause
LOOK_MIXED = 512                    # of many topics, each of which may be new: some 50 µs

ACK_RUN = 256                       # acks taken at once; bounds what is looked at in vain when the run is short
_ACK_RUN_WORDS = Struct(f">{2 * ACK_RUN}H")
_ACK_HEADS = {b"\x40\x02": packets.PUBACK, b"\x50\x02": packets.PUBREC, b"\x62\x02": packets.PUBREL,
              b"\x70\x02": packets.PUBCOMP}
_NO_ID = b"\0\0"
CONNECT_VERSION_BYTES = 9           # of the body of a CONNECT: it is known by then which version is spoken, or none


class ReaderTarget(Protocol):
    """What the reader calls; connection.py."""

    closed: bool

    def plain_topic(self, raw: bytes) -> str | None:
        """The topic of a plain PUBLISH, checked; None when it must take the long way. Called once per topic."""

    def publishes(self, events: list[Event], raw_ids: bytearray) -> None:
        """Plain PUBLISHes in order. raw_ids: the packet ids, 2 bytes each, of those with QoS 1, in order."""

    def acks(self, kind: int, packet_ids: tuple[int, ...]) -> None:
        """Acks of one kind with success, in order."""

    def over(self) -> bool:
        """Has the connection had its part of this turn? What was read so far is dealt with first."""

    def packet(self, first: int, data: bytes, position: int, end: int) -> None:
        """Any other packet: byte 1, and where its body lies in data."""

    def oversize(self, data: bytes, position: int, end: int) -> None:
        """A packet over the limit, as much of it as is there: where its body begins. Raises ProtocolViolation."""


class _Nobody:
    """The target when there is none any more. It is closed, so nothing is called."""

    closed = True

    def plain_topic(self, raw: bytes) -> str | None:
        raise AssertionError("closed")

    def publishes(self, events: list[Event], raw_ids: bytearray) -> None:
        raise AssertionError("closed")

    def acks(self, kind: int, packet_ids: tuple[int, ...]) -> None:
        raise AssertionError("closed")

    def over(self) -> bool:
        raise AssertionError("closed")

    def oversize(self, data: bytes, position: int, end: int) -> None:
        raise AssertionError("closed")

    def packet(self, first: int, data: bytes, position: int, end: int) -> None:
        raise AssertionError("closed")


_NOBODY = _Nobody()


class PacketReader:
    """One per connection. version is 0 until CONNECT has been accepted: then each packet goes the long way."""

    __slots__ = ("_chunks", "_first", "_have", "_head_bytes", "_look", "_need", "_prefix", "_qos", "_size", "_topic",
                 "packet_bytes_max", "publisher", "target", "topics", "version")

    def __init__(self, target: ReaderTarget, packet_bytes_max: int, topics: dict[bytes, str]) -> None:
        self.target = target
        self.packet_bytes_max = packet_bytes_max
        self.topics = topics                        # checked topics of the server, by their bytes
        self.version = 0
        self.publisher = ""
        self._first = True                          # nothing has come yet
        self._chunks: list[bytes] | None = None     # of a packet that is not whole
        self._have = 0
        self._need = 0
        self._look = LOOK_PACKETS                   # packets until the target is asked
        self._prefix = b""
        self._head_bytes = 0
        self._size = 0
        self._topic = ""
        self._qos = 0

    def accepted(self, version: int, publisher: str, packet_bytes_max: int) -> None:
        """CONNECT was accepted: plain packets may take the short way from here on."""
        self.version = version
        self.publisher = publisher
        self.packet_bytes_max = packet_bytes_max

    def look(self) -> None:
        """Ask the target behind the packet that is being read."""
        self._look = 0

    def let_go(self) -> None:
        """Nothing is read any more. The target and its reader refer to each other."""
        self.target = _NOBODY
        self._chunks = None

    def waiting_bytes(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return self._have if self._chunks is not None else 0

    def take_rest(self) -> bytes:
        """Take back the bytes of a packet that is not whole yet."""
        chunks, self._chunks = self._chunks, None
        return b"".join(chunks) if chunks is not None else b""

    def read(self, data: bytes) -> bytes:
        """Take one chunk. Returns what it has not looked at, because the target's part of the turn is over.

        Raises ProtocolViolation (the events before it have been handed on).
        """
        if self._chunks is not None:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return b""
            data = b"".join(self._chunks)
            self._chunks = None
        position, end = 0, len(data)
        target = self.target
        while position < end and not target.closed:
            first = data[position]
            if self.version == 0:
                if self._first and (first >> 4 != packets.CONNECT                       # [MQTT-3.1.0-1]
                                    or data.startswith(TLS, position)):                 # would be one with flags
                    what = looks_like(data[position:position + 4])
                    raise ProtocolViolation(reasons.PROTOCOL_ERROR, f"the first packet is not CONNECT{what}")
                after = self._packet(data, position, end)
                self._first = self._first and after == position
            elif 0x30 <= first <= 0x33 or first == 0x3A:
                after = self._publishes(data, position, end)
            elif 0x40 <= first < 0x80:
                after = self._acks(data, position, end)
            else:
                after = self._packet(data, position, end)
            if after == position:
                self._chunks = [data[position:] if position else data]
                self._have = end - position
                return b""
            position = after
            self._look -= 1
            if self._look <= 0:
                self._look = LOOK_PACKETS
                if target.over():
                    return data[position:]
        return b""

    def _packet(self, data: bytes, position: int, end: int) -> int:
        """One packet the long way. Returns the position after it, or position when it is not whole."""
        length = shift = 0
        body = position + 1
        while True:
            if body >= end:
                self._need = end - position + 1
                return position
            byte = data[body]
            body += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise MalformedPacket(reasons.MALFORMED_PACKET, "the remaining length has more than 4 bytes")
        if byte == 0 and shift:                                                         # [MQTT-1.5.5-1]
            raise MalformedPacket(reasons.MALFORMED_PACKET, "the remaining length is not minimal")
        stop = body + length
        if stop - position > self.packet_bytes_max:
            if self.version == 0 and end < body + CONNECT_VERSION_BYTES:
                self._need = body + CONNECT_VERSION_BYTES - position
                return position
            self.target.oversize(data, body, end)
        if stop > end:
            self._need = stop - position
            return position
        self.target.packet(data[position], data, body, stop)
        return stop

    def _publishes(self, data: bytes, position: int, end: int) -> int:
        """A run of plain PUBLISHes. Returns the position after it; the packet there may be of any kind."""
        events: list[Event] = []
        raw_ids = bytearray()
        start = position
        after = -1
        mixed = 0
        while after != position:
            after = position
            if self._prefix and data.startswith(self._prefix, position):
                position = self._same(data, position, end, events, raw_ids)
                if len(events) >= LOOK_SAME:
                    self._look = 0
                    break
            if position < end:
                before = len(events)
                position = self._mixed(data, position, end, events, raw_ids)
                mixed += len(events) - before
                if mixed >= LOOK_MIXED:
                    self._look = 0
                    break
        if events:
            if _NO_ID in raw_ids and (good := _before_no_id(raw_ids)) >= 0:             # [MQTT-2.2.1-3]
                self.target.publishes(_first(events, good), raw_ids[:2 * good])
                raise ProtocolViolation(reasons.PROTOCOL_ERROR, "packet id 0")
            self.target.publishes(events, raw_ids)
        return position if position > start else self._packet(data, position, end)

    def _same(self, data: bytes, position: int, end: int, events: list[Event], raw_ids: bytearray) -> int:
        """PUBLISHes that begin with the prefix. Returns the position of the first that does not, or is not whole."""
        prefix, head, size, topic, qos = self._prefix, self._head_bytes, self._size, self._topic, self._qos
        publisher = self.publisher
        if not data.startswith(prefix, position + size):
            return self._one(data, position, end, events, raw_ids)
        whole = memoryview(data)[position:position + min((end - position) // size, LOOK_SAME) * size]
        before = len(events)
        if qos == 0:
            for found, payload in iter_unpack(f"{head}s{size - head}s", whole):
                if found != prefix:
                    break
                events.append(Event(topic, payload, 0, publisher))
        elif self.version != VERSION_5:
            for found, payload in iter_unpack(f"{head}s2x{size - head - 2}s", whole):
                if found != prefix:
                    break
                events.append(Event(topic, payload, 1, publisher))
        else:
            for found, properties, payload in iter_unpack(f"{head}s2xB{size - head - 3}s", whole):
                if found != prefix or properties:
                    break
                events.append(Event(topic, payload, 1, publisher))
        count = len(events) - before
        if qos:
            ids = bytearray(2 * count)
            stop = count * size
            ids[0::2], ids[1::2] = whole[head:stop:size], whole[head + 1:stop:size]
            raw_ids += ids
        return position + count * size

    def _one(self, data: bytes, position: int, end: int, events: list[Event], raw_ids: bytearray) -> int:
        """The same where it is the only one, as from publishers with little to say."""
        body, stop = position + self._head_bytes, position + self._size
        if stop > end:
            return position
        if self._qos:
            v5 = self.version == VERSION_5
            if v5 and data[body + 2]:
                return position                     # it has properties
            raw_ids += data[body:body + 2]
            body += 2 + v5
        events.append(Event(self._topic, data[body:stop], self._qos, self.publisher))
        return stop

    def _mixed(self, data: bytes, position: int, end: int, events: list[Event], raw_ids: bytearray) -> int:
        """Plain PUBLISHes that differ; two alike in a row make a prefix. Returns the position of the first that is
        not plain, not whole or like the one before."""
        append, publisher, known = events.append, self.publisher, self.topics.get
        v5 = self.version == VERSION_5
        size_before, raw_before = 0, b""
        last, maximum = end - 4, self.packet_bytes_max
        for _ in range(LOOK_MIXED):
            if position > last:
                break
            first = data[position]
            if first != 0x30 and first != 0x32 and first != 0x3A:
                return position
            length = data[position + 1]
            body = position + 2
            if length > 0x7F:
                high = data[body]
                body += 1
                if high > 0x7F or high == 0:
                    return position                 # 16 KiB and more: the long way costs little beside it
                length = length & 0x7F | high << 7
            stop = body + length
            if stop > end or stop - position > maximum:
                return position
            topic_start = body + 2
            rest = topic_start + (data[body] << 8 | data[body + 1])
            payload = rest if first == 0x30 else rest + 2
            if payload + v5 > stop:
                return position
            raw = data[topic_start:rest]
            topic = known(raw) or self.target.plain_topic(raw)
            if topic is None:
                return position
            if v5:
                if data[payload]:
                    return position                 # it has properties
                payload += 1
            if first == 0x30:
                append(Event(topic, data[payload:stop], 0, publisher))
            else:
                raw_ids += data[rest:rest + 2]
                append(Event(topic, data[payload:stop], 1, publisher))
            size = stop - position
            if size == size_before and raw == raw_before:
                self._topic, self._qos, self._size = topic, int(first != 0x30), size
                self._prefix = data[position:payload if first == 0x30 else rest]
                self._head_bytes = len(self._prefix)
                return stop
            size_before, raw_before = size, raw
            position = stop
        return position

    def _acks(self, data: bytes, position: int, end: int) -> int:
        """A run of acks of one kind, 4 bytes each. Returns the position after it."""
        head = data[position:position + 2]
        kind = _ACK_HEADS.get(head)
        if kind is None or position + 4 > end:
            return self._packet(data, position, end)
        packet_ids: tuple[int, ...] = ()
        while True:
            if data[position + 4:position + 6] != head or position + 8 > end:
                packet_ids += (data[position + 2] << 8 | data[position + 3],)
                position += 4
                break
            count = min((end - position) // 4, ACK_RUN)
            words = (_ACK_RUN_WORDS.unpack_from(data, position) if count == ACK_RUN
                     else _words(data, position, 2 * count))
            heads = words[0::2]
            if heads.count(heads[0]) != count:
                count = next(index for index, word in enumerate(heads) if word != heads[0])
            packet_ids += words[1:2 * count:2]
            position += 4 * count
            if count < ACK_RUN or data[position:position + 2] != head or position + 4 > end:
                break
            if len(packet_ids) >= LOOK_ACKS:
                self._look = 0
                break
        if 0 in packet_ids:                                                             # [MQTT-2.2.1-3]
            self.target.acks(kind, packet_ids[:packet_ids.index(0)])
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "packet id 0")
        self.target.acks(kind, packet_ids)
        return position


def _before_no_id(raw_ids: bytearray) -> int:
    """How many ids come before the first that is 0; -1: none is, the zeros belong to two."""
    ids = _words(raw_ids, 0, len(raw_ids) // 2)
    return ids.index(0) if 0 in ids else -1


def _first(events: list[Event], count: int) -> list[Event]:
    """The events before the one with QoS 1 that has so many of its kind before it."""
    return events[:[index for index, event in enumerate(events) if event.qos][count]]


def _words(data: bytes | bytearray, position: int, count: int) -> tuple[int, ...]:
    """count 2-byte numbers."""
    return Struct(f">{count}H").unpack_from(data, position)
