"""The way out of one connection: events to PUBLISH frames, packet ids, acks. Sans-IO but for connection.write().

One per connection that subscribes. It is the sink of the direct lane (QoS 0, may drop: direct.py) and the member of the
session's consumer (QoS 1 and 2, never drops). Both get lists, build parts, and write once. What is in flight:

    in_flight[id] = Delivery     PUBLISH sent, PUBACK or PUBREC outstanding    (its id is in `exactly` when QoS 2)
    in_flight[id] = None         PUBREL sent or about to be, PUBCOMP outstanding

credit is what the client's Receive Maximum leaves; while the socket is slow it is held back [MQTT-4.9.0-2]. All
other packets go out whatever the credit: [MQTT-4.9.0-3] [MQTT-3.3.4-10].
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocols.mqtt.codec import encode, packets, reasons
from protocols.mqtt.codec.encode import PACKET_ID_BYTES, PACKET_ID_BYTES_V5, PACKET_ID_OUT_MAX
from protocols.mqtt.delivery.direct import DirectOut
from protocols.mqtt.sessions.session import OutboundId, Place, outbound_id, place_of
from protocols.mqtt.sessions.subscriptions import Plan
from routing.cursors.cursor import Delivery
from routing.event import Event, is_expired

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from protocols.mqtt.sessions.retained import RetainedAnswers
    from protocols.mqtt.sessions.session import Line, Session
    from protocols.mqtt.sessions.subscriptions import Seat
    from routing.consumers.consumer import Consumer
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

STEP_EVENTS: Final = 200        # retained ones of one client in one turn of the loop, some 3 ms
STEP_LOOKS: Final = 800         # places in their table, where little matches

_AS_PUBLISHED = Plan(2, False, b"")         # for an event whose subscription has gone while it was in flight
_AT_LEAST_ONCE = Plan(1, False, b"")        # the same, with the QoS that it was sent with


class Outbound(DirectOut):
    __slots__ = ("_again", "_held", "_must_store", "_paused", "_unsent", "consumer", "credit", "exactly", "in_flight",
                 "next_id", "shared", "window")

    def __init__(self, broker: Broker, connection: Line, session: Session, window: int, aliases_max: int,
                 packet_bytes_max: int | None) -> None:
        super().__init__(broker, connection, session, aliases_max, packet_bytes_max)
        self.consumer: Consumer | None = None               # set by attach()
        self.window = window
        self.credit = window                                                            # [MQTT-4.9.0-1]
        self.in_flight: dict[int, Delivery | None] = {}
        self.exactly: set[int] = set()                      # ids in flight with QoS 2, before PUBREC
        self.shared: list[Seat] = []
        self.next_id = 0
        self._again: deque[int] = deque()                   # owned ids that wait to be sent again
        self._held = 0
        self._paused = False
        self._must_store = False                            # parts being made hold QoS 2 ids that are not durable
        self._unsent: deque[tuple[Ticket | None, list[bytes], int]] = deque()       # wait for such ids, in order

    # -- guaranteed lane --------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Events of the session's own consumer."""
        self.send(consumer, deliveries, None)

    def send(self, consumer: Consumer, deliveries: list[Delivery], fixed: Plan | None) -> None:
        """Send deliveries in order. fixed: the plan of a shared subscription, None: look it up by topic."""
        connection = self.connection
        if connection.closed:
            return
        parts: list[bytes] = []
        in_flight = self.in_flight
        id_bytes = PACKET_ID_BYTES_V5 if self.v5 else PACKET_ID_BYTES
        done: list[Delivery] = []                           # needs no answer from the client
        plan: Plan | None = None
        topic: str | None = None
        head = b""
        size = qos = sent_qos = limit = -1
        simple = False
        no_local = self.session.subscriptions.any_no_local and fixed is None
        quick = not (self.aliases_max or self.packet_bytes_max or self.session.unacked or no_local)
        packet_id = self.next_id
        for delivery in deliveries:
            event = delivery.event
            payload = event.payload
            if event.topic is not topic:
                topic = event.topic
                plan = fixed or self.plan_of(event)
                simple = quick and plan is not None and (plan.simple or not self.v5)
                limit = plan.qos if plan is not None else 0
                size = -1
            if (simple and event.properties is None and delivery.attempts == 1 and event.key is None
                    and not event.headers):
                if len(payload) != size or event.qos != qos:
                    size, qos = len(payload), event.qos
                    sent_qos = min(qos, limit)                                          # [MQTT-3.8.4-8]
                    head = encode.publish_head(sent_qos << 1, topic.encode(), size + self.v5 + (2 if sent_qos else 0))
                    if sent_qos == 0 and self.v5:
                        head += b"\0"
                if sent_qos == 1:
                    packet_id = packet_id + 1 if packet_id < PACKET_ID_OUT_MAX else 1
                    while packet_id in in_flight:                   # [MQTT-2.2.1-4] [MQTT-4.3.2-1]
                        packet_id = packet_id + 1 if packet_id < PACKET_ID_OUT_MAX else 1
                    in_flight[packet_id] = delivery
                    parts += head, id_bytes[packet_id], payload
                    continue
                if sent_qos == 0:
                    parts += head, payload
                    done.append(delivery)
                    continue
            self.next_id = packet_id
            if no_local:
                plan = self.plan_of(event)
                topic = None
            self._send_one(parts, delivery, plan, done, shared=fixed is not None)
            packet_id = self.next_id
        self.next_id = packet_id
        self._write(parts, len(deliveries))
        if done:
            self.give_back(len(done))
            consumer.ack(done)

    def _send_one(self, parts: list[bytes], delivery: Delivery, plan: Plan | None, done: list[Delivery],
                  shared: bool) -> None:
        """The long way: QoS 2, redelivery, properties, aliases, limits."""
        event = delivery.event
        session = self.session
        place = place_of(event)
        packet_id, sent_qos = session.unacked.pop(place, (0, 0)) if not shared else (0, 0)          # [MQTT-4.4.0-1]
        if delivery.attempts > 1 and not shared and not session.subscriptions.matching(event.topic):
            plan = None                                     # the only filter that is left does not look at topics
        if plan is None and packet_id:
            plan = _AS_PUBLISHED                                                        # [MQTT-3.10.4-3]
        elif session.unacked and not shared and delivery.attempts == 1:
            self._forget_before(place)
        now_ms = self.broker.router.clock_ms()
        expired = not packet_id and is_expired(event, now_ms)   # [MQTT-3.3.2-5] [MQTT-4.3.3-7]
        if plan is None or expired:
            done.append(delivery)
            return
        qos = sent_qos or min(event.qos, plan.qos)          # whatever has become of its subscription
        if qos == 0 and delivery.attempts > 1 and not shared:       # at most once, over a crash too
            done.append(delivery)
            return
        again = delivery.attempts > 1 and qos > 0   # [MQTT-3.3.1-1] [MQTT-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
        if qos and not packet_id:
            packet_id = self._new_id()
        retain = plan.retain_as_published and event.retain              # [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        frame = self.frame(event, qos, retain, plan, packet_id, again)
        if frame is None or qos == 0:
            done.append(delivery)
            if frame is not None:
                parts.append(frame)
            return
        self.in_flight[packet_id] = delivery                            # [MQTT-4.3.2-3] [MQTT-4.3.3-3]
        if qos == 2:
            self.exactly.add(packet_id)
            if session.persistent:
                if shared:
                    self._take_over(packet_id, delivery, plan)
                self._must_store = True
        parts.append(frame)

    def _take_over(self, packet_id: int, delivery: Delivery, plan: Plan) -> None:
        """A QoS 2 event of a share group now belongs to this session alone [MQTT-4.8.2-4] [MQTT-4.8.2-5].

        The group's position and the session's id are stored in the same commit.
        """
        owned = Delivery(delivery.event, delivery.attempts)
        self.in_flight[packet_id] = owned
        self.session.owned[packet_id] = (owned, Plan(2, plan.retain_as_published, plan.id_bytes))
        group: Consumer = delivery.member.consumer
        group.ack([delivery])
        group.checkpoint()

    def _write(self, parts: list[bytes], count: int) -> None:
        """Send PUBLISHes, in order.

        QoS 2 of a persistent session: which place in the log an id stands for must be durable before the client can
        answer it. What comes after waits too, so that QoS does not change the order [MQTT-4.6.0-5] [MQTT-4.6.0-6].
        """
        if self._must_store:
            self._must_store = False
            ticket = self.broker.save_qos2(self.session)
            self._unsent.append((ticket, parts, count))
            ticket.on_done(self._stored)
        elif self._unsent:
            self._unsent.append((None, parts, count))
        else:
            self.connection.write_publishes(parts, count)

    def _stored(self, _: Ticket) -> None:
        unsent = self._unsent
        while unsent and (unsent[0][0] is None or unsent[0][0].done):
            ticket, parts, count = unsent.popleft()
            self.connection.write_stored(b"".join(parts), packets.PUBLISH, count, ticket)

    def _forget_before(self, place: Place) -> None:
        """Nothing before place will come again, so ids kept for it are free."""
        unacked = self.session.unacked
        for known in [known for known in unacked if known[:2] == place[:2] and known[2] < place[2]]:
            del unacked[known]

    def _new_id(self) -> int:
        packet_id = self.next_id
        unacked, owned = self.session.unacked, self.session.owned
        taken = {packet_id for packet_id, _ in unacked.values()} if unacked else ()
        while True:
            packet_id = packet_id + 1 if packet_id < PACKET_ID_OUT_MAX else 1
            if packet_id not in self.in_flight and packet_id not in taken and packet_id not in owned:   # [MQTT-4.3.3-1]
                self.next_id = packet_id
                return packet_id

    # -- retained events --------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """The socket is slow."""
        return self._paused

    def pump_retained(self) -> None:
        """Go on with the retained events of new subscriptions, if there are any."""
        if self.session.retained:
            self.broker.retained_turns.go_on(self)

    def step_retained(self) -> bool:
        """Send some of the retained events. False: nothing more can be sent for now."""
        answers = self.session.retained
        if not answers or self.session.connection is not self.connection:
            return False
        try:
            return self._step(answers)
        except Exception:                       # a fault of ours: this connection dies, the node lives
            log.exception("client %r: a fault of ours while sending retained events", self.identity.client_id)
            self.connection.fail(reasons.UNSPECIFIED_ERROR, "internal error")
            return False

    def _step(self, answers: RetainedAnswers) -> bool:
        broker, session = self.broker, self.session
        retained = broker.router.retained
        if self.connection.closed or self._paused:
            return False
        if self.connection.channel.buffered_bytes() > broker.settings.write_buffer_high_bytes:
            broker.stalled.add(self)                    # the server's tick comes back to it
            return False
        pattern, answer = answers.first(retained, broker.router.clock_s())
        if answer is None:
            if pattern:
                broker.stalled.add(self)
            return False
        subscription = session.subscriptions.by_pattern.get(pattern)
        if subscription is None:
            answers.drop(pattern)
            return bool(answers)
        if subscription.qos and self.credit <= 0:                                   # [MQTT-3.3.4-9]
            return False
        most = min(STEP_EVENTS, self.credit) if subscription.qos else STEP_EVENTS
        cursor = answer.cursor
        events = retained.take(cursor, session.identity, most, STEP_LOOKS)
        if subscription.no_local:
            events = [event for event in events if event.publisher != session.client_id]
        parts, sent = self.take_retained(events, Plan(subscription.qos, True, subscription.plan.id_bytes))
        if sent < len(events):
            cursor.back_to(events[sent].topic)
        answers.moved(answer, retained, subscription)
        self.write_retained(parts)                          # QoS 2 ids are stored there, and this with them
        if session.persistent and any(min(event.qos, subscription.qos) == 0 for event in events[:sent]):
            broker.save_qos2(session)                       # at most once, over a crash too
        else:
            broker.save_qos2_soon(session)
        return bool(answers)

    def take_retained(self, events: list[Event], plan: Plan) -> tuple[list[bytes], int]:
        """Frames of retained events, in order, as credit allows and one write takes; and how many are dealt with.

        They go out by write_retained(), when whoever has them to send knows that they are in flight.
        """
        parts: list[bytes] = []
        size = done = 0
        for event in events:
            qos = min(event.qos, plan.qos)
            if (qos and self.credit <= 0) or size >= self.broker.settings.write_buffer_high_bytes:
                break
            done += 1
            packet_id = self._new_id() if qos else 0
            frame = self.frame(event, qos, True, plan, packet_id, False)                # [MQTT-3.3.1-8]
            if frame is None:                               # expired, or too large for the client
                continue
            size += len(frame)
            if qos:
                self.own(packet_id, Delivery(event), Plan(qos, True, plan.id_bytes))
                self.credit -= 1
                self._must_store |= qos == 2 and self.session.persistent
            parts.append(frame)
        return parts, done

    def write_retained(self, parts: list[bytes]) -> None:
        if parts:
            self._write(parts, len(parts))

    def own(self, packet_id: int, delivery: Delivery, plan: Plan) -> None:
        """In flight, and no consumer would deliver it again: the session keeps it until it is acked."""
        self.in_flight[packet_id] = delivery
        self.session.owned[packet_id] = (delivery, plan)
        if plan.qos == 2:
            self.exactly.add(packet_id)

    def take_over_unwanted(self) -> None:
        """What is in flight for a subscription that has gone, or is of QoS 0 now, is the session's, stored with its id.

        It is completed [MQTT-3.10.4-3] and sent again [MQTT-4.4.0-1], also after a crash, when the consumer would read
        the log by the subscriptions that are left.
        """
        consumer, session = self.consumer, self.session
        if consumer is None or not session.persistent:
            return
        taken: list[Delivery] = []
        for packet_id, delivery in self.in_flight.items():
            if delivery is None or delivery.member is not self or delivery.event.partition is None:
                continue                                    # what no log has a crash takes in any case
            if any(found.qos for found in session.subscriptions.matching(delivery.event.topic)):
                continue
            taken.append(delivery)
            self.in_flight[packet_id] = owned = Delivery(delivery.event, delivery.attempts)
            session.owned[packet_id] = owned, _AS_PUBLISHED if packet_id in self.exactly else _AT_LEAST_ONCE
        if taken:
            self.broker.save_qos2(session)       # in the commit of what the consumer knows
            consumer.ack(taken)
            consumer.checkpoint()

    # -- credit -----------------------------------------------------------------------------------------------

    def give_back(self, count: int) -> None:
        """The client has answered count deliveries."""
        if self._paused:
            self._held += count
        else:
            self.credit += count

    def pause(self) -> None:
        """The socket is slow: no more guaranteed events until resume()."""
        if not self._paused:
            self._paused = True
            self._held += self.credit
            self.credit = 0

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self.credit += self._held
            self._held = 0
            self.ready()

    def ready(self) -> None:
        """Credit is there: what is to be sent again, the consumers and the retained events may go on."""
        if self._again:
            self._send_again()
        if self.consumer is not None:
            self.consumer.ready(self)
        for member in self.shared:
            member.consumer.ready(member)
        self.pump_retained()

    # -- begin and end ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A session goes on: send again what was not answered, in its order, then let new events come.

        Only here is anything sent twice [MQTT-4.4.0-1]. PUBREL first: its PUBREC came before any PUBLISH that
        is still open.
        """
        session = self.session
        parts: list[bytes] = []
        if session.released:
            parts.append(encode.acks(packets.PUBREL, encode.raw(session.released)))
            self.in_flight.update(dict.fromkeys(session.released))
            self.credit -= len(session.released)
        self.connection.write_publishes(parts, 0)
        self._again = deque(session.owned)
        self._send_again()
        self.attach()
        if session.retained:
            session.retained.release()
            self.broker.retained_turns.add(self)

    def _send_again(self) -> None:
        """What the session alone has, as far as the client's Receive Maximum of today goes."""
        session = self.session
        parts: list[bytes] = []
        while self._again and self.credit > 0:                                          # [MQTT-3.3.4-9]
            packet_id = self._again.popleft()
            delivery, plan = session.owned[packet_id]
            may_read = self.broker.router.rights.may_read(session.identity, delivery.event.topic)
            retain = plan.retain_as_published and delivery.event.retain
            frame = self.frame(delivery.event, plan.qos, retain, plan, packet_id, True) if may_read else None
            if frame is None:                               # too large now, or the rules have changed meanwhile
                del session.owned[packet_id]
                continue
            self.own(packet_id, Delivery(delivery.event, delivery.attempts + 1), plan)
            self.credit -= 1
            parts.append(frame)
        self.connection.write_publishes(parts, len(parts))

    def attach(self) -> None:
        """Become the member of the session's consumer, if it has one and we are not."""
        consumer = self.session.consumer
        if consumer is not None and self.consumer is not consumer:
            self.consumer = consumer
            consumer.sent_does_not_expire = True                                        # [MQTT-4.3.3-7]
            refusal = consumer.attach(self)
            if refusal is not None:
                self.connection.fail(reasons.UNSPECIFIED_ERROR, refusal.text)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """Somebody deleted the session's consumer. The client comes back to a fresh one."""
        if self.session.consumer is consumer:
            self.session.consumer = None
            self.consumer = None
            self.connection.fail(reasons.ADMINISTRATIVE_ACTION, reason)

    def end(self) -> None:
        """The connection is over. What is in flight goes back to its consumer, its ids stay with the session."""
        session = self.session
        if session.persistent:
            for packet_id, delivery in self.in_flight.items():
                if delivery is not None and delivery.member is self:
                    session.unacked[place_of(delivery.event)] = packet_id, 2 if packet_id in self.exactly else 1
        if self.consumer is not None:
            self.consumer.detach(self)
        self.in_flight = {}
        self.exactly = set()
        self.inbox = []

    def outbound_ids(self) -> Iterator[OutboundId]:
        """QoS 2 ids in flight, to be stored."""
        owned = self.session.owned
        for packet_id in self.exactly:
            delivery = self.in_flight[packet_id]
            if delivery is not None:
                yield outbound_id(packet_id, delivery.event, released=False, owned=packet_id in owned)
