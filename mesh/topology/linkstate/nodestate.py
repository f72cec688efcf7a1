"""What a node tells all others about itself, and the codec of gossip. Sans-IO.

A Gossip frame (mesh/link/protocol/frames.py) carries entries, each one a MessagePack array:

    [1, age, record]                        the whole state of a node, as the node itself encoded it: a NodeRecord
    [2, age, change]                        what changed since version `base`: a NodeChange
    [3, age, node, boot, version, beat, seal]       the node lives, and has said nothing new since version
    [4, [[node, boot, version, beat], …]]   a digest: what the sender knows. Sent when a link comes up
    [5, [node, …]]                          please send these again as a whole

`age` is how long ago (ms) the node itself said so: it rises with every hop, so that a state of the dead does not
live on by being handed around. Nobody encodes a record or a change again on the way: fields of a newer version, which
an older node ignores, pass through it. Versions and beats are numbers of one counter that only rises, see linkstate.py.
decode_entry(), decode_record() and decode_change() raise BadState for bytes that are not exactly this.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from mesh.link.protocol.frames import PROTOCOL_MAX, PROTOCOL_MIN, Millis, Name
from mesh.link.protocol.peer import NAME_CHARACTERS
from mesh.link.settings import EVERYTHING
from routing.errors import TopicError
from routing.topic import check_filter

SEQUENCE_MAX: Final = 2**50             # as milliseconds: the year 37,000
AGE_MS_MAX: Final = 2**31
STREAMS_MAX: Final = 256                # of one node
CAPTURES_MAX: Final = 64                # of one stream; with more of them it counts as capturing everything
LINKS_MAX: Final = 1_024                # of one node
FILTERS_MAX: Final = 4_096              # of one node's interest
FILTER_CHARACTERS_MAX: Final = 1_024    # a longer one is widened by the node that wants it
FILTER_LEVELS_MAX: Final = 16_384       # of one node's interest, together: what a filter bomb may cost
BORDERS_MAX: Final = 256                # filters of one side of a link
MORE_MAX: Final = 16                    # what else a node says of itself: keys, and what later versions add
DIGEST_MAX: Final = 512                 # lines of one digest entry
NAMES_MAX: Final = 512                  # of one request
KEY: Final = "key"                      # in `more`: by which it signs, and …
BOX: Final = "box"                      # … by which messages to it are marked: envelopes.py
OWN: Final = "$"                        # before the name of a stream that is a node's own
MADE: Final = "@"                       # behind that of one that was made at run time: its incarnation follows

Number: TypeAlias = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
Age: TypeAlias = Annotated[int, Meta(ge=0, le=AGE_MS_MAX)]
Protocol: TypeAlias = Annotated[int, Meta(ge=0, le=65_535)]
Filter: TypeAlias = Annotated[str, Meta(min_length=1, max_length=FILTER_CHARACTERS_MAX)]
Filters: TypeAlias = Annotated[tuple[Filter, ...], Meta(max_length=FILTERS_MAX)]
More: TypeAlias = Annotated[dict[Name, Annotated[bytes, Meta(max_length=1_024)]], Meta(max_length=MORE_MAX)]
Seal: TypeAlias = Annotated[bytes, Meta(max_length=64)]
StreamName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=249 + 17)]    # with an incarnation


class BadState(Exception):
    """The peer's fault: an entry that is not what it should be. The text is safe to send and to log."""


class StreamInfo(msgspec.Struct, array_like=True, frozen=True):
    """A stream of a node: what others can pull."""

    name: StreamName
    partitions: Annotated[int, Meta(ge=1, le=100_000)]
    captures: Annotated[tuple[Filter, ...], Meta(max_length=CAPTURES_MAX)]


Borders: TypeAlias = Annotated[tuple[Filter, ...], Meta(max_length=BORDERS_MAX)]


