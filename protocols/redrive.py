"""What a consumer gave up on: found again, handed to it once more, or let go. For REST and for the management API.

A dead letter is an event on the consumer's dead-letter topic whose properties say of what it is the copy (DeadLetter in
routing/event.py; its headers are for readers, anybody can write those). Redriving hands the original out again, to this
consumer only, as if new. Discarding forgets the dead letter; its event stays in the log until retention takes it. How
far either has come is stored beside the consumer, in the same commit, so a kill neither loses nor doubles a redrive.
"""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from protocols.formats.location import parse_event_id
from protocols.scheduling.pace import Pace
from protocols.scheduling.tickets import durable
from routing.consumers.consumer import Consumer
from routing.consumers.leases import Answer, redeliver
from routing.consumers.registry.dead_letters import revived
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.event import DeadLetter, Event
    from routing.log.partition import Partition
    from routing.router import Router

Place: TypeAlias = tuple[str, int, int]         # stream, partition, offset

STATE_PREFIX = "redriven/"
STEP_EVENTS = 100               # looked at between two turns of the loop
STEP_SCANNED = 2_048
CHOSEN_MAX = 1_000              # dead letters named one by one, in one request
CHOSEN_KEPT_MAX = 10_000        # … and remembered of one consumer, until those before them are done with, too
HELD_EVENTS_MAX = 1_000         # handed to the consumer and not taken yet: then a redrive waits
HELD_BYTES_MAX = 16 * 1024 * 1024
WAIT_S = 0.05


class Redriven(msgspec.Struct, array_like=True):
    """Stored: the next dead letter to redrive, per partition of the topic; and those behind it that are done with."""

    next: list[Place] = []
    done: list[Place] = []


class Redrive:
    """One that goes on, or the last one."""

    def __init__(self, wanted: int | None, rate: float | None, chosen: Sequence[Place] = (), *,
                 discard: bool = False, to: str = "", identity: Identity | None = None) -> None:
        """wanted: at most so many.  rate: per second.  chosen: these and no others.  discard: let them go.

        to: published there by identity, who must be allowed to read them, instead of handed to the consumer.
        """
        self.wanted = wanted
        self.rate = rate
        self.chosen = tuple(chosen)
        self.discard = discard
        self.to = to
        self.identity = identity
        self.trouble = ""           # why it failed
        self.redriven = 0
        self.discarded = 0
        self.gone = 0               # originals that retention took, or that the consumer wants no more
        self.state = "running"      # → "done", "cancelled", "failed"
        self.task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return self.redriven + self.discarded + self.gone

    def shown(self) -> dict[str, Any]:
        found = {"state": self.state, "redriven": self.redriven, "gone": self.gone, "max": self.wanted,
                 "rate": self.rate}
        if self.to:
            found.update(to=self.to, trouble=self.trouble)
        return {**found, "discarded": self.discarded} if self.discard else found


