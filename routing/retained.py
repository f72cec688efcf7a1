"""Retained events: the last retained event of each topic, found by topic filter.        Source: MQTT 5 §3.3.1.3

Kept in memory as a tree of topic levels, so that a filter visits only what it can match, and in an internal
compacted partition (key = topic), so that a restart brings them back. A retained event with an empty payload removes
the topic's entry [MQTT-3.3.1-6] [MQTT-3.3.1-7].

Between nodes the last writer wins: of two retained events of a topic the one with the later timestamp stands on every
node, and of two of the same millisecond the one of the node whose name sorts last. So that a clock that is behind does
not lose, an event published here is never older than what it replaces.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from routing.errors import Reason, Refusal
from routing.event import Event, event_size_bytes
from routing.log.partition import FULL_RETRY_S
from routing.policy import REPLY_PREFIX, Action, Identity, Policy
from routing.settings import Limits
from routing.ticket import Ticket
from routing.topic import filter_matches, is_wildcard

if TYPE_CHECKING:
    from routing.log.partition import Partition

RETAINED_STREAM = "_retained"
SCAN_STEP = 10_000
FULL_TRIES = 10             # a full disk may take the event and not its retained copy; the publisher waits so long
REMOVALS_KEPT = 10_000      # removed topics remembered, so that an older event of another node does not bring them back


class _Node:
    __slots__ = ("children", "event")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.event: Event | None = None


class RetainedTree:
    """Topic → retained event, with lookup by filter. Bounded by the caller, who looks at count and size_bytes."""

    def __init__(self) -> None:
        self._root = _Node()
        self.count = 0
        self.size_bytes = 0

    def get(self, topic: str) -> Event | None:
        node = self._find(topic)
        return node.event if node is not None else None

    def set(self, event: Event) -> Event | None:
        """Keep or, when the payload is empty, remove. Returns the event that stood there before."""
        if not event.payload:
            return self.remove(event.topic)
        node = self._root
        for level in event.topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        before = node.event
        node.event = event
        self.count += before is None
        self.size_bytes += event_size_bytes(event) - (event_size_bytes(before) if before is not None else 0)
        return before

    def remove(self, topic: str) -> Event | None:
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            path.append((node, level))
            node = child
        before, node.event = node.event, None
        if before is None:
            return None
        self.count -= 1
        self.size_bytes -= event_size_bytes(before)
        for parent, level in reversed(path):        # empty branches go, so that topics that come and go cost nothing
            child = parent.children[level]
            if child.event is not None or child.children:
                break
            del parent.children[level]
        return before

    def match(self, pattern: str) -> Iterator[Event]:
        """Retained events whose topic the filter matches, in no particular order."""
        if not is_wildcard(pattern):
            event = self.get(pattern)
            return iter(() if event is None else (event,))
        return self._walk(pattern.split("/"))

    def _find(self, topic: str) -> _Node | None:
        node: _Node | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node is not None else None
        return node

    def _walk(self, levels: list[str]) -> Iterator[Event]:
        stack = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth == len(levels):
                if node.event is not None:
                    yield node.event
                continue
            level = levels[depth]
            if level == "#":
                if depth and node.event is not None:        # "a/#" matches "a" too
                    yield node.event
                below = self._visible(node, depth)
                while below:
                    child = below.pop()
                    if child.event is not None:
                        yield child.event
                    below.extend(child.children.values())
            elif level == "+":
                stack.extend((child, depth + 1) for child in self._visible(node, depth))
            elif level in node.children:
                stack.append((node.children[level], depth + 1))

    @staticmethod
    def _visible(node: _Node, depth: int) -> list[_Node]:
        """Children that a wildcard at this depth may enter: not the $-topics at the top [MQTT-4.7.2-1]."""
        if depth:
            return list(node.children.values())
        return [child for name, child in node.children.items() if not name.startswith("$")]


class _Unsettled:
    """A topic with retained events on their way to the disk: how many, and what stood before or was stored since."""

    __slots__ = ("count", "good", "removal", "undo")

    def __init__(self, good: Event | None, removal: tuple[int, str] | None) -> None:
        """removal: as _removal() has it, of the last good removal, where nothing good stands."""
        self.count = 0
        self.good = good
        self.removal = removal
        self.undo = False


class RetainedEvents:
    """The retained events of a tenant: the tree, and behind it the partition that survives a restart."""

    def __init__(self, partition: Partition, policy: Policy, limits: Limits, clock_ms: Callable[[], int]) -> None:
        self.tree = RetainedTree()
        self._partition = partition
        self._policy = policy
        self.limits = limits
        self._clock_ms = clock_ms
        self._unsettled: dict[str, _Unsettled] = {}
        self._again: list[Callable[[], None]] = []
        self._again_s = 0.0
        self._removals: dict[str, tuple[int, str]] = {}     # topic → _removal() of the event that removed it
        self.node_name = ""                     # what our own events count as between nodes
        self._load()

    def _load(self) -> None:
        offset = self._partition.start_offset
        while offset < self._partition.end_offset:
            found = self._partition.scan(offset, lambda _: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
            for event in found.events:
                self.tree.set(event)
                if not event.payload:
                    self._note_removal(event)
            offset = found.next_offset

    def check(self, event: Event) -> Refusal | None:
        """Room for one more?"""
        if event.topic.startswith(REPLY_PREFIX):        # everybody may publish there
            return Refusal(Reason.QUOTA_EXCEEDED, "the answer to a request cannot be retained")
        if not event.payload or self.tree.get(event.topic) is not None:
            return None
        if self.tree.count >= self.limits.retained_events_max:
            return Refusal(Reason.QUOTA_EXCEEDED, f"{self.tree.count} topics have a retained event, that is the limit")
        if self.tree.size_bytes + event_size_bytes(event) > self.limits.retained_bytes_max:
            return Refusal(Reason.QUOTA_EXCEEDED, f"retained events may take {self.limits.retained_bytes_max} bytes")
        return None

    def publish(self, index: int, event: Event, ticket: Ticket, *, stored: bool) -> None:
        """Keep the event, now for readers and with the ticket for ever. stored: its topic is captured by a stream.

        index: the event's place in the ticket. If the event is refused in the end, the last good one stands again.
        """
        if event.origin is None:                        # whoever writes here has seen what is here
            event.timestamp_ms = max(event.timestamp_ms or self._clock_ms(), self._rank(event.topic)[0] + 1)
        copy = msgspec.structs.replace(event, mqtt4_frame=None, mqtt5_frame=None)
        removal = self._removals.get(event.topic)
        before = self.tree.set(copy)
        if not copy.payload:
            self._note_removal(copy)
        if not stored:                                  # $SYS and the like live in memory only
            return
        unsettled = self._unsettled.get(copy.topic)
        if unsettled is None:
            unsettled = self._unsettled[copy.topic] = _Unsettled(before, removal)
        unsettled.count += 1
        ticket.waiting += 1
        tries = 0

        def keep() -> None:
            if tries and self._rank(copy.topic) != self._version(copy):
                ticket.part_done()                      # replaced since; it would stand behind what is newer
                return
            inner = Ticket([copy])
            self._partition.append([copy], inner)
            inner.part_done()
            inner.on_done(kept)

        def kept(done: Ticket) -> None:
            nonlocal tries
            tries += 1
            refusal = done.refusals.get(0)
            if refusal is None or index in ticket.refusals:
                ticket.part_done()
            elif refusal.reason is Reason.STORAGE_FULL and tries < FULL_TRIES:
                self._again.append(keep)                # refused now, the event would still stand in its stream
            else:
                ticket.refusals.setdefault(index, refusal)
                ticket.part_done()

        keep()
        ticket.on_done(lambda done: self._settle(copy, unsettled, refused=index in done.refusals))

    def retry(self, now_s: float) -> bool:
        """Store again what did not fit on the disk. Called every tick, with monotonic seconds. True: it did."""
        if not self._again or now_s < self._again_s:
            return False
        self._again_s = now_s + FULL_RETRY_S
        again, self._again = self._again, []
        for keep in again:
            keep()
        return True

    def _settle(self, copy: Event, unsettled: _Unsettled, *, refused: bool) -> None:
        unsettled.count -= 1
        if refused:
            unsettled.undo = True
        else:
            unsettled.good = copy if copy.payload else None
            if not copy.payload:
                unsettled.removal = _removal(copy)
        if unsettled.count:
            return
        del self._unsettled[copy.topic]
        if not unsettled.undo:
            return
        good = unsettled.good
        if good is not None:
            self.tree.set(good)
            restored = msgspec.structs.replace(good, offset=-1)
        else:
            self.tree.remove(copy.topic)
            removal = unsettled.removal
            if removal is not None:
                self._removals[copy.topic] = removal
            else:                                       # a refused removal ranks nowhere
                self._removals.pop(copy.topic, None)
            at_ms = removal[0] if removal is not None else 1
            restored = Event(copy.topic, b"", retain=True, timestamp_ms=max(1, at_ms))
        ticket = Ticket([restored])                     # the refused one may stand in the partition
        self._partition.append([restored], ticket)
        ticket.part_done()

    # -- between nodes ----------------------------------------------------------------------------------------

    def _version(self, event: Event) -> tuple[int, str]:
        return event.timestamp_ms, event.origin.node if event.origin is not None else self.node_name

    def _rank(self, topic: str) -> tuple[int, str]:
        """The version of what stands under a topic, or of its removal; of nothing at all the lowest."""
        known = self.tree.get(topic)
        if known is not None:
            return self._version(known)
        removed = self._removals.get(topic)
        return (removed[0], removed[1] or self.node_name) if removed is not None else (-1, "")

    def _note_removal(self, event: Event) -> None:
        if len(self._removals) >= REMOVALS_KEPT:
            del self._removals[next(iter(self._removals))]
        self._removals[event.topic] = _removal(event)

    def is_newest(self, event: Event) -> bool:
        """Would this event of another node replace what stands under its topic?"""
        return self._version(event) > self._rank(event.topic)

    def publish_replica(self, event: Event, ticket: Ticket, *, stored: bool) -> bool:
        """As publish(), for the one event of ticket, which comes from another node. False: it is not the newest."""
        if not self.is_newest(event) or self.check(event) is not None:
            return False
        self.publish(0, event, ticket, stored=stored)
        return True

    def own_snapshot(self, pattern: str) -> list[Event]:
        """The retained events of a filter that were first stored here, and what was removed here (without payload)."""
        removed = [
            Event(topic, b"", 1, retain=True, timestamp_ms=version[0]) for topic, version in self._removals.items()
            if not version[1] and filter_matches(pattern, topic) and self.tree.get(topic) is None
        ]
        return [event for event in self.tree.match(pattern) if event.origin is None] + removed

    def merge(self, events: list[Event], origin_node: str, epoch: str, pattern: str, complete: bool,
              taken_ms: int | None = None) -> list[Event]:
        """Take a snapshot of another node: its retained events that the filter matches, as they stand there now.

        The table changes, the streams do not. complete: what we hold of that node's epoch (or an older one) under the
        filter and what is not in the snapshot was removed there, and goes here too. Returns what changed: events for
        those who subscribe now; the removed ones have an empty payload.
        taken_ms: when it was taken, by that node's clock: what is not older may have come since, by the stream.
        """
        topics = {event.topic for event in events}
        changed = [event for event in events if self.is_newest(event) and self.check(event) is None]
        if complete:
            changed += [
                Event(known.topic, b"", known.qos, known.publisher, retain=True, timestamp_ms=known.timestamp_ms + 1,
                      origin=known.origin, origin_offset=known.origin_offset)
                for known in list(self.tree.match(pattern))
                if known.origin is not None and known.origin.node == origin_node and known.topic not in topics
                and (taken_ms is None or known.timestamp_ms < taken_ms or known.origin.epoch != epoch)
            ]
        seen = [event for event in changed if event.payload or self.tree.get(event.topic) is not None]
        for event in changed:
            ticket = Ticket([event])
            self.publish(0, event, ticket, stored=True)
            ticket.part_done()
        return seen

    def event_at(self, offset: int) -> Event | None:
        """A retained event by its place in the internal partition; None when a newer one has replaced it there."""
        return self._partition.event(offset)

    def match(self, pattern: str, identity: Identity) -> list[Event]:
        """Retained events for a new subscription: not expired, and readable by this identity."""
        now_ms = self._clock_ms()
        found = []
        for event in self.tree.match(pattern):
            expires = event.properties.expires_at_ms if event.properties is not None else None
            if expires is not None and expires <= now_ms:
                continue
            if self._policy.decide(identity, Action.SUBSCRIBE, event.topic).allowed:
                found.append(event)
        return found


def _removal(event: Event) -> tuple[int, str]:
    """The version that a removal leaves behind. This node is "" in it: at start its name is not known yet."""
    return event.timestamp_ms, event.origin.node if event.origin is not None else ""
