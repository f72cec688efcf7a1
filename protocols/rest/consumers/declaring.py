"""PUT /v1/consumers/{name} with "queue": the consumer is a queue, and its filters are the queue's bindings.

Who declares it again must say the same of the queue; filters, max_deliveries, ack_timeout_s and expires_s may change.
Bindings that another protocol has made (an AMQP exchange) stay as they are.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from protocols.rest.problems import Problem
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.errors import Reason, Refusal
from routing.queues.bindings import Binding
from routing.queues.options import Overflow, QueueOptions
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from routing.queues.queue import Queue
    from routing.router import Router

NUMBER_MAX = 2**53 - 1                  # that every JSON parser reads as it is
_Count = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]


class QueueBody(msgspec.Struct, forbid_unknown_fields=True):
    """See docs/queues.md, Limits. {} is a queue without any."""

    message_ttl_ms: _Count | None = None
    max_length: _Count | None = None
    max_length_bytes: _Count | None = None
    overflow: Overflow = "drop-head"
    single_active: bool = False
    max_priority: Annotated[int, msgspec.Meta(ge=1, le=255)] | None = None
    auto_delete: bool = False


NOT_OF_QUEUES = {"mode": Mode.SHARED, "start": "latest", "streams": [], "push": None, "dead_letter_expired": False}


def check_queue(body: msgspec.Struct) -> None:
    """body: of the PUT. Raises Problem (400) for options that queues do not have."""
    for name, usual in NOT_OF_QUEUES.items():
        if getattr(body, name) != usual:
            raise Problem(400, "body-invalid", f"{name}: a queue has none; see docs/queues.md")


def fill_sample(template: str) -> str:
    """A topic as the template of dead letters may make one."""
    return template.replace("{topic}", "t").replace("{rest}", "r").replace("{queue}", "q")


def declare(router: Router, spec: ConsumerSpec, body: QueueBody, identity: Identity) -> Consumer | Refusal:
    """Make the queue, or change it. All or nothing."""
    options = QueueOptions(
        auto_delete=body.auto_delete, message_ttl_ms=body.message_ttl_ms, max_length=body.max_length,
        max_length_bytes=body.max_length_bytes, overflow=body.overflow, single_active=body.single_active,
        max_priority=body.max_priority, dead_letter=spec.dead_letter_topic)
    refusal = _refuse_rights(router, spec, identity)
    if refusal is not None:
        return refusal
    known = router.queues.get(spec.name)
    if known is None:
        made = router.queues.declare(
            spec.name, options, identity, expires_s=spec.expires_s, max_deliveries=spec.max_deliveries,
            ack_timeout_s=spec.ack_timeout_s)
        if isinstance(made, Refusal):
            return made
        refusal = _bind(made, spec.filters, identity)
        if refusal is not None:
            router.queues.delete(spec.name)
            return refusal
        return made.consumer
    known.in_use()
    refusal = _refuse_other(known, options)
    if refusal is None and _changes(known, spec):
        refusal = router.rights.refuse_change(identity, known.consumer)
        if refusal is None:
            refusal = _change(router, known, spec, identity)
    return refusal or known.consumer


def _refuse_rights(router: Router, spec: ConsumerSpec, identity: Identity) -> Refusal | None:
    for pattern in spec.filters:
        refusal = router.rights.check_subscribe(identity, pattern)
        if refusal is not None:
            return refusal
    if spec.dead_letter_topic is not None and "{" not in spec.dead_letter_topic:    # else it is asked per event
        return router.policy.refuse(identity, Action.PUBLISH, spec.dead_letter_topic, router.clock_ms())
    return None


def _refuse_other(queue: Queue, options: QueueOptions) -> Refusal | None:
    known = msgspec.structs.replace(queue.options, native=b"")
    for name in QueueOptions.__struct_fields__:
        before, after = getattr(known, name), getattr(options, name)
        if before != after:
            return Refusal(Reason.CONFLICT, f"queue {queue.name} was declared with {_said(name)} "
                           f"{msgspec.json.encode(before).decode()}; delete it to change that")
    return None


def _said(option: str) -> str:
    return "dead_letter_topic" if option == "dead_letter" else option


def _changes(queue: Queue, spec: ConsumerSpec) -> bool:
    known = queue.consumer.spec
    return set(filters_of(queue)) != set(spec.filters) or (
        known.max_deliveries, known.ack_timeout_s, known.expires_s) != (
        spec.max_deliveries, spec.ack_timeout_s, spec.expires_s)


def _change(router: Router, queue: Queue, spec: ConsumerSpec, identity: Identity) -> Refusal | None:
    before = set(filters_of(queue))
    refusal = _bind(queue, spec.filters, identity)
    if refusal is not None:
        for pattern in set(filters_of(queue)) - before:
            queue.unbind(Binding(pattern))
        return refusal
    for pattern in before - set(spec.filters):
        queue.unbind(Binding(pattern))
    consumer = queue.consumer
    consumer.take_spec(msgspec.structs.replace(
        consumer.spec, max_deliveries=spec.max_deliveries, ack_timeout_s=spec.ack_timeout_s,
        expires_s=spec.expires_s))
    router.registry.changed(consumer)
    return None


def _bind(queue: Queue, filters: tuple[str, ...], identity: Identity) -> Refusal | None:
    for pattern in filters:
        refusal = queue.bind(Binding(pattern), identity)
        if refusal is not None:
            return refusal
    return None


def filters_of(queue: Queue) -> list[str]:
    """Those that were bound here: without a predicate, and by no other protocol."""
    return [binding.pattern for binding in queue.bindings.live.values()
            if binding.predicate is None and not binding.native]


def queue_json(queue: Queue) -> dict[str, Any]:
    """What GET says of the queue."""
    options = queue.options
    bindings = [{"filter": binding.pattern, "predicate": msgspec.to_builtins(binding.predicate)}
                for binding in queue.bindings.live.values()]
    return {
        "topic": queue.topic, "bindings": bindings, "message_ttl_ms": options.message_ttl_ms,
        "max_length": options.max_length, "max_length_bytes": options.max_length_bytes, "overflow": options.overflow,
        "single_active": options.single_active, "max_priority": options.max_priority,
        "auto_delete": options.auto_delete,
    }
