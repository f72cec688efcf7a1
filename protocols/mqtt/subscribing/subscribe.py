"""SUBSCRIBE and UNSUBSCRIBE of one connection, and the way back into all lanes when a session goes on.

A subscription stands in one of three places: QoS 0 in the router's direct lane, QoS 1 and 2 on the session's consumer,
$share in the group's consumer. Topics of the node's own ($SYS) are in no stream, so their filters are always direct.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from protocols.mqtt.codec import encode, packets, reasons
from protocols.mqtt.codec.filters import Share, parse_share, text_bytes
from protocols.mqtt.codec.packets import FilterRequest, Subscribe, Unsubscribe
from protocols.mqtt.sessions.names import group_name, group_spec
from protocols.mqtt.sessions.session import Line, Session
from protocols.mqtt.sessions.steps import Steps
from protocols.mqtt.sessions.subscriptions import MqttSubscription
from protocols.mqtt.subscribing import shared
from protocols.mqtt.subscribing.retained_begin import answer_subscription
from routing.consumers.consumer import ConsumerSpec
from routing.direct.subscription import Subscription
from routing.errors import Reason, Refusal

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from protocols.mqtt.delivery.outbound import Outbound
    from protocols.mqtt.settings import MqttSettings
    from routing.consumers.consumer import Consumer
    from routing.ticket import Ticket


class Subscriber(Line, Protocol):
    """The connection of a client that subscribes: MqttConnection of connection.py."""

    session: Session | None

    @property
    def broker(self) -> Broker: ...
    @property
    def outbound(self) -> Outbound | None: ...
    def out(self) -> Outbound: ...


def subscribe(connection: Subscriber, packet: Subscribe) -> None:
    """Answer a SUBSCRIBE: a code for each filter in order, then retained events.

    Sources: [MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1]. The SUBACK of a persistent session waits
    until the subscriptions are stored.
    """
    session = connection.session
    assert session is not None
    kept, broker, router = session, connection.broker, connection.broker.router
    codes: list[int] = []
    consumers: dict[Consumer, None] = {}
    tickets: dict[Ticket, None] = {}                # one for each turn that it took
    gone: list[str] = []                            # filters that were of QoS 1 or 2 and are of QoS 0 now

    def one(request: FilterRequest) -> None:
        known = kept.subscriptions.by_pattern.get(request.pattern)
        answer = _subscribe_one(connection, request, packet.subscription_id, known)
        if known is not None and known.qos and not request.qos:
            gone.append(request.pattern)
        if isinstance(answer, Refusal):
            codes.append(_refused_code(connection, answer))
            return
        codes.append(answer.qos)                                                        # [MQTT-3.8.4-7]
        answer_subscription(kept, answer, router.retained, router.clock_s(), known)
        if kept.persistent:
            tickets[broker.save_subscription(kept, answer)] = None
            consumer = answer.member.consumer if answer.member is not None else kept.consumer
            if consumer is not None:
                consumers[consumer] = None

    def end() -> None:
        if gone and connection.outbound is not None:
            connection.outbound.take_over_unwanted()
        for consumer in consumers:      # else a crash would bring the session back to one that starts at that moment
            if kept.persistent:
                consumer.checkpoint()
        if kept.persistent and kept.retained is not None:
            broker.save_qos2(kept)      # its places, and what was sent and is not answered: they are stored together
        suback = encode.suback(packet.packet_id, codes, connection.version)     # [MQTT-3.8.4-2] [MQTT-2.2.1-6]
        _when_stored(list(tickets), partial(finish, suback))

    def finish(suback: bytes, ticket: Ticket | None) -> None:
        connection.write_stored(suback, packets.SUBACK, 1, ticket)
        if kept.retained and not connection.closed:
            kept.retained.release()
            connection.out().pump_retained()

    Steps(connection, router.turns, packet.filters, one, end).start()


def _when_stored(tickets: list[Ticket], finish: Callable[[Ticket | None], None]) -> None:
    """finish() when the last one is done, which it is after the others; with one that was refused, if there is one."""
    if not tickets:
        finish(None)
        return

    def done(last: Ticket) -> None:
        finish(next((ticket for ticket in tickets if ticket.refusals), last))

    tickets[-1].on_done(done)


def _refused_code(connection: Subscriber, refusal: Refusal) -> int:
    connection.broker.counters.dropped["subscribe refused"] += 1
    if connection.version != packets.VERSION_5:
        return reasons.V3_SUBACK_FAILURE
    return reasons.suback_code(refusal.reason)


def _subscribe_one(connection: Subscriber, request: FilterRequest, identifier: int | None,
                   known: MqttSubscription | None) -> MqttSubscription | Refusal:
    """Put one subscription into effect, in the place of one with the same filter.        [MQTT-3.8.4-3]"""
    session = connection.session
    assert session is not None
    if known is None:
        refusal = _refuse_more(session, request.pattern, connection.broker.settings)
        if refusal is not None:
            return refusal
    share = parse_share(request.pattern)
    subscription = MqttSubscription(request, identifier, share)
    subscription.had_more = known is not None and known.guaranteed
    if known is not None and _stays(known, subscription):
        refusal = connection.broker.router.check_subscribe(session.identity, subscription.filter)
        if refusal is not None:                             # the rules have changed meanwhile
            return refusal
        _take_place(known, subscription)
        session.subscriptions.add(subscription)
        return subscription
    refusal = enter(connection, subscription)
    if refusal is not None:
        return refusal
    if known is not None:
        _leave_lane(connection, known)
    elif share is not None:
        connection.broker.groups.joined(share, session)
    session.subscriptions.add(subscription)
    return subscription


def _refuse_more(session: Session, pattern: str, settings: MqttSettings) -> Refusal | None:
    """Is there no room for one more subscription?"""
    count_max, bytes_max = settings.subscriptions_max, settings.subscription_bytes_max
    if len(session.subscriptions) >= count_max:
        return Refusal(Reason.QUOTA_EXCEEDED, f"a client has at most {count_max} subscriptions")
    if session.subscriptions.text_bytes + text_bytes(pattern) > bytes_max:
        return Refusal(Reason.QUOTA_EXCEEDED, f"the filters of a client have at most {bytes_max} bytes")
    return None


def _stays(known: MqttSubscription, new: MqttSubscription) -> bool:
    """Is the place of a subscription that of another one with the same filter? Then no route changes."""
    if known.share is not None:
        return known.member is not None
    if known.direct is not None:
        return not new.guaranteed and known.no_local == new.no_local
    return known.guaranteed and new.guaranteed


def _take_place(known: MqttSubscription, new: MqttSubscription) -> None:
    """Its consumer, group or entry in the direct lane goes on as it is [MQTT-3.8.4-4]."""
    new.member, new.direct = known.member, known.direct
    if new.member is not None:
        new.member.subscription = new
    if new.direct is not None:
        new.direct.options = new


def enter(connection: Subscriber, subscription: MqttSubscription) -> Refusal | None:
    """Take a subscription into its lane: from here on what matches is for this session [MQTT-4.5.0-1]."""
    if subscription.share is not None:
        return _enter_group(connection, subscription)
    outbound = connection.out()
    router = connection.broker.router
    if not subscription.guaranteed:
        subscription.direct = Subscription(subscription.pattern, outbound, subscription, subscription.no_local)
        return router.subscribe(subscription.direct)
    consumer = _own_consumer(connection)
    if isinstance(consumer, Refusal):
        return consumer
    outbound.attach()
    return consumer.add_filter(subscription.pattern, outbound.identity)


def _own_consumer(connection: Subscriber) -> Consumer | Refusal:
    session = connection.session
    assert session is not None
    if session.consumer is None:
        settings = connection.broker.settings
        spec = ConsumerSpec(
            session.consumer_name, durable=session.persistent, max_in_flight=settings.in_flight_max)
        consumer = connection.broker.router.open_consumer(spec, session.identity)
        if isinstance(consumer, Refusal):
            return consumer
        session.consumer = consumer
    session.consumer.keep_untracked()
    return session.consumer


def _enter_group(connection: Subscriber, subscription: MqttSubscription) -> Refusal | None:
    session = connection.session
    share = subscription.share
    assert share is not None and session is not None
    broker = connection.broker
    if share.is_queue:
        return _enter_queue(connection, subscription, share)
    name = group_name(share)
    known = broker.router.consumers.get(name)
    durable = session.persistent or (known is not None and known.spec.durable)
    spec = group_spec(share, durable)
    if known is not None:                                   # who joins changes nothing else
        spec = msgspec.structs.replace(known.spec, durable=durable)
    group = broker.router.open_consumer(spec, session.identity)
    if isinstance(group, Refusal):
        return group
    group.keep_untracked()
    refusal = _take_seat(connection, subscription, group)
    if refusal is not None and known is None:
        broker.router.delete_consumer(name)
    return refusal


def _enter_queue(connection: Subscriber, subscription: MqttSubscription, share: Share) -> Refusal | None:
    """Its topic must be allowed, and what it is bound to, unless it is the client's own."""
    router = connection.broker.router
    queue = router.queues.get(share.group)
    if queue is None or queue.topic != share.filter:
        return Refusal(Reason.NOT_FOUND, f"there is no queue {share.group}")
    refusal = router.check_subscribe(connection.out().identity, share.filter)
    return refusal or _take_seat(connection, subscription, queue.consumer)


