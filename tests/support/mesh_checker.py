"""The mesh's checker: is every acked event at every node that wants it, once, whole, in order, and nowhere else?

    what publishers know ──┐
    each node's log ───────┼──► MeshHistory ──check_mesh()──► Figures (checker.py): LOST DUP REORDER PHANTOM CORRUPT
    who wanted what, when ─┤        UNASKED OFFSET-CONFLICT UNCOMMITTED LOOP RETAINED DIRECT
    retained tables ───────┘

Used by the simulation (tests/mesh/sim) and by the real fault matrix (tests/faults/mesh_rig.py) alike. It has its own
topic matcher, so that a mistake in ours cannot hide itself. Time is any number that rises: what counts is before or
after. A history is checked when the mesh is whole and at rest; only then must everything be everywhere.
Source: reliability.md, "Checker"; issue 3, "Acceptance".
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.checker import Figures, Message, Place

NEVER = float("inf")
ALWAYS = float("-inf")
MESH_KINDS = ("LOST", "DUP", "REORDER", "PHANTOM", "CORRUPT", "UNASKED", "OFFSET-CONFLICT", "UNCOMMITTED", "LOOP",
              "RETAINED", "DIRECT")


class Origin(NamedTuple):
    """An origin partition: where events were first stored."""

    node: str
    epoch: str
    stream: str
    index: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


class Stored(NamedTuple):
    """A record of a node's log. origin None: it was first stored here. message None: the payload is damaged.

    flow: 0 as things happened, above 0 history that was fetched beside it; order holds within a flow.
    """

    place: Place
    message: Message | None
    topic: str
    origin: Origin | None = None
    origin_offset: int = -1
    timestamp_ms: int = 0
    flow: int = 0


@dataclass
class Published:
    """What is known of a message: where it was published, and what its publisher was told.

    expendable: it may be gone by the rules (expiry, retention, a wiped log), so that it is never LOST.
    attempts: how often it was published as something new, so that it may stand in the log as often.
    """

    node: str
    topic: str
    sent_at: float = 0.0
    acked_at: float | None = None
    refused: bool = False
    retain: bool = False
    tombstone: bool = False
    expendable: bool = False
    attempts: int = 1


@dataclass
class Wish:
    """A node wants the events of a filter.

    since:   from here on it may get them; an event acked before that must not come (ALWAYS: all of history)
    certain: from here on (publish time) it must get them all, provided that it still wants them in the end
    counts:  the same, from a moment after it was made: holds for nodes that are cut off, but not if a clock is set
    until:   it wants them no more;  gone: from here on (publish time) none may come, the interest has lingered enough
    """

    node: str
    pattern: str
    since: float = ALWAYS
    certain: float = ALWAYS
    until: float = NEVER
    gone: float = NEVER
    counts: float = NEVER

    def may(self, sent: Published, slack: float = 0.0) -> bool:
        return (sent.acked_at is None or sent.acked_at >= self.since - slack) and sent.sent_at <= self.gone

    def must(self, sent: Published) -> bool:
        return self.until == NEVER and sent.sent_at >= min(self.certain, self.counts)


@dataclass
class MeshHistory:
    """Everything that is known about a run."""

    published: dict[Message, Published] = field(default_factory=dict)
    logs: dict[str, list[Stored]] = field(default_factory=dict)         # node → its log, each partition in order
    epochs: dict[str, str] = field(default_factory=dict)                # node → epoch of its log in the end
    wishes: list[Wish] = field(default_factory=list)
    retained: dict[str, dict[str, Message]] = field(default_factory=dict)     # node → topic → what it keeps
    clocks_true: bool = True            # no clock was set back: the newest retained event must win
    slack: float = 0.0                  # how much too early `since` may be taken: wishes travel by the wall clock
    direct: dict[str, list[Message]] = field(default_factory=dict)      # node → events that no stream captures, as got
    unstored: set[str] = field(default_factory=set)                     # their topics


def matches(pattern: str, topic: str) -> bool:
    """MQTT's rules, written down a second time.                        Source: MQTT 5 §4.7"""
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("#", "+"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def check_mesh(history: MeshHistory) -> Figures:
    """Hold every observation against every other one."""
    figures = Figures()
    sent = history.published
    figures.sent = len(sent)
    figures.acked = sum(one.acked_at is not None for one in sent.values())
    figures.refused = sum(one.refused and one.acked_at is None for one in sent.values())
    figures.indeterminate = figures.sent - figures.acked - figures.refused
    figures.logged = sum(map(len, history.logs.values()))
    owners = _own_records(history)
    wanted = _Wanted(history)
    for node, log in history.logs.items():
        figures.received[node] = sum(record.origin is not None for record in log)
        copies = _check_records(history, figures, node, log, owners, wanted)
        _check_places(figures, node, log)
        _check_order(figures, node, log)
        _check_lost(history, figures, node, copies, wanted)
    _check_origins(history, figures)
    _check_retained(history, figures, wanted)
    _check_direct(history, figures, wanted)
    return figures


# --- who wants what ---------------------------------------------------------------------------------------------------
class _Wanted:
    """Wishes by node and topic, looked up once per topic."""

    def __init__(self, history: MeshHistory) -> None:
        self._slack = history.slack
        self._by_node: dict[str, list[Wish]] = defaultdict(list)
        for wish in history.wishes:
            self._by_node[wish.node].append(wish)
        self._known: dict[tuple[str, str], list[Wish]] = {}

    def of(self, node: str, topic: str) -> list[Wish]:
        found = self._known.get((node, topic))
        if found is None:
            found = [wish for wish in self._by_node[node] if matches(wish.pattern, topic)]
            self._known[node, topic] = found
        return found

    def must(self, node: str, sent: Published) -> Wish | None:
        return next((wish for wish in self.of(node, sent.topic) if wish.must(sent)), None)

    def may(self, node: str, sent: Published) -> bool:
        return any(wish.may(sent, self._slack) for wish in self.of(node, sent.topic))


def _own_records(history: MeshHistory) -> dict[Origin, dict[int, Stored]]:
    """Every node's own events as it has them: origin partition → offset → record."""
    own: dict[Origin, dict[int, Stored]] = defaultdict(dict)
    for node, log in history.logs.items():
        for record in log:
            if record.origin is None:
                key = Origin(node, history.epochs[node], record.place.stream, record.place.partition)
                own[key][record.place.offset] = record
    return own


# --- record by record -------------------------------------------------------------------------------------------------
def _check_records(history: MeshHistory, figures: Figures, node: str, log: list[Stored],
                   owners: dict[Origin, dict[int, Stored]], wanted: _Wanted) -> Counter[Message]:
    copies: Counter[Message] = Counter()
    for record in log:
        where = f"{node} {_at(record.place)}"
        if record.message is None:
            figures.add("CORRUPT", f"{where}: payload")
            continue
        message, sent = record.message, history.published.get(record.message)
        if sent is None or (sent.refused and sent.acked_at is None):
            figures.add("PHANTOM", f"{where}: {message} was {'never sent' if sent is None else 'refused'}")
            continue
        if record.topic != sent.topic:
            figures.add("CORRUPT", f"{where}: {message} has topic {record.topic!r}, not {sent.topic!r}")
        copies[message] += 1
        if copies[message] > sent.attempts:
            figures.add("DUP", f"{where}: {message} again")
        if record.origin is None:
            if sent.node != node:
                figures.add("PHANTOM", f"{where}: {message} of {sent.node} stands here as our own")
            continue
        _check_replica(history, figures, node, where, record, sent, owners)
        if not wanted.may(node, sent):
            figures.add("UNASKED", f"{where}: {message} on {sent.topic}, sent at {sent.sent_at}")
    return copies


def _check_replica(history: MeshHistory, figures: Figures, node: str, where: str, record: Stored, sent: Published,
                   owners: dict[Origin, dict[int, Stored]]) -> None:
    """What a replica says of its origin must be true: the origin has it there, durably, and nothing else."""
    origin = record.origin
    assert origin is not None
    if origin.node == node:
        figures.add("LOOP", f"{where}: {record.message} came back from {origin}")
        return
    if origin.node != sent.node:
        figures.add("PHANTOM", f"{where}: {record.message} of {sent.node} says that it is from {origin}")
        return
    if history.epochs.get(origin.node) != origin.epoch:
        return                                  # a log that was wiped since: nothing left to compare with
    at_home = owners.get(origin, {}).get(record.origin_offset)
    if at_home is None:
        if not sent.expendable:
            figures.add("UNCOMMITTED", f"{where}: {record.message} is not at {origin}@{record.origin_offset}")
    elif at_home.message != record.message:
        figures.add("OFFSET-CONFLICT", f"{where}: {record.message}, but {origin}@{record.origin_offset} is "
                                       f"{at_home.message}")


def _check_places(figures: Figures, node: str, log: list[Stored]) -> None:
    """A node's own offsets rise."""
    last: dict[tuple[str, int], int] = {}
    for record in log:
        key = record.place[:2]
        if record.place.offset <= last.get(key, -1):
            figures.add("OFFSET-CONFLICT", f"{node} {_at(record.place)} stands behind offset {last[key]}")
        last[key] = record.place.offset


def _check_origins(history: MeshHistory, figures: Figures) -> None:
    """One origin place is one message, at all nodes, also of a log that is no more."""
    seen: dict[tuple[Origin, int], tuple[Message, str]] = {}
    for node, log in history.logs.items():
        for record in log:
            if record.origin is None or record.message is None:
                continue
            known = seen.setdefault((record.origin, record.origin_offset), (record.message, node))
            if known[0] != record.message:
                figures.add("OFFSET-CONFLICT", f"{record.origin}@{record.origin_offset} is {known[0]} at {known[1]} "
                                               f"and {record.message} at {node}")


def _check_order(figures: Figures, node: str, log: list[Stored]) -> None:
    """In each partition the offsets of an origin partition rise, within each flow."""
    last: dict[tuple[tuple[str, int], Origin, int], int] = {}
    for record in log:
        if record.origin is None:
            continue
        key = record.place[:2], record.origin, record.flow
        if record.origin_offset <= last.get(key, -1):
            figures.add("REORDER", f"{node} {_at(record.place)}: {record.message} of {record.origin}@"
                                   f"{record.origin_offset} (flow {record.flow}) comes after {last[key]}")
        last[key] = max(record.origin_offset, last.get(key, -1))


# --- what is missing --------------------------------------------------------------------------------------------------
def _check_lost(history: MeshHistory, figures: Figures, node: str, copies: Counter[Message], wanted: _Wanted) -> None:
    """Acked, wanted and not here. Where it is missing in its producer's sequence says much about the cause."""
    due: dict[tuple[str, str], list[tuple[int, Message, Wish | None]]] = defaultdict(list)
    for message, sent in history.published.items():
        if sent.acked_at is None or sent.expendable or sent.topic in history.unstored:
            continue
        wish = wanted.must(node, sent) if sent.node != node else None
        if sent.node == node or wish is not None:
            due[message[:2]].append((message.sequence, message, wish))
    for entries in due.values():
        entries.sort(key=lambda entry: entry[0])
        found = [number for number, entry in enumerate(entries) if copies[entry[1]]]
        for number, (_, message, wish) in enumerate(entries):
            if copies[message]:
                continue
            where = ("all" if not found else "prefix" if number < found[0] else
                     "suffix" if number > found[-1] else "middle")
            figures.lost_where[where] += 1
            reason = f"wanted by {wish.pattern}" if wish is not None else "its own"
            figures.add("LOST", f"{node}: {message} of {history.published[message].node}, {reason}, {where}")


# --- retained events and direct frames --------------------------------------------------------------------------------
def _check_retained(history: MeshHistory, figures: Figures, wanted: _Wanted) -> None:
    """Nodes that want a topic keep the same event of it, and it is the newest, however the news travelled."""
    if not history.retained:
        return
    winners = _winners(history)
    topics = {sent.topic for sent in history.published.values() if sent.retain}
    for node, table in history.retained.items():
        for topic in table:
            if topic not in topics:
                figures.add("RETAINED", f"{node} keeps {table[topic]} on {topic}, where nothing was retained")
    unanswered = {message for message, sent in history.published.items() if sent.acked_at is None}
    logged = {record.message for log in history.logs.values() for record in log if record.origin is None}
    # Stored in two places, of which a crash may have kept the copy alone: then nobody was told, and all must agree.
    wiped = {sent.topic for sent in history.published.values() if sent.retain and sent.expendable}
    for topic in sorted(topics - wiped):                        # what was newest there is gone, nobody can say for whom
        holders = [node for node in history.retained
                   if any(wish.until == NEVER for wish in wanted.of(node, topic))]
        kept = {node: history.retained[node].get(topic) for node in holders}
        if len(set(kept.values())) > 1:
            figures.add("RETAINED", f"{topic}: not the same everywhere: {kept}")
        allowed = winners.get(topic)
        if not history.clocks_true or allowed is None:
            continue
        for node, message in kept.items():
            if message != allowed[0] and not (message in unanswered and message not in logged):
                figures.add("RETAINED", f"{topic}: {node} keeps {message}, the newest is {allowed[0]}")


def _winners(history: MeshHistory) -> dict[str, tuple[Message | None]]:
    """topic → the newest retained event by (time, origin node), None for a tombstone. Only what a log still has."""
    newest: dict[str, tuple[tuple[int, str, int], Message | None]] = {}
    for node, log in history.logs.items():
        for record in log:
            sent = history.published.get(record.message) if record.message is not None else None
            if record.origin is not None or sent is None or not sent.retain:
                continue
            rank = (record.timestamp_ms, node, record.place.offset)
            if record.topic not in newest or newest[record.topic][0] < rank:
                newest[record.topic] = rank, None if sent.tombstone else record.message
    return {topic: (message,) for topic, (_, message) in newest.items()}


def _check_direct(history: MeshHistory, figures: Figures, wanted: _Wanted) -> None:
    """At most once, never unasked; that one is missing is no fault."""
    for node, got in history.direct.items():
        for message, count in Counter(got).items():
            sent = history.published.get(message)
            if sent is None:
                figures.add("PHANTOM", f"{node} got {message} directly, which was never sent")
            elif count > 1:
                figures.add("DIRECT", f"{node} got {message} {count} times")
            elif sent.node != node and not wanted.may(node, sent):
                figures.add("UNASKED", f"{node} got {message} on {sent.topic} directly")


def _at(place: Place) -> str:
    return f"{place.stream}/{place.partition}@{place.offset}"


def lines(figures: Figures) -> Iterator[str]:
    """The figures as text, every kind of the mesh named."""
    for kind in MESH_KINDS:
        figures.faults.setdefault(kind, 0)
    yield from figures.lines()


def summary(all_figures: Iterable[Figures]) -> Figures:
    """The figures of many runs as one."""
    total = Figures()
    for figures in all_figures:
        for name in ("sent", "acked", "refused", "indeterminate", "logged"):
            setattr(total, name, getattr(total, name) + getattr(figures, name))
        for kind, count in figures.faults.items():
            total.faults[kind] += count
            total.examples[kind] += figures.examples[kind][:5 - len(total.examples[kind])]
    return total
