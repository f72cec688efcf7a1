"""Retained events: the last retained event of each topic, found by topic filter.        Source: MQTT 5 §3.3.1.3

Kept in memory in the order of the topics' levels, so that a filter visits only what it can match, and in an internal
compacted partition (key = topic), so that a restart brings them back. A retained event with an empty payload removes
the topic's entry [MQTT-3.3.1-6] [MQTT-3.3.1-7].

A retained event goes to two places, its stream and the partition here. The stream decides: what it refuses is not
retained, what it has taken is. If the partition here does not take its copy, the copy is written again later, and after
a restart it is found in the tail of the stream. Once the partition is read-only, retained events are refused before
anything of them is stored.

Between nodes the last writer wins: of two retained events of a topic the one with the later timestamp stands on every
node, and of two of the same millisecond the one of the node whose name sorts last. So that a clock that is behind does
not lose, an event published here is never older than what it replaces.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from routing.errors import Reason, Refusal
from routing.event import Event, event_size_bytes, is_expired
from routing.log.committing.shortage import FULL_RETRY_S
from routing.retained.retained_cursor import RetainedCursor
from routing.retained.retained_tree import RetainedTree
from routing.rights.policy import REPLY_PREFIX, Action, Identity, Policy
from routing.settings import Limits
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition

RETAINED_STREAM = "$retained"
RETAINED_ORIGIN = "_retained"       # what nodes call it among each other, and in what they have stored of it
SCAN_STEP = 10_000
WRITTEN_AGAIN_MAX = 1_000       # copies per try
_NEVER = 1 << 62
RETAINED_NAMES = (RETAINED_STREAM, RETAINED_ORIGIN)      # in what sessions have stored, now and earlier
MERGE_STEP = 200                # retained events of another node between two turns of the loop, some 4 ms


class _Unsettled:
    """A topic with retained events on their way to the disk: how many, and what is known to be stored."""

    __slots__ = ("count", "good", "undo")

    def __init__(self, good: Event | None) -> None:
        self.count = 0
        self.good = good
        self.undo = False


class RetainedEvents:
    """The retained events of a tenant: the tree, and behind it the partition that survives a restart."""

    def __init__(self, partition: Partition, policy: Policy, limits: Limits, clock_ms: Callable[[], int]) -> None:
        self.tree = RetainedTree()
        self.limits = limits
        self.node_name = ""                     # what our own events count as between nodes
        self._partition = partition
        self._policy = policy
        self._clock_ms = clock_ms
        self._unsettled: dict[str, _Unsettled] = {}
        self._unwritten: dict[str, Event] = {}  # copies that the partition did not take
        self._again_s = 0.0
        self.elsewhere: Callable[[str], bool] | None = None     # set by the mesh: see is_whole()
        self.on_merged: list[Callable[[list[str], int], None]] = []
        self._load()

    def _load(self) -> None:
        offset = self._partition.start_offset
        while offset < self._partition.end_offset:
            found = self._partition.scan(offset, lambda _: True, max_events=SCAN_STEP, max_scanned=SCAN_STEP)
            for event in found.events:
                self.tree.set(event)
            offset = found.next_offset

    # -- in ---------------------------------------------------------------------------------------------------

    def check(self, event: Event, *, stored: bool) -> Refusal | None:
        """Room for one more? stored: as in publish()."""
        if event.topic.startswith(REPLY_PREFIX):        # everybody may publish there
            return Refusal(Reason.QUOTA_EXCEEDED, "the answer to a request cannot be retained")
        if stored and self._partition.failed is not None:
            return self._partition.failed
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
        if not stored:                                  # $SYS and the like live in memory only
            self.tree.set(copy)
            return
        ticket.waiting += 1
        self._write(copy).on_done(lambda _: ticket.part_done())
        before = self.tree.set(copy)                    # with its offset
        unsettled = self._unsettled.get(copy.topic)
        if unsettled is None:
            unsettled = self._unsettled[copy.topic] = _Unsettled(before)
        unsettled.count += 1
        ticket.on_done(lambda done: self._settle(copy, event, unsettled, refused=index in done.refusals))

    def _write(self, copy: Event) -> Ticket:
        """Append a copy to the partition; if that takes it not, again later."""
        ticket = Ticket([copy])
        self._partition.append([copy], ticket)
        ticket.part_done()

        def kept(done: Ticket) -> None:
            if done.refusals and self._partition.failed is None:
                self._unwritten[copy.topic] = copy

        ticket.on_done(kept)
        return ticket

    def retry(self, now_s: float) -> bool:
        """Write again what did not fit on the disk. Called every tick, with monotonic seconds. True: it did."""
        if not self._unwritten or now_s < self._again_s:
            return False
        self._again_s = now_s + FULL_RETRY_S
        for topic in list(islice(self._unwritten, WRITTEN_AGAIN_MAX)):
            copy = self._unwritten.pop(topic)
            if self.tree.entry(topic) is copy:          # else it would stand behind what is newer
                self._write(copy)
        return True

    def _settle(self, copy: Event, event: Event, unsettled: _Unsettled, *, refused: bool) -> None:
        unsettled.count -= 1
        if refused:
            unsettled.undo = True
        else:
            unsettled.good = copy
            if copy.origin is None:
                copy.origin_offset = event.offset       # its place in its stream, see own_page()
        if unsettled.count:
            return
        del self._unsettled[copy.topic]
        if not unsettled.undo:
            return
        good = unsettled.good
        self.tree.put_back(copy.topic, good)
        if good is None:                                # ranks below everything
            good = Event(copy.topic, b"", retain=True, timestamp_ms=1)
        self._write(msgspec.structs.replace(good, offset=-1))       # the refused one may stand in the partition

    def recover(self, event: Event) -> None:
        """At start, an event with RETAIN in the tail of a stream: its copy may have been lost by a crash or fault."""
        known = self.tree.entry(event.topic)
        if known is not None and event.origin is None and self._version(known) == self._version(event):
            known.origin_offset = event.offset
            return
        if not self.is_newest(event) or self.check(event, stored=True) is not None:
            return
        copy = msgspec.structs.replace(event, offset=-1, partition=None)
        if copy.origin is None:
            copy.origin_offset = event.offset
        self.tree.set(copy)
        self._unwritten[copy.topic] = copy

    # -- between nodes ----------------------------------------------------------------------------------------

    def _version(self, event: Event) -> tuple[int, str]:
        return event.timestamp_ms, event.origin.node if event.origin is not None else self.node_name

    def _rank(self, topic: str) -> tuple[int, str]:
        """The version of what stands under a topic, or of its removal; of nothing at all the lowest."""
        known = self.tree.entry(topic)
        return self._version(known) if known is not None else (-1, "")

    def is_newest(self, event: Event) -> bool:
        """Would this event of another node replace what stands under its topic?"""
        return self._version(event) > self._rank(event.topic)

    def publish_replica(self, event: Event, ticket: Ticket, *, stored: bool) -> bool:
        """As publish(), for the one event of ticket, which comes from another node. False: it is not the newest."""
        if self.check(event, stored=stored) is not None:
            return False
        if not self.is_newest(event):
            known = self.tree.entry(event.topic)
            if known is None or not is_merged(known) or self._version(known) != self._version(event):
                return False                            # else a snapshot was faster; from now on it is a live one
        self.publish(0, event, ticket, stored=stored)
        return True

    def own_page(self, pattern: str, place: str, events_max: int, bytes_max: int) -> tuple[list[Event], str | None]:
        """Retained events of a filter that were first stored here, and what was removed here (without payload).

        In order from a place on, and where to go on; None: these are the last. What is not durable yet is left out.
        origin_offset is the place of an event in its stream, -1 where that is not known.
        """
        entries, onward = self.tree.find(pattern, place, events_max, 4 * events_max)
        page: list[Event] = []
        size = 0
        for entry in entries:
            if entry.origin is not None or entry.topic in self._unsettled:
                continue
            page.append(entry)
            size += event_size_bytes(entry)
            if size >= bytes_max:
                return page, self.tree.behind(entry)
        return page, onward

    def merge(self, events: Iterable[Event]) -> list[str]:
        """Take retained events of another node, as they stand there now, in bounded numbers; None has come live.

        The table changes, nothing else does. Returns the topics that changed here: those who have subscribed get them
        as retained events, see RetainedCursor.
        """
        changed = []
        for event in events:
            if self.is_newest(event) and self.check(event, stored=True) is None:
                changed.append(event.topic)
                self._put(event)
        return changed

    def announce(self, topics: list[str], since: int) -> None:
        """These have been merged, at offsets of our partition from since on: those who subscribed before get them."""
        if topics:
            for told in self.on_merged:
                told(topics, since)

    def remove_others(self, pattern: str, place: str, until: str | None, topics: set[str], node: str, epoch: str,
                      taken_ms: int) -> str | None:
        """What another node has removed: of its epoch (or an older one) between two places, and not among topics.

        taken_ms: when it looked, by its clock: what is not older may have come since, by the stream. Does a step, and
        returns where to go on; None: done.
        """
        entries, onward = self.tree.find(pattern, place, MERGE_STEP, 4 * MERGE_STEP)
        for known in entries:
            if until is not None and self.tree.place(known) >= until:
                return None
            origin = known.origin
            if (known.payload and origin is not None and origin.node == node and known.topic not in topics
                    and (known.timestamp_ms < taken_ms or origin.epoch != epoch)):
                self._put(msgspec.structs.replace(
                    known, payload=b"", properties=None, headers=(), offset=-1))
        return onward if onward is not None and (until is None or onward < until) else None

    def _put(self, event: Event) -> None:
        ticket = Ticket([event])
        self.publish(0, event, ticket, stored=True)
        ticket.part_done()

    # -- out --------------------------------------------------------------------------------------------------

    def event_at(self, offset: int) -> Event | None:
        """A retained event by its place in the internal partition; None when a newer one has replaced it there."""
        return self._partition.event(offset)

    def is_whole(self, pattern: str) -> bool:
        """The table has what other nodes within reach retain under a filter that is wanted here."""
        return self.elsewhere is None or self.elsewhere(pattern)

    def has_none(self, pattern: str) -> bool:
        """Nothing is retained under a filter; False when that takes more than a look."""
        entries, onward = self.tree.find(pattern, "", 1, 16)
        return onward is None and not any(entry.payload for entry in entries)

    def open(self, pattern: str) -> RetainedCursor:
        """A cursor over what is retained now under a filter. What comes from here on is live."""
        return RetainedCursor(pattern, 0, -1, self._partition.next_offset, self.tree.sequence)

    def open_present(self, pattern: str) -> RetainedCursor:
        """A cursor over what stands when it passes, for who has no live events to add."""
        return RetainedCursor(pattern, 0, _NEVER, _NEVER, _NEVER)

    def open_merged(self, pattern: str, since: int) -> RetainedCursor:
        """A cursor over what snapshots of other nodes have brought since an end()."""
        return RetainedCursor(pattern, since, -1, 0, 0)

    @property
    def end(self) -> int:
        return self._partition.next_offset

    def take(self, cursor: RetainedCursor, identity: Identity, events_max: int, looks_max: int) -> list[Event]:
        """The next events of a cursor, in bounded work: not expired, readable by this identity. It moves behind them;
        whoever does not take all of them sets it back.
        """
        if cursor.place is None:
            return []
        if cursor.until < 0:
            cursor.until = self._partition.next_offset
        entries, cursor.place = self.tree.find(cursor.pattern, cursor.place, events_max, looks_max)
        now_ms = self._clock_ms()
        decide = self._policy.permissions(identity).decide
        return [
            event for event in entries
            if event.payload and self._belongs(cursor, event) and not is_expired(event, now_ms)
            and decide(Action.SUBSCRIBE, event.topic).allowed
        ]

    def _belongs(self, cursor: RetainedCursor, event: Event) -> bool:
        sequence = self.tree.sequence_of(event) if event.offset < 0 else None
        if sequence is not None:
            return sequence <= cursor.sequence
        if not cursor.since <= event.offset < cursor.until:
            return False
        return event.offset < cursor.live_from or is_merged(event)

def is_merged(event: Event) -> bool:
    """It came by a snapshot of another node, so nobody here has got it live."""
    return event.origin is not None and event.origin.stream == RETAINED_ORIGIN
