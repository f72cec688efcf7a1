"""Batches of Kafka producers, on their way into the log: checked in C, stored as they came, read only by need.

Used by door.py, partition.py and group.py. `check` may run on any thread: it touches nothing but the bytes. What it
returns says all that the loop must know to let the batch in, so that no event is made of a record unless somebody who
is not Kafka wants it.

The records are looked at by aiokafka's C iterator. Its varints are read unchecked, so it gets a window on a buffer
that goes on for PAD_BYTES behind the last record.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from routing.event import Event
from routing.log.records.batch import (
    CODEC_MASK,
    CONTROL_MASK,
    HEADER_BYTES,
    LOG_APPEND_TIME_MASK,
    TRANSACTIONAL_MASK,
    BatchError,
    BatchHeader,
    check_batch,
    check_header,
    place,
    read_varint,
    rebuild,
    varint,
)
from routing.log.records.codecs import EXPANDED_BYTES_MAX, CodecError, ExpandsTooMuch, expand
from routing.log.records.decode import Decoder, Seen, records
from routing.log.records.encode import encode_headers
from routing.log.records.fields import ESCAPE, TOPIC, stored_name
from routing.log.records.verdicts import Verdicts

if TYPE_CHECKING:
    from routing.log.producing.crecords import DefaultRecordBatch

OWN_HEADERS = b"meshgate-"
PAD_BYTES = 64
INLINE_RECORDS = 4_000              # checked within the turn: some 2 ms; more goes to a thread
INLINE_BYTES = 64 * 1024            # the same of a compressed batch,
INLINE_EXPANDED_BYTES = 512 * 1024  # and of what comes out of it
NAMED_TOPICS_MAX = 4_096            # topics that the records of one batch name or make; rights are asked for each

_OWN, _TOPIC, _ESCAPED = OWN_HEADERS.decode(), TOPIC.decode(), ESCAPE.decode()
_offset = attrgetter("offset")
_key = attrgetter("key")
_value = attrgetter("value")
_headers = attrgetter("headers")


class ChecksumError(BatchError):
    """The frame or its checksum is wrong."""


class TooLarge(BatchError):
    """A batch or a record with more bytes than are taken."""


class Terms(msgspec.Struct, frozen=True):
    """What a batch must keep to. Bytes."""

    batch_bytes_max: int
    record_bytes_max: int               # key and value together
    headers_max: int
    expanded_bytes_max: int = EXPANDED_BYTES_MAX
    keyed: bool = False                 # a record without key is refused
    topic_of: Callable[[bytes | None], str] | None = None       # where the key makes the topic


class Checked(msgspec.Struct):
    """A batch that may be stored. The records stand compressed in data, and expanded in plain if they were."""

    data: bytes
    header: BatchHeader
    plain: bytes
    topics: Counter[str] | None         # of records that name none, made of their keys. None: the stream's own topic
    named: Counter[str] | None          # topics that records ask for by the header meshgate-topic
    foreign: bool                       # records carry headers of the node's own, which do not count here

    @property
    def records(self) -> int:
        return self.header.record_count


def may_check_inline(batch: bytes) -> bool:
    """True when checking it takes a small part of a turn, as far as its header tells."""
    try:
        header = check_header(batch)
    except BatchError:
        return True
    return header.record_count <= INLINE_RECORDS and (
        not header.attributes & CODEC_MASK or len(batch) <= INLINE_BYTES)


def check(batch: bytes, terms: Terms) -> Checked:
    """Check everything about a batch from outside, so that readers need not.

    Raises ChecksumError, CodecError, TooLarge or ExpandsTooMuch, and BatchError for what is in the records.
    """
    if len(batch) > terms.batch_bytes_max:
        raise TooLarge(f"a batch of {len(batch)} bytes, at most {terms.batch_bytes_max} are taken")
    try:
        header = check_batch(batch)
    except BatchError as error:
        raise ChecksumError(str(error)) from None
    if header.attributes & (CONTROL_MASK | LOG_APPEND_TIME_MASK):
        raise BatchError("control records and append times are the broker's to write")
    if header.record_count == 0 or header.record_count != header.last_offset_delta + 1:
        raise BatchError("the count of records does not fit the last offset")
    if header.producer_id < 0 and header.attributes & TRANSACTIONAL_MASK:
        raise BatchError("a transaction without a producer id")
    if header.producer_id >= 0 and (header.producer_epoch < 0 or header.base_sequence < 0):
        raise BatchError("a producer id without epoch or sequence")
    codec = header.attributes & CODEC_MASK
    plain = batch if not codec else _plain(batch, codec, terms.expanded_bytes_max)
    _check_records(plain, header, terms)
    named: Counter[str] = Counter()
    topics: Counter[str] | None = None
    foreign = False
    if OWN_HEADERS in plain:
        topics, foreign = _own_headers(plain, terms.topic_of, named)
    elif terms.topic_of is not None:
        topics = Counter(map(terms.topic_of, map(_key, _read(plain))))
    if len(named) + len(topics or ()) > NAMED_TOPICS_MAX:
        raise BatchError(f"the records of a batch name more than {NAMED_TOPICS_MAX} topics")
    return Checked(batch, header, plain, topics, named or None, foreign)


def _plain(batch: bytes, codec: int, bytes_max: int) -> bytes:
    """The batch with its records expanded, and no codec in its header."""
    attributes = int.from_bytes(batch[21:23], "big") & ~CODEC_MASK
    return b"".join((batch[:21], attributes.to_bytes(2, "big"), batch[23:HEADER_BYTES],
                     expand(codec, batch[HEADER_BYTES:], bytes_max)))


def _read(plain: bytes) -> DefaultRecordBatch:
    from routing.log.producing.crecords import DefaultRecordBatch  # late, see there

    return DefaultRecordBatch(memoryview(plain + bytes(PAD_BYTES))[:len(plain)])


def _check_records(plain: bytes, header: BatchHeader, terms: Terms) -> None:
    from routing.log.producing.crecords import CorruptRecordException

    base, count = header.base_offset, header.record_count
    try:
        # Read once where that is little to hold, and once for each question where it is much.
        held = list(_read(plain)) if count <= INLINE_RECORDS else None
        if list(map(_offset, held or _read(plain))) != list(range(base, base + count)):
            raise BatchError("record offsets do not count up by one")
        if terms.keyed and None in map(_key, held or _read(plain)):
            raise BatchError("a record without key, which a compacted stream does not take")
        if len(plain) > terms.record_bytes_max and any(
                len(value) > terms.record_bytes_max for value in map(_value, held or _read(plain)) if value):
            raise TooLarge(f"a record of more than {terms.record_bytes_max} bytes")
        if len(plain) > 2 * terms.headers_max and (
                max(map(len, map(_headers, held or _read(plain)))) > terms.headers_max):
            raise BatchError(f"a record with more than {terms.headers_max} headers")
    except CorruptRecordException as error:
        raise BatchError(f"a record is broken: {error}") from None
    except (ValueError, OverflowError, MemoryError) as error:       # a header's name that is no UTF-8, a length beyond
        raise BatchError(f"a record cannot be read: {error}") from None


def _own_headers(plain: bytes, topic_of: Callable[[bytes | None], str] | None,
                 named: Counter[str]) -> tuple[Counter[str] | None, bool]:
    """Count the topics that records name. Returns those of the other records, None: all the stream's own; and whether
    there is any other header of the node's own.
    """
    others: Counter[str] = Counter()
    foreign = False
    for record in _read(plain):
        topic = None
        for name, value in record.headers:
            if name.startswith(_OWN) and not name.startswith(_ESCAPED):
                found = None if name != _TOPIC or topic is not None else _text(value)
                foreign = foreign or found is None
                topic = topic or found
        if topic is not None:
            named[topic] += 1
        elif topic_of is not None:
            others[topic_of(record.key)] += 1
    return (others if topic_of is not None else None), foreign


def _text(value: bytes | None) -> str | None:
    try:
        return value.decode() if value else None
    except UnicodeDecodeError:
        return None


def without_own_headers(checked: Checked, allowed: Callable[[str], bool]) -> bytes:
    """The batch with every header of the node's own under another name: whoever wrote it cannot speak for the node.

    allowed: topics that records may name. A header keeps its value, as "meshgate-header-…", which is how the node
    stores any header of a client that looks like its own. Offsets and sequence stay; the batch comes uncompressed.
    """
    pieces: list[bytes] = []
    for record in records(checked.plain, checked.header):
        headers = []
        named = False
        for name, value in record.headers:
            topic = _text(value) if name == TOPIC and not named else None
            if topic is not None and allowed(topic):
                named = True
            elif name.startswith(OWN_HEADERS) and not name.startswith(ESCAPE):
                name = stored_name(name)
            headers.append((name, value))
        head = checked.plain[record.start:record.end - len(record.header_part)]
        _, position = read_varint(head, 0)
        body = head[position:] + encode_headers(headers)
        pieces.append(varint(len(body)) + body)
    return rebuild(checked.header, b"".join(pieces))


class RawBatch:
    """A batch that waits for its commit, or has it: its bytes, its topics, and its events for who wants them."""

    __slots__ = ("_decoder", "base_offset", "data", "header", "kind", "topics")

    def __init__(self, data: bytes, header: BatchHeader, base_offset: int, topics: Counter[str],
                 decoder: Decoder, kind: int = -1) -> None:
        """topics: of its records, and how many have each; empty for control records. kind: of those, 0 abort, 1 commit.
        """
        self.data = data
        self.header = header
        self.base_offset = base_offset
        self.topics = topics
        self.kind = kind
        self._decoder = decoder

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.header.last_offset_delta + 1

    @property
    def is_control(self) -> bool:
        return bool(self.header.attributes & CONTROL_MASK)

    @property
    def is_transactional(self) -> bool:
        return bool(self.header.attributes & TRANSACTIONAL_MASK)

    def placed(self, *, first_in_group: bool) -> bytes:
        return place(self.data, self.base_offset, first_in_group=first_in_group)

    def events(self) -> list[Event]:
        """Its records as events, opened and decoded now. None of control records."""
        return [event for part in self.parts(1 << 62) for event in part]

    def parts(self, size: int) -> Iterator[list[Event]]:
        """The same in parts of so many, each decoded when it is asked for."""
        placed = self.placed(first_in_group=False)
        header = check_header(placed)
        codec = header.attributes & CODEC_MASK
        plain = placed if not codec else _plain(placed, codec, EXPANDED_BYTES_MAX)
        index, relative = 0, HEADER_BYTES
        seen: Seen = {}
        verdicts = Verdicts(lambda topic: True)
        while index < header.record_count and not self.is_control:
            events: list[Event] = []
            _, index, relative = self._decoder.events(
                plain, 0, header, 0, verdicts, seen, events, size, index, relative)
            yield events

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events())

    def __len__(self) -> int:
        return 0 if self.is_control else self.header.record_count


Run = list[Event] | RawBatch            # of one commit, in order


def topics_of(content: Run) -> Iterable[str]:
    """The topics of a run for the summary, repeats kept, or counted."""
    return content.topics if isinstance(content, RawBatch) else [event.topic for event in content]


__all__ = [
    "Checked", "ChecksumError", "CodecError", "ExpandsTooMuch", "RawBatch", "Run", "Terms", "TooLarge", "check",
    "may_check_inline", "topics_of", "without_own_headers"]
