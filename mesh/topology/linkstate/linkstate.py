"""The link-state database of one node: the newest state of every node that it has heard of. Sans-IO.

A node numbers what it says: each change of its state and each sign of life takes the next number. `version` is the
number of the last change, `beat` the last number at all. Numbers begin at the wall clock in milliseconds, so that a
node that starts again is ahead of its past; where the clock ran backwards, it hears of its past from others and jumps
ahead (overlay.py). So of two states of a name the one with the higher (beat, boot) is newer, whatever way it came.

An entry keeps what the node itself encoded: its last whole record and the changes since, to be handed on as they are.

    base ── change ── change ── change          a neighbour that has a version in this chain gets the rest of it,
    record  v+1       v+2       v+3 = version   any other one gets all of it
"""
from __future__ import annotations

import enum
from collections.abc import Container, Iterator

from mesh.topology.linkstate.nodestate import (
    AGE_MS_MAX,
    Alive,
    BadState,
    Change,
    DigestLine,
    NodeChange,
    NodeRecord,
    NodeState,
    Whole,
    encode,
)
from mesh.topology.linkstate.pace import Bucket
from routing.fairness.shares import Share

AHEAD_MAX = 2**42               # of a number, before our clock in ms: clocks are wrong by years, none by a century
CHAIN_MAX = 64                  # changes after which a node says everything again
CHAIN_BYTES_MIN = 4 * 1024      # or this many bytes of changes, if the record is not much larger
LEVELS_MAX = 500_000            # of all filters in the database; beyond, a node counts as interested in everything
NODE_BYTES = 2_048              # of memory for a node, about, beside …
FILTER_BYTES = 640              # … each filter of its interest, which stands in a trie and in sets, …
PART_BYTES = 160                # … and each capture, stream and link
NEIGHBOUR_SHARE = 0.5           # of what the others leave of the memory for states: all that one neighbour tells
OWNER = "neighbour "            # before its name, which is nobody's name then
UPDATES_BURST = 1_024           # of one node at once, and …
UPDATES_PER_S = 100.0           # … on and on: a little more than a node says (own.py). What is beyond is not passed on
FILTERS_FREE = 512              # of one update, as many as a node wants by default; beyond …
FILTERS_UNIT = 64               # … so many count as one more update: all others have to look at every one


class Outcome(enum.Enum):
    """What the database made of what it was told."""

    NEW = "new"                 # taken: the state of the node has changed
    ALIVE = "alive"             # taken: nothing new but that it lives
    OLD = "old"                 # known already
    BEHIND = "behind"           # newer than ours, but we need the whole
    EXCESS = "excess"           # too much from this node: look again later
    FULL = "full"               # no room for one more node
    CROWDED = "crowded"         # no room for what this neighbour says


