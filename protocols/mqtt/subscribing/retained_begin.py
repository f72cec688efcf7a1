"""Answers with retained events begin: for a new subscription, and when other nodes have brought some later."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from protocols.mqtt.sessions.retained import RetainedAnswers
from protocols.mqtt.sessions.session import CONSUMER_PREFIX, Session
from protocols.mqtt.sessions.subscriptions import MqttSubscription
from routing.consumers.consumer import Consumer

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from routing.retained.retained import RetainedEvents

MERGED_STEP: Final = 100        # topics that came from another node


def answer_subscription(session: Session, subscription: MqttSubscription, retained: RetainedEvents, now_s: float,
                        known: MqttSubscription | None) -> None:
    """Begin the answer of a subscription that was just made; none for a shared one.

    known: the one in whose place it is. With Retain Handling 1 that one's answer is its own, also for what other nodes
    bring later: none if there was none.        Sources: [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    """
    if subscription.share is not None or subscription.retain_handling == 2:
        return
    if subscription.retain_handling == 1 and known is not None:
        subscription.retain_handling = known.retain_handling
        subscription.answered_until = known.answered_until
        return
    whole = retained.is_whole(subscription.filter)
    if whole and retained.has_none(subscription.filter):
        return
    if session.retained is None:
        session.retained = RetainedAnswers(session.client_id)
    session.retained.add(subscription, retained.open(subscription.filter),
                         None if whole else now_s + retained.limits.retained_wait_s, held=True)


def answer_merged(broker: Broker, topics: list[str], since: int) -> Iterator[None]:
    """Retained events came from another node after some have subscribed: those get them, in the same way.

    Steps of the loop, some topics each. since: as in RetainedEvents.announce.
    """
    router = broker.router
    for number, topic in enumerate(topics, 1):
        for entry in router.trie.match(topic):
            if isinstance(entry, Consumer):
                client_id = entry.name.removeprefix(CONSUMER_PREFIX)
                session = broker.sessions.get(client_id) if client_id != entry.name else None
                found = session.subscriptions.matching(topic) if session is not None else []
            else:
                session = entry.sink.session if isinstance(entry.options, MqttSubscription) else None
                found = [entry.options]
            if session is None:
                continue
            if session.retained is None:
                session.retained = RetainedAnswers(session.client_id)
            for subscription in found:
                if subscription.retain_handling != 2:
                    session.retained.add_merged(subscription, router.retained, since)
            broker.save_qos2_soon(session)
            if session.connection is not None and session.connection.outbound is not None:
                broker.retained_turns.add(session.connection.outbound)
        if number % MERGED_STEP == 0:
            yield
