"""Events whose publisher chose the partition: Event Hubs' partition senders, and what has no key there.

The door in is that of Router.publish(), with its policy, limits and gates; only the place is not asked of the key.
Called by router.py.
"""
from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from routing.errors import Reason, Refusal
from routing.event import Event, topic_runs
from routing.publishing.route import QUEUE_FULL, Route
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.publishing.publisher import Publisher


class Desk(Protocol):
    """What is needed of the router."""

    published: int
    refused: Counter[Reason]

    def admit(self, topic: str, publisher: Publisher, count: int) -> Route | Refusal: ...
    def refuse_size(self, event: Event) -> Refusal | None: ...
    def send_on(self, run: list[Event], route: Route, publisher: Publisher, *, stored: bool) -> None: ...
    def request_turn(self) -> None: ...


def publish_to(desk: Desk, partition: Partition, events: list[Event], publisher: Publisher) -> Ticket:
    """The ticket says of each what became of it. They go into the log together, in their order."""
    ticket = Ticket(events)
    taken: list[Event] = []
    admitted: list[tuple[list[Event], Route]] = []
    index = 0
    for run in topic_runs(events):
        route = desk.admit(run[0].topic, publisher, len(run))
        if isinstance(route, Refusal):                  # counted
            ticket.refusals.update(dict.fromkeys(range(index, index + len(run)), route))
        else:
            fine = [event for number, event in enumerate(run, index) if _is_taken(desk, ticket, number, event, route)]
            taken += fine
            admitted.append((fine, route))
        index += len(run)
    partition.append(taken, ticket)
    for fine, route in admitted:
        if fine:
            desk.send_on(fine, route, publisher, stored=True)
    desk.published += len(events)
    ticket.part_done()
    desk.request_turn()
    return ticket


def _is_taken(desk: Desk, ticket: Ticket, index: int, event: Event, route: Route) -> bool:
    refusal = desk.refuse_size(event)
    if refusal is None and not all(gate.admit(event) for gate in route.gates):
        refusal = QUEUE_FULL
    if refusal is not None:
        ticket.refusals[index] = refusal
        desk.refused[refusal.reason] += 1
    return refusal is None
