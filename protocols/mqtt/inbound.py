"""The way in of one connection: PUBLISHes to the router, acks back when their Ticket is complete. Sans-IO.

One per connection that publishes. All PUBLISHes of one read go to the router as one list. Acks go out in the order
in which the PUBLISHes came, so batches wait in a queue for the tickets before them [MQTT-4.6.0-2] [MQTT-4.6.0-3].

What a read brought before a fault of the peer counts: flush() gives it to the router first. A QoS 2 id is noted only
once its event is with the router, so no id can be left over without an event.
"""
from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from protocols.errors import ProtocolViolation
from protocols.mqtt import convert
from protocols.mqtt.codec import encode, packets, properties, reasons
from protocols.mqtt.codec.packets import VERSION_5, Publish
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Action

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from protocols.mqtt.sessions.session import Line, Session
    from routing.ticket import Ticket


class _Batch:
    """PUBLISHes that wait for their ticket; with no ticket, an answer that waits for those before it."""

    __slots__ = ("answer", "events", "ids", "raw_ids", "ticket")

    def __init__(self, ticket: Ticket | None, events: list[Event], raw_ids: bytearray, ids: list[int],
                 answer: bytes = b"") -> None:
        self.ticket = ticket
        self.events = events
        self.raw_ids = raw_ids          # of the QoS 1 events among events, in order, 2 bytes each
        self.ids = ids                  # of the QoS 2 events among events, in order
        self.answer = answer


