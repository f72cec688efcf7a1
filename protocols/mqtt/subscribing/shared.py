"""A session's seat in a share group: $share/<group>/<filter>.                         Source: MQTT 5 §4.8.2

The group is one consumer in shared mode, whose members are the sessions that are connected. "$queue/<name>" is a seat
at the queue of that name, beside readers of any protocol; the queue outlives its members, and QoS is 1 at most. A seat
has no credit of its own: it draws on that of its connection, so the client's Receive Maximum holds for all its
subscriptions together.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.mqtt.sessions.subscriptions import Plan
from routing.cursors.cursor import Delivery
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.mqtt.delivery.outbound import Outbound
    from protocols.mqtt.sessions.subscriptions import MqttSubscription
    from routing.consumers.consumer import Consumer


class SharedMember:
    __slots__ = ("consumer", "outbound", "subscription", "unanswered")

    def __init__(self, outbound: Outbound, consumer: Consumer, subscription: MqttSubscription) -> None:
        self.outbound = outbound
        self.consumer = consumer
        self.subscription = subscription
        self.unanswered: int | None = None      # deliveries still to be answered, once the client has unsubscribed

    @property
    def identity(self) -> Identity:
        return self.outbound.identity

    @identity.setter
    def identity(self, identity: Identity) -> None:
        raise AttributeError("a member keeps its identity")

    @property
    def credit(self) -> int:
        return self.outbound.credit if self.unanswered is None else 0

    @credit.setter
    def credit(self, credit: int) -> None:
        self.outbound.credit = credit

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """[MQTT-4.8.2-3] Each member gets its events at the QoS that it was granted."""
        self.outbound.send(consumer, deliveries, self.subscription.plan)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """The group was deleted: the subscription is dead until the client subscribes again."""
        if self.unanswered is not None:             # nobody is left who could get what is in flight
            self._take_over(self._mine())
        self._gone()

    def unsubscribed(self) -> None:
        """The client gets no more events, but what is in flight may still be answered [MQTT-3.10.4-3].

        Until then QoS 1 stays the group's: if the connection goes first, another member gets it. QoS 2 never goes to
        another [MQTT-4.8.2-5]; a persistent session has taken it over when it was sent, any other does so now.
        """
        mine = self._mine()
        exactly = [entry for entry in mine if entry[0] in self.outbound.exactly]
        self._take_over(exactly)
        self.consumer.ack([delivery for _, delivery in exactly])
        self.unanswered = len(mine) - len(exactly)
        if self.unanswered:
            self.subscription.member = None         # the seat stays until answered() or leave()
        else:
            self._detach()

    def answered(self, count: int) -> None:
        """The client has answered count deliveries."""
        if self.unanswered is not None:
            self.unanswered -= count
            if self.unanswered <= 0:
                self._detach()

    def leave(self) -> None:
        """The connection is over. QoS 1 goes to the other members, QoS 2 never does [MQTT-4.8.2-5]."""
        self.consumer.ack([delivery for packet_id, delivery in self._mine() if packet_id in self.outbound.exactly])
        self._detach()

    def _mine(self) -> list[tuple[int, Delivery]]:
        """What is in flight by this seat."""
        return [(packet_id, delivery) for packet_id, delivery in self.outbound.in_flight.items()
                if delivery is not None and delivery.member is self]

    def _take_over(self, entries: list[tuple[int, Delivery]]) -> None:
        """These are no longer the group's but the session's. Persistent ones are stored in this turn's commit."""
        outbound = self.outbound
        plan = self.subscription.plan
        for packet_id, delivery in entries:
            qos = 2 if packet_id in outbound.exactly else 1
            outbound.own(packet_id, Delivery(delivery.event, delivery.attempts),
                         Plan(qos, plan.retain_as_published, plan.id_bytes))
        if entries and outbound.session.persistent:
            outbound.broker.save_qos2(outbound.session)

    def _detach(self) -> None:
        self._gone()
        self.consumer.detach(self)

    def _gone(self) -> None:
        if self in self.outbound.shared:
            self.outbound.shared.remove(self)
        if self.subscription.member is self:
            self.subscription.member = None
