"""The checker: did every acknowledged event survive, once, whole and in order? One library for every fault test.

    producers ──journal──┐                       ┌── figures: LOST DUP REORDER PHANTOM CORRUPT OFFSET-CONFLICT GAP
    the log   ──records──┼──► History ──check()──┤
    consumers ──journal──┘                       └── each with examples; "0 of n" with its bound

A message carries its producer, its key, its sequence within producer and key, and a checksum. What a producer sent,
what was acknowledged and what was refused comes from its journal (checker_journal.py), so does what a consumer got;
the log is read from disk (checker_log.py). Nothing here knows a protocol. Source: reliability.md, "Checker".
"""
from __future__ import annotations

import enum
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

EXAMPLES_MAX = 5


class Message(NamedTuple):
    """Identity of one message. Sequences of one producer and key begin at 1 and have no holes."""

    producer: str
    key: str
    sequence: int

    def payload(self, filler: int = 0) -> bytes:
        """The bytes on the wire: words that any protocol carries, the checksum last."""
        body = f"{self.producer} {self.key} {self.sequence} {'.' * filler}"
        return f"{body} {zlib.crc32(body.encode()):08x}".encode()


def parse_payload(payload: bytes) -> Message | None:
    """None: this payload is not one of ours, or a bit of it is wrong."""
    body, _, checksum = payload.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        producer, key, sequence, _ = body.decode("ascii").split(" ")
        return Message(producer, key, int(sequence))
    except ValueError:
        return None


class Place(NamedTuple):
    """Where an event stands in the log."""

    stream: str
    partition: int
    offset: int


@dataclass
class Fate:
    """What its producer knows about a message. attempts counts new publishes, not the protocol's own repeats."""

    attempts: int = 0
    acked: bool = False
    refused: bool = False               # refused last, and not tried again since
    place: Place | None = None          # where the acknowledgement said that it stands


class Record(NamedTuple):
    """A record of the log, as read from disk."""

    place: Place
    message: Message | None             # None: the payload is damaged
    topic: str


class Receipt(NamedTuple):
    """One delivery to an application. redelivered: the mark was set. place: None where the protocol does not tell."""

    message: Message | None
    redelivered: bool = False
    place: Place | None = None


class Reader(enum.Enum):
    """What a consumer was promised."""

    AT_LEAST_ONCE = "every acked event, repeats marked"
    EXACTLY_ONCE = "every acked event once"
    LIVE = "no promise that it got everything"


@dataclass
class Consumer:
    """A consumer's receipts, in order. keys None: it wants everything, else (producer, key) pairs."""

    receipts: list[Receipt] = field(default_factory=list)
    reader: Reader = Reader.AT_LEAST_ONCE
    wanted: set[tuple[str, str]] | None = None
    ordered: bool = True                # False: a group whose members share the events


@dataclass
class History:
    """Everything that is known about a run."""

    sent: dict[Message, Fate] = field(default_factory=dict)
    log: list[Record] | None = None                         # None: there is no log to read
    consumers: dict[str, Consumer] = field(default_factory=dict)
    exactly_once: set[str] = field(default_factory=set)     # producers whose protocol promises one copy
    places: list[tuple[Message, Place]] = field(default_factory=list)     # seen elsewhere, such as an earlier read
    recovery_s: list[float] = field(default_factory=list)
    topics: dict[tuple[str, str], str] = field(default_factory=dict)      # (producer, key) -> topic, when to be checked
    unused: list[tuple[Place, int]] = field(default_factory=list)         # offsets that the log declares unused
    prefix: str = ""                                        # topics of the load; other events only count as offsets


KINDS = ("LOST", "DUP", "REORDER", "PHANTOM", "CORRUPT", "OFFSET-CONFLICT", "GAP")


