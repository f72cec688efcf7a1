"""Call: one request under way, as its handler sees it."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.kafka.broker import Broker
from protocols.kafka.codec.header import Header
from protocols.kafka.runtime.client import Client
from protocols.kafka.runtime.tasks import Later, Task
from protocols.kafka.runtime.timers import Timer
from routing.publishing.publisher import Publisher
from routing.rights.policy import Identity
from routing.ticket import Ticket


class Call:
    """See the module's head. Made by connection.py."""

    __slots__ = ("broker", "client", "header", "may_overlap", "task", "throttle_s")

    def __init__(self, broker: Broker, client: Client, header: Header, task: Task[Any],
                 may_overlap: Callable[[], None]) -> None:
        """may_overlap: called by a handler once the next request of its kind may start."""
        self.broker = broker
        self.client = client
        self.header = header
        self.task = task
        self.may_overlap = may_overlap
        self.throttle_s = 0.0                   # for how long the client is held after the answer

    @property
    def version(self) -> int:
        return self.header.version

    @property
    def identity(self) -> Identity:
        """Who is logged in; may do nothing before."""
        return self.client.identity

    @property
    def publisher(self) -> Publisher:
        assert self.client.publisher is not None
        return self.client.publisher

    @property
    def client_id(self) -> str:
        return self.header.client_id or ""

    async def rest(self) -> None:
        """Between two pieces of work: let others have the loop when it is their turn."""
        await self.task.rest()

    async def durable(self, ticket: Ticket) -> Ticket:
        """Wait for the group commit."""
        if ticket.done:
            return ticket
        later: Later[Ticket] = Later()
        ticket.on_done(later.set)
        return await later

    def charge(self, key: str, amount: float) -> None:
        """The client has done so much of what a quota is of: its answer says for how long it is held."""
        broker = self.broker
        if broker.quotas:
            held_s = broker.throttle.add(key, amount, self.identity.user, self.client_id, broker.router.clock_s())
            self.throttle_s = max(self.throttle_s, held_s)

    def call_at(self, due_s: float, call: Callable[[], None]) -> Timer:
        return self.broker.timers.call_at(due_s, call)
