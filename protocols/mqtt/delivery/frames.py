"""One whole PUBLISH for one client: properties, topic alias, the client's size limit. The long way out. Sans-IO."""
from __future__ import annotations

from protocols.mqtt import convert
from protocols.mqtt.broker import Broker
from protocols.mqtt.codec import encode
from protocols.mqtt.codec.packets import VERSION_5
from protocols.mqtt.codec.properties import encode_varint
from protocols.mqtt.sessions.subscriptions import Plan
from routing.event import Event, is_expired
from routing.rights.policy import Identity


class FrameMaker:
    """What is particular to the client at the other end. Base of Outbound."""

    __slots__ = ("aliases", "aliases_max", "broker", "identity", "packet_bytes_max", "v5")

    def __init__(self, broker: Broker, version: int, identity: Identity, aliases_max: int,
                 packet_bytes_max: int | None) -> None:
        """packet_bytes_max: the client's Maximum Packet Size, None when it has no limit."""
        self.broker = broker
        self.identity = identity
        self.v5 = version == VERSION_5
        self.aliases: dict[str, int] = {}                               # of this connection only [MQTT-3.3.2-7]
        self.aliases_max = aliases_max
        self.packet_bytes_max = packet_bytes_max

    def frame(self, event: Event, qos: int, retain: bool, plan: Plan, packet_id: int, again: bool) -> bytes | None:
        """One whole PUBLISH with everything; None when it has expired or the client cannot take its size."""
        broker = self.broker
        flags = (8 if again else 0) | qos << 1 | retain                                 # [MQTT-3.3.1-2]
        topic = event.topic.encode()
        middle = packet_id.to_bytes(2, "big") if qos else b""
        if self.v5:
            now_ms = broker.router.clock_ms()
            if not again and is_expired(event, now_ms):
                return None
            found = convert.property_bytes(event, now_ms, broker.router.ledger.lost) + plan.id_bytes
            alias = self._alias(event.topic)
            if alias:
                found = b"\x23" + abs(alias).to_bytes(2, "big") + found                 # [MQTT-3.3.2-8]
                if alias > 0:
                    topic = b""
            middle += encode_varint(len(found)) + found
        else:
            convert.report_v3_losses(event, broker.router.ledger.lost)
        frame = b"".join((
            encode.publish_head(flags, topic, len(middle) + len(event.payload)), middle, event.payload))
        if self.packet_bytes_max is not None and len(frame) > self.packet_bytes_max:    # [MQTT-3.1.2-24]
            broker.dropped(self.identity, "packet too large for the client")            # [MQTT-3.1.2-25]
            return None
        return frame

    def _alias(self, topic: str) -> int:
        """Alias of a topic: above 0 when the client knows it, below when this packet tells it, 0 for none."""
        known = self.aliases.get(topic)
        if known is not None:
            return known
        if len(self.aliases) >= self.aliases_max:       # [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
            return 0
        self.aliases[topic] = len(self.aliases) + 1
        return -len(self.aliases)