class Inbound:
    __slots__ = ("_aliases", "_batches", "_events", "_ids", "_outstanding", "_plain", "_raw_ids", "broker",
                 "connection", "held", "publisher", "session")

    def __init__(self, broker: Broker, connection: Line, session: Session) -> None:
        self.broker = broker
        self.connection = connection
        self.session = session
        self.publisher = broker.router.publisher(session.identity)
        self._events: list[Event] = []              # of the current read
        self._plain = True                          # nothing among _events but what the reader calls plain
        self._raw_ids = bytearray()                 # 2 bytes each
        self._ids: dict[int, Event] = {}
        self._batches: deque[_Batch] = deque()
        self._outstanding = 0                       # QoS 1 and 2 publishes that we owe the last answer
        self._aliases: dict[int, str] | None = None                                     # [MQTT-3.3.2-7]
        self.held = False                          # reading is paused until the disk has caught up

    # -- PUBLISH ----------------------------------------------------------------------------------------------

    def publishes(self, events: list[Event], raw_ids: bytearray) -> None:
        """Plain PUBLISHes, in order."""
        if self._events:
            self._events += events
            self._raw_ids += raw_ids
        else:
            self._events = events
            self._raw_ids = raw_ids

    def publish(self, publish: Publish) -> None:
        """One PUBLISH that is not plain."""
        topic = self._topic(publish)
        if convert.is_internal(topic):
            self._refuse_internal(publish, topic)
            return
        convert.check_publish_topic(topic)
        if publish.qos == 2 and not self._is_new(publish.packet_id, topic, publish.payload):
            return
        now_ms = self.broker.router.clock_ms()
        try:
            event = convert.publish_to_event(
                publish, topic, self.session.client_id, now_ms, self.session.persistent)
        except ProtocolViolation as violation:
            if publish.qos and violation.wire_code == reasons.PAYLOAD_FORMAT_INVALID:
                self._refuse(publish, violation.wire_code, violation.text)
                return
            raise
        if publish.qos == 2:
            self._ids[publish.packet_id] = event
        elif publish.qos == 1:                              # its id is not remembered [MQTT-4.3.2-5]
            self._raw_ids += publish.packet_id.to_bytes(2, "big")
        self._plain = False
        self._events.append(event)

    def _topic(self, publish: Publish) -> str:
        """The topic's name, with the alias looked up or learnt."""
        alias = publish.properties.get(properties.TOPIC_ALIAS)
        if not isinstance(alias, int):
            return publish.topic
        if not 0 < alias <= self.broker.settings.topic_alias_max:    # [MQTT-3.3.2-9] [MQTT-3.2.2-17]
            raise ProtocolViolation(reasons.TOPIC_ALIAS_INVALID, f"topic alias {alias} is not allowed")
        if self._aliases is None:                           # [MQTT-3.3.2-12] all from 1 to the maximum are taken
            self._aliases = {}
        if publish.topic:
            convert.check_publish_topic(publish.topic)
            self._aliases[alias] = publish.topic
            return publish.topic
        topic = self._aliases.get(alias)
        if topic is None:
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, f"topic alias {alias} stands for nothing yet")
        return topic

    def _is_new(self, packet_id: int, topic: str, payload: bytes) -> bool:
        """False for a QoS 2 PUBLISH that is here already: it is answered again, not published again.

        Source: [MQTT-4.3.3-10]. An id that a restart has concluded from the log is not believed blindly: what is
        answered without being stored must be the event that is stored.
        """
        open_ids = self.session.open_ids
        if packet_id in self.session.recovered and not self.broker.confirm(
                self.session, packet_id, topic, payload):
            open_ids.discard(packet_id)
        if open_ids.is_received(packet_id):
            self.flush()
            self._later(encode.ack(packets.PUBREC, packet_id))
            return False
        return packet_id not in self._ids and packet_id not in open_ids.waiting     # there, the answer is on its way

    def _refuse_internal(self, publish: Publish, topic: str) -> None:
        router = self.broker.router
        router.policy.record_denial(
            self.session.identity, Action.PUBLISH, topic, "$-topics are the node's own", router.clock_ms())
        if publish.qos == 0:
            raise ProtocolViolation(reasons.NOT_AUTHORIZED, "clients do not publish to topics that begin with $")
        self._refuse(publish, reasons.NOT_AUTHORIZED, "clients do not publish to topics that begin with $")

    def _refuse(self, publish: Publish, code: int, text: str) -> None:
        """Answer a QoS 1 or 2 PUBLISH with an error, in its turn. MQTT 3.1.1 has no word for it: close."""
        if self.connection.version != VERSION_5:
            raise ProtocolViolation(code, text)
        self.broker.counters.dropped["refused"] += 1
        self.flush()
        kind = packets.PUBACK if publish.qos == 1 else packets.PUBREC
        self._later(self.connection.ack_packet(kind, publish.packet_id, code, text))

    def _later(self, answer: bytes) -> None:
        self._batches.append(_Batch(None, [], bytearray(), [], answer))
        self._drain()

    def flush(self) -> None:
        """Give the router what this read has brought so far."""
        if not self._events:
            return
        maximum = self.broker.settings.receive_maximum
        waiting = self._outstanding + len(self._raw_ids) // 2 + len(self._ids)
        too_many = waiting > maximum and self.connection.version == VERSION_5
        if too_many:
            self._cut(maximum - self._outstanding)
        self._publish()
        if too_many:                                                                    # [MQTT-3.3.4-7]
            raise ProtocolViolation(
                reasons.RECEIVE_MAXIMUM_EXCEEDED, f"at most {maximum} publishes may wait for an answer")

    def _publish(self) -> None:
        events, raw_ids, ids = self._events, self._raw_ids, self._ids
        self._events = []
        connection = self.connection
        broker = self.broker
        broker.counters.publishes_in += len(events)
        router = broker.router
        plain = self._plain and broker.settings.packet_bytes_max <= router.limits.payload_bytes_max
        self._plain = True
        if raw_ids or ids:
            self._raw_ids = bytearray()
            self._ids = {}
            ticket = router.publish(events, self.publisher, plain=plain)
            self._outstanding += len(raw_ids) // 2 + len(ids)
            for packet_id, event in ids.items():
                self.session.open_ids.wait(packet_id, event)
            self._batches.append(_Batch(ticket, events, raw_ids, list(ids)))
            ticket.on_done(self._drain)
        elif events:
            ticket = router.publish(events, self.publisher, plain=plain)
            if ticket.refusals:
                broker.dropped(self.session.identity, "refused", len(ticket.refusals))
        if router.pressure and not self.held:
            self.held = True
            connection.pause_reading()
            router.on_relief(self._relieved)

    def _cut(self, room: int) -> None:
        """Forget what this read has brought from the first publish on for which there is no room."""
        exactly = 0
        for index, event in enumerate(self._events):
            room -= event.qos > 0
            if room < 0:
                at_least = sum(one.qos == 1 for one in self._events[:index])
                self._raw_ids = self._raw_ids[:2 * at_least]
                self._ids = dict(islice(self._ids.items(), exactly))
                del self._events[index:]
                return
            exactly += event.qos == 2

    def _relieved(self) -> None:
        self.held = False
        self.connection.resume_reading()

    # -- answers ----------------------------------------------------------------------------------------------

    def _drain(self, _: Ticket | None = None) -> None:
        """Answer what is durable, up to the first that is not.     [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8]"""
        batches = self._batches
        parts: list[bytes] = []
        refusal: Refusal | None = None
        while batches:
            batch = batches[0]
            ticket = batch.ticket
            if ticket is None:
                parts.append(batch.answer)
            elif not ticket.done:
                break
            elif ticket.refusals:
                refusal = self._answer_each(batch, parts, ticket.refusals) or refusal
            else:
                if batch.raw_ids:
                    self._outstanding -= len(batch.raw_ids) // 2
                    parts.append(encode.acks(packets.PUBACK, batch.raw_ids))
                if batch.ids:
                    self._received(batch, parts)
            batches.popleft()
        if parts:
            self.connection.write(b"".join(parts), packets.PUBACK)
        if refusal is not None and self.connection.version != VERSION_5:
            self.connection.fail(reasons.CODE_OF_REASON[refusal.reason], refusal.text)

    def _received(self, batch: _Batch, parts: list[bytes]) -> None:
        """All QoS 2 events of a batch are durable. That one may have expired changes nothing [MQTT-4.3.3-13]."""
        session = self.session
        for packet_id in batch.ids:
            if packet_id in session.open_ids.waiting:
                session.open_ids.received(packet_id)
        for event in batch.events:
            if event.qos == 2:
                self.broker.qos2_durable(session, event)
        self._pubrec(encode.acks(packets.PUBREC, encode.raw(batch.ids)), parts)

    def _current(self) -> Line:
        """Where the client is now: it may have come back meanwhile and have sent a QoS 2 PUBLISH again.

        Before its CONNACK nothing may be sent; it gets its answer when its PUBLISH is read.
        """
        connection = self.session.connection
        return connection if self.connection.closed and connection is not None and connection.accepted \
            else self.connection

    def _pubrec(self, frame: bytes, parts: list[bytes]) -> None:
        connection = self._current()
        if connection is not self.connection:
            connection.write(frame, packets.PUBREC)
        else:
            parts.append(frame)

    def _pubrec_refused(self, packet_id: int, refusal: Refusal, parts: list[bytes]) -> None:
        """As _pubrec(), with an error. Where MQTT 3.1.1 has no word for it, _drain() closes our own connection."""
        connection = self._current()
        if connection.version == VERSION_5:
            code = reasons.puback_code(refusal.reason)
            self._pubrec(connection.ack_packet(packets.PUBREC, packet_id, code, refusal.text), parts)
        elif connection is not self.connection:
            connection.fail(reasons.CODE_OF_REASON[refusal.reason], refusal.text)

    def _answer_each(self, batch: _Batch, parts: list[bytes], refusals: dict[int, Refusal]) -> Refusal | None:
        """Some events of the batch were refused. Returns a refusal that MQTT 3.1.1 can only answer by closing."""
        raw_ids, ids = batch.raw_ids, iter(batch.ids)
        at = 0
        session = self.session
        last: Refusal | None = None
        dropped = 0
        for index, event in enumerate(batch.events):
            refusal = refusals.get(index)
            dropped += refusal is not None
            if event.qos == 0:
                continue
            if event.qos == 1:
                packet_id = int.from_bytes(raw_ids[at:at + 2], "big")
                at += 2
            else:
                packet_id = next(ids)
            kind = packets.PUBACK if event.qos == 1 else packets.PUBREC
            if event.qos == 1 or refusal is not None:
                self._outstanding -= 1
            if refusal is None:
                if event.qos == 1:
                    parts.append(encode.ack(kind, packet_id))
                else:
                    session.open_ids.received(packet_id)
                    self.broker.qos2_durable(session, event)
                    self._pubrec(encode.ack(kind, packet_id), parts)
                continue
            last = refusal
            if event.qos == 2:                                                          # [MQTT-4.3.3-9]
                session.open_ids.discard(packet_id)
                self._pubrec_refused(packet_id, refusal, parts)
            elif self.connection.version == VERSION_5:
                code = reasons.puback_code(refusal.reason)
                parts.append(self.connection.ack_packet(kind, packet_id, code, refusal.text))
        self.broker.dropped(session.identity, "refused", dropped)
        return last

    def pubrel(self, packet_ids: tuple[int, ...]) -> None:
        """Release QoS 2 ids. PUBCOMP goes out when the release is durable.               [MQTT-4.3.3-11]"""
        session = self.session
        connection = self.connection
        known: list[int] = []
        for packet_id in packet_ids:
            if packet_id not in session.open_ids and connection.version == VERSION_5:
                connection.write(encode.ack(packets.PUBCOMP, packet_id, reasons.PACKET_ID_NOT_FOUND), packets.PUBCOMP)
                continue
            if packet_id in session.open_ids.waiting:
                raise ProtocolViolation(reasons.PROTOCOL_ERROR, "PUBREL before PUBREC")
            session.open_ids.discard(packet_id)                                         # [MQTT-4.3.3-12]
            session.recovered.pop(packet_id, None)
            known.append(packet_id)
        if not known:
            return
        frame = encode.acks(packets.PUBCOMP, encode.raw(known))

        def write(ticket: Ticket | None) -> None:
            self._outstanding = max(self._outstanding - len(known), 0)
            connection.write_stored(frame, packets.PUBCOMP, len(known), ticket)

        if session.persistent:
            self.broker.save_qos2(session).on_done(write)
        else:
            write(None)
