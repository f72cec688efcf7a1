"""Queues and what belongs to them as rows: depth, readers, limits, bindings; and transactions that are known."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mesh.management.tables.consumer_rows import consumer_row
from routing.consumers.snapshot import snapshot

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from routing.router import Router

BINDINGS_SHOWN = 50             # of a queue; the number of all stands beside them


def queue_rows(router: Router, sampler: Sampler) -> Iterator[dict[str, Any]]:
    """What a consumer's row has, and what makes a queue of it."""
    for queue in list(router.queues.by_name.values()):
        consumer = queue.consumer
        if consumer.closed:
            continue
        options = queue.options
        bindings = [binding for binding in queue.bindings if binding.until is None and binding.pattern != queue.topic]
        row = consumer_row(router, sampler, snapshot(consumer))
        row.update(
            topic=queue.topic, bindings=len(bindings), bound_to=[one.pattern for one in bindings[:BINDINGS_SHOWN]],
            dead_letter=options.dead_letter, temporary=options.temporary, auto_delete=options.auto_delete,
            single_active=options.single_active, exclusive_reader=queue.exclusive is not None,
            state=_state(row))
        yield row


def _state(row: dict[str, Any]) -> str:
    """A queue that nobody reads and that has something in it is what an operator looks for."""
    if row["paused"]:
        return "paused"
    if row["members"]:
        return "behind" if row["lag_events"] and row["lag_seconds"] > 1 else "current"
    return "unread" if row["ready"] else "idle"


def transaction_rows(router: Router) -> Iterator[dict[str, Any]]:
    """Of every transactional id; age_s of those that are going on."""
    now_ms = router.clock_ms()
    for name, found in list(router.transactions.by_id.items()):
        open_ = found.state.name in ("ONGOING", "PREPARE_COMMIT", "PREPARE_ABORT")
        yield {
            "transactional_id": name, "state": found.state.name.lower().replace("_", " "), "user": found.owner,
            "producer_id": found.producer_id, "epoch": found.epoch, "timeout_s": found.timeout_ms / 1000,
            "partitions": len(found.partitions), "places": [f"{stream}/{index}" for stream, index in found.partitions],
            "began_ms": found.began_ms if open_ else None,
            "age_s": max(now_ms - found.began_ms, 0) / 1000 if open_ and found.began_ms else None}
