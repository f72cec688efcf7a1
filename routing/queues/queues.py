"""Queues: the door to the queues of a tenant. Router.queues.

    declare ─► Queue ─► bind, attach, get, ack, nack, reject, purge, browse, depth
    delete, expires, auto-delete ─► Queue.is_deleted; its members are told by consumer_closed()

Every queue is a Consumer in the registry under its name, so that its lag, its state after kill -9 and its rights are a
consumer's. What is stored of its bindings says stored.py. Loop thread only.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.cursors.cursor import Cursor
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.queues.bindings import Binding
from routing.queues.leaving.letting_go import Clocks
from routing.queues.leaving.templates import Letter, letters_of
from routing.queues.options import NAME_CHARS_MAX, QUEUE_TOPICS, Cause, QueueOptions, straight_topic
from routing.queues.owed.debts import Debts
from routing.queues.queue import Queue
from routing.queues.stored import StoredBindings
from routing.rights.policy import Identity
from routing.settings import StreamSettings

if TYPE_CHECKING:
    from routing.consumers.registry.registry import ConsumerRegistry
    from routing.filters.filter_trie import FilterTrie
    from routing.log.partition import Partition
    from routing.publishing.route import RouteTable
    from routing.state import StateTable
    from routing.streams.streams import StreamTable

log = logging.getLogger(__name__)

STRAIGHT_STREAM = "$queues"     # built in: events that go straight to durable queues
STRAIGHT_SEGMENT_BYTES = 16 * 1024 * 1024       # small, so that the disk soon comes back after acks
UNACKED_MAX = 50_000            # of one queue, beside the bytes of Limits: each takes some 500 bytes beside its payload
SWEPT_PER_TICK = 500            # queues whose bindings that have ended or begun are looked at in one tick

OTHERS = ("mqtt/", "mqtt-share/")       # sessions and share groups: who took one would keep a client out

Resolver = Callable[[str, Event, Cause], list[Letter]]       # what stands behind the scheme, event, why


class Paces(Protocol):
    """See routing/publishing/pacing.py."""

    def falls_behind(self, consumer: Consumer, cursor: Cursor) -> None: ...


class Core(Protocol):
    """The part of the router that queues live in."""

    registry: ConsumerRegistry
    clock_s: Callable[[], float]
    clock_ms: Callable[[], int]
    call_soon: Callable[[Callable[[], None]], object]
    routes: RouteTable
    state: StateTable
    streams: StreamTable
    trie: FilterTrie

    @property
    def pacing(self) -> Paces: ...


class Queues:
    """One per router."""

    def __init__(self, router: Core) -> None:
        self.by_name: dict[str, Queue] = {}
        self.on_declared: list[Callable[[Queue], None]] = []        # called when one is made
        self.on_deleted: list[Callable[[Queue], None]] = []
        # Set by the mesh: may a queue that is not here be on another node? What is published to it is kept then.
        self.may_be_elsewhere: Callable[[str], bool] = lambda name: False
        self.resolvers: dict[str, Resolver] = {}        # scheme → who makes letters of it: leaving/templates.py
        registry = router.registry
        self.clocks = Clocks(router.clock_s, router.clock_ms, registry.wake_at)
        self._router = router
        self._registry = registry
        self._stored = StoredBindings(router.state)
        self._debts = Debts(
            lambda: (partition for stream in router.streams for partition in stream.partitions),
            lambda: self.by_name.values())
        self._ending: dict[Queue, None] = {}            # with a binding that has ended, or begun and not come up yet

    @property
    def memory_bytes_max(self) -> int:
        return self._registry.limits.queue_memory_bytes

    # -- declare and delete -----------------------------------------------------------------------------------

    def get(self, name: str) -> Queue | None:
        return self.by_name.get(name)

    def declare(self, name: str, options: QueueOptions, identity: Identity, *, durable: bool = True,
                expires_s: float | None = None, max_deliveries: int | None = None,
                ack_timeout_s: float | None = None) -> Queue | Refusal:
        """Get or create. One that is there is returned as it is, for who may read it: compare its options yourself.

        durable False: it goes with the node, its events do not need to. expires_s: deleted after so long without a
        member, a get or a declare. max_deliveries: the delivery that fails then is the last (delivery limit + 1).
        Stored when when_stored() calls.
        """
        known = self.by_name.get(name)
        if known is not None:
            owner = self._registry.rights.owns(identity, known.consumer)
            if not owner and not self._registry.rights.may_share(identity, known.consumer):
                return Refusal(Reason.NOT_AUTHORIZED, f"a rule denies user {identity.user} queue {name}")
            known.in_use()
            return known
        refusal = _refuse_name(name)
        if refusal is None and name in self._registry.by_name:
            refusal = Refusal(Reason.CONFLICT, f"{name} is a consumer, not a queue")
        if refusal is None and options.temporary and durable:
            refusal = Refusal(Reason.CONFLICT, "a temporary queue cannot be durable")
        if refusal is not None:
            return refusal
        mode = Mode.FAILOVER if options.single_active else Mode.SHARED
        spec = ConsumerSpec(
            name, (), mode, durable=durable, max_in_flight=UNACKED_MAX, ack_timeout_s=ack_timeout_s,
            max_deliveries=max_deliveries, backoff_initial_s=0.0, expires_s=expires_s, queue=options)
        consumer = self._registry.open(spec, identity)
        if isinstance(consumer, Refusal):
            return consumer
        if not options.temporary:
            self._open_stream()
        if not self.by_name:
            self._debts.started()
        queue = self._adopt(consumer)
        self._follow(queue, queue.topic, from_start=False)
        consumer.checkpoint()
        for told in self.on_declared:
            told(queue)
        return queue

    def delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False,
               reason: str = "the queue was deleted", here: bool = False) -> int | Refusal:
        """Returns how many events were ready. Refused with NOT_FOUND; with CONFLICT where a condition does not hold.

        here: this node's part only.
        """
        queue = self.by_name.get(name)
        if queue is None:
            return Refusal(Reason.NOT_FOUND, f"there is no queue {name}")
        if if_unused and queue.consumer.members.all:
            return Refusal(Reason.CONFLICT, f"queue {name} in use")
        depth = queue.depth()
        if if_empty and (depth.ready or depth.unacked or not depth.exact):
            return Refusal(Reason.CONFLICT, f"queue {name} not empty")
        if queue.elsewhere is not None and not here:
            queue.elsewhere.deleted()
        self._registry.delete(name, reason)
        return depth.ready

    def delete_later(self, queue: Queue) -> None:
        """Its last member has gone: at the end of this turn, unless another one has come."""
        def delete() -> None:
            if not queue.is_deleted and not queue.consumer.members.all:
                self.delete(queue.name, reason="its last consumer has gone", here=True)

        self._router.call_soon(delete)

    def closed(self, queue: Queue) -> None:
        """Called by the queue."""
        if self.by_name.get(queue.name) is queue:
            del self.by_name[queue.name]
        self._ending.pop(queue, None)
        if queue.consumer.spec.durable:
            self._stored.delete(queue.name)
        for told in self.on_deleted:
            told(queue)

    def when_stored(self, call: Callable[[], None]) -> None:
        """Call once everything that was declared, bound and deleted until now is on disk: maybe at once."""
        self._router.state.when_stored(call)

    def straight_ends(self) -> dict[Partition, int]:
        """Where the next event straight to a durable queue will stand, whether that queue is there or not."""
        self._open_stream()
        return {partition: partition.next_offset
                for partition in self._router.streams.by_name[STRAIGHT_STREAM].partitions}

    # -- events -----------------------------------------------------------------------------------------------

    def is_routable(self, event: Event) -> bool:
        """Does anybody get this event if it is published now: a queue, another consumer, a live reader?"""
        route = self._router.routes.of(event.topic)
        if route.direct or route.remote:
            return True
        return any(
            consumer.spec.queue is None or (queue := self.by_name.get(consumer.name)) is None
            or queue.bindings.take_new(event, consumer.interest.matching(event.topic))
            for consumer in route.consumers)

    def queues_of(self, event: Event) -> list[Queue]:
        """The queues that would get this event if it were published now."""
        return [queue for consumer in self._router.routes.of(event.topic).consumers
                if (queue := self.by_name.get(consumer.name)) is not None
                and queue.bindings.take_new(event, consumer.interest.matching(event.topic))]

    def falls_behind(self, queue: Queue, cursor: Cursor) -> None:
        """Its members would take more from this cursor than it can give them now."""
        self._router.pacing.falls_behind(queue.consumer, cursor)

    def letters(self, template: str, event: Event, queue: Queue, cause: Cause) -> list[Letter]:
        """Where an event goes that the queue lets go. See leaving/templates.py."""
        scheme, colon, rest = template.partition(":")
        resolver = self.resolvers.get(scheme) if colon else None
        return resolver(rest, event, cause) if resolver is not None else letters_of(template, event, queue.name)

    # -- bindings ---------------------------------------------------------------------------------------------

    def bind(self, queue: Queue, binding: Binding, identity: Identity) -> Refusal | None:
        """Called by the queue."""
        if binding.key in queue.bindings.live:
            return None
        refusal = self._registry.rights.check_subscribe(identity, binding.pattern)
        if refusal is not None:
            return refusal
        if len(queue.bindings) >= self._registry.limits.queue_bindings_max:
            text = f"queue {queue.name} has {len(queue.bindings)} bindings, more are not taken"
            return Refusal(Reason.QUOTA_EXCEEDED, text)
        since = self._follow(queue, binding.pattern, from_start=False)
        new = Binding(binding.pattern, binding.predicate, binding.native, since)
        queue.bindings.add(new)
        self._ending[queue] = None
        if queue.consumer.spec.durable:
            self._stored.put(queue.name, new)
            queue.consumer.touch()
        if queue.elsewhere is not None:
            queue.elsewhere.bound(new)
        return None

    def unbind(self, queue: Queue, binding: Binding) -> bool:
        """Called by the queue."""
        until = {partition: partition.next_offset for partition in queue.consumer.cursors}
        ended = queue.bindings.end(binding.key, until)
        if ended is None:
            return False
        for partition in until:
            queue.consumer.passed(partition)
        if queue.consumer.spec.durable:
            self._stored.put(queue.name, ended)
        self._ending[queue] = None
        self._sweep(queue)
        if queue.elsewhere is not None:
            queue.elsewhere.unbound(binding)
        return True

    def replaced(self, queue: Queue, binding: Binding) -> None:
        """Called by the queue: it counts from, or to, other places."""
        if queue.consumer.spec.durable:
            self._stored.put(queue.name, binding)

    def tick(self) -> None:
        """Called every 50 ms."""
        for queue in list(islice(self._ending, SWEPT_PER_TICK)):
            del self._ending[queue]                     # to the end, if it waits on
            self._ending[queue] = None
            self._sweep(queue)
        self._debts.tick(self.clocks.clock_s())

    def _sweep(self, queue: Queue) -> None:
        """Forget what has ended and was read to its end; what has ended and was committed needs no more offers."""
        consumer = queue.consumer
        for binding in queue.bindings.ended:
            if not queue.bindings.is_live(binding.pattern) and all(
                    partition.end_offset >= offset for partition, offset in (binding.until or {}).items()):
                self._router.trie.remove(binding.pattern, consumer)
                self._router.routes.changed(binding.pattern)
        gone = queue.bindings.drop_passed(consumer.has_passed)
        if consumer.spec.durable:
            for binding in gone:
                self._stored.drop(queue.name, binding)
        for pattern in dict.fromkeys(binding.pattern for binding in gone):      # several may have had the same filter
            if not queue.bindings.has(pattern):
                self._router.trie.remove(pattern, consumer)
                self._router.routes.changed(pattern)
                consumer.interest.remove(pattern)
                consumer.interest.forget_answers()
        if not queue.bindings.is_waiting:
            self._ending.pop(queue, None)

    def _follow(self, queue: Queue, pattern: str, *, from_start: bool) -> dict[Partition, int]:
        """Have the queue's consumer look for one more filter. Returns from where on, per partition."""
        consumer = queue.consumer
        since = {}
        for partition in self._router.streams.holding((pattern,)):
            since[partition] = 0 if from_start else partition.next_offset
            if partition not in consumer.cursors:
                start = partition.start_offset if from_start else partition.next_offset
                consumer.cursors[partition] = Cursor(partition, start, owed=True)
                consumer.touch()
            if not from_start:
                consumer.passed(partition)
        if pattern not in consumer.interest.patterns:
            consumer.interest.add(pattern)
            consumer.interest.unstored.pop(pattern, None)       # it is stored with the binding
            consumer.interest.forget_answers()
        self._router.trie.add(pattern, consumer)
        self._router.routes.changed(pattern)
        if not from_start:
            for hook in self._registry.on_filter:
                hook(consumer, pattern)
        return since

    # -- start ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Before consumers are restored: the built-in stream, if there has been a queue."""
        if self._stored.has_queues:
            self._open_stream()

    def restore(self) -> None:
        """After consumers are restored."""
        found = self._stored.read(self._router.streams.partition)
        for consumer in list(self._registry.by_name.values()):
            if consumer.spec.queue is None:
                continue
            queue = self._adopt(consumer)
            self._follow(queue, queue.topic, from_start=True)
            for binding in found.get(queue.name, ()):
                self._follow(queue, binding.pattern, from_start=True)
                queue.bindings.add(binding)
            queue.restored()
            self._ending[queue] = None
        if self.by_name:
            self._debts.started()

    def _adopt(self, consumer: Consumer) -> Queue:
        assert consumer.spec.queue is not None
        topic = straight_topic(consumer.name, temporary=consumer.spec.queue.temporary)
        queue = self.by_name[consumer.name] = Queue(consumer, self, topic)
        return queue

    def _open_stream(self) -> None:
        streams = self._router.streams
        if STRAIGHT_STREAM not in streams.by_name:
            streams.open(StreamSettings(
                STRAIGHT_STREAM, (f"{QUEUE_TOPICS}#",), segment_bytes=STRAIGHT_SEGMENT_BYTES,
                retention_bytes=0))                     # what its queues have settled goes, see owed/debts.py
            for partition in streams.by_name[STRAIGHT_STREAM].partitions:
                partition.owed_from = partition.lowest_offset
            self._stored.mark()
            self._router.routes.changed()


def _refuse_name(name: str) -> Refusal | None:
    if not name or len(name) > NAME_CHARS_MAX or "\0" in name:
        text = f"the name of a queue has 1 to {NAME_CHARS_MAX} characters, none of them U+0000"
        return Refusal(Reason.CONFLICT, text)
    if name.startswith(OTHERS):
        return Refusal(Reason.CONFLICT, f"queue names that begin with {' or '.join(OTHERS)} are those of MQTT clients")
    try:
        name.encode()
    except UnicodeEncodeError:
        return Refusal(Reason.CONFLICT, "the name of a queue must be valid UTF-8")
    return None
