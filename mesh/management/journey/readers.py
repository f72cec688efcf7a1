"""Who of a node got an event, and who did not and why: from what consumers, cursors, rules and denials say now."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mesh.management.acts.call import Values
from protocols.formats.event_json import rfc3339
from routing.errors import TopicError
from routing.rights.policy import Action
from routing.topic import check_filter, filter_matches, filters_intersect

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.event import Event
    from routing.router import Router

SHOWN_MAX: Final = 200              # consumers of one outcome that are listed; the rest is counted
DENIALS_SHOWN: Final = 20


def reader_rows(router: Router, event: Event) -> Iterator[Values | None]:
    """A row per consumer that the event is, was or would be for; None: a step without one. no_match is counted."""
    now_ms = router.clock_ms()
    for consumer in list(router.consumers.values()):
        if consumer.closed:
            continue
        outcome, why = _outcome(router, consumer, event, now_ms)
        if outcome == "no match":
            yield None
            continue
        yield {"name": consumer.name, "user": consumer.identity.user, "protocol": _protocol(consumer),
               "outcome": outcome, "why": why, "members": len(consumer.members), "paused": consumer.paused}


def _protocol(consumer: Consumer) -> str:
    for member in consumer.members.all:
        return member.identity.protocol
    first, slash, _ = consumer.name.partition("/")
    return first if slash else consumer.identity.protocol


def _outcome(router: Router, consumer: Consumer, event: Event, now_ms: int) -> tuple[str, str]:
    """(acked, passed, in flight, waiting, behind, denied, filtered, expired, later, elsewhere, no match; why)."""
    matching = consumer.interest.matching(event.topic)
    if not matching:
        return "no match", ""
    decision = router.policy.decide(consumer.identity, Action.SUBSCRIBE, event.topic)
    if not decision.allowed:
        return "denied", f"rule {decision.rule}"
    partition = event.partition
    cursor = consumer.cursors.get(partition)
    if cursor is None:
        return "elsewhere", "it reads other streams"
    if not consumer.interest.wants_event(event):
        fresh = consumer.interest.fresh
        if all(event.offset < fresh.get(pattern, {}).get(partition, 0) for pattern in matching):
            return "later", "its filter was added after the event"
        queue = router.queues.get(consumer.name)
        if queue is not None and queue.elsewhere is not None and not queue.elsewhere.takes(event):
            return "elsewhere", "the part of the queue on another node keeps it"
        return "filtered", "its bindings or its own condition"
    offset = event.offset
    delivery = cursor.in_flight.get(offset)
    if delivery is not None:
        who = delivery.member.identity.client_id or delivery.member.identity.user if delivery.member else "a member"
        return "in flight", f"delivered {delivery.attempts} time{'s' * (delivery.attempts != 1)}, to {who}, not acked"
    if offset in cursor.again or offset in cursor.delayed:
        return "waiting", "to be delivered again"
    properties = event.properties
    expired = properties is not None and properties.expires_at_ms is not None and properties.expires_at_ms <= now_ms
    if any(waiting.offset == offset for waiting in cursor.waiting):
        return ("expired", "before it was delivered") if expired else ("waiting", "for a member with room")
    if offset >= cursor.position and offset not in cursor.ahead and cursor.behind:
        if expired:
            return "expired", "before it was read"
        paused = ", it is paused" if consumer.paused else ""
        return "behind", f"it stands {offset - cursor.position + 1} records before it{paused}"
    if event.timestamp_ms < consumer.generation * 1000:
        return "passed", f"acked, or it began (or was moved) behind it, {rfc3339(consumer.generation * 1000)}"
    return "acked", ""


def live_counts(router: Router, event: Event) -> Values:
    """Subscribers of the direct lane that match now: they got it if they were there, which nobody wrote down."""
    sinks = [one for one in router.trie.match(event.topic) if hasattr(one, "sink")]
    denied = [one for one in sinks if not router.rights.may_read(one.sink.identity, event.topic)]
    return {"matching": len(sinks) - len(denied), "denied": [
        {"user": one.sink.identity.user, "client_id": one.sink.identity.client_id,
         "rule": router.policy.decide(one.sink.identity, Action.SUBSCRIBE, event.topic).rule}
        for one in denied[:DENIALS_SHOWN]]}


def denial_rows(router: Router, event: Event) -> list[Values]:
    """Who wanted to subscribe to a filter with this topic in it and was refused, of the denials that are kept."""
    found: dict[tuple[Any, ...], Values] = {}
    for denial in reversed(router.policy.denials):
        topic = str(denial["topic"])
        if denial["action"] == "subscribe" and _covers(topic, event.topic):
            key = denial["user"], denial["client_id"], topic
            found.setdefault(key, {
                "user": denial["user"], "client_id": denial["client_id"], "protocol": denial["protocol"],
                "filter": topic, "rule": denial["rule"], "time": rfc3339(int(denial["time_ms"]))})
            if len(found) >= DENIALS_SHOWN:
                break
    return list(found.values())


def _covers(pattern: str, topic: str) -> bool:
    try:
        check_filter(pattern)
    except TopicError:
        return False                # it was cut for the list
    return filter_matches(pattern, topic) or (pattern != topic and filters_intersect(pattern, topic))