def _take_seat(connection: Subscriber, subscription: MqttSubscription, group: Consumer) -> Refusal | None:
    outbound = connection.out()
    member = shared.SharedMember(outbound, group, subscription)
    outbound.shared.append(member)
    refusal = group.attach(member)
    if refusal is not None:
        outbound.shared.remove(member)
        return refusal
    subscription.member = member
    return None


def unsubscribe(connection: Subscriber, packet: Unsubscribe) -> None:
    """Answer an UNSUBSCRIBE.    [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-6] [MQTT-3.11.3-1]"""
    session = connection.session
    assert session is not None
    kept, broker = session, connection.broker
    codes: list[int] = []
    tickets: dict[Ticket, None] = {}
    gone: list[str] = []                            # filters of the session's consumer

    def one(pattern: str) -> None:
        subscription = kept.subscriptions.remove(pattern)
        if subscription is None:
            codes.append(reasons.NO_SUBSCRIPTION_EXISTED)                               # [MQTT-3.10.4-5]
            return
        codes.append(reasons.SUCCESS)                                                   # [MQTT-3.11.3-2]
        if subscription.guaranteed:
            gone.append(pattern)
        if kept.retained is not None:
            kept.retained.drop(pattern)
        _leave_lane(connection, subscription)
        if subscription.share is not None:
            broker.groups.left(subscription.share, kept)
        if kept.persistent:
            tickets[broker.forget_subscription(kept, pattern)] = None

    def end() -> None:
        if gone and connection.outbound is not None:
            connection.outbound.take_over_unwanted()
        unsuback = encode.unsuback(packet.packet_id, codes, connection.version)
        _when_stored(list(tickets), lambda ticket: connection.write_stored(unsuback, packets.UNSUBACK, 1, ticket))

    Steps(connection, broker.router.turns, packet.patterns, one, end).start()


