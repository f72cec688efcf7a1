"""The body of a Batch whose batches are as the origin has stored them: where each begins, and nothing of what is in it.

That is checked by the door in (routing/log/producing/raw.py), which opens it on a thread if it is large.
"""
from __future__ import annotations

from mesh.replication.bodies import BadBody
from mesh.replication.messages import Batch
from routing.log.records.batch import CONTROL_MASK, TRANSACTIONAL_MASK, batch_at
from routing.replicas.stored import StoredBatch


def stored_batches(batch: Batch) -> list[StoredBatch]:
    """In order, within start ≤ offset < next. Raises BadBody."""
    body, at, expected = batch.body, 0, batch.start
    found: list[StoredBatch] = []
    while at < len(body):
        header = batch_at(body, at)
        if header is None or at + header.size > len(body):
            raise BadBody("a batch that is not whole")
        if header.base_offset < expected or header.next_offset > batch.next:
            raise BadBody(f"a batch of offsets {header.base_offset} to {header.next_offset}")
        if header.attributes & (CONTROL_MASK | TRANSACTIONAL_MASK):
            raise BadBody("a batch of a transaction, which means nothing here")
        found.append(StoredBatch(body[at:at + header.size], header.base_offset, header.next_offset))
        at += header.size
        expected = header.next_offset
    return found
