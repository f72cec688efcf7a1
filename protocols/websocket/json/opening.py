"""Opening and closing the subscriptions of a /v1/ws connection: which consumer, where it begins, who may. Sans-IO.

The base of JsonSession (session.py), which has the rest of the conversation.
"""
from __future__ import annotations

import secrets

import msgspec

from protocols.formats.cloudevents import build_json
from protocols.formats.cloudevents_event import cloud_event
from protocols.formats.encoded_events import EncodedEvents
from protocols.formats.event_json import event_json
from protocols.formats.location import Vector
from protocols.formats.start import StartInvalid, StartLost, start_vector
from protocols.websocket.json.messages import (
    FILTERS_MAX,
    ID_CHARS_MAX,
    BadMessage,
    Subscribe,
    Unsubscribe,
    answer,
    event_head,
)
from protocols.websocket.json.subscription import WINDOW_MAX, JsonSubscription
from protocols.websocket.problems import problem_of
from protocols.websocket.settings import WebSocketSettings
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.errors import Refusal
from routing.rights.policy import Identity
from routing.router import Router

NAME_CHARS_MAX = 128
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-")
MODES = {mode.value: mode for mode in Mode}


class Caches:
    """Encoded events, shared by all connections: as JSON, as heads whose payload stands behind them, as CloudEvents."""

    def __init__(self, router: Router) -> None:
        self._texts = EncodedEvents(event_json)
        self._heads = EncodedEvents(event_head)
        self._clouds = EncodedEvents(
            lambda event: build_json(cloud_event(event, router.store.epoch, router.ledger.lost)))

    def of(self, said: Subscribe) -> EncodedEvents:
        if said.format == "cloudevents":
            return self._clouds
        return self._heads if said.binary else self._texts

    def connections(self, count: int) -> None:
        for cache in (self._texts, self._heads, self._clouds):
            cache.sharing = count > 1
            if not count:
                cache.clear()


