"""A transaction of a channel: messages and answers that count when it is committed.

Source: AMQP 0-9-1 §1.9. As in RabbitMQ it covers publishes and acks of its channel; what was delivered and is not acked
at a rollback stays with the client. Its methods stand in methods/transactions.py.
"""
from __future__ import annotations

from protocols.amqp091.codec.codes import RESOURCE_ERROR, HardError
from routing.event import Event

EVENT_BYTES = 500           # that a message costs beside its body
ANSWER_BYTES = 1_000        # that an answer counts as: 16,000 of them are settled in 10 ms


class Transaction:
    """What is not committed."""

    __slots__ = ("_bytes", "_bytes_max", "_taken", "events", "settled")

    def __init__(self, bytes_max: int) -> None:
        self._bytes = 0
        self._bytes_max = bytes_max
        self._taken: set[int] = set()
        self.events: list[tuple[Event | None, tuple[str, ...], bytes | None, bool]] = []    # as publish() got them
        self.settled: list[tuple[list[int], bool, bool]] = []           # tags, acked, requeue

    def publish(self, event: Event | None, copies: tuple[str, ...], returned: bytes | None, *,
                inner: bool = False) -> None:
        """inner: as for Publishing.add_inner(). Raises HardError 506: it holds too much."""
        self._bytes += (len(event.payload) if event is not None else 0) + EVENT_BYTES
        if self._bytes > self._bytes_max:
            raise HardError(RESOURCE_ERROR, "the transaction is too large", (60, 40))
        self.events.append((event, copies, returned, inner))

    def settle(self, tags: list[int], acked: bool, requeue: bool) -> None:
        """Raises HardError 506: it holds too much."""
        tags = [tag for tag in tags if tag not in self._taken]
        self._taken.update(tags)
        self.settled.append((tags, acked, requeue))
        self._bytes += len(tags) * ANSWER_BYTES
        if self._bytes > self._bytes_max:
            raise HardError(RESOURCE_ERROR, "the transaction is too large", (90, 20))

    def clear(self) -> None:
        self._bytes = 0
        self.events.clear()
        self.settled.clear()
        self._taken.clear()
