"""Rights: who may read, share, change and dead-letter from a consumer. The policy's answers in a consumer's terms.

    to use it (pull, ack, nack)     its owner, and who may read all that it reads: they share its work
    to change it                    its owner, and who may manage: options, filters, place, pause, redrive, deletion

A consumer reads with the rights of its owner, Consumer.identity. Made by the router; asked by the registry, by
consumers and by every protocol that has them, so that no door is wider than another.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Protocol

from routing.errors import Reason, Refusal, TopicError
from routing.rights.policy import INTERNAL, Action, Identity, Policy
from routing.topic import check_filter

if TYPE_CHECKING:
    from routing.consumers.definition.spec import ConsumerSpec
    from routing.cursors.cursor import Delivery
    from routing.event import Event


class Owned(Protocol):
    """What rights need of a consumer."""

    name: str
    identity: Identity

    @property
    def filters(self) -> Collection[str]: ...


class Rights:
    """One per tenant."""

    def __init__(self, policy: Policy, clock_ms: Callable[[], int]) -> None:
        self._policy = policy
        self._clock_ms = clock_ms

    def check_subscribe(self, identity: Identity, pattern: str) -> Refusal | None:
        """The subscribe half of the policy door: grammar, then rules. Denials are counted and listed."""
        try:
            check_filter(pattern)
        except TopicError as error:
            return Refusal(Reason.FILTER_INVALID, str(error))
        return self._policy.refuse(identity, Action.SUBSCRIBE, pattern, self._clock_ms())

    def may_read(self, identity: Identity, topic: str) -> bool:
        return self._policy.decide(identity, Action.SUBSCRIBE, topic).allowed

    def may_read_event(self, identity: Identity, event: Event) -> bool:
        """A dead letter is the copy of an event: who may not read that one's topic does not read it here."""
        properties = event.properties
        if properties is not None and properties.dead_letter is not None and not all(
                self.may_read(identity, topic) for topic in properties.dead_letter.topics):
            return False
        return self.may_read(identity, event.topic)

    def may_browse(self, identity: Identity, topic: str) -> bool:
        return self._policy.decide(identity, Action.BROWSE, topic).allowed

    def may_browse_event(self, identity: Identity, event: Event) -> bool:
        """May it be shown to somebody who looks at the log? Who may read it may."""
        properties = event.properties
        if properties is not None and properties.dead_letter is not None and not all(
                self.may_browse(identity, topic) for topic in properties.dead_letter.topics):
            return False
        return self.may_browse(identity, event.topic)

    def split(self, identity: Identity, deliveries: Iterable[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """Those whose events may be read, and those that may not."""
        readable: list[Delivery] = []
        denied: list[Delivery] = []
        for delivery in deliveries:
            (readable if self.may_read_event(identity, delivery.event) else denied).append(delivery)
        return readable, denied

    def may_read_part(self, identity: Identity, pattern: str) -> bool:
        """Can anything that the filter matches be read? A deny of part of it does not count."""
        permissions = self._policy.permissions(identity)
        return permissions.allows_part_of(pattern) and not permissions.denying(Action.SUBSCRIBE, pattern)

    def may_read_all(self, identity: Identity, patterns: Iterable[str]) -> bool:
        """Everything that the filters match, with no part denied."""
        permissions = self._policy.permissions(identity)
        return all(
            permissions.decide(Action.SUBSCRIBE, pattern).allowed and not permissions.denies_part_of(pattern)
            for pattern in patterns
        )

    def may_share(self, identity: Identity, consumer: Owned) -> bool:
        """May this identity read all that the consumer's filters match?"""
        return self.may_read_all(identity, consumer.filters)

    def may_attach(self, identity: Identity, consumer: Owned) -> bool:
        """Its owner, with the roles by which it reads; or who may read all of it anyway."""
        owner = consumer.identity
        return (identity.user, identity.roles) == (owner.user, owner.roles) or self.may_share(identity, consumer)

    def owns(self, identity: Identity, consumer: Owned) -> bool:
        """By user, whatever his roles and client id are now. What the configuration made is the node's own."""
        owner = consumer.identity
        if identity is INTERNAL or owner is INTERNAL:   # by being that very object, not by a name that a client took
            return identity is owner
        return identity.user == owner.user

    def may_change(self, identity: Identity, consumer: Owned) -> bool:
        """Its owner, or who may manage. Without users that is everybody: see mesh/configuration/rules.py."""
        return self.owns(identity, consumer) or self._policy.decide(identity, Action.MANAGE).allowed

    def refuse_change(self, identity: Identity, consumer: Owned) -> Refusal | None:
        """The same for who is about to do it: a denial is counted and listed."""
        if self.owns(identity, consumer):
            return None
        refusal = self._policy.refuse(identity, Action.MANAGE, "", self._clock_ms())
        if refusal is None:
            return None
        text = f"consumer {consumer.name} belongs to {consumer.identity.user}; {refusal.text}"
        return Refusal(refusal.reason, text)

    def choose_owner(self, consumer: Owned, members: Iterable[Identity]) -> Identity:
        """An owner who lost the right to a filter hands over to a member who has it; else it is the one it was."""
        permissions = self._policy.permissions(consumer.identity)
        if not all(permissions.decide(Action.SUBSCRIBE, pattern).allowed for pattern in consumer.filters):
            for member in members:
                if self.may_share(member, consumer):
                    return member
        return consumer.identity

    def refuse_dead_letters(self, identity: Identity, spec: ConsumerSpec) -> Refusal | None:
        """A dead letter is published: to the consumer's own topic as a matter of course, to another by right."""
        topic = spec.dead_letter_topic
        if topic is None or topic == f"dead-letter/{spec.name}":
            return None
        return self._policy.refuse(identity, Action.PUBLISH, topic, self._clock_ms())