def _leave_lane(connection: Subscriber, subscription: MqttSubscription) -> None:
    session = connection.session
    assert session is not None
    if subscription.direct is not None:
        connection.broker.router.unsubscribe(subscription.direct)
        subscription.direct = None
    if subscription.member is not None:
        subscription.member.unsubscribed()                                              # [MQTT-3.10.4-3]
    if subscription.guaranteed and session.consumer is not None:
        session.consumer.remove_filter(subscription.pattern)


def resume(connection: Subscriber) -> None:
    """The session goes on over a new connection: what was unanswered first, then all lanes."""
    session = connection.session
    assert session is not None
    if not (session.subscriptions.by_pattern or session.released or session.owned or session.retained):
        return
    if session.consumer is not None:                        # tell it who reads now; roles may have changed
        consumer = connection.broker.router.open_consumer(session.consumer.spec, session.identity)
        if not isinstance(consumer, Refusal):
            session.consumer = consumer                     # a new one, if an operator deleted it meanwhile
            consumer.keep_untracked()
    connection.out().begin()
    kept, broker = session, connection.broker

    def one(subscription: MqttSubscription) -> None:
        if enter(connection, subscription) is None:
            return
        kept.subscriptions.remove(subscription.pattern)     # the rules have changed meanwhile
        if kept.persistent:
            broker.forget_subscription(kept, subscription.pattern)
        _leave_lane(connection, subscription)
        if subscription.share is not None:
            broker.groups.left(subscription.share, kept)

    Steps(connection, broker.router.turns, list(session.subscriptions.by_pattern.values()), one, lambda: None).start()


def leave_all(connection: Subscriber) -> None:
    """The connection is over: out of the direct lane and of all groups. The session's consumer keeps its filters."""
    session = connection.session
    if session is None or connection.outbound is None:
        return
    direct = []
    for subscription in session.subscriptions.by_pattern.values():
        if subscription.direct is not None:
            direct.append(subscription.direct)
            subscription.direct = None                      # the next connection has its own
    connection.broker.router.unsubscribe_all(direct)
    for member in list(connection.outbound.shared):         # also those that have unsubscribed and owe an answer
        member.leave()
    connection.outbound.end()
