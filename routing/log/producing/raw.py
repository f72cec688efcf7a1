"""Batches of Kafka producers, on their way into the log: checked in C, stored as they came, read only by need.

Used by door.py, partition.py and group.py. `check` may run on any thread: it touches nothing but the bytes. What it
returns says all that the loop must know to let the batch in, so that no event is made of a record unless somebody who
is not Kafka wants it.

The records are looked at by aiokafka's C iterator. Its varints are read unchecked, so it gets a window on a buffer
that goes on for PAD_BYTES behind the last record. A call into C keeps the interpreter for as long as it takes, on
whatever thread: so it is asked for some records at a time, and what a batch expands to is never copied as a whole.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from routing.event import Event
from routing.log.opening import INLINE_BYTES, INLINE_EXPANDED_BYTES
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
from routing.log.records.codecs import (
    EXPANDED_BYTES_MAX,
    CodecError,
    ExpandsTooMuch,
    expand_into,
    in_room,
    room_for,
)
from routing.log.records.decode import Decoder, Seen, plain_batch, records
from routing.log.records.encode import encode_headers
from routing.log.records.fields import ESCAPE, TOPIC, stored_name
from routing.log.records.origins import Came
from routing.log.records.verdicts import Verdicts

if TYPE_CHECKING:
    from routing.log.opening import Opener
    from routing.log.producing.crecords import DefaultRecord

OWN_HEADERS = b"meshgate-"
PAD_BYTES = 64
INLINE_RECORDS = 4_000              # checked within the turn: some 2 ms; more goes to a thread, as what opening.py says
PIECE_RECORDS = 500                 # looked at in one call: some 0.2 ms,
PIECE_BYTES = 256 * 1024            # or so many bytes
NAMED_TOPICS_MAX = 4_096            # topics that the records of one batch name or make; rights are asked for each

_OWN, _TOPIC, _ESCAPED = OWN_HEADERS.decode(), TOPIC.decode(), ESCAPE.decode()
_offset = attrgetter("offset")
_key = attrgetter("key")
_timestamp = attrgetter("timestamp")
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
    """A batch that may be stored."""

    data: bytes
    header: BatchHeader
    plain_bytes: int                    # what it comes to when it is opened
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
    plain = _padded(batch, header, terms.expanded_bytes_max)
    _check_records(plain, header, terms)
    named: Counter[str] = Counter()
    topics: Counter[str] | None = None
    foreign = False
    if _has_own_headers(plain):
        topics, foreign = _own_headers(plain, header, terms.topic_of, named)
    elif terms.topic_of is not None:
        topics = Counter()
        for piece in _pieces(plain, header):
            topics.update(map(terms.topic_of, map(_key, piece)))
    if len(named) + len(topics or ()) > NAMED_TOPICS_MAX:
        raise BatchError(f"the records of a batch name more than {NAMED_TOPICS_MAX} topics")
    return Checked(batch, header, len(plain), topics, named or None, foreign)


def _padded(batch: bytes, header: BatchHeader, bytes_max: int) -> memoryview:
    """The batch with its records expanded and no codec in its header, in a buffer that goes on behind it."""
    codec = header.attributes & CODEC_MASK
    if not codec:
        return memoryview(batch + bytes(PAD_BYTES))[:len(batch)]
    return in_room(lambda size: _opened(batch, header, size), len(batch), bytes_max)


def _opened(batch: bytes, header: BatchHeader, bytes_max: int) -> memoryview:
    room = room_for(HEADER_BYTES + bytes_max + PAD_BYTES)
    attributes = header.attributes & ~CODEC_MASK
    room[:HEADER_BYTES] = batch[:21] + attributes.to_bytes(2, "big") + batch[23:HEADER_BYTES]
    size = expand_into(
        header.attributes & CODEC_MASK, batch[HEADER_BYTES:], room[HEADER_BYTES:HEADER_BYTES + bytes_max])
    return room[:HEADER_BYTES + size]


def _pieces(plain: memoryview, header: BatchHeader) -> Iterator[list[DefaultRecord]]:
    """The records, some at a time."""
    from routing.log.producing.crecords import DefaultRecordBatch  # late, see there

    records = chain(DefaultRecordBatch(plain))      # which may be asked for an iterator once only
    size = min(PIECE_RECORDS, PIECE_BYTES * header.record_count // len(plain) + 1)
    while piece := list(islice(records, size)):
        yield piece


def _check_records(plain: memoryview, header: BatchHeader, terms: Terms) -> None:
    from routing.log.producing.crecords import CorruptRecordException

    expected = header.base_offset
    large, much = len(plain) > terms.record_bytes_max, len(plain) > 2 * terms.headers_max
    try:
        for piece in _pieces(plain, header):
            following = expected + len(piece)
            if list(map(_offset, piece)) != list(range(expected, following)):
                raise BatchError("record offsets do not count up by one")
            expected = following
            if terms.keyed and None in map(_key, piece):
                raise BatchError("a record without key, which a compacted stream does not take")
            if large and any(len(value) > terms.record_bytes_max for value in map(_value, piece) if value):
                raise TooLarge(f"a record of more than {terms.record_bytes_max} bytes")
            if much and max(map(len, map(_headers, piece))) > terms.headers_max:
                raise BatchError(f"a record with more than {terms.headers_max} headers")
    except CorruptRecordException as error:
        raise BatchError(f"a record is broken: {error}") from None
    except (ValueError, OverflowError, MemoryError) as error:       # a header's name that is no UTF-8, a length beyond
        raise BatchError(f"a record cannot be read: {error}") from None
    if expected != header.next_offset:
        raise BatchError("the count of records does not fit the last offset")


def first_since(batch: bytes, timestamp_ms: int, from_offset: int) -> tuple[int, int] | None:
    """Offset and time of the first record of a stored batch that is that late, from an offset on. On any thread.

    Raises BatchError where it cannot be opened.
    """
    header = check_header(batch)
    for piece in _pieces(_padded(batch, header, EXPANDED_BYTES_MAX), header):
        if max(map(_timestamp, piece)) >= timestamp_ms and piece[-1].offset >= from_offset:
            for record in piece:
                if record.timestamp >= timestamp_ms and record.offset >= from_offset:
                    return record.offset, record.timestamp
    return None


def _has_own_headers(plain: memoryview) -> bool:
    if len(plain) <= PIECE_BYTES:
        return OWN_HEADERS in bytes(plain)
    return any(OWN_HEADERS in bytes(plain[at:at + PIECE_BYTES + len(OWN_HEADERS)])
               for at in range(HEADER_BYTES, len(plain), PIECE_BYTES))


def _own_headers(plain: memoryview, header: BatchHeader, topic_of: Callable[[bytes | None], str] | None,
                 named: Counter[str]) -> tuple[Counter[str] | None, bool]:
    """Count the topics that records name. Returns those of the other records, None: all the stream's own; and whether
    there is any other header of the node's own.
    """
    others: Counter[str] = Counter()
    foreign = False
    for record in (record for piece in _pieces(plain, header) for record in piece):
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
    plain = plain_batch(checked.data, checked.header)
    for record in records(plain, checked.header):
        headers = []
        named = False
        for name, value in record.headers:
            topic = _text(value) if name == TOPIC and not named else None
            if topic is not None and allowed(topic):
                named = True
            elif name.startswith(OWN_HEADERS) and not name.startswith(ESCAPE):
                name = stored_name(name)
            headers.append((name, value))
        head = plain[record.start:record.end - len(record.header_part)]
        _, position = read_varint(head, 0)
        body = head[position:] + encode_headers(headers)
        pieces.append(varint(len(body)) + body)
    return rebuild(checked.header, b"".join(pieces))


class RawBatch:
    """A batch that waits for its commit, or has it: its bytes, its topics, and its events for who wants them."""

    __slots__ = ("_decoder", "base_offset", "came", "data", "header", "kind", "plain_bytes", "topics")

    def __init__(self, data: bytes, header: BatchHeader, base_offset: int, topics: Counter[str],
                 decoder: Decoder, kind: int = -1, plain_bytes: int = 0, came: Came | None = None) -> None:
        """topics: of its records, and how many have each; empty for control records. kind: of those, 0 abort, 1 commit.
        plain_bytes: what it comes to when it is opened. came: from which other node; its producer is none of ours.
        """
        self.plain_bytes = plain_bytes
        self.came = came
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

    @property
    def is_large(self) -> bool:
        """To open it takes a large part of a turn."""
        return bool(self.header.attributes & CODEC_MASK) and (
            len(self.data) > INLINE_BYTES or self.plain_bytes > INLINE_EXPANDED_BYTES)

    def events(self) -> list[Event]:
        """Its records as events, opened and decoded now. None of control records."""
        return [event for part in self.parts(1 << 62) for event in part]

    def parts(self, size: int, opener: Opener | None = None) -> Iterator[list[Event]]:
        """The same in parts of so many, or of PIECE_BYTES, each decoded when it is asked for. opener: a large one is
        opened aside, and there are empty parts until that is done.
        """
        placed = self.placed(first_in_group=False)
        header = check_header(placed)
        plain: bytes | None = placed
        if header.attributes & CODEC_MASK:
            plain = None if opener is not None else plain_batch(placed, header)
        while plain is None:
            assert opener is not None
            plain = opener.open(self._decoder, header, lambda: placed, may_wait=True)
            if plain is None:
                yield []
        if opener is not None:
            size = min(size, PIECE_BYTES * header.record_count // len(plain) + 1)
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
