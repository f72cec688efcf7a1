"""The consumers of a tenant: one registry, whatever protocol made them.

    pump.py   whose turn it is       deadlines.py   who is woken, who expires       checkpoints.py   who is to be stored

What is stored of a durable consumer says stored.py.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.consumers.consumer import Consumer
from routing.consumers.definition.spec import ConsumerSpec, Start
from routing.consumers.letters import Letters
from routing.consumers.registry.asleep import Asleep, Sleepers, may_sleep
from routing.consumers.registry.checkpoints import Checkpoints
from routing.consumers.registry.dead_letters import DoorIn, dead_letter
from routing.consumers.registry.deadlines import Deadlines
from routing.consumers.registry.early import Early
from routing.consumers.registry.holders import Holders
from routing.consumers.registry.pump import Pump
from routing.consumers.registry.stored import ConsumerState, FilterState, StoredConsumers
from routing.consumers.rights import Rights
from routing.cursors.counting import Count, Counting
from routing.cursors.cursor import Cursor, Delivery
from routing.errors import Reason, Refusal
from routing.fairness.accounts import Accounts
from routing.filters.interest import AnswerMemory
from routing.queues.options import Cause
from routing.rights.policy import INTERNAL, Identity
from routing.settings import Limits
from routing.steps import FILTERS_PER_STEP, in_steps
from routing.ticket import Ticket
from routing.topic import is_wildcard

if TYPE_CHECKING:
    from routing.fairness.shares import Shares
    from routing.filters.filter_trie import FilterTrie
    from routing.log.partition import Partition
    from routing.logins import Logins
    from routing.publishing.route import RouteTable
    from routing.state import StateTable
    from routing.streams.streams import Stream, StreamTable

log = logging.getLogger(__name__)

_WILD = {"+", "#"}


class Core(DoorIn, Protocol):
    """The part of the router that consumers live in."""

    clock_s: Callable[[], float]
    steady_ms: Callable[[], int]
    limits: Limits
    logins: Logins
    call_soon: Callable[[Callable[[], None]], object]
    routes: RouteTable
    shares: Shares
    state: StateTable
    streams: StreamTable
    trie: FilterTrie

    def own_partitions(self) -> list[Partition]: ...
    def request_turn(self) -> None: ...


class ConsumerRegistry:
    """Opens, stores, restores, schedules and deletes consumers."""

    def __init__(self, router: Core) -> None:
        self.by_name: dict[str, Consumer] = {}
        self.on_deleted: list[Callable[[str], None]] = []       # called with the name of a durable one that is gone
        self.skipped_by_retention = 0
        self.check_push: Callable[[ConsumerSpec], Refusal | None] | None = None     # set by who serves webhooks
        self.on_opened: list[Callable[[Consumer], None]] = []       # called when one was created, or its spec changed
        self.on_filter: list[Callable[[Consumer, str], None]] = []  # called when one has got a filter
        self.limits: Limits = router.limits
        self.rights: Rights = router.rights
        self.clock_s: Callable[[], float] = router.clock_s
        self.clock_ms: Callable[[], int] = router.clock_ms
        self.accounts = Accounts(lambda: self.limits.in_flight_user_bytes)
        self.answer_memory = AnswerMemory(lambda: self.limits.answer_cache_bytes)
        self.letters = Letters()
        self.holders = Holders(router.state, router.steady_ms)
        self.counting = Counting(router.clock_s, router.call_soon)
        self._router = router
        self._share = router.shares.consumers
        self._stored = StoredConsumers(router.state)
        self.early = Early(router.clock_s, router.clock_ms, lambda topic: router.routes.of(topic).consumers)
        self._pump = Pump(router.clock_s, router.request_turn)
        self._deadlines = Deadlines(router.clock_s, self._expired)
        self._asleep = Sleepers(router.clock_s)
        self._checkpoints = Checkpoints(
            self._stored, router.clock_s, router.own_partitions, lambda: not len(self._asleep))
        self.dirty = self._checkpoints.dirty
        self._untracked_place = -(1 << 62)

    # -- open and delete --------------------------------------------------------------------------------------

    def open(self, spec: ConsumerSpec, identity: Identity) -> Consumer | Refusal:
        """Get or create the consumer of that name. The filters of the spec, when given, replace the old ones.

        Who may read it all may join it as it is; what the spec changes is for those who may change it.
        """
        for pattern in spec.filters:
            refusal = self.rights.check_subscribe(identity, pattern)
            if refusal is not None:
                return refusal
        if spec.push is not None:
            refusal = self._refuse_push(spec)
            if refusal is not None:
                return refusal
        refusal = self.rights.refuse_dead_letters(identity, spec)
        if refusal is not None:
            return refusal
        consumer = self.by_name.get(spec.name)
        if consumer is None:
            consumer = self._create(spec, identity)
            self.expires(consumer)
            self._opened(consumer)
            return consumer
        if consumer.identity is INTERNAL and identity is not INTERNAL:
            return Refusal(Reason.CONFLICT, f"consumer {spec.name} belongs to the configuration; change it there")
        if (consumer.spec.queue is None) != (spec.queue is None):
            what = "not a queue" if consumer.spec.queue is None else "a queue, which is declared, not opened"
            return Refusal(Reason.CONFLICT, f"consumer {spec.name} is {what}")
        if consumer.spec.mode is not spec.mode:
            return Refusal(Reason.CONFLICT, f"consumer {spec.name} exists in mode {consumer.spec.mode.value}")
        owns = self.rights.owns(identity, consumer)
        if not owns and not self.rights.may_read_all(identity, (*consumer.filters, *spec.filters)):
            return Refusal(Reason.NOT_AUTHORIZED, f"a rule denies user {identity.user} part of {spec.name}")
        if _differs(consumer, spec):
            refusal = self.rights.refuse_change(identity, consumer)
            if refusal is not None:
                return refusal
        if owns:                                        # it reads with his rights
            if (identity.roles, identity.revoked) != (consumer.identity.roles, consumer.identity.revoked):
                consumer.identity = identity
                consumer.rules_changed()                # nothing that was decided for the old roles stays
            consumer.identity = identity
        self.holders.in_use(consumer.name)
        consumer.take_spec(spec)
        if spec.filters:
            for pattern in [pattern for pattern in consumer.filters if pattern not in spec.filters]:
                consumer.remove_filter(pattern)
            for pattern in spec.filters:
                if pattern not in consumer.filters:
                    self.add_filter(consumer, pattern, from_now=True)
        self.changed(consumer)
        self._count(consumer)
        self._opened(consumer)
        return consumer

    def _refuse_push(self, spec: ConsumerSpec) -> Refusal | None:
        if self.check_push is None:
            return Refusal(Reason.TARGET_REFUSED, "this node serves no webhooks")
        return self.check_push(spec)

    def _opened(self, consumer: Consumer) -> None:
        for hook in self.on_opened:
            hook(consumer)

    def _create(self, spec: ConsumerSpec, identity: Identity) -> Consumer:
        consumer = Consumer(spec, identity, self)
        self.by_name[spec.name] = consumer
        for pattern in spec.filters:
            self.add_filter(consumer, pattern, from_now=False)
        for partition in self._holding(spec, spec.filters):
            consumer.cursors[partition] = Cursor(partition, start_position(partition, spec.start))
            self.early.passed(consumer, partition)
        consumer.filters_changed()
        self._count(consumer)
        return consumer

    def _holding(self, spec: ConsumerSpec, filters: Iterable[str], among: Iterable[Stream] | None = None,
                 ) -> list[Partition]:
        """The partitions that one of this kind reads for these filters."""
        found = self._router.streams.holding(filters, spec.streams, among)
        return [one for one in found if one.index in spec.partitions] if spec.partitions else found

    def _count(self, consumer: Consumer, *, gone: bool = False) -> None:
        """Whose share it counts to, which changes with its owner and with what it is."""
        user = consumer.identity.user if consumer.is_named and not gone else None
        if user != consumer.counted_for:
            if consumer.counted_for is not None:
                self._share.give(consumer.counted_for)
            if user is not None:
                self._share.add(user)
            consumer.counted_for = user
        if consumer.identity.user != consumer.account.user:
            consumer.account.hold(-consumer.in_flight_bytes)
            consumer.account = self.accounts.of(consumer.identity.user)
            consumer.account.hold(consumer.in_flight_bytes)

    def delete(self, name: str, reason: str = "the consumer was deleted") -> bool:
        consumer = self.by_name.pop(name, None)
        if consumer is None:
            return False
        if isinstance(consumer, Asleep):
            consumer.wake()
        in_steps(self._router, self._leave(consumer, list(consumer.filters)))
        self._checkpoints.forget(consumer)
        self.letters.forget(name)
        self.holders.forget(name)
        self._count(consumer, gone=True)
        consumer.wakes_s = None
        consumer.close(reason)
        if consumer.spec.durable:
            self._stored.delete(consumer)
            for told in self.on_deleted:
                told(name)
        return True

    def end(self, name: str) -> bool:
        """The last session of this node that shared it has gone: it is deleted, unless others count on it."""
        return not self.holders.stays(name) and self.delete(name)

    def _leave(self, consumer: Consumer, patterns: list[str]) -> Iterator[None]:
        """It takes nothing any more. When its filters are many, they go some at a time."""
        for number, pattern in enumerate(patterns, 1):
            self._router.trie.remove(pattern, consumer)
            if number % FILTERS_PER_STEP == 0:
                yield
        self._router.routes.left(consumer)

    # -- filters ----------------------------------------------------------------------------------------------

    def add_filter(self, consumer: Consumer, pattern: str, *, from_now: bool) -> None:
        """Put a checked filter into effect. from_now: it does not reach back before this moment."""
        partitions = self._holding(consumer.spec, (pattern,))
        known = bool(consumer.cursors)
        if from_now:
            for partition in partitions:
                if partition not in consumer.cursors:
                    consumer.cursors[partition] = Cursor(partition, partition.next_offset)
                self.early.passed(consumer, partition)
            if known:                                   # it may be behind or in the open group: this must not be
                consumer.interest.fresh[pattern] = {partition: partition.next_offset for partition in partitions}
        consumer.interest.add(pattern)
        self._router.trie.add(pattern, consumer)
        self._router.routes.changed(pattern)
        consumer.filters_changed(count_anew=not from_now)
        for hook in self.on_filter:
            hook(consumer, pattern)

    def remove_filter(self, consumer: Consumer, pattern: str) -> None:
        self._stored.delete_filter(consumer, pattern)
        consumer.interest.remove(pattern)
        self._router.trie.remove(pattern, consumer)
        self._router.routes.changed(pattern)
        consumer.filters_changed()

    def streams_changed(self, changed: list[Stream]) -> None:
        """A stream was added: consumers whose filters it can hold read it from its start."""
        for consumer in self._reading(changed):
            if consumer in self._asleep:                # it looks for itself
                continue
            for partition in self._holding(consumer.spec, consumer.filters, changed):
                if partition not in consumer.cursors:
                    consumer.cursors[partition] = Cursor(
                        partition, partition.start_offset, owed=consumer.spec.is_owed)
                    consumer.touch()

    def _reading(self, streams: list[Stream]) -> Iterable[Consumer]:
        """Those who may want what these streams hold: all, or those that the topics of theirs tell."""
        patterns = [pattern for stream in streams for pattern in stream.filters]
        if any(map(is_wildcard, patterns)):
            heads = {pattern.partition("/")[0] for pattern in patterns}
            if heads & _WILD:
                return list(self.by_name.values())
            heads |= _WILD                              # most consumers want other topics altogether
            return [consumer for consumer in self.by_name.values()
                    if not heads.isdisjoint([pattern.partition("/")[0] for pattern in consumer.filters])]
        return {entry: None for pattern in patterns for entry in self._router.trie.match(pattern)
                if isinstance(entry, Consumer)}

    def partitions_gone(self, gone: list[Partition]) -> None:
        """A stream was deleted: nobody reads it any more."""
        self._asleep.partitions_gone(gone)
        for consumer in self.awake():
            consumer.let_go_of(gone)

    def rights_changed(self, consumer: Consumer, rules: bool) -> None:
        """Called by logins.py: its owner may have other roles or be gone; rules: those have changed as well."""
        if consumer.closed or consumer in self._asleep:         # who sleeps is asked when he wakes
            return
        before = consumer.identity
        consumer.identity = self._router.logins.renew_owner(before)
        consumer.identity = self.rights.choose_owner(
            consumer, (member.identity for member in consumer.members.all))
        self._count(consumer)
        if rules or consumer.identity != before:
            consumer.rules_changed()
        if consumer.identity.revoked != before.revoked:
            log.info("consumer %s: its owner %s %s", consumer.name, before.user,
                     "may not log in any more: it delivers nothing" if consumer.identity.revoked else "is back")
            self._opened(consumer)                      # whoever serves it looks at it again

    def count_from(self, consumer: Consumer, positions: dict[Partition, int]) -> Count:
        """How many events it would find from these places on: counted in steps, see counting.py."""
        return Count(self.counting, consumer.interest.from_the_start(), positions)

    def next_untracked_place(self) -> int:
        """Of an event that no stream captures: below any offset, later ones higher."""
        self._untracked_place += 1
        return self._untracked_place

    # -- loop turn and clock: what consumers ask of their keeper, see Keeper ------------------------------------

    def later(self, work: Iterator[None]) -> None:
        self._pump.later(work)

    def schedule(self, consumer: Consumer) -> None:
        self._pump.schedule(consumer)

    def wake_at(self, consumer: Consumer, due_s: float) -> None:
        """Have its handle_deadline() called then, or before."""
        self._deadlines.wake_at(consumer, due_s)

    def expires(self, consumer: Consumer) -> None:
        """Look at it when it would expire if nobody attached from now on."""
        self._deadlines.expires(consumer)

    def _expired(self, consumer: Consumer) -> None:
        self.delete(consumer.name, "nobody was attached for so long that it expired")

    def pump(self) -> None:
        """Pump those that asked for it, once. Called by the router at the end of a turn."""
        self._pump.run()

    def tick(self, now_s: float) -> None:
        self._asleep.tick()
        self.counting.tick()
        self.accounts.tick()
        self._deadlines.tick(now_s)
        self._pump.tick()
        self._checkpoints.tick(now_s)

    # -- stored state -----------------------------------------------------------------------------------------

    def changed(self, consumer: Consumer) -> None:
        """Its options, filters or the like are not what is stored."""
        self._checkpoints.changed(consumer)

    def checkpoint(self, consumer: Consumer) -> Ticket | None:
        """Store a durable consumer in the commit of this turn: where it stands and, when that changed, what it is."""
        return self._checkpoints.store(consumer)

    def restore(self) -> None:
        """Bring back every stored consumer. Called once, after the streams are open."""
        self._stored.start(self._router.own_partitions())
        for state, patterns in self._stored.consumers():
            if may_sleep(state):
                sleeper = self.by_name[state.spec.name] = self._asleep.put(state, patterns, self)
                for pattern in patterns:
                    self._router.trie.add(pattern, sleeper)
                continue
            owner = INTERNAL if state.owner == INTERNAL else state.owner    # the node's rights go with the very object
            consumer = self.by_name[state.spec.name] = Consumer(state.spec, owner, self)
            self.expires(consumer)
            self._fill(consumer, state, self._stored.filters(consumer.name, patterns))

    def wake(self, consumer: Consumer, state: ConsumerState, patterns: list[str], *, keeps_untracked: bool) -> None:
        """Called by a sleeper that is a Consumer from now on."""
        self._asleep.woken(consumer)
        before = consumer.identity
        Consumer.__init__(consumer, state.spec, before, self)
        filters = self._stored.filters(consumer.name, patterns)
        for pattern in patterns:
            if pattern not in filters:                  # it cannot be read
                self._router.trie.remove(pattern, consumer)
        self._fill(consumer, state, filters)
        if keeps_untracked:
            consumer.keep_untracked()
        self.rights_changed(consumer, False)            # its owner may have gone while the node was down, or since then
        if consumer.identity != before:
            self._router.routes.changed()

    def awake(self) -> Iterator[Consumer]:
        """All but those that nobody has asked for since the start."""
        return (consumer for consumer in list(self.by_name.values()) if consumer not in self._asleep)

    def _fill(self, consumer: Consumer, state: ConsumerState, filters: dict[str, FilterState]) -> None:
        """What is stored of it, but for what it is."""
        consumer.paused = state.paused
        consumer.generation = state.generation
        streams = self._router.streams
        place = self._stored.place(state)
        for stored in place.cursors:
            partition = streams.partition(stored.stream, stored.partition)
            if partition is not None and stored.stream not in self._asleep.gone:
                consumer.cursors[partition] = self._stored.cursor(
                    partition, stored, place.attached, owed=state.spec.is_owed)
        for pattern, found in filters.items():
            placed = ((streams.partition(stream, index), offset) for stream, index, offset in found.since)
            since = {partition: min(offset, partition.opened_at)    # the rest was lost
                     for partition, offset in placed if partition in consumer.cursors
                     and offset > consumer.cursors[partition].position}
            if since and found.generation == state.generation:
                consumer.interest.fresh[pattern] = since
            consumer.interest.add(pattern)
            self._router.trie.add(pattern, consumer)
        consumer.interest.unstored.clear()
        for pattern in state.filters:
            if pattern not in consumer.filters:
                consumer.interest.add(pattern)
                self._router.trie.add(pattern, consumer)
        for partition in self._holding(state.spec, consumer.filters):
            if partition not in consumer.cursors:
                consumer.cursors[partition] = Cursor(
                        partition, partition.start_offset, owed=consumer.spec.is_owed)
        old = bool(consumer.interest.unstored)
        consumer.rules_changed()                        # they may have changed meanwhile
        self._count(consumer)
        self._checkpoints.forget(consumer)
        at_tail = any(stored.at_tail for stored in place.cursors)
        if place.attached or (at_tail and any(cursor.behind for cursor in consumer.cursors.values())):
            consumer.touch()                            # nobody is attached now; or the next ends would be past it
        if old:
            self.changed(consumer)

    # -- what becomes of events that cannot be delivered ------------------------------------------------------

    def lost_to_retention(self, consumer: Consumer, records: int) -> None:
        self.skipped_by_retention += records
        log.warning("consumer %s: retention removed %d records before it read them", consumer.name, records)

    def dead_letter(self, consumer: Consumer, delivery: Delivery, cause: Cause) -> None:
        """Publish a copy to the dead-letter topic and ack the original when the copy is durable."""
        dead_letter(self._router, self.letters, consumer, delivery, cause)


def _differs(consumer: Consumer, spec: ConsumerSpec) -> bool:
    """Would the spec change the consumer? start counts only when it is made, and whoever joins may make it durable."""
    known = consumer.spec
    if spec.filters and set(spec.filters) != set(consumer.filters):
        return True
    durable = spec.durable and known.durable
    return msgspec.structs.replace(spec, filters=known.filters, start=known.start, durable=durable) != known


def start_position(partition: Partition, start: Start) -> int:
    """The offset that a start option means for one partition."""
    if isinstance(start, list):
        for stream, index, offset in start:
            if (stream, index) == (partition.stream, partition.index):
                return min(max(offset, partition.start_offset), partition.next_offset)
        return partition.start_offset
    if start == "earliest":
        return partition.start_offset
    if isinstance(start, int):
        return min(max(start, partition.start_offset), partition.next_offset)
    if isinstance(start, dict):
        return partition.offset_for_time(start["time_ms"])
    return partition.next_offset
