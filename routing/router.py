"""Router: the door in. Takes events from every protocol and every link, and is the one place where they meet.

    publish(events) ── policy ▸ limits ▸ dedupe ▸ route ──┬── direct lane: inbox of each live subscription
                                                          └── append to the partition ── group commit ──┐
                                    guaranteed lane: consumers are offered the committed events  ◄──────┘ ticket done

Work is done in turns of the event loop: whatever was published or became deliverable during one turn is flushed at
its end, once per receiver, and goes to the disk as one group. No asyncio here: the node gives call_soon and the clocks.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.registry.groups import Groups
from routing.consumers.registry.registry import ConsumerRegistry
from routing.consumers.rights import Rights
from routing.direct.lane import Lane
from routing.direct.subscription import Subscription
from routing.errors import Reason, Refusal
from routing.event import Event, run_end, topic_runs
from routing.fairness.shares import Shares
from routing.fairness.turns import Turns
from routing.log.committing.gather import Gather
from routing.log.producing.raw import RawBatch, Run
from routing.logins import Logins
from routing.producers.raw_entry import RawEntry
from routing.producers.transactions import Transactions
from routing.publishing.dedupe import Windows
from routing.publishing.ledger import Ledger
from routing.publishing.pacing import Pacing
from routing.publishing.placed import publish_to
from routing.publishing.publisher import TOPICS_CACHED, Publisher
from routing.publishing.recovery import PacketIds, read_tail
from routing.publishing.route import QUEUE_FULL, Route, RouteTable
from routing.queues.queues import Queues
from routing.replicas.feed import Feed
from routing.replicas.origins import Origins
from routing.replicas.replicas import Replicas
from routing.retained.retained import RETAINED_STREAM, RetainedEvents
from routing.rights.permissions import RuleSet
from routing.rights.policy import INTERNAL, Action, Identity, Policy, Rule
from routing.rights.usage import Usage
from routing.settings import Limits, StreamSettings
from routing.state import STATE_STREAM, StateTable
from routing.steps import FILTERS_PER_STEP, in_steps
from routing.streams.lifecycle import Lifecycle
from routing.streams.streams import Stream, StreamTable
from routing.ticket import Ticket
from routing.together.step import Steps
from routing.topic import KEPT_CHARS_MAX

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.log.producing.raw import Terms
    from routing.log.store import Store

log = logging.getLogger(__name__)


class Router:
    """One per tenant. Loop thread only."""

    def __init__(self, store: Store, settings: list[StreamSettings], policy: Policy, *, limits: Limits,
                 call_soon: Callable[[Callable[[], None]], object], clock_s: Callable[[], float],
                 clock_ms: Callable[[], int], gather: Gather | None = None,
                 cpu_s: Callable[[], float] | None = None) -> None:
        """settings: the streams of the configuration. clock_s: monotonic seconds; clock_ms: wall time as far as it
        is trusted; ages are differences of the store's steady_ms (clock.py).

        gather: that of the store, to be told who publishes. cpu_s: CPU time of the loop's thread, for its turns.
        """
        self.store = store
        self.policy = policy
        self.limits = limits
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.steady_ms = store.steady_ms
        self.on_admitted: list[Callable[[Identity, str], None]] = []     # called once per publisher and topic let in
        self.ledger = Ledger()
        self.streams = StreamTable(store, self._committed, self._settled, self._failed)
        self.routes = RouteTable(self.streams, policy, limits)
        self.trie = self.routes.trie
        self.drops: Counter[tuple[str, str]] = Counter()       # (protocol, reason) → events
        self.published = 0                      # events that came in, from whomever
        self.refused: Counter[Reason] = Counter()
        self.internal = Publisher(INTERNAL)
        self.origins = Origins()
        self.feeds: dict[Partition, dict[Feed, None]] = {}     # what other nodes read from here
        self.call_soon = call_soon                     # work for the next turn of the loop
        self.turns = Turns(                            # what everybody on this loop shares
            call_soon, clock_s, cpu_s=cpu_s, slice_s=limits.slice_ms / 1000, turn_s=limits.turn_ms / 1000)
        self.turns.end_turn = self._end_full_turn
        self._gather = gather
        self._turn_requested = False
        self._turn_ordered = False
        self._relief: list[Callable[[], None]] = []
        self._windows = Windows(limits.dedupe_window, limits.dedupe_bytes)
        self.state = StateTable(self.streams.open_internal(STATE_STREAM), self.request_turn)
        self.retained = RetainedEvents(self.streams.open_internal(RETAINED_STREAM), policy, limits, clock_ms)
        self.rights = Rights(policy, clock_ms)
        self.lane = Lane(self.rights, self.turns, clock_s, self.request_turn)
        self.usage = policy.usage = Usage(policy.decide, clock_ms)
        self.shares = Shares(lambda: self.limits.user_share)
        policy.cache_bytes_max = limits.policy_cache_bytes
        self.registry = ConsumerRegistry(self)
        self.raw = RawEntry(self)
        self.groups = Groups(self)
        self.logins = Logins(
            call_soon, self.registry.awake, self.registry.rights_changed, self.routes.changed)
        self.replicas = Replicas(self)
        self.lifecycle = Lifecycle(self)
        self.on_streams: list[Callable[[], None]] = []         # called when streams are not what they were
        self.lifecycle.start(settings)
        self.transactions = Transactions(self)
        self.pacing = Pacing(clock_s, lambda: self.limits)
        self.queues = Queues(self)
        self.together = Steps(self)
        self.queues.prepare()
        self._qos2 = read_tail(
            self.streams, self._windows, self.retained.recover, self.registry.letters.note)
        self.registry.restore()
        self.queues.restore()
        self.replicas.restore()
        self.transactions.restore()
        self.together.restore()
        self.streams.started()

    # -- reload -----------------------------------------------------------------------------------------------

    def apply_streams(self, settings: list[StreamSettings]) -> None:
        """Reload: add streams that are new and take over changed settings. A stream is never removed here."""
        changed = self.lifecycle.reload(settings)
        if changed:
            self.routes.changed()
            self.registry.streams_changed(changed)

    def stream_opened(self, stream: Stream) -> None:
        """A stream was made at run time. For lifecycle.py, as the next two."""
        self._routes_of(stream.settings.capture)
        self.registry.streams_changed([stream])
        self._tell_of_streams()

    def stream_changed(self, stream: Stream, before: StreamSettings) -> None:
        self._routes_of((*before.capture, *stream.settings.capture))
        if before.capture != stream.settings.capture or before.partitions != stream.settings.partitions:
            self.registry.streams_changed([stream])
        self._tell_of_streams()

    def partitions_gone(self, stream: Stream, gone: list[Partition]) -> None:
        self._routes_of(stream.settings.capture)
        self.registry.partitions_gone(gone)
        self.replicas.partitions_gone(gone)
        for partition in gone:
            self.feeds.pop(partition, None)
        self._tell_of_streams()

    def _routes_of(self, patterns: Iterable[str]) -> None:
        """Events of these topics may go to another stream than before."""
        for pattern in patterns:
            self.routes.changed(pattern)

    def _tell_of_streams(self) -> None:
        for told in self.on_streams:
            told()

    def apply_limits(self, limits: Limits) -> None:
        """Reload: take new bounds. Those that were used to make something (caches, windows) stay as they were."""
        self.limits = self.registry.limits = self.retained.limits = self.routes.limits = limits
        self.policy.cache_bytes_max = limits.policy_cache_bytes

    def apply_rules(self, rules: list[Rule] | RuleSet) -> None:
        """Reload: take a new rule set, and look again at every login: users and keys may have changed, too.

        It counts at once for publishing and for live delivery; what is open hears of it within a second (logins.py).
        """
        before = self.policy.rules
        self.policy.replace(rules)
        self.routes.changed()
        self.logins.changed(rules=self.policy.rules != before)

    # -- the door in ------------------------------------------------------------------------------------------

    def publisher(self, identity: Identity) -> Publisher:
        publisher = Publisher(identity)
        publisher.logins = self.logins.generation
        return publisher

    def _refresh(self, publisher: Publisher) -> None:
        """Something has changed: what was remembered for it, and perhaps who it is, counts no more."""
        publisher.routes.clear()
        publisher.generation = self.routes.generation
        if publisher.logins != self.logins.generation:
            publisher.logins = self.logins.generation
            publisher.identity = publisher.deeds.identity = self.logins.renew(publisher.identity)

    def publish(self, events: list[Event], publisher: Publisher, *, plain: bool = False) -> Ticket:
        """Take events in. Never awaits; what is refused stands in the ticket by its index in events.

        The list belongs to the ticket from now on. Topics must have passed routing.topic.check_topic.
        plain: the caller vouches that all of them have only topic, payload, QoS and publisher, and that no payload is
        over the limit; then nothing is looked at per event.
        """
        ticket = Ticket(events)
        if publisher.generation != self.routes.generation:
            self._refresh(publisher)
        appends: dict[Partition, list[Event]] = {}
        count = len(events)
        start = 0
        while start < count:                            # runs of one topic
            topic = events[start].topic
            end = run_end(events, start)
            route = publisher.routes.get(topic) or self._admit(topic, publisher)
            try:
                publisher.deeds.by_topic[topic] += end - start
            except KeyError:                            # the first since the record has asked
                self.usage.begin(publisher.deeds, topic, end - start)
            if isinstance(route, Refusal):
                self.policy.count_denial(publisher.identity, Action.PUBLISH, end - start)
                for index in range(start, end):
                    self._refuse(ticket, index, route)
            else:
                run = events if end - start == count else events[start:end]
                if not plain or route.gates:
                    run = self._take_each(ticket, start, run, route, publisher, appends)
                elif run is events and route.partition is not None:
                    appends[route.partition] = run
                elif route.partition is not None:
                    appends.setdefault(route.partition, []).extend(run)
                if self.pacing.paces and route.consumers and publisher is not self.internal:
                    self.pacing.published(route.consumers, len(run), publisher)
                if run and route.direct:
                    self.lane.send(run, route.direct, publisher, plain)
                if run and route.partition is None:
                    if route.consumers:
                        self._offer_untracked(run, route)
                    if route.remote and self.routes.remote is not None:
                        self.routes.remote.send(run)
            start = end
        if publisher is not self.internal:              # $SYS and dead letters have not come in
            self.published += count
        if self._gather is not None:
            self._gather.published(publisher)
        early = self.registry.early if publisher is not self.internal and self.registry.early.members else None
        for partition, group in appends.items():
            partition.append(group, ticket)
            if early is not None:
                early.published(partition, group)
        ticket.part_done()                              # all parts are known now
        self.request_turn()
        return ticket

    def publish_raw(self, stream: str, partition: int, batch: bytes, publisher: Publisher) -> Ticket:
        """Take one RecordBatch v2 of a Kafka producer into a partition of a stream, as it is. Never awaits.

        The ticket has one part (ticket.Part), complete when the ticket is: base offset, count, and a Refusal whose
        fault says what is wrong with the batch or its producer. See docs/kafka-log.md.
        """
        if self._gather is not None:
            self._gather.published(publisher)
        return self.raw.publish(stream, partition, batch, publisher)

    def publish_to(self, partition: Partition, events: list[Event], publisher: Publisher) -> Ticket:
        """As publish(), into the partition that the publisher chose. See placed.py."""
        if self._gather is not None:
            self._gather.published(publisher)
        return publish_to(self, partition, events, publisher)

    def may_fetch(self, identity: Identity, stream: str) -> Refusal | None:
        """Whoever reads record batches as they are reads all that the stream holds, so he must be allowed to."""
        found = self.streams.by_name.get(stream)
        if found is None:
            return Refusal(Reason.NOT_FOUND, f"there is no stream {stream}")
        for pattern in found.filters:
            refusal = self.rights.check_subscribe(identity, pattern)
            if refusal is not None:
                return refusal
        if not self.rights.may_read_all(identity, found.filters):
            return Refusal(Reason.NOT_AUTHORIZED, f"a rule denies user {identity.user} part of the stream {stream}")
        return None

    def _take_each(self, ticket: Ticket, start: int, run: list[Event], route: Route, publisher: Publisher,
                   appends: dict[Partition, list[Event]]) -> list[Event]:
        """Look at every event of a run; start is the index of the first one. Returns those that go on."""
        payload_bytes_max = self.limits.payload_bytes_max
        taken: list[Event] = []
        group: list[Event] | None = None
        for index, event in enumerate(run, start):
            properties = event.properties
            if route.gates and not all(gate.admit(event) for gate in route.gates):
                self._refuse(ticket, index, QUEUE_FULL)
                continue
            if (event.retain or event.key is not None or event.headers or len(event.payload) > payload_bytes_max
                    or (properties is not None and properties.dedupe_id is not None)):
                if not self._take_special(ticket, index, event, route, publisher, appends):
                    continue
            elif route.partition is not None:
                if group is None:
                    group = appends.setdefault(route.partition, [])
                group.append(event)
            taken.append(event)
        return taken

    def _admit(self, topic: str, publisher: Publisher) -> Route | Refusal:
        """First event of a topic from this publisher: ask the policy, find the route, remember both."""
        if len(publisher.deeds.by_topic) >= TOPICS_CACHED:
            self.usage.move(publisher.deeds)
        refusal = self.policy.refuse(publisher.identity, Action.PUBLISH, topic, self.clock_ms())
        if refusal is not None:     # publish() counts each event, this one too
            self.policy.count_denial(publisher.identity, Action.PUBLISH, -1)
        else:
            for told in self.on_admitted:
                told(publisher.identity, topic)
        answer = refusal or self.routes.of(topic)
        if len(topic) <= KEPT_CHARS_MAX:
            if len(publisher.routes) >= TOPICS_CACHED:
                publisher.routes.clear()
            publisher.routes[topic] = answer
        return answer

    def _take_special(self, ticket: Ticket, index: int, event: Event, route: Route, publisher: Publisher,
                      appends: dict[Partition, list[Event]]) -> bool:
        """The rarer path: key, headers, dedupe id, retain, big payload. False: nothing more to do for the event."""
        refusal = self.refuse_size(event)
        if refusal is not None:
            return self._refuse(ticket, index, refusal)
        dedupe_id = event.properties.dedupe_id if event.properties is not None else None
        if dedupe_id is not None and self._windows.is_duplicate(publisher.name, index, event, dedupe_id, ticket):
            self.drops[publisher.identity.protocol, "duplicate dedupe id"] += 1
            return False
        if event.retain:                        # [MQTT-3.3.1-5], and only then [MQTT-3.3.1-8]
            refusal = self.retained.check(event, stored=route.stream is not None)
            if refusal is not None:
                return self._refuse(ticket, index, refusal)
            self.retained.publish(index, event, ticket, stored=route.stream is not None)
        if route.stream is not None:
            assert route.partition is not None
            partition = route.partition if event.key is None else route.stream.partition_for(event.key)
            appends.setdefault(partition, []).append(event)
        return True

    def is_new(self, event: Event, publisher: Publisher) -> None:
        """Whatever had its dedupe id before, this event, which is not yet published, is another one."""
        assert event.properties is not None and event.properties.dedupe_id is not None
        self._windows.forget(publisher.name, event, event.properties.dedupe_id)

    def refuse_size(self, event: Event) -> Refusal | None:
        if len(event.payload) > self.limits.payload_bytes_max:
            text = f"the payload has {len(event.payload)} bytes, at most {self.limits.payload_bytes_max} are taken"
            return Refusal(Reason.PAYLOAD_TOO_LARGE, text)
        if len(event.headers) > self.limits.headers_max:
            text = f"{len(event.headers)} headers, at most {self.limits.headers_max} are taken"
            return Refusal(Reason.QUOTA_EXCEEDED, text)
        return None

    def refuse_later(self, event: Event, identity: Identity) -> Refusal | None:
        """What publish() would say today to an event that is to be published later, such as a will."""
        return self.refuse_size(event) or self.policy.refuse(
            identity, Action.PUBLISH, event.topic, self.clock_ms())

    def admit(self, topic: str, publisher: Publisher, count: int) -> Route | Refusal:
        """May this publisher publish count events of the topic? A refusal is counted. For events from other nodes."""
        route = self._route(topic, publisher)
        try:
            publisher.deeds.by_topic[topic] += count
        except KeyError:
            self.usage.begin(publisher.deeds, topic, count)
        if isinstance(route, Refusal):
            self.policy.count_denial(publisher.identity, Action.PUBLISH, count)
            self.refused[route.reason] += count
        return route

    def refuse_publish(self, topic: str, publisher: Publisher) -> Refusal | None:
        """May this publisher publish it? For before an event has come whole: a no is counted, a yes by publish()."""
        if not isinstance(self._route(topic, publisher), Refusal):
            return None
        refused = self.admit(topic, publisher, 1)
        return refused if isinstance(refused, Refusal) else None

    def _route(self, topic: str, publisher: Publisher) -> Route | Refusal:
        if publisher.generation != self.routes.generation:
            self._refresh(publisher)
        return publisher.routes.get(topic) or self._admit(topic, publisher)

    def send_on(self, run: list[Event], route: Route, publisher: Publisher, *, stored: bool) -> None:
        """Give admitted events from another node, all of one topic, to live readers here; never back to the mesh.

        stored: they go into the log, which is where consumers get them from.
        """
        if route.direct:
            self.lane.send(run, route.direct, publisher, False)
        if route.consumers and not stored:
            self._offer_untracked(run, route)

    def send_history(self, run: list[Event], route: Route, publisher: Publisher, *, stored: bool) -> None:
        """As send_on(), of a back-fill: a live reader gets only what was published since it subscribed.

        History is for the consumers that asked for it. What a link that came up late has passed over comes in this way
        as well, and live readers were already waiting for that.
        """
        for target in route.direct:
            since_ms = min([subscription.since_ms for subscription in target.subscriptions])
            missed = [event for event in run if event.timestamp_ms >= since_ms]
            if missed:
                self.lane.send(missed, (target,), publisher, False)
        if route.consumers and not stored:
            self._offer_untracked(run, route)

    def deliver_direct(self, events: list[Event], publisher: Publisher) -> None:
        """A direct frame of another node, or what only readers who are here now are to see: nothing is stored."""
        for run in topic_runs(events):
            route = self.admit(run[0].topic, publisher, len(run))
            if not isinstance(route, Refusal):
                self.send_on(run, route, publisher, stored=False)
        self.request_turn()

    def _refuse(self, ticket: Ticket, index: int, refusal: Refusal) -> bool:
        ticket.refusals[index] = refusal
        self.refused[refusal.reason] += 1
        return False

    # -- lanes ------------------------------------------------------------------------------------------------

    def _offer_untracked(self, run: list[Event], route: Route) -> None:
        for consumer in route.consumers:
            consumer.offer_untracked(run)

    def send_live(self, run: list[Event], route: Route) -> None:
        """The direct lane, of events of one topic from a Kafka producer."""
        self.lane.send(run, route.direct, self.internal, False)

    def _settled(self, partition: Partition, offset: int, topics: set[str] | None) -> None:
        self._wake_feeds(partition)
        self.raw.settled(partition, offset, topics, self.registry.awake)
        self.registry.early.committed(partition, partition.end_offset)

    def _failed(self, partition: Partition) -> None:
        self.registry.early.refused(partition)

    def _wake_feeds(self, partition: Partition) -> None:
        for feed in list(self.feeds.get(partition, ())):
            try:
                feed.committed()
            except Exception:
                log.exception("a fault of ours while waking a link")

    def _committed(self, partition: Partition, events: Run) -> None:
        """The guaranteed lane: events of one partition are durable. Called by the log, in offset order."""
        if self._relief:
            self.request_turn()
        self._wake_feeds(partition)
        if isinstance(events, RawBatch):
            self.raw.committed(partition, events)
            self.registry.early.committed(partition, events.next_offset)
        else:
            self.offer(partition, events)
            self.registry.early.committed(partition, events[-1].offset + 1)

    def offer(self, partition: Partition, events: list[Event]) -> None:
        """Tell the consumers that want them of durable events."""
        count = len(events)
        start = 0
        while start < count:
            topic = events[start].topic
            end = run_end(events, start)
            consumers = self.routes.of(topic).consumers
            if consumers:
                run = events if end - start == count else events[start:end]
                for consumer in consumers:
                    try:
                        consumer.offer(partition, run)
                    except Exception:                   # the tickets of these events come after us
                        log.exception("consumer %s: a fault of ours while taking events", consumer.name)
            start = end

    # -- what is wanted here ----------------------------------------------------------------------------------

    @property
    def wanted(self) -> dict[str, int]:
        """Every topic filter that somebody here wants, and how many subscriptions and consumers want it."""
        return self.trie.wanted

    @property
    def on_wanted(self) -> list[Callable[[str, bool], None]]:
        """Called with a filter that appeared (True) or went (False). Callbacks must not raise."""
        return self.trie.on_wanted

    def own_partitions(self) -> list[Partition]:
        """The partitions of the configured streams."""
        return [partition for stream in self.streams for partition in stream.partitions]

    def terms_of(self, stream: Stream) -> Terms:
        """What batches for the stream must keep to."""
        return self.raw.terms_of(stream)

    # -- subscriptions and consumers --------------------------------------------------------------------------

    def check_subscribe(self, identity: Identity, pattern: str) -> Refusal | None:
        """Grammar and policy of a subscribe; denials are counted and listed."""
        return self.rights.check_subscribe(identity, pattern)

    def subscribe(self, subscription: Subscription) -> Refusal | None:
        """Add a live subscription to the direct lane."""
        refusal = self.rights.check_subscribe(subscription.sink.identity, subscription.pattern)
        if refusal is None:
            subscription.since_ms = self.clock_ms()
            self.trie.add(subscription.pattern, subscription)
            self.routes.changed(subscription.pattern)
        return refusal

    def unsubscribe_all(self, subscriptions: list[Subscription]) -> None:
        """Of a receiver that takes nothing any more. When they are many, some at a time."""
        if subscriptions:
            in_steps(self, self._unsubscribe_some(subscriptions))

    def _unsubscribe_some(self, subscriptions: list[Subscription]) -> Iterator[None]:
        for number, subscription in enumerate(subscriptions, 1):
            self.unsubscribe(subscription)
            if number % FILTERS_PER_STEP == 0:
                yield

    def unsubscribe(self, subscription: Subscription) -> bool:
        removed = self.trie.remove(subscription.pattern, subscription)
        self.routes.left(subscription)
        return removed

    def open_consumer(self, spec: ConsumerSpec, identity: Identity) -> Consumer | Refusal:
        """Get or create a consumer by name. See ConsumerRegistry.open."""
        return self.registry.open(spec, identity)

    def delete_consumer(self, name: str) -> bool:
        return self.registry.delete(name)

    @property
    def consumers(self) -> dict[str, Consumer]:
        return self.registry.by_name

    def recovered_qos2(self) -> PacketIds:
        """QoS 2 publishes found in the tail of the log at start: client id → packet id → places."""
        return self._qos2

    # -- turns, time, pressure --------------------------------------------------------------------------------

    def request_turn(self) -> None:
        """Have end_turn() called at the end of this turn of the loop."""
        self._turn_requested = True
        if not self._turn_ordered:
            self._turn_ordered = True
            self.call_soon(self._end_turn_if_due)

    def _end_turn_if_due(self) -> None:
        """It may be done already; and while others wait for the next turn, that one does it as it begins: once."""
        self._turn_ordered = False
        if not self._turn_requested:
            return
        if self.turns.is_full:
            self.request_turn()
        else:
            self.end_turn()

    def _end_full_turn(self) -> bool:
        """The turn was full, and others wait for the next one: what is durable by now belongs to its end."""
        self.store.take_done()
        if not self._turn_requested:
            return False
        self.end_turn()
        return True

    def end_turn(self) -> None:
        """Flush what this turn has produced: inboxes, consumers, stored state, then the group commit. While the disk
        writes that, queues give it out.
        """
        self.turns.ending()
        self._turn_requested = False
        left_s = self.lane.flush()
        self.registry.pump()
        self.state.flush()
        self.store.kick()
        self.registry.early.run()
        if self._relief and not self.pressure:
            waiting, self._relief = self._relief, []
            for callback in waiting:
                try:
                    callback()
                except Exception:
                    log.exception("a fault of ours while publishing goes on")
        self.turns.ended("what the turn has published", left_s)

    def tick(self, now_s: float) -> None:
        """Timers of consumers and checkpoints. The node calls it every 50 ms with monotonic seconds."""
        self.registry.tick(now_s)
        self.queues.tick()
        self.pacing.tick(now_s)
        self.together.tick(now_s)
        self.replicas.tick(now_s)
        self.usage.tick(now_s)
        self.state.retry(now_s)
        self.transactions.tick(now_s)
        if self.retained.retry(now_s):
            self.request_turn()
        if self._gather is not None:
            self._gather.tick(now_s)
        if self._relief:
            self.request_turn()

    @property
    def pressure(self) -> bool:
        """True when so much waits for the disk that publishers should not be read."""
        return self.store.crowded

    def when_free(self, publisher: Publisher, go_on: Callable[[], None]) -> bool:
        """Has it published enough to a queue that is behind? Then its client is to wait until go_on is called, once."""
        return publisher.pace is not None and self.pacing.when_free(publisher, go_on)

    def on_relief(self, callback: Callable[[], None]) -> None:
        """Call callback once when the pressure is gone."""
        self._relief.append(callback)
        self.request_turn()

    def count_drop(self, identity: Identity, reason: str, count: int = 1) -> None:
        """A live subscriber lost events; reason is one of a few fixed texts."""
        self.drops[identity.protocol, reason] += count

    def close(self) -> None:
        """Store every consumer's position and flush the log. Connections must be gone."""
        for consumer in self.registry.awake():
            self.registry.checkpoint(consumer)
        self.replicas.checkpoint()
        self.state.flush()
        self.store.close()