class LinkInfo(msgspec.Struct, array_like=True, frozen=True):
    """A link as one of its ends sees it."""

    node: Name
    cost: Annotated[int, Meta(ge=1, le=65_535)] = 1
    state: Annotated[str, Meta(max_length=16)] = "up"
    skew_ms: Annotated[int, Meta(ge=-(2**53), le=2**53)] | None = None      # the other end's clock minus the node's own
    rtt_us: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    exports: Borders = EVERYTHING           # what may leave that end by it, and …
    imports: Borders = EVERYTHING           # … what may enter there


Links: TypeAlias = Annotated[tuple[LinkInfo, ...], Meta(max_length=LINKS_MAX)]
Streams: TypeAlias = Annotated[tuple[StreamInfo, ...], Meta(max_length=STREAMS_MAX)]


class NodeInfo(msgspec.Struct, frozen=True):
    """Who a node is: fixed for one run of its process."""

    name: str
    site: str
    epoch: str              # of its log
    boot: str               # random, new with every start
    version: str = ""       # of the software
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX


class NodeRecord(msgspec.Struct, array_like=True, frozen=True):
    """The whole state of a node at one version. What later versions add goes into `more`: the seal is always last."""

    node: Name
    boot: Name
    sequence: Number
    site: Name
    epoch: Name
    version: Annotated[str, Meta(max_length=64)]
    protocol_min: Protocol
    protocol_max: Protocol
    started_ms: Millis                      # the node's wall clock when it started
    streams: Streams = ()
    links: Links = ()
    interest: Filters = ()
    more: More = {}
    seal: Seal = b""                        # see seals.py; of what stands before it


class NodeChange(msgspec.Struct, array_like=True, frozen=True):
    """What is different at version `sequence`, for who has version `base`. None: as it was."""

    node: Name
    boot: Name
    base: Number
    sequence: Number
    added: Filters = ()
    removed: Filters = ()
    links: Links | None = None
    streams: Streams | None = None
    seal: Seal = b""


class Whole(msgspec.Struct, array_like=True, tag=1, frozen=True):
    age_ms: Age
    record: bytes


class Change(msgspec.Struct, array_like=True, tag=2, frozen=True):
    age_ms: Age
    change: bytes


class Alive(msgspec.Struct, array_like=True, tag=3, frozen=True):
    age_ms: Age
    node: Name
    boot: Name
    version: Number
    beat: Number
    seal: Seal = b""


class DigestLine(msgspec.Struct, array_like=True, frozen=True):
    node: Name
    boot: Name
    version: Number
    beat: Number


class Digest(msgspec.Struct, array_like=True, tag=4, frozen=True):
    lines: Annotated[tuple[DigestLine, ...], Meta(max_length=DIGEST_MAX)]


class Wanted(msgspec.Struct, array_like=True, tag=5, frozen=True):
    nodes: Annotated[tuple[Name, ...], Meta(max_length=NAMES_MAX)]


Entry: TypeAlias = Whole | Change | Alive | Digest | Wanted
TAGS: Final = range(1, 6)

_encoder = msgspec.msgpack.Encoder()
_entries: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_records = msgspec.msgpack.Decoder(NodeRecord)
_changes = msgspec.msgpack.Decoder(NodeChange)
_T = TypeVar("_T")


def encode(value: Entry | NodeRecord | NodeChange) -> bytes:
    return _encoder.encode(value)


def decode_entry(data: bytes) -> Entry | None:
    """One entry; None for a kind that only newer versions know. Raises BadState."""
    if len(data) >= 2 and 0x91 <= data[0] <= 0x9F and data[1] <= 0x7F and data[1] not in TAGS:
        return None
    return _decode(_entries, data)


def decode_record(data: bytes) -> NodeRecord:
    """Raises BadState, also for filters that are none and for more levels than FILTER_LEVELS_MAX."""
    record = _decode(_records, data)
    check_names(record.node, record.boot, record.site, record.epoch, *(link.node for link in record.links),
                *(bare(stream.name) for stream in record.streams))
    check_filters(record.interest)
    check_links(record.links)
    for stream in record.streams:
        check_filters(stream.captures)
    return record


