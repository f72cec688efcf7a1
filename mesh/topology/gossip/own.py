"""What this node says of itself, and when. Sans-IO. Used by overlay.py.

Changes are coalesced: a burst of them goes out every few milliseconds, an endless stream ten times a second. A change
is told as a difference; after some of them the whole is told again (linkstate.py).
"""
from __future__ import annotations

from mesh.link.protocol.neighbour import Neighbour
from mesh.topology.linkstate.linkstate import LinkState
from mesh.topology.linkstate.nodestate import (
    BORDERS_MAX,
    CAPTURES_MAX,
    FILTER_CHARACTERS_MAX,
    LINKS_MAX,
    STREAMS_MAX,
    LinkInfo,
    NodeChange,
    NodeInfo,
    NodeRecord,
    StreamInfo,
    decode_record,
    encode,
)
from mesh.topology.linkstate.pace import Bucket
from mesh.topology.linkstate.seals import Seals

SKEW_STEP_MS = 200          # a smaller change of a clock is not worth telling
RTT_STEP_US = 5_000         # nor of a round trip; beyond it, one by half or to the double
SAY_EVERY_S = 0.010         # changes within this time are one
SAY_BURST = 20              # so many at this pace, then …
SAY_PER_S = 10.0            # … so many per second
URGENT_BURST = 900          # the same for what must not be overtaken by a message; beyond it, it may be
URGENT_PER_S = 80.0


class OwnState:
    """Our own entry in the database. Numbers rise with everything that is said."""

    def __init__(self, me: NodeInfo, states: LinkState, seals: Seals, now_ms: int, now_s: float) -> None:
        self._me = me
        self._states = states
        self._seals = seals
        self._signs = False                             # not before there is somebody who looks at it
        self._number = now_ms
        self._started_ms = now_ms
        self._bucket = Bucket(SAY_BURST, SAY_PER_S, now_s)
        self._urgent = Bucket(URGENT_BURST, URGENT_PER_S, now_s)
        self._said_s = -1.0
        self._whole = False                             # say everything the next time
        self.links: tuple[LinkInfo, ...] = ()
        self.streams: tuple[StreamInfo, ...] = ()
        self.interest: tuple[str, ...] = ()
        self.problems: list[str] = []
        self._put_whole(now_s)

    @property
    def number(self) -> int:
        return self._number

    @property
    def started_ms(self) -> int:
        return self._started_ms

    @property
    def dirty(self) -> bool:
        """Something is to be said."""
        state = self._states.nodes[self._me.name].state
        return (self._whole or state.interest is not self.interest or state.links is not self.links
                or state.streams is not self.streams)

    def set_interest(self, filters: tuple[str, ...]) -> None:
        if filters != self.interest:
            self.interest = filters

    def set_links(self, links: tuple[LinkInfo, ...]) -> bool:
        """True when they are not what they were."""
        if links == self.links:
            return False
        self.links = links[:LINKS_MAX]
        return True

    def set_streams(self, streams: tuple[StreamInfo, ...]) -> None:
        """Streams beyond STREAMS_MAX cannot be pulled by others; a stream with too many filters captures everything."""
        fitting = tuple(
            stream if len(stream.captures) <= CAPTURES_MAX
            and all(len(capture) <= FILTER_CHARACTERS_MAX for capture in stream.captures)
            else StreamInfo(stream.name, stream.partitions, ("#",))
            for stream in streams[:STREAMS_MAX]
        )
        self.problems = [] if len(streams) <= STREAMS_MAX else [
            f"the mesh hears of {STREAMS_MAX} streams of a node, this one has more"]
        if fitting != self.streams:
            self.streams = fitting

    def due_s(self, now_s: float, *, urgent: bool) -> float:
        """When say() is in order."""
        if urgent and self._urgent.take(1, now_s):
            return now_s
        return max(self._said_s + SAY_EVERY_S, now_s + self._bucket.wait_s(now_s))

    def say(self, now_s: float) -> None:
        """Take what has changed into the database, at a new version."""
        known = self._states.nodes[self._me.name]
        self._bucket.take(1, now_s)
        self._said_s = now_s
        self._number += 1
        if self._whole or known.chain_is_long:
            self._whole = False
            self._put_whole(now_s)
            return
        old = known.state
        before, after = set(old.interest), set(self.interest)
        change = NodeChange(
            self._me.name, self._me.boot, known.version, self._number,
            tuple(pattern for pattern in self.interest if pattern not in before),
            tuple(pattern for pattern in old.interest if pattern not in after),
            None if old.links == self.links else self.links, None if old.streams == self.streams else self.streams)
        self._states.change_own(change, self._seals.own_change(change) if self._signs else encode(change), now_s)
        old.interest, old.links, old.streams = self.interest, self.links, self.streams

    def beat(self, now_s: float) -> None:
        """A sign of life."""
        self._number += 1
        known = self._states.nodes[self._me.name]
        known.beat, known.fresh_s = self._number, now_s
        if self._signs:
            known.beat_seal = self._seals.own_alive(self._me.name, self._me.boot, known.version, self._number)

    def sign(self) -> None:
        """Somebody is there who looks at it: what is said from now on is signed."""
        if not self._signs and self._seals.crypto is not None:
            self._signs = self._whole = True

    def get_ahead_of(self, number: int) -> None:
        """Somebody has a state of this name with that number: what we say next has a higher one."""
        if number >= self._number:
            self._number = number + 1
            self._whole = True

    def _put_whole(self, now_s: float) -> None:
        record = self._record()
        raw = self._seals.own_record(record) if self._signs else encode(record)
        self._states.put_own(decode_record(raw) if self._signs else record, raw, now_s)

    def _record(self) -> NodeRecord:
        me = self._me
        return NodeRecord(
            me.name, me.boot, self._number, me.site, me.epoch, me.version[:64], me.protocol_min, me.protocol_max,
            max(0, self._started_ms), self.streams, self.links, self.interest)


def link_info(neighbour: Neighbour, told: LinkInfo | None) -> LinkInfo:
    """told: what we said before; it stays while the figures are about the same."""
    skew_ms = None if neighbour.skew_ms is None else round(neighbour.skew_ms)
    rtt_us = None if neighbour.rtt_s is None else round(neighbour.rtt_s * 1e6)
    exports, imports = (borders[:BORDERS_MAX] for borders in (neighbour.exports, neighbour.imports))
    if told is not None and (told.cost, told.exports, told.imports) == (neighbour.cost, exports, imports) \
            and (told.skew_ms is None) == (skew_ms is None) \
            and abs((told.skew_ms or 0) - (skew_ms or 0)) < SKEW_STEP_MS and (told.rtt_us is None) == (rtt_us is None):
        before, now = told.rtt_us or 0, rtt_us or 0
        if before / 2 - RTT_STEP_US <= now <= before * 2 + RTT_STEP_US:
            return told
    return LinkInfo(neighbour.node, neighbour.cost, "up", skew_ms, rtt_us, exports, imports)