class Redrives:
    """Those of a node. Loop thread only."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._by_consumer: dict[str, Redrive] = {}
        router.registry.on_deleted.append(self._forget)

    def of(self, consumer: Consumer) -> Redrive | None:
        """The one that goes on, or the last one since the node was started."""
        return self._by_consumer.get(consumer.name)

    def begin(self, consumer: Consumer, redrive: Redrive) -> bool:
        """False: another one of this consumer goes on."""
        running = self._by_consumer.get(consumer.name)
        if running is not None and running.state == "running":
            return False
        self._by_consumer[consumer.name] = redrive
        redrive.task = asyncio.get_running_loop().create_task(self._start(consumer, redrive))
        return True

    def cancel(self, redrive: Redrive) -> None:
        """What was redriven is."""
        if redrive.state == "running" and redrive.task is not None:
            redrive.task.cancel()
            redrive.state = "cancelled"

    def shutdown(self) -> None:
        """What was redriven is stored; the rest waits for another redrive."""
        for redrive in self._by_consumer.values():
            if redrive.task is not None:
                redrive.task.cancel()

    def made(self, consumer: Consumer) -> None:
        """The consumer is new: dead letters of a former one of that name are not its own."""
        ends = [(partition.stream, partition.index, partition.next_offset)
                for partition in self._router.streams.holding((topic_of(consumer),))]
        self._router.state.put(STATE_PREFIX + consumer.name, msgspec.msgpack.encode(Redriven(ends)))

    def may_show(self, dead: Event, identity: Identity, consumer: Consumer, *, browse: bool = False) -> bool:
        """browse: to somebody who looks at it, and is no member.

        What it was before counts: rules change, and a former consumer of that name may have read other topics.
        """
        mark = mark_of(dead)
        topic = mark.topic if mark is not None else ""
        rights = self._router.rights
        may = rights.may_browse(identity, topic) if browse else rights.may_read(identity, topic)
        return may and rights.may_read(consumer.identity, topic)

    async def preview(self, consumer: Consumer, redrive: Redrive, pace: Pace) -> tuple[int, int]:
        """What it would touch: dead letters whose original can be handed out again, and those without."""
        count = gone = 0
        async for event in self._wanted(consumer, redrive, pace):
            if redrive.wanted is not None and count + gone >= redrive.wanted:
                break
            fits = bool(redrive.to) or self._original(consumer, event) is not None
            count, gone = count + fits, gone + (not fits)
        return count, gone

    async def pending(self, consumer: Consumer, after: Place | None, pace: Pace) -> AsyncIterator[Event]:
        """Dead letters of this consumer that are not done with, by place; from after on. Oldest first."""
        topic = topic_of(consumer)
        stored = self._stored(consumer)
        begin = {place[:2]: place[2] for place in stored.next}
        done = frozenset(stored.done)
        for partition in self._partitions(topic):
            place = partition.stream, partition.index
            offset = begin.get(place, partition.start_offset)
            if after is not None:
                if place < after[:2]:
                    continue
                if place == after[:2]:
                    offset = max(offset, after[2] + 1)
            while offset < partition.end_offset:
                found = partition.scan(
                    offset, lambda wanted: wanted == topic, max_events=STEP_EVENTS, max_scanned=STEP_SCANNED)
                for event in _of_consumer(found.events, consumer.name):
                    if (*place, event.offset) not in done:
                        yield event
                    await pace.rest()
                offset = found.next_offset
                await pace.rest()

    def waiting(self, consumer: Consumer) -> Iterator[int]:
        """How many events wait on its dead-letter topic, counted by topic alone: a few more where several consumers
        share one. In steps, the numbers are to be added up.
        """
        topic = topic_of(consumer)
        stored = self._stored(consumer)
        begin = {place[:2]: place[2] for place in stored.next}
        yield -len(stored.done)
        for partition in self._partitions(topic):
            offset = begin.get((partition.stream, partition.index), partition.start_offset)
            while offset < partition.end_offset:
                found = partition.tally(offset, until=partition.end_offset, max_scanned=STEP_SCANNED, patterns=(topic,))
                yield found.counts.get(topic, 0)
                offset = max(found.next_offset, offset + 1)

    # -- work ---------------------------------------------------------------------------------------------------

    async def _start(self, consumer: Consumer, redrive: Redrive) -> None:
        pace = Pace(self._router.turns)
        await pace.run(self._run(consumer, redrive, pace))

    async def _run(self, consumer: Consumer, redrive: Redrive, pace: Pace) -> None:
        clock_s = self._router.clock_s
        began_s = clock_s()
        try:
            async for event in self._wanted(consumer, redrive, pace):
                if redrive.wanted is not None and redrive.count >= redrive.wanted:
                    break
                while not consumer.closed and not redrive.discard and (
                    (not redrive.to and _is_full(consumer))
                    or (redrive.rate is not None and redrive.redriven >= (clock_s() - began_s) * redrive.rate)
                ):
                    await asyncio.sleep(WAIT_S)
                if consumer.closed:
                    break
                if redrive.to:
                    if not await self._hand_on(consumer, event, redrive):
                        redrive.state = "failed"
                        return
                else:
                    self._do(consumer, event, redrive)
                self._move(consumer, event, in_order=not redrive.chosen)
            redrive.state = "done"
        except asyncio.CancelledError:
            redrive.state = "cancelled"
        except Exception:
            redrive.state = "failed"
            raise

    def _do(self, consumer: Consumer, event: Event, redrive: Redrive) -> None:
        if redrive.discard:
            redrive.discarded += 1
            return
        original = self._original(consumer, event)
        if original is not None and redeliver(consumer, original) is Answer.DONE:
            redrive.redriven += 1
        else:
            redrive.gone += 1

    async def _hand_on(self, consumer: Consumer, event: Event, redrive: Redrive) -> bool:
        """What was given up, published under another topic, without the marks of a dead letter; on disk when this
        returns. A kill right after it leaves the dead letter where it was, too.
        """
        identity = redrive.identity
        assert identity is not None
        if not self.may_show(event, identity, consumer):
            redrive.trouble = f"user {identity.user} may not read {event.topic}"
            return False
        ticket = await durable(
            self._router.publish([revived(event, redrive.to)], self._router.publisher(identity)))
        for refusal in ticket.refusals.values():
            redrive.trouble = refusal.text
            return False
        redrive.redriven += 1
        return True

    async def _wanted(self, consumer: Consumer, redrive: Redrive, pace: Pace) -> AsyncIterator[Event]:
        if not redrive.chosen:
            async for event in self.pending(consumer, None, pace):
                yield event
            return
        for place in redrive.chosen:
            found = self._chosen(consumer, place)
            if found is not None:
                yield found
            await pace.rest()

    def _chosen(self, consumer: Consumer, place: Place) -> Event | None:
        """None: there is no dead letter of this consumer, or it is done with."""
        stored = self._stored(consumer)
        partition = self._router.streams.partition(*place[:2])
        begin = next((offset for stream, index, offset in stored.next if (stream, index) == place[:2]), 0)
        if partition is None or place in stored.done or place[2] < begin:
            return None
        event = partition.event(place[2])
        if event is None or event.topic != topic_of(consumer):
            return None
        return next(_of_consumer([event], consumer.name), None)

    def _original(self, consumer: Consumer, dead: Event) -> Event | None:
        """The event that a dead letter is the copy of; None when it is gone or not wanted any more."""
        mark = mark_of(dead)
        place = parse_event_id(mark.event_id) if mark is not None else None
        partition = self._router.streams.partition(*place[:2]) if place is not None else None
        if place is None or partition is None:
            return None
        event = partition.event(place[2])
        return event if event is not None and consumer.wants(event.topic) else None

    def _partitions(self, topic: str) -> list[Partition]:
        return sorted(self._router.streams.holding((topic,)), key=lambda partition: (partition.stream, partition.index))

    def _stored(self, consumer: Consumer) -> Redriven:
        return self._router.state.read(STATE_PREFIX + consumer.name, Redriven, "place of a redrive") or Redriven()

    def _move(self, consumer: Consumer, event: Event, *, in_order: bool) -> None:
        """This dead letter is done with: said in the commit that says that the original is to be delivered again.

        in_order: so are all before it in its partition.
        """
        partition: Partition = event.partition
        place = partition.stream, partition.index
        stored = self._stored(consumer)
        if in_order:
            ahead = event.offset + 1
            kept = [one for one in stored.next if one[:2] != place]
            done = [one for one in stored.done if one[:2] != place or one[2] >= ahead]
            moved = Redriven([*kept, (*place, ahead)], done)
        else:
            moved = Redriven(stored.next, [*stored.done, (*place, event.offset)][-CHOSEN_KEPT_MAX:])
        self._router.state.put(STATE_PREFIX + consumer.name, msgspec.msgpack.encode(moved))
        self._router.registry.checkpoint(consumer)

    def _forget(self, name: str) -> None:
        """A durable consumer was deleted, whoever did it: the next one of its name begins afresh."""
        if self._router.state.get(STATE_PREFIX + name) is not None:
            self._router.state.delete(STATE_PREFIX + name)
        redrive = self._by_consumer.pop(name, None)
        if redrive is not None and redrive.task is not None:
            redrive.task.cancel()


def _is_full(consumer: Consumer) -> bool:
    held = [delivery.event for cursor in consumer.cursors.values() for delivery in cursor.again.values()]
    return len(held) >= HELD_EVENTS_MAX or sum(len(event.payload) for event in held) >= HELD_BYTES_MAX


def topic_of(consumer: Consumer) -> str:
    """As routing/consumers/registry/dead_letters.py has it."""
    return consumer.spec.dead_letter_topic or f"dead-letter/{consumer.name}"


def _of_consumer(events: list[Event], name: str) -> Iterator[Event]:
    return (event for event in events if (mark := mark_of(event)) is not None and mark.consumer == name)


def mark_of(event: Event) -> DeadLetter | None:
    """None: the event is no dead letter, whatever its topic and headers say."""
    return event.properties.dead_letter if event.properties is not None else None
