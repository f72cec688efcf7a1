"""What a client's PUBACK, PUBREC and PUBCOMP do to the deliveries in flight.        Source: MQTT 5 §4.3

Called by connection.py with lists of packet ids. QoS 2 of a persistent session: PUBREL goes out only after it is
durable that PUBREC has come, together with the consumer's place.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from protocols.errors import ProtocolViolation
from protocols.mqtt.codec import encode, packets, reasons
from routing.cursors.cursor import Delivery

if TYPE_CHECKING:
    from protocols.mqtt.delivery.outbound import Outbound
    from protocols.mqtt.sessions.subscriptions import Seat
    from routing.consumers.consumer import Consumer
    from routing.ticket import Ticket


def puback(outbound: Outbound, packet_ids: Iterable[int]) -> None:
    """QoS 1 deliveries are done, whatever the reason code [MQTT-4.4.0-2] [MQTT-4.8.2-6]."""
    session = outbound.session
    in_flight = outbound.in_flight
    if outbound.shared or outbound.exactly or session.owned or session.released:
        _puback_slowly(outbound, packet_ids)
        return
    found = [in_flight.pop(packet_id, None) for packet_id in packet_ids]
    done = [delivery for delivery in found if delivery is not None] if None in found else found
    if done and outbound.consumer is not None:
        outbound.give_back(len(done))
        outbound.consumer.ack(done)                         # type: ignore[arg-type]    # no None is left in it
    if session.retained:
        outbound.pump_retained()


def _puback_slowly(outbound: Outbound, packet_ids: Iterable[int]) -> None:
    done: list[Delivery] = []
    for packet_id in packet_ids:
        if packet_id in outbound.exactly or packet_id in outbound.session.released:
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "PUBACK for a publish with QoS 2")
        delivery = outbound.in_flight.pop(packet_id, None)
        if delivery is not None:                            # an unknown id is harmless: its ack crossed a reconnect
            if outbound.session.owned.pop(packet_id, None) is not None:
                outbound.broker.save_qos2_soon(outbound.session)
            done.append(delivery)
    settle(outbound, done)


def settle(outbound: Outbound, done: list[Delivery], *, checkpoint: bool = False, credit: bool = True) -> None:
    """Tell each consumer what is done. checkpoint: store their places in this turn's commit."""
    if credit:
        outbound.give_back(len(done))
    by_consumer: dict[Consumer, list[Delivery]] = {}
    seats: dict[Seat, int] = {}
    for delivery in done:
        if delivery.member is not None:                     # else the session alone had it
            consumer = outbound.consumer if delivery.member is outbound else delivery.member.consumer
            if consumer is not None:
                by_consumer.setdefault(consumer, []).append(delivery)
            if delivery.member is not outbound:
                seats[delivery.member] = seats.get(delivery.member, 0) + 1
    for consumer, deliveries in by_consumer.items():
        consumer.ack(deliveries)
        if checkpoint:
            consumer.checkpoint()
    for seat, count in seats.items():                       # after the acks: one that has unsubscribed goes now
        seat.answered(count)
    outbound.ready()


def pubrec(outbound: Outbound, packet_ids: Iterable[int]) -> None:
    """QoS 2 deliveries have arrived; answer with PUBREL, in order [MQTT-4.3.3-4] [MQTT-4.6.0-4]."""
    session = outbound.session
    connection = outbound.connection
    done: list[Delivery] = []
    released: list[int] = []
    for packet_id in packet_ids:
        if packet_id in outbound.exactly:
            delivery = outbound.in_flight[packet_id]
            assert delivery is not None
            outbound.exactly.discard(packet_id)
            outbound.in_flight[packet_id] = None                                        # [MQTT-4.3.3-5]
            session.released[packet_id] = None              # its PUBLISH is never sent again [MQTT-4.3.3-6]
            session.owned.pop(packet_id, None)
            done.append(delivery)
        elif packet_id in outbound.in_flight and packet_id not in session.released:
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "PUBREC for a publish with QoS 1")
        elif packet_id not in session.released and outbound.v5:
            connection.write(encode.ack(packets.PUBREL, packet_id, reasons.PACKET_ID_NOT_FOUND), packets.PUBREL)
            continue
        released.append(packet_id)                                    # [MQTT-2.2.1-5]
    settle(outbound, done, checkpoint=session.persistent, credit=False)
    if not released:
        return
    frame = encode.acks(packets.PUBREL, encode.raw(released))

    def write(ticket: Ticket | None) -> None:
        connection.write_stored(frame, packets.PUBREL, len(released), ticket)

    if session.persistent:
        outbound.broker.save_qos2(session).on_done(write)
    else:
        write(None)


def pubrec_refused(outbound: Outbound, packet_id: int) -> None:
    """PUBREC with an error: the client will not have it, and nobody else gets it [MQTT-4.4.0-2] [MQTT-4.8.2-6]."""
    if packet_id not in outbound.exactly:
        return
    outbound.exactly.discard(packet_id)
    outbound.session.owned.pop(packet_id, None)
    delivery = outbound.in_flight.pop(packet_id)
    assert delivery is not None
    outbound.broker.save_qos2_soon(outbound.session)
    settle(outbound, [delivery])


def pubcomp(outbound: Outbound, packet_ids: Iterable[int]) -> None:
    """The last packet of QoS 2: the ids are free."""
    session = outbound.session
    count = 0
    for packet_id in packet_ids:
        if packet_id in session.released:
            del session.released[packet_id]
            outbound.in_flight.pop(packet_id, None)
            count += 1
        elif packet_id in outbound.in_flight:
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "PUBCOMP for a publish that was not released")
    outbound.give_back(count)
    outbound.broker.save_qos2_soon(session)
    outbound.ready()
