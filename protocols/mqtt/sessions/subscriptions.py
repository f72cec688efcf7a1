"""The subscriptions of one session, and what they say together about an event. Sans-IO.

A session gets an event once, however many of its filters match: at the highest of their QoS [MQTT-3.3.4-2], with
all their subscription ids. That answer is a Plan, kept per topic. Shared subscriptions are apart: their events come
by another consumer, and each has its own Plan.
"""
from __future__ import annotations

from typing import Protocol

from protocols.mqtt.codec.filters import Share, text_bytes
from protocols.mqtt.codec.packets import FilterRequest
from protocols.mqtt.convert import subscription_id_bytes
from routing.consumers.consumer import Consumer, Member
from routing.direct.subscription import Subscription
from routing.filters.filter_trie import FilterTrie
from routing.topic import KEPT_CHARS_MAX, filter_matches

LINEAR_MAX = 16             # more filters than this are kept in a trie as well
PLANS_MAX = 1_000           # topics whose plan is kept, per session; an idle one keeps none


class Plan:
    """How to send an event to a session. simple: nothing but QoS to look at."""

    __slots__ = ("id_bytes", "qos", "retain_as_published", "simple")

    def __init__(self, qos: int, retain_as_published: bool, id_bytes: bytes) -> None:
        self.qos = qos
        self.retain_as_published = retain_as_published
        self.id_bytes = id_bytes
        self.simple = not retain_as_published and not id_bytes


class Seat(Member, Protocol):
    """A session's place in a share group, while it is connected: SharedMember of subscribing/shared.py."""

    consumer: Consumer
    subscription: MqttSubscription

    def unsubscribed(self) -> None: ...
    def answered(self, count: int) -> None: ...
    def leave(self) -> None: ...


class MqttSubscription:
    """One topic filter of a session with its options."""

    __slots__ = ("answered_until", "direct", "had_more", "identifier", "member", "no_local", "pattern", "plan", "qos",
                 "retain_as_published", "retain_handling", "share")

    def __init__(self, request: FilterRequest, identifier: int | None, share: Share | None) -> None:
        self.pattern = request.pattern                      # as the client wrote it
        self.qos = request.qos if share is None or not share.is_queue else min(request.qos, 1)
        self.no_local = request.no_local
        self.retain_as_published = request.retain_as_published
        self.retain_handling = request.retain_handling
        self.identifier = identifier
        self.share = share                                  # of a $share subscription, and of a queue's
        self.plan = Plan(self.qos, self.retain_as_published,
                         subscription_id_bytes([identifier]) if identifier is not None else b"")
        self.had_more = False                               # it took the place of one with QoS 1 or 2
        self.answered_until = 0                             # offset of retained events that it has got, see retained.py
        self.direct: Subscription | None = None             # its entry in the direct lane, while connected
        self.member: Seat | None = None             # of the group's consumer, while connected

    @property
    def filter(self) -> str:
        return self.share.filter if self.share is not None else self.pattern

    @property
    def guaranteed(self) -> bool:
        """True when it lives on the session's consumer. No stream captures $-topics, so those are direct.

        So does one that was there and is of QoS 0 now: what waits for it must not be lost [MQTT-3.8.4-4].
        """
        return (self.qos > 0 or self.had_more) and self.share is None and not self.pattern.startswith("$")


class SubscriptionSet:
    """All subscriptions of a session by filter. A change costs that of one filter, however many there are."""

    __slots__ = ("_no_local", "_plans", "_trie", "by_pattern", "client_id", "single", "text_bytes")

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.by_pattern: dict[str, MqttSubscription] = {}
        self.text_bytes = 0                                 # of all filters
        self.single: Plan | None = None                     # the plan of every event, when there is but one filter
        self._no_local = 0                                  # how many are
        self._plans: dict[str, Plan | None] | None = None   # once somebody asks
        self._trie: FilterTrie | None = None                # of those that are not shared, likewise

    def __len__(self) -> int:
        return len(self.by_pattern)

    @property
    def any_no_local(self) -> bool:
        return self._no_local > 0

    def add(self, subscription: MqttSubscription) -> None:
        """Add, or put in the place of the same filter.                                  [MQTT-3.8.4-3]"""
        before = self.by_pattern.get(subscription.pattern)
        if before is not None:
            self._take_out(before)
        self.by_pattern[subscription.pattern] = subscription
        self.text_bytes += text_bytes(subscription.pattern)
        self._no_local += subscription.no_local
        if self._trie is not None and subscription.share is None:
            self._trie.add(subscription.pattern, subscription)
        self._changed()

    def remove(self, pattern: str) -> MqttSubscription | None:
        """Take away the subscription of exactly this filter.                            [MQTT-3.10.4-1]"""
        subscription = self.by_pattern.pop(pattern, None)
        if subscription is not None:
            self._take_out(subscription)
            self._changed()
        return subscription

    def _take_out(self, subscription: MqttSubscription) -> None:
        self.text_bytes -= text_bytes(subscription.pattern)
        self._no_local -= subscription.no_local
        if self._trie is not None and subscription.share is None:
            self._trie.remove(subscription.pattern, subscription)

    def _changed(self) -> None:
        self._plans = None
        self.single = None
        if len(self.by_pattern) == 1 and not self._no_local:
            (only,) = self.by_pattern.values()
            self.single = only.plan if only.share is None else None

    def plan(self, topic: str, own_event: bool = False) -> Plan | None:
        """How to send an event of this topic; None: not at all. own_event: this very client published it."""
        if self.single is not None:
            return self.single
        if own_event and self._no_local:                                                # [MQTT-3.8.3-3]
            return _merge([found for found in self.matching(topic) if not found.no_local])
        plans = self._plans
        if plans is None:
            plans = self._plans = {}
        try:
            return plans[topic]
        except KeyError:
            if len(plans) >= PLANS_MAX:
                plans.clear()
            plan = _merge(self.matching(topic))
            if len(topic) <= KEPT_CHARS_MAX:
                plans[topic] = plan
            return plan

    def matching(self, topic: str) -> list[MqttSubscription]:
        """[MQTT-3.3.2-3] Nothing goes to a client that none of its filters matches. Without shared ones."""
        if len(self.by_pattern) <= LINEAR_MAX:
            return [found for found in self.by_pattern.values()
                    if found.share is None and filter_matches(found.pattern, topic)]
        if self._trie is None:
            self._trie = FilterTrie()
            for subscription in self.by_pattern.values():
                if subscription.share is None:
                    self._trie.add(subscription.pattern, subscription)
        return self._trie.match(topic)


def _merge(matching: list[MqttSubscription]) -> Plan | None:
    if not matching:
        return None
    if len(matching) == 1:
        return matching[0].plan
    return Plan(
        max(found.qos for found in matching),
        any(found.retain_as_published for found in matching),
        subscription_id_bytes([found.identifier for found in matching if found.identifier is not None]),
    )
