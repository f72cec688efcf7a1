"""Splits what one read gave into packets; the hot loop of the way in. Sans-IO.

Used by connection.py, which gets every packet in order: runs of plain PUBLISH as a list of Events, runs of 4-byte acks
as a tuple of packet ids, everything else by itself. A packet that is not whole yet waits here, and it is joined
once it is, so that one sent byte by byte costs linear time. Its size is checked before anything is kept
[MQTT-3.2.2-15].

A PUBLISH is plain when it has QoS 0 or 1, no RETAIN and no properties. Publishers send many of them that differ in
payload and packet id only, so the bytes before those are remembered and compared as a whole:

    | 0x3x | remaining length | topic |  packet id (QoS 1)  | 0x00 (v5) | payload |
    └───────── prefix ────────────────┘ (for QoS 0 in v5 with the 0x00)
"""
from __future__ import annotations

from struct import Struct
from typing import Protocol

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt import packets, reasons
from protocols.mqtt.packets import VERSION_5
from routing.event import Event

ACK_RUN = 256                       # acks taken at once; bounds what is looked at in vain when the run is short
_ACK_RUN_WORDS = Struct(f">{2 * ACK_RUN}H")
_ACK_HEADS = {b"\x40\x02": packets.PUBACK, b"\x50\x02": packets.PUBREC, b"\x62\x02": packets.PUBREL,
              b"\x70\x02": packets.PUBCOMP}
_NO_ID = b"\0\0"


class ReaderTarget(Protocol):
    """What the reader calls; connection.py."""

    closed: bool

    def plain_topic(self, raw: bytes) -> str | None:
        """The topic of a plain PUBLISH, checked; None when it must take the long way. Called once per topic."""

    def publishes(self, events: list[Event], raw_ids: list[bytes]) -> None:
        """Plain PUBLISHes in order. raw_ids: the packet ids, 2 bytes each, of those with QoS 1, in order."""

    def acks(self, kind: int, packet_ids: tuple[int, ...]) -> None:
        """Acks of one kind with success, in order."""

    def packet(self, first: int, data: bytes, position: int, end: int) -> None:
        """Any other packet: byte 1, and where its body lies in data."""