class Known:
    """What the database has of one node."""

    __slots__ = ("beat", "beat_seal", "bucket", "by", "chain", "chain_bytes", "cost_bytes", "fresh_s", "levels",
                 "record", "state", "version")

    def __init__(self, raw: bytes, record: NodeRecord, fresh_s: float, bucket: Bucket) -> None:
        self.record = raw
        self.state = NodeState(record)
        self.chain: list[tuple[int, int, bytes]] = []       # (base, sequence, raw)
        self.chain_bytes = 0
        self.version = self.beat = record.sequence
        self.beat_seal = b""                    # of the last sign of life
        self.fresh_s = fresh_s                  # when the node itself said so, on our clock
        self.bucket = bucket
        self.levels = 0
        self.by = ""                            # neighbour that told it last, and has cost_bytes of memory for it
        self.cost_bytes = 0

    @property
    def boot(self) -> str:
        return self.state.boot

    @property
    def rank(self) -> tuple[int, str]:
        return self.beat, self.state.boot

    @property
    def size_bytes(self) -> int:
        return len(self.record) + self.chain_bytes

    def cost(self) -> int:
        """Bytes of memory, about."""
        state = self.state
        parts = len(state.links) + sum([1 + len(stream.captures) for stream in state.streams])
        return 2 * self.size_bytes + NODE_BYTES + PART_BYTES * parts + FILTER_BYTES * len(state.interest)

    def line(self) -> DigestLine:
        return DigestLine(self.state.name, self.boot, self.version, self.beat)

    def since(self, boot: str, version: int, now_s: float) -> list[bytes]:
        """Entries for a neighbour that has `version` of `boot`; ("", -1): nothing."""
        age_ms = min(AGE_MS_MAX, max(0, round((now_s - self.fresh_s) * 1000)))
        if boot == self.boot and version == self.version:
            return self._alive(age_ms)
        start = None
        if boot == self.boot:
            start = next((index for index, part in enumerate(self.chain) if part[0] == version), None)
        parts = [] if start is not None else [encode(Whole(age_ms, self.record))]
        parts += [encode(Change(age_ms, raw)) for _, _, raw in self.chain[start or 0:]]
        return parts + self._alive(age_ms) if self.beat > self.version else parts

    def _alive(self, age_ms: int) -> list[bytes]:
        """None of a node that signs, and has not signed this one: nobody would believe it."""
        if self.state.box and not self.beat_seal:
            return []
        return [encode(Alive(age_ms, self.state.name, self.boot, self.version, self.beat, self.beat_seal))]

    def append(self, change: NodeChange, raw: bytes) -> None:
        """Take a change that continues what is here. Raises BadState, then nothing changed."""
        self.state.apply(change)
        self.chain.append((change.base, change.sequence, raw))
        self.chain_bytes += len(raw)
        self.version = change.sequence
        if change.sequence >= self.beat:
            self.beat, self.beat_seal = change.sequence, b""

    @property
    def chain_is_long(self) -> bool:
        return len(self.chain) >= CHAIN_MAX or self.chain_bytes > max(CHAIN_BYTES_MIN, len(self.record) // 2)


class LinkState:
    """All states by name, our own included. Bounded by nodes, bytes of a node, levels of filters, and memory; of that
    one neighbour gets its share, whatever number of nodes it tells of.
    """

    def __init__(self, *, expiry_s: float, nodes_max: int, state_bytes_max: int, memory_bytes_max: int) -> None:
        self.nodes: dict[str, Known] = {}
        self.expiry_s = expiry_s
        self.levels = 0
        self._nodes_max = nodes_max
        self._state_bytes_max = state_bytes_max
        self._memory_bytes_max = memory_bytes_max
        self._memory = Share("bytes of node states", lambda: NEIGHBOUR_SHARE)

    def __iter__(self) -> Iterator[Known]:
        return iter(self.nodes.values())

    def put_own(self, record: NodeRecord, raw: bytes, now_s: float) -> None:
        """Our own state as a whole, at a new version."""
        self._put(Known(raw, record, now_s, _bucket(now_s)), record.node)

    def change_own(self, change: NodeChange, raw: bytes, now_s: float) -> None:
        known = self.nodes[change.node]
        known.append(change, raw)
        known.fresh_s = now_s

    def make_room(self, spared: Container[str], own: str) -> str | None:
        """Forget the oldest node that is not in spared. Returns its name, None: there is none."""
        names = (name for name in self.nodes if name != own and name not in spared)
        found = min(names, key=lambda name: self.nodes[name].fresh_s, default=None)
        if found is not None:
            self.forget(found)
        return found

    def take_whole(self, record: NodeRecord, raw: bytes, age_ms: int, now_s: float, by: str) -> Outcome:
        """raw: what record was decoded from. by: the neighbour that told it."""
        known = self.nodes.get(record.node)
        fresh_s = now_s - age_ms / 1000
        if age_ms >= self.expiry_s * 1000:
            return Outcome.OLD
        if known is not None:
            same = known.boot == record.boot
            if (record.sequence <= known.version) if same else ((record.sequence, record.boot) <= known.rank):
                return Outcome.OLD
            if not known.bucket.take(_cost(len(record.interest)), now_s):
                return Outcome.EXCESS
        elif len(self.nodes) >= self._nodes_max:
            return Outcome.FULL
        fresh = Known(raw, record, fresh_s, known.bucket if known is not None else _bucket(now_s))
        if known is not None and known.boot == record.boot and known.beat > record.sequence:
            fresh.beat, fresh.beat_seal, fresh.fresh_s = known.beat, b"", known.fresh_s
        return Outcome.NEW if self._put(fresh, by) else Outcome.CROWDED

    def take_change(self, change: NodeChange, raw: bytes, age_ms: int, now_s: float, by: str) -> Outcome:
        """As take_whole(). Raises BadState where the whole would break a bound."""
        known = self.nodes.get(change.node)
        if known is None:
            return Outcome.BEHIND
        if known.boot != change.boot:
            return Outcome.BEHIND if (change.sequence, change.boot) > known.rank else Outcome.OLD
        if change.sequence <= known.version:
            return Outcome.OLD
        if change.base != known.version:
            return Outcome.BEHIND
        if not known.bucket.take(_cost(len(change.added) + len(change.removed)), now_s):
            return Outcome.EXCESS
        self.check_size(known.size_bytes + len(raw))
        known.append(change, raw)
        known.fresh_s = max(known.fresh_s, now_s - age_ms / 1000)
        self._count_levels(known)
        self._free(known)
        self._hold(known, by)
        return Outcome.NEW

    def take_alive(self, entry: Alive, now_s: float) -> Outcome:
        known = self.nodes.get(entry.node)
        if entry.age_ms >= self.expiry_s * 1000 or entry.beat < entry.version:
            return Outcome.OLD
        if known is None:
            return Outcome.BEHIND
        if known.boot != entry.boot:
            return Outcome.BEHIND if (entry.beat, entry.boot) > known.rank else Outcome.OLD
        if entry.version > known.version:
            return Outcome.BEHIND
        if entry.version < known.version or entry.beat <= known.beat:
            return Outcome.OLD
        if not known.bucket.take(1, now_s):
            return Outcome.EXCESS
        known.beat, known.beat_seal = entry.beat, entry.seal
        known.fresh_s = max(known.fresh_s, now_s - entry.age_ms / 1000)
        return Outcome.ALIVE

    def is_old(self, name: str, boot: str, version: int, beat: int) -> bool:
        """Nothing that we have not got, of the run of the node that we know."""
        known = self.nodes.get(name)
        return known is not None and known.boot == boot and version <= known.version and beat <= known.beat

    def expire(self, own: str, now_s: float) -> list[str]:
        """Forget who was silent for too long. Returns their names."""
        gone = [name for name, known in self.nodes.items() if known.fresh_s + self.expiry_s <= now_s and name != own]
        for name in gone:
            self.forget(name)
        return gone

    def forget(self, name: str) -> None:
        known = self.nodes.pop(name)
        self.levels -= known.levels
        self._free(known)

    @property
    def size_bytes(self) -> int:
        return sum(known.size_bytes for known in self.nodes.values())

    def _put(self, known: Known, by: str) -> bool:
        """False: there is no room for it, and the old one stays."""
        name = known.state.name
        old = self.nodes.get(name)
        if old is not None:
            self.levels -= old.levels
            self._free(old)
        self._count_levels(known)
        if not self._hold(known, by) and name != by:
            self.levels -= known.levels
            self._free(known)
            if old is not None:
                self.levels += old.levels
                self._hold(old, old.by)
            return False
        self.nodes[name] = known
        return True

    def _hold(self, known: Known, by: str) -> bool:
        """Count its memory as that of a neighbour. A node for which there is not enough counts as wanting everything,
        as long as that helps; False: it does not.
        """
        cost = known.cost()
        fits = self._memory.refuse(OWNER + by, self._memory_bytes_max, cost) is None
        if not fits and known.levels > 1:
            known.state.interest = ("#",)
            self.levels += 1 - known.levels
            known.levels = 1
            cost = known.cost()
            fits = self._memory.refuse(OWNER + by, self._memory_bytes_max, cost) is None
        self._memory.add(OWNER + by, cost)
        known.by, known.cost_bytes = by, cost
        return fits

    def _free(self, known: Known) -> None:
        self._memory.give(OWNER + known.by, known.cost_bytes)
        known.cost_bytes = 0

    def _count_levels(self, known: Known) -> None:
        """Keep the price of matching within bounds: a node that would break them counts as wanting everything."""
        levels = sum(pattern.count("/") for pattern in known.state.interest) + len(known.state.interest)
        if self.levels - known.levels + levels > LEVELS_MAX:
            known.state.interest = ("#",)
            levels = 1
        self.levels += levels - known.levels
        known.levels = levels

    def check_size(self, size: int) -> None:
        """Raise BadState for more bytes than a state may have."""
        if size > self._state_bytes_max:
            raise BadState(f"a state of {size} bytes, at most {self._state_bytes_max} are taken")


def _cost(filters: int) -> float:
    return 1 + max(0, filters - FILTERS_FREE) / FILTERS_UNIT


def _bucket(now_s: float) -> Bucket:
    return Bucket(UPDATES_BURST, UPDATES_PER_S, now_s)
