"""A session's seat in a share group: $share/<group>/<filter>.                         Source: MQTT 5 §4.8.2

The group is one consumer in shared mode, whose members are the sessions that are connected. A seat has no credit of
its own: it draws on that of its connection, so the client's Receive Maximum holds for all its subscriptions together.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.mqtt.subscriptions import Plan
from routing.consumer import ConsumerSpec
from routing.cursor import Delivery
from routing.members import Mode
from routing.policy import Identity

if TYPE_CHECKING:
    from protocols.mqtt.outbound import Outbound
    from protocols.mqtt.subscriptions import MqttSubscription
    from routing.consumer import Consumer

SHARE_PREFIX = "mqtt-share/"        # never the consumer of a client id, which begins with "mqtt/"
IN_FLIGHT_MAX = 100_000         # of a whole group; each member has its own, smaller window


def group_name(share: tuple[str, str]) -> str:
    """Name of the group's consumer."""
    return f"{SHARE_PREFIX}{share[0]}/{share[1]}"


def group_spec(share: tuple[str, str], durable: bool) -> ConsumerSpec:
    """durable: as soon as one member's session is."""
    return ConsumerSpec(group_name(share), (share[1],), Mode.SHARED, durable=durable, max_in_flight=IN_FLIGHT_MAX)


class SharedMember:
    __slots__ = ("consumer", "outbound", "subscription")

    def __init__(self, outbound: Outbound, consumer: Consumer, subscription: MqttSubscription) -> None:
        self.outbound = outbound
        self.consumer = consumer
        self.subscription = subscription

    @property
    def identity(self) -> Identity:
        return self.outbound.identity

    @identity.setter
    def identity(self, identity: Identity) -> None:
        raise AttributeError("a member keeps its identity")

    @property
    def credit(self) -> int:
        return self.outbound.credit

    @credit.setter
    def credit(self, credit: int) -> None:
        self.outbound.credit = credit

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """[MQTT-4.8.2-3] Each member gets its events at the QoS that it was granted."""
        self.outbound.send(consumer, deliveries, self.subscription.plan)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """The group was deleted: the subscription is dead until the client subscribes again."""
        if self in self.outbound.shared:
            self.outbound.shared.remove(self)
        self.subscription.member = None

    def leave(self, *, finish_here: bool) -> None:
        """The client unsubscribed (finish_here) or is gone.

        A client that unsubscribed still gets what is in flight answered. When it is gone, QoS 1 goes to the other
        members; QoS 2 never does [MQTT-4.8.2-5], and a persistent session has taken it over when it was sent.
        """
        outbound = self.outbound
        mine = [(packet_id, delivery) for packet_id, delivery in outbound.in_flight.items()
                if delivery is not None and delivery.member is self]
        settled: list[Delivery] = []
        for packet_id, delivery in mine:
            exactly = packet_id in outbound.exactly
            if finish_here or exactly:
                settled.append(delivery)
            if finish_here:
                owned = Delivery(delivery.event, delivery.attempts)
                plan = self.subscription.plan
                outbound.own(packet_id, owned, Plan(2 if exactly else 1, plan.retain_as_published, plan.id_bytes))
        if settled:
            self.consumer.ack(settled)
        if self in outbound.shared:
            outbound.shared.remove(self)
        self.subscription.member = None
        self.consumer.detach(self)