@dataclass
class Figures:
    """What came out. Every kind of fault must be 0."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    indeterminate: int = 0              # sent, neither acked nor refused
    logged: int = 0
    received: dict[str, int] = field(default_factory=dict)
    redelivered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost_where: Counter[str] = field(default_factory=Counter)     # prefix, middle, suffix, all
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    recovery_s: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(self.faults.values())

    def add(self, kind: str, example: str, count: int = 1) -> None:
        self.faults[kind] += count
        if len(self.examples[kind]) < EXAMPLES_MAX:
            self.examples[kind].append(example)

    def lines(self) -> Iterator[str]:
        yield (f"sent {self.sent}  acked {self.acked}  refused {self.refused}  indeterminate {self.indeterminate}  "
               f"in the log {self.logged}")
        for name, count in self.received.items():
            yield f"received by {name}: {count}"
        yield f"redelivered (marked): {self.redelivered}"
        for kind in (*KINDS, *(kind for kind in self.faults if kind not in KINDS)):
            found = self.faults[kind]
            where = f"  ({', '.join(f'{name} {n}' for name, n in self.lost_where.items())})" if kind == "LOST" else ""
            yield f"{kind:15} {zero_of(found, self.acked)}{where if found else ''}"
            for example in self.examples[kind] if found else ():
                yield f"    {example}"
        if self.recovery_s:
            ordered = sorted(self.recovery_s)
            yield f"time to recover: median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def zero_of(found: int, among: int) -> str:
    """"0 of n" proves little without its bound: with 95 % confidence the rate is below 3/n (rule of three)."""
    if found or not among:
        return f"{found} of {among}"
    return f"0 of {among} (< {3 / among:.2g} at 95 %)"


def check(history: History) -> Figures:
    """Hold every observation against every other one."""
    figures = Figures(recovery_s=list(history.recovery_s))
    figures.sent = len(history.sent)
    figures.acked = sum(fate.acked for fate in history.sent.values())
    figures.refused = sum(fate.refused and not fate.acked for fate in history.sent.values())
    figures.indeterminate = figures.sent - figures.acked - figures.refused
    copies = _check_log(history, figures)
    _check_places(history, figures)
    for name, consumer in history.consumers.items():
        _check_consumer(history, figures, name, consumer, copies)
    return figures


# --- the log ---------------------------------------------------------------------------------------------------------
def _check_log(history: History, figures: Figures) -> Counter[Message] | None:
    """Copies of each message in the log; None without a log."""
    if history.log is None:
        return None
    figures.logged = len(history.log)
    last: dict[tuple[str, int], int] = {}
    declared = {(place[:2], place.offset): end for place, end in history.unused}
    for place, _, _ in history.log:
        before = last.get(place[:2])
        while before is not None and (place[:2], before + 1) in declared:
            before = declared[place[:2], before + 1]
        if before is not None and place.offset <= before:
            figures.add("OFFSET-CONFLICT", f"log: {_at(place)} stands behind offset {before}")
        elif before is not None and place.offset > before + 1:
            figures.add("GAP", f"log: {place.stream}/{place.partition} has nothing from {before + 1} to "
                               f"{place.offset - 1}", place.offset - before - 1)
        last[place[:2]] = place.offset
    copies: Counter[Message] = Counter()
    for place, message, topic in history.log:
        if message is None and topic and not topic.startswith(history.prefix):
            continue
        if message is None:
            figures.add("CORRUPT", f"log: payload at {_at(place)}")
            continue
        wanted = history.topics.get(message[:2])
        if wanted is not None and topic != wanted:
            figures.add("CORRUPT", f"log: {message} at {_at(place)} has topic {topic!r}")
        if not _known(history, figures, "log", message):
            continue
        copies[message] += 1
        if copies[message] > _copies_max(history, message):
            figures.add("DUP", f"log: {message} again at {_at(place)}")
    _check_order(figures, "log", (record.message for record in history.log))
    _check_lost(history, figures, "log", copies, None)
    return copies


def _copies_max(history: History, message: Message) -> int:
    """An unacknowledged message that is sent again may be stored twice, unless the protocol promises otherwise."""
    return 1 if message.producer in history.exactly_once else max(1, history.sent[message].attempts)


def _check_places(history: History, figures: Figures) -> None:
    """One place, one message: in the log, in acknowledgements, in deliveries, in earlier reads of the log."""
    at: dict[Place, tuple[Message, str]] = {}
    for source, message, place in _all_places(history):
        known = at.setdefault(place, (message, source))
        if known[0] != message:
            figures.add("OFFSET-CONFLICT", f"{_at(place)}: {known[0]} in {known[1]}, {message} in {source}")
    if history.log is None:
        return
    ends = {record.place[:2]: record.place.offset for record in history.log}
    logged = {record.place for record in history.log}
    for source, message, place in _all_places(history):
        if source != "log" and place not in logged and place.offset > ends.get(place[:2], -1):
            figures.add("OFFSET-CONFLICT", f"{_at(place)}: {message} in {source}, behind the end of the log")


def _all_places(history: History) -> Iterator[tuple[str, Message, Place]]:
    for record in history.log or ():
        if record.message is not None:
            yield "log", record.message, record.place
    for message, fate in history.sent.items():
        if fate.place is not None:
            yield "acknowledgement", message, fate.place
    for message, place in history.places:
        yield "earlier read", message, place
    for name, consumer in history.consumers.items():
        for receipt in consumer.receipts:
            if receipt.message is not None and receipt.place is not None:
                yield name, receipt.message, receipt.place


# --- consumers -------------------------------------------------------------------------------------------------------
def _check_consumer(history: History, figures: Figures, name: str, consumer: Consumer,
                    copies: Counter[Message] | None) -> None:
    figures.received[name] = len(consumer.receipts)
    seen: Counter[Message] = Counter()
    unmarked: Counter[Message] = Counter()
    places: set[Place] = set()
    for receipt in consumer.receipts:
        message = receipt.message
        if message is None:
            figures.add("CORRUPT", f"{name}: a payload with a wrong checksum")
            continue
        if not _known(history, figures, name, message):
            continue
        if consumer.wanted is not None and message[:2] not in consumer.wanted:
            figures.add("PHANTOM", f"{name}: {message}, which it did not ask for")
            continue
        seen[message] += 1
        figures.redelivered += receipt.redelivered
        allowed = _copies_max(history, message) if copies is None else max(1, copies[message])
        if not receipt.redelivered:
            unmarked[message] += 1
        again = receipt.place is not None and receipt.place in places and not receipt.redelivered
        count = seen[message] if consumer.reader is Reader.EXACTLY_ONCE else unmarked[message]
        if again or count > allowed:
            figures.add("DUP", f"{name}: {message} {seen[message]} times, {allowed} in the log")
        if receipt.place is not None and (consumer.ordered or not receipt.redelivered):
            places.add(receipt.place)           # journals of a group are read one by one: a mark may come first
        if copies is not None and message not in copies:
            figures.add("PHANTOM", f"{name}: {message}, which is not in the log")
    if consumer.ordered:
        _check_order(figures, name, (receipt.message for receipt in consumer.receipts))
    if consumer.reader is not Reader.LIVE:
        _check_lost(history, figures, name, seen, consumer.wanted)
        _check_logged_received(figures, name, seen, consumer.wanted, copies)


def _check_logged_received(figures: Figures, name: str, seen: Counter[Message], wanted: set[tuple[str, str]] | None,
                           copies: Counter[Message] | None) -> None:
    """What is in the log must be delivered as often as it is there, acknowledged or not."""
    for message, count in (copies or {}).items():
        if (wanted is None or message[:2] in wanted) and 0 < seen[message] < count:
            figures.add("LOST", f"{name}: {message} is {count} times in the log, got {seen[message]}",
                        count - seen[message])


def _known(history: History, figures: Figures, where: str, message: Message) -> bool:
    fate = history.sent.get(message)
    if fate is None:
        figures.add("PHANTOM", f"{where}: {message} was never sent")
        return False
    if fate.refused and not fate.acked:
        figures.add("PHANTOM", f"{where}: {message} was refused")
        return False
    return True


def _check_order(figures: Figures, where: str, messages: Iterable[Message | None]) -> None:
    """First sights of one producer and key must rise; a repeat of something seen is no reordering."""
    highest: dict[tuple[str, str], int] = {}
    seen: set[Message] = set()
    for message in messages:
        if message is None or message in seen:
            continue
        seen.add(message)
        before = highest.get(message[:2], 0)
        if message.sequence < before:
            figures.add("REORDER", f"{where}: {message} first seen after sequence {before}")
        else:
            highest[message[:2]] = message.sequence


def _check_lost(history: History, figures: Figures, where: str, seen: Counter[Message],
                wanted: set[tuple[str, str]] | None) -> None:
    """Acknowledged and not seen. Where in its sequence it is missing says much about the cause."""
    acked: dict[tuple[str, str], list[int]] = defaultdict(list)
    for message, fate in history.sent.items():
        if fate.acked and (wanted is None or message[:2] in wanted):
            acked[message[:2]].append(message.sequence)
    for (producer, key), sequences in acked.items():
        present = [sequence for sequence in sequences if seen[Message(producer, key, sequence)]]
        for sequence in sequences:
            if seen[Message(producer, key, sequence)]:
                continue
            part = ("all" if not present else "prefix" if sequence < min(present)
                    else "suffix" if sequence > max(present) else "middle")
            figures.lost_where[part] += 1
            figures.add("LOST", f"{where}: {Message(producer, key, sequence)} ({part})")


def _at(place: Place) -> str:
    return f"{place.stream}/{place.partition}@{place.offset}"
