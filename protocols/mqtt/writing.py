"""Packets out of one MQTT connection: counted, and never larger than the client takes. Base of MqttConnection."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.mqtt.codec import encode, packets, reasons
from protocols.mqtt.handshake import Terms
from protocols.transport.wire import ByteChannel

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from routing.ticket import Ticket


class Writing:
    __slots__ = ("broker", "channel", "closed", "terms", "version")

    def __init__(self, broker: Broker, channel: ByteChannel) -> None:
        self.broker = broker
        self.channel = channel
        self.version = 0                            # of the protocol, once it is known
        self.terms: Terms | None = None             # once a CONNECT has come
        self.closed = False                         # nothing may be written, nothing more is read

    def fail(self, code: int, text: str) -> None:
        """Close with a reason code of 0x80 or above."""
        raise NotImplementedError

    def write(self, data: bytes, kind: int, count: int = 1) -> None:
        """Send packets of one kind."""
        if self.closed or not data:
            return
        if not self.takes(data):
            if kind not in (packets.CONNACK, packets.DISCONNECT):       # the last word, if it is one of those
                self.fail(reasons.PACKET_TOO_LARGE, f"the client does not take a {packets.NAMES[kind].upper()}")
            return
        counters = self.broker.counters
        counters.packets_out[kind] += count
        if kind == packets.PUBLISH:
            counters.publishes_out += count
        counters.bytes_out += len(data)
        self.channel.write(data)

    def takes(self, data: bytes) -> bool:
        """Every packet out comes by here. What may be left out of one has been left out by who made it.

        Sources: [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20]
        """
        limit = self.terms.packet_bytes_max if self.terms is not None else None
        return limit is None or len(data) <= limit or encode.largest(data) <= limit

    def write_publishes(self, parts: list[bytes], count: int) -> None:
        """Send PUBLISHes: their parts, and how many there are."""
        if parts and not self.closed:
            self.write(b"".join(parts), packets.PUBLISH, count)

    def write_shared(self, parts: list[bytes], count: int, size_max: int) -> None:
        """The same; parts above size_max go as they are, so that the sockets of many clients hold one and the same."""
        small: list[bytes] = []
        for part in parts:
            if len(part) <= size_max:
                small.append(part)
                continue
            self.write(b"".join(small), packets.PUBLISH, 0)
            self.write(part, packets.PUBLISH, 0)
            small = []
        self.write(b"".join(small), packets.PUBLISH, 0)
        self.broker.counters.packets_out[packets.PUBLISH] += count
        self.broker.counters.publishes_out += count

    def write_stored(self, data: bytes, kind: int, count: int, ticket: Ticket | None) -> None:
        """Send what had to wait for the state table; if that could not store, nothing may be promised any more."""
        if ticket is not None and ticket.refusals:
            self.fail(reasons.UNSPECIFIED_ERROR, "the session could not be stored")
        else:
            self.write(data, kind, count)

    def ack_packet(self, kind: int, packet_id: int, code: int, text: str) -> bytes:
        """An ack with an error and, if the client wants it and it fits, a reason string.

        Sources: [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.5.2-2]; we never add user properties [MQTT-3.4.2-3]
        [MQTT-3.5.2-3].
        """
        assert self.terms is not None
        if self.terms.problem_information and text:
            packet = encode.ack(kind, packet_id, code, encode.reason_property(text))
            if self.terms.packet_bytes_max is None or len(packet) <= self.terms.packet_bytes_max:
                return packet
        return encode.ack(kind, packet_id, code)

    def disconnect_packet(self, code: int, text: str) -> bytes:
        """[MQTT-3.14.2-3] the text only if it fits. Never a session expiry [MQTT-3.14.2-2] or a user
        property [MQTT-3.14.2-4].
        """
        packet = encode.disconnect(code, text)
        limit = self.terms.packet_bytes_max if self.terms is not None else None
        return packet if limit is None or len(packet) <= limit else encode.disconnect(code)