class PacketReader:
    """One per connection. version is 0 until CONNECT has been accepted: then each packet goes the long way."""

    __slots__ = ("_chunks", "_have", "_head_bytes", "_need", "_prefix", "_qos", "_size", "_topic", "packet_bytes_max",
                 "publisher", "target", "topics", "version")

    def __init__(self, target: ReaderTarget, packet_bytes_max: int, topics: dict[bytes, str]) -> None:
        self.target = target
        self.packet_bytes_max = packet_bytes_max
        self.topics = topics                        # checked topics of the server, by their bytes
        self.version = 0
        self.publisher = ""
        self._chunks: list[bytes] | None = None     # of a packet that is not whole
        self._have = 0
        self._need = 0
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

    def waiting_bytes(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return self._have if self._chunks is not None else 0

    def take_rest(self) -> bytes:
        """Take back the bytes of a packet that is not whole yet."""
        chunks, self._chunks = self._chunks, None
        return b"".join(chunks) if chunks is not None else b""

    def read(self, data: bytes) -> None:
        """Take one chunk. Raises ProtocolViolation (the events before it have been handed on)."""
        if self._chunks is not None:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._chunks)
            self._chunks = None
        position, end = 0, len(data)
        target = self.target
        while position < end and not target.closed:
            first = data[position]
            if self.version == 0:
                after = self._packet(data, position, end)
            elif 0x30 <= first <= 0x33 or first == 0x3A:
                after = self._publishes(data, position, end)
            elif 0x40 <= first < 0x80:
                after = self._acks(data, position, end)
            else:
                after = self._packet(data, position, end)
            if after == position:
                self._chunks = [data[position:] if position else data]
                self._have = end - position
                return
            position = after

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
            raise ProtocolViolation(reasons.PACKET_TOO_LARGE, f"a packet has at most {self.packet_bytes_max} bytes")
        if stop > end:
            self._need = stop - position
            return position
        self.target.packet(data[position], data, body, stop)
        return stop

    def _publishes(self, data: bytes, position: int, end: int) -> int:
        """A run of plain PUBLISHes. Returns the position after it; the packet there may be of any kind."""
        events: list[Event] = []
        raw_ids: list[bytes] = []
        append = events.append
        add_id = raw_ids.append
        startswith = data.startswith
        publisher = self.publisher
        start = position
        try:
            while (self._prefix and startswith(self._prefix, position)) or self._learn(data, position, end):
                prefix, head, size, topic = self._prefix, self._head_bytes, self._size, self._topic
                if self._qos == 0:
                    while True:
                        stop = position + size
                        if stop > end:
                            break
                        append(Event(topic, data[position + head:stop], 0, publisher))
                        position = stop
                        if not startswith(prefix, position):
                            break
                elif self.version != VERSION_5:
                    while True:
                        stop = position + size
                        if stop > end:
                            break
                        body = position + head
                        add_id(data[body:body + 2])
                        append(Event(topic, data[body + 2:stop], 1, publisher))
                        position = stop
                        if not startswith(prefix, position):
                            break
                else:
                    while True:
                        stop = position + size
                        body = position + head
                        if stop > end or data[body + 2]:
                            break
                        add_id(data[body:body + 2])
                        append(Event(topic, data[body + 3:stop], 1, publisher))
                        position = stop
                        if not startswith(prefix, position):
                            break
                    if stop <= end and position < stop and startswith(prefix, position):
                        break                       # it has properties
                if stop > end:
                    self._need = size
                    return position if position > start else self._packet(data, position, end)
            return position if position > start else self._packet(data, position, end)
        finally:
            if events:
                if _NO_ID in raw_ids:                                                   # [MQTT-2.2.1-3]
                    raise ProtocolViolation(reasons.PROTOCOL_ERROR, "packet id 0")
                self.target.publishes(events, raw_ids)

    def _learn(self, data: bytes, position: int, end: int) -> bool:
        """Remember the prefix of the PUBLISH at position. False when it is not plain, or not whole."""
        if position + 4 > end:
            return False
        first = data[position]
        if first != 0x30 and first != 0x32 and first != 0x3A:
            return False
        length = data[position + 1]
        body = position + 2
        if length > 0x7F:
            high = data[body]
            body += 1
            if high > 0x7F or high == 0 or body + 2 > end:
                return False                        # 16 KiB and more: the long way costs little beside it
            length = length & 0x7F | high << 7
        stop = body + length
        topic_end = body + 2 + (data[body] << 8 | data[body + 1])
        rest = topic_end + (0 if first == 0x30 else 2)
        if self.version == VERSION_5:
            if rest >= min(stop, end) or data[rest]:
                return False
            rest += 1
        if rest > stop or topic_end > end or stop - position > self.packet_bytes_max:
            return False
        raw = data[body + 2:topic_end]
        topic = self.topics.get(raw) or self.target.plain_topic(raw)
        if topic is None:
            return False
        self._topic = topic
        self._qos = 0 if first == 0x30 else 1
        self._prefix = data[position:rest if first == 0x30 else topic_end]
        self._head_bytes = len(self._prefix)
        self._size = stop - position
        return True

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
            words = _ACK_RUN_WORDS.unpack_from(data, position) if count == ACK_RUN else _words(data, position, count)
            heads = words[0::2]
            if heads.count(heads[0]) != count:
                count = next(index for index, word in enumerate(heads) if word != heads[0])
            packet_ids += words[1:2 * count:2]
            position += 4 * count
            if count < ACK_RUN or data[position:position + 2] != head or position + 4 > end:
                break
        if 0 in packet_ids:                                                             # [MQTT-2.2.1-3]
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "packet id 0")
        self.target.acks(kind, packet_ids)
        return position


def _words(data: bytes, position: int, count: int) -> tuple[int, ...]:
    return Struct(f">{2 * count}H").unpack_from(data, position)