class OpensSubscriptions:
    """The subscriptions of one connection."""

    def __init__(self, router: Router, settings: WebSocketSettings, caches: Caches) -> None:
        self.identity = Identity("")                    # until the login
        self.subscriptions: dict[str, JsonSubscription] = {}
        self._router = router
        self._settings = settings
        self._caches = caches

    @property
    def full(self) -> bool:
        raise NotImplementedError

    def send(self, message: bytes, *, is_binary: bool = False) -> None:
        raise NotImplementedError

    def room_bytes(self) -> int:
        raise NotImplementedError

    def send_events(self, messages: list[bytes], payload_bytes: int, *, is_binary: bool) -> None:
        raise NotImplementedError

    def subscription_over(self, subscription: JsonSubscription) -> None:
        if self.subscriptions.get(subscription.name) is subscription:
            del self.subscriptions[subscription.name]

    # -- subscribe --------------------------------------------------------------------------------------------

    def subscribe(self, said: Subscribe) -> None:
        """Raises BadMessage."""
        self._check(said)
        subscription = JsonSubscription(
            self, self._router, said.subscription, durable=said.consumer is not None, credit=said.credit,
            unacked_max=self._settings.unacked_max, as_binary=said.binary, as_cloudevents=said.format == "cloudevents",
            cache=self._caches.of(said),
            send_buffer_bytes=self._settings.send_buffer_bytes)
        if said.consumer is None:
            consumer, vector = self._open_live(said)
        else:
            consumer, vector = self._open_durable(said, said.consumer)
        subscription.start(consumer, vector)
        refusal = consumer.attach(subscription)
        if refusal is not None:
            subscription.close()
            raise BadMessage(refusal.text, problem_of(refusal), said.id)
        self.subscriptions[said.subscription] = subscription
        self.send(answer(
            "subscribed", said.id, subscription=said.subscription, filters=list(consumer.filters),
            consumer=said.consumer, mode=consumer.spec.mode.value if said.consumer is not None else None,
            position=subscription.position()))
        subscription.tell_gaps()

    def _check(self, said: Subscribe) -> None:
        if not 1 <= len(said.subscription) <= ID_CHARS_MAX:
            raise BadMessage(f"a subscription has a name of 1 to {ID_CHARS_MAX} characters", id=said.id)
        if said.subscription in self.subscriptions:
            raise BadMessage(f"there is a subscription {said.subscription[:200]} already", "conflict", said.id)
        if len(self.subscriptions) >= self._settings.subscriptions_max:
            raise BadMessage("subscriptions_max of the connection is reached", "quota-exceeded", said.id)
        if len(said.filters) > FILTERS_MAX:
            raise BadMessage(f"one subscription has at most {FILTERS_MAX} filters", "quota-exceeded", said.id)
        if said.binary and said.format == "cloudevents":
            raise BadMessage("CloudEvents come as JSON, not behind it", id=said.id)
        if said.credit is not None and not 0 <= said.credit <= 1_000_000:
            raise BadMessage("credit is a number from 0 to 1000000", id=said.id)
        if said.mode is not None and said.mode not in MODES:
            raise BadMessage(f"mode is one of {', '.join(MODES)}", id=said.id)
        for name in ("ack_timeout_ms", "max_deliveries"):
            value = getattr(said, name)
            if value is not None and not 1 <= value <= 2**31:
                raise BadMessage(f"{name} is a number from 1 to {2**31}", id=said.id)
        for pattern in said.filters:
            refusal = self._router.check_subscribe(self.identity, pattern)
            if refusal is not None:
                raise BadMessage(refusal.text, problem_of(refusal), said.id)

    def _vector(self, said: Subscribe, filters: tuple[str, ...]) -> Vector:
        partitions = self._router.streams.holding(filters)
        try:
            return start_vector("latest" if said.start is None else said.start, partitions, self._router.store.epoch)
        except StartInvalid as error:
            raise BadMessage(str(error), "position-invalid", said.id) from None
        except StartLost as error:
            raise BadMessage(str(error), "position-lost", said.id) from None

    def _open_live(self, said: Subscribe) -> tuple[Consumer, Vector]:
        if not said.filters:
            raise BadMessage("name at least one topic filter, or a consumer", id=said.id)
        if said.mode is not None or said.takeover or said.ack_timeout_ms or said.max_deliveries:
            raise BadMessage("mode, takeover, ack_timeout_ms and max_deliveries need a consumer", id=said.id)
        filters = tuple(dict.fromkeys(said.filters))
        vector = self._vector(said, filters)
        spec = ConsumerSpec(f"ws/{secrets.token_hex(8)}", filters, start=_start(vector), durable=False,
                            max_in_flight=WINDOW_MAX * 2)
        return self._opened(said, spec), vector

    def _open_durable(self, said: Subscribe, name: str) -> tuple[Consumer, Vector]:
        if not 1 <= len(name) <= NAME_CHARS_MAX or not NAME_CHARACTERS.issuperset(name):
            raise BadMessage(
                f"a consumer's name has at most {NAME_CHARS_MAX} letters, digits, and . _ ~ -",
                id=said.id)
        filters = tuple(dict.fromkeys(said.filters))
        consumer = self._router.consumers.get(name)
        if consumer is None:
            if not filters:
                raise BadMessage(f"there is no consumer {name}; name its filters to make it", "not-found", said.id)
            refusal = self._router.shares.consumers.refuse(self.identity.user, self._settings.consumers_max)
            if refusal is not None:
                raise BadMessage(refusal.text, "quota-exceeded", said.id)
            vector = self._vector(said, filters)
            consumer = self._opened(said, ConsumerSpec(
                name, filters, MODES[said.mode or "exclusive"], _start(vector),
                ack_timeout_s=None if said.ack_timeout_ms is None else said.ack_timeout_ms / 1000,
                max_deliveries=said.max_deliveries))
        else:
            if consumer.spec.push is not None:          # readers would take, and ack, what the webhook is to get
                raise BadMessage(f"consumer {name} pushes its events to a URL", "conflict", said.id)
            if said.mode is not None and consumer.spec.mode is not MODES[said.mode]:
                raise BadMessage(f"consumer {name} exists in mode {consumer.spec.mode.value}", "conflict", said.id)
            owner = consumer.identity
            changed = owner.user == self.identity.user and owner.roles != self.identity.roles
            if changed or (filters and set(filters) != set(consumer.filters)):
                consumer = self._opened(
                    said, msgspec.structs.replace(consumer.spec, filters=filters or tuple(consumer.filters)))
            if said.takeover:
                self._take_over(consumer)
        vector = {}
        for partition, cursor in consumer.cursors.items():
            offsets = vector.setdefault(partition.stream, [])
            offsets += [0] * (partition.index + 1 - len(offsets))
            offsets[partition.index] = cursor.state()[0]
        return consumer, vector

    def _take_over(self, consumer: Consumer) -> None:
        """The same user has come back before the node noticed that the old connection is gone."""
        if consumer.spec.mode in (Mode.EXCLUSIVE, Mode.FAILOVER):
            for member in list(consumer.members.all):
                if isinstance(member, JsonSubscription) and member.identity.user == self.identity.user:
                    member.taken_over()

    def _opened(self, said: Subscribe, spec: ConsumerSpec) -> Consumer:
        consumer = self._router.open_consumer(spec, self.identity)
        if isinstance(consumer, Refusal):
            raise BadMessage(consumer.text, problem_of(consumer), said.id)
        return consumer

    # -- unsubscribe ------------------------------------------------------------------------------------------

    def unsubscribe(self, said: Unsubscribe) -> None:
        """Raises BadMessage."""
        subscription = self.subscriptions.get(said.subscription)
        if subscription is None:
            raise BadMessage(f"there is no subscription {said.subscription[:200]}", "not-found", said.id)
        consumer = subscription.consumer
        if said.delete and subscription.durable and consumer is not None:
            refusal = self._router.rights.refuse_change(self.identity, consumer)
            if refusal is not None:
                raise BadMessage(refusal.text, problem_of(refusal), said.id)
            del self.subscriptions[said.subscription]
            subscription.close()
            self._router.delete_consumer(consumer.name)
        else:
            del self.subscriptions[said.subscription]
            subscription.close()
        self.send(answer("unsubscribed", said.id, subscription=said.subscription))


def _start(vector: Vector) -> list[tuple[str, int, int]]:
    return [(stream, index, offset) for stream, offsets in vector.items() for index, offset in enumerate(offsets)]