def decode_change(data: bytes) -> NodeChange:
    """Raises BadState."""
    change = _decode(_changes, data)
    check_names(change.node, change.boot, *(link.node for link in change.links or ()),
                *(bare(stream.name) for stream in change.streams or ()))
    check_filters(change.added)
    check_links(change.links or ())
    if change.sequence <= change.base:
        raise BadState(f"a change of {change.node} that runs backwards")
    for stream in change.streams or ():
        check_filters(stream.captures)
    return change


def bare(stream: str) -> str:
    """Without what only streams have in their names: the mark of the node's own, and the one before an incarnation."""
    return stream.removeprefix(OWN).replace(MADE, "", 1)


def check_names(*names: str) -> None:
    """Raise BadState unless all are names as a node's configuration may have them: they get into logs and labels."""
    for name in names:
        if not NAME_CHARACTERS.issuperset(name):
            raise BadState(f"a name that no node may have: {name[:64]!r}")


def check_filters(filters: tuple[str, ...]) -> None:
    """Raise BadState unless all are topic filters and together cheap enough to match."""
    levels = 0
    for pattern in filters:
        levels += pattern.count("/") + 1
        try:
            check_filter(pattern)
        except TopicError as error:
            raise BadState(f"bad filter: {error}") from None
    if levels > FILTER_LEVELS_MAX:
        raise BadState(f"filters of {levels} levels, at most {FILTER_LEVELS_MAX} are taken")


def check_links(links: Iterable[LinkInfo]) -> None:
    """The same of what may pass by them."""
    check_filters(tuple(pattern for link in links for borders in (link.exports, link.imports)
                        if borders != EVERYTHING for pattern in borders))


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadState(f"not a node state: {str(error)[:200]}") from None


class NodeState:
    """A reachable node as its users see it: Overlay.nodes. Changes in place; a new boot is a new object."""

    __slots__ = (
        "boot", "box", "cost", "epoch", "hops", "interest", "links", "name", "next_hop", "protocol", "protocol_max",
        "protocol_min", "sequence", "site", "skew_ms", "started_ms", "streams", "version",
    )

    def __init__(self, record: NodeRecord) -> None:
        self.name = record.node
        self.boot = record.boot
        self.box = record.more.get(BOX, b"")  # its key for messages, see envelopes.py
        self.site = record.site
        self.epoch = record.epoch
        self.version = record.version
        self.protocol_min = record.protocol_min
        self.protocol_max = record.protocol_max
        self.started_ms = record.started_ms
        self.protocol = 0                       # spoken end to end; 0: no version in common
        self.streams: tuple[StreamInfo, ...] = record.streams
        self.links: tuple[LinkInfo, ...] = record.links
        self.interest: tuple[str, ...] = record.interest
        self.sequence = record.sequence
        self.hops = 0                           # 1: a neighbour; 0: not reachable
        self.cost = 0                           # of the way there
        self.next_hop = ""                      # neighbour by which it is reached
        self.skew_ms: float | None = None       # its wall clock minus ours, by the links on the way

    def apply(self, change: NodeChange) -> None:
        """Become the version change.sequence; we must be at change.base. Raises BadState, then nothing changed."""
        if change.added or change.removed:
            kept = dict.fromkeys(self.interest)
            for pattern in change.removed:
                kept.pop(pattern, None)
            kept.update(dict.fromkeys(change.added))
            if len(kept) > FILTERS_MAX:
                raise BadState(f"{len(kept)} filters of {self.name}, at most {FILTERS_MAX} are taken")
            interest = tuple(kept)
            if change.added:
                check_levels(interest)
            self.interest = interest
        if change.links is not None:
            self.links = change.links
        if change.streams is not None:
            self.streams = change.streams
        self.sequence = change.sequence


def check_levels(filters: tuple[str, ...]) -> None:
    """As check_filters(), for filters that were checked one by one."""
    levels = sum(pattern.count("/") for pattern in filters) + len(filters)
    if levels > FILTER_LEVELS_MAX:
        raise BadState(f"filters of {levels} levels, at most {FILTER_LEVELS_MAX} are taken")
