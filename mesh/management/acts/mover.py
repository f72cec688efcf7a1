"""What is ready for a consumer, moved to another topic: taken as a member takes it, and acked once the copy is on disk.

Dead letters in a queue can be moved back, each to the queue that has given it up; what is none, or came from a queue
that is gone, stays.

A kill in between may leave an event in both places, never in none. What others take meanwhile is theirs. Who moves must
be allowed to read what is there and to publish under the other topic, as if he did it by hand.
"""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from protocols.scheduling.tickets import durable
from routing.consumers.registry.dead_letters import revived
from routing.cursors.cursor import Delivery
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.queues.depth import depth_of
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.router import Router
    from routing.ticket import Ticket

BACK: Final = "back"                # in the place of a topic
BATCH: Final = 64                   # taken and not yet on disk under the other topic
LOOK_S: Final = 0.05                # between two looks whether anything is left
IDLE_MAX_S: Final = 5.0             # nothing came for so long: the rest is with others, or to come later


class Move:
    """One that goes on, or the last one of a consumer. A Member, see routing/consumers/consumer.py."""

    def __init__(self, router: Router, identity: Identity, to: str, wanted: int) -> None:
        """to: BACK: to where each came from."""
        self.identity = identity
        self.to = to
        self.wanted = wanted
        self.moved = 0
        self.left = 0               # that cannot go back
        self.state = "running"      # → "done", "cancelled", "failed"
        self.trouble = ""
        self.credit = min(BATCH, wanted)
        self.task: asyncio.Task[None] | None = None
        self._granted = self.credit
        self._router = router
        self._publisher = router.publisher(identity)
        self._open = True

    def shown(self) -> dict[str, Any]:
        return {"to": self.to, "state": self.state, "moved": self.moved, "left": self.left, "max": self.wanted,
                "trouble": self.trouble}

    @property
    def over(self) -> bool:
        return bool(self.trouble) or not self._open or self.moved + self.left >= self.wanted

    # -- as a member ------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self._router.call_soon(lambda: self._hand_on(consumer, deliveries))

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self._open = False
        self.trouble = self.trouble or reason

    def _hand_on(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """What cannot be stored goes back when the move ends."""
        if self.over:
            return
        copies: list[Event] = []
        going: list[Delivery] = []
        for delivery in deliveries:
            copy = self._back(delivery.event) if self.to == BACK else copy_of(delivery.event, self.to)
            if copy is not None:
                copies.append(copy)
                going.append(delivery)
        self.left += len(deliveries) - len(going)
        if copies:
            self._router.publish(copies, self._publisher).on_done(lambda ticket: self._stored(consumer, going, ticket))
        self._grant(consumer, len(deliveries) - len(going))

    def _back(self, event: Event) -> Event | None:
        """For the queue that has given it up."""
        letter = event.properties.dead_letter if event.properties is not None else None
        queue = self._router.queues.get(letter.consumer) if letter is not None else None
        return revived(event, queue.topic) if queue is not None else None

    def _stored(self, consumer: Consumer, deliveries: list[Delivery], ticket: Ticket) -> None:
        done = [delivery for index, delivery in enumerate(deliveries) if index not in ticket.refusals]
        consumer.ack(done)
        consumer.checkpoint()                   # a kill doubles no more than what is under way
        self.moved += len(done)
        for refusal in ticket.refusals.values():
            self.trouble = refusal.text
            return
        self._grant(consumer, len(done))

    def _grant(self, consumer: Consumer, count: int) -> None:
        more = min(count, self.wanted - self._granted)
        self._granted += more
        self.credit += more
        consumer.ready(self)

    # -- life -------------------------------------------------------------------------------------------------

    async def run(self, consumer: Consumer) -> None:
        """Until all is moved, or nothing more comes. It has been attached."""
        clock_s = self._router.clock_s
        moved, moved_s = 0, clock_s()
        try:
            while not self.over and clock_s() - moved_s < IDLE_MAX_S:
                await asyncio.sleep(LOOK_S)
                if self.moved != moved:
                    moved, moved_s = self.moved, clock_s()
                depth = depth_of(consumer)
                if depth.exact and not depth.ready and self.moved + self.left >= self._granted - self.credit:
                    break
            self._leave(consumer)
            await self._on_disk(consumer)
            self.state = "failed" if self.trouble else "done"
            if not self.trouble and self.moved + self.left < self.wanted:
                self.trouble = "what is left is with other readers, or is to come later"
        except asyncio.CancelledError:
            self.state = "cancelled"
        finally:
            self._leave(consumer)

    def _leave(self, consumer: Consumer) -> None:
        if self._open:
            self._open = False
            consumer.detach(self)

    async def _on_disk(self, consumer: Consumer) -> None:
        """That what was moved is not here any more."""
        ticket = self._router.registry.checkpoint(consumer)
        if ticket is not None:
            await durable(ticket)


class Moves:
    """Those of a node. Loop thread only."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._by_consumer: dict[str, Move] = {}
        router.registry.on_deleted.append(self._forget)

    def of(self, consumer: Consumer) -> Move | None:
        return self._by_consumer.get(consumer.name)

    def begin(self, consumer: Consumer, move: Move) -> Refusal | None:
        running = self.of(consumer)
        if running is not None and running.state == "running":
            return Refusal(Reason.CONFLICT, f"another move of {consumer.name} goes on; stop it, or wait for its end")
        refusal = consumer.attach(move)
        if refusal is not None:
            return refusal
        self._by_consumer[consumer.name] = move
        move.task = asyncio.get_running_loop().create_task(move.run(consumer))
        return None

    def cancel(self, move: Move) -> None:
        """What was moved is."""
        if move.task is not None:
            move.task.cancel()

    def _forget(self, name: str) -> None:
        """It was deleted, so its move has ended."""
        self._by_consumer.pop(name, None)

    def close(self) -> None:
        for move in self._by_consumer.values():
            self.cancel(move)


def copy_of(event: Event, topic: str) -> Event:
    """The same under another topic: no repetition of the publisher's message, and on disk before it counts."""
    properties = event.properties
    if properties is not None:
        properties = msgspec.structs.replace(properties, dedupe_id=None, mqtt_packet_id=None)
    return Event(topic, event.payload, 1, event.publisher, event.key, event.headers, properties)
