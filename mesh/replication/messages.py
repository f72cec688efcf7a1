"""What nodes say to each other about replication <-> bytes. Sans-IO. The bytes travel as the body of a Relay frame.

    destination ── Pull ──────► origin        open, credit, acknowledgement, filters, rewind: all in one, cumulative
    destination ◄────── Batch ─ origin        events, and how far the origin has looked
    destination ◄──── Problem ─ origin        why there are none

Any message may be lost, doubled or overtaken, so each stands for itself: a Pull repeats what counts, a Batch says where
it begins. Fields may be added at the end with a default; older nodes ignore them. decode() raises BadMessage only.
"""
from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

NAME_MAX: Final = 272               # characters of stream and consumer names, epochs: 249, and an incarnation
FILTER_MAX: Final = 65_535
WANTS_MAX: Final = 20_000           # filters of one Pull, open and closed intervals together
TEXT_MAX: Final = 512

LATEST: Final = -1                  # of Want.since: from the origin's committed end on
EARLIEST: Final = -2                # from the first event it has
BY_TIME: Final = -3                 # from the first event with since_ms or later
OPEN: Final = -1                    # of Want.until: no end
UNKNOWN: Final = -1                 # of Pull.start: never pulled before, the origin says where it begins

Name: TypeAlias = Annotated[str, Meta(max_length=NAME_MAX)]
Pattern: TypeAlias = Annotated[str, Meta(min_length=1, max_length=FILTER_MAX)]
Token: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]         # random, so that nobody guesses it
Offset: TypeAlias = Annotated[int, Meta(ge=-3, le=2**62)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
TIME_MAX_MS: Final = 2**53
Millis: TypeAlias = Annotated[int, Meta(ge=0, le=TIME_MAX_MS)]      # no clock and no difference of clocks is larger
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_MAX)]


class BadMessage(Exception):
    """The sender's fault: bytes that are no message of this protocol."""


class Trouble(enum.IntEnum):
    """Why an origin has no batches for a pull."""

    UNKNOWN_FLOW = 1                # it has forgotten the filters: say them again
    WRONG_EPOCH = 2                 # the log was made anew; look at the gossip
    NO_PARTITION = 3
    TOO_MUCH = 4                    # a bound of the origin: filters, flows
    STORAGE = 5                     # it cannot read its log now
    BAD_PULL = 6


class Want(msgspec.Struct, array_like=True, frozen=True):
    """A filter and the origin's offsets for which it counts: since ≤ offset < until."""

    filter: Pattern
    since: Offset = LATEST
    until: Offset = OPEN
    since_ms: Millis = 0            # wall clock, with since = BY_TIME


class Pull(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """Destination → origin: give me one partition of yours, from `start` on. Cumulative acknowledgement and credit."""

    token: Token                    # of the flow; new when the destination starts afresh
    sequence: Count                 # rises with every Pull of a token: an older one is late
    ask: bool                       # answer at once, with what there is
    flow: Count                     # 0 live, > 0 a back-fill
    stream: Name
    index: Count
    epoch: Name
    attempt: Count                  # one more: something was lost, go back to start
    start: Offset                   # next offset that the destination takes
    confirmed: Offset               # below it everything is durable at the destination
    window_bytes: Count             # may be under way beyond `confirmed`
    version: Count                  # of wants, excludes and only
    rtt_ms: Millis                  # as the destination measures it, 0: not yet
    wants: Annotated[list[Want], Meta(max_length=WANTS_MAX)] | None = None      # None: as said before in this version
    excludes: Annotated[list[Want], Meta(max_length=WANTS_MAX)] = []
    only: Annotated[list[Pattern], Meta(max_length=WANTS_MAX)] = []             # and nothing else; empty: no bound
    hold: bool = True               # keep what is not confirmed, within the origin's bounds
    stored: bool = False            # batches may come as they are stored


class Batch(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """Origin → destination: all that is wanted of the offsets start ≤ offset < next."""

    token: Token
    attempt: Count
    version: Count                  # of the filters by which the offsets were looked at
    echo: Count                     # sequence of the Pull that asked, 0: unasked
    start: Count
    next: Count
    first: Count                    # the partition's first offset now
    end: Count                      # behind its last committed offset now
    done: bool = False              # no filter counts beyond next
    lost: Count = 0                 # offsets that retention removed before they were looked at; they lie behind start
    # since of those filters that had none, in this version
    resolved: Annotated[list[tuple[Pattern, Count]], Meta(max_length=WANTS_MAX)] = []
    lag_ms: Millis = 0              # age of the first event that is not confirmed
    body: bytes = b""               # RecordBatch v2, one after the other
    topic: Annotated[str, Meta(max_length=FILTER_MAX)] = ""     # not "": as stored; of records that name none


class Problem(msgspec.Struct, array_like=True, tag=3, frozen=True):
    token: Token
    code: Count
    text: Text = ""


class Close(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """Destination → origin: nothing more of this flow. forget: nor does it come back for what it missed."""

    token: Token
    forget: bool = False


class RetainedAsk(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Destination → origin: your retained events under a filter, page by page in order of topic.

    A place is a text of routing/retained/topic_index.py; "" is the beginning.
    """

    request: Token
    epoch: Name
    filter: Pattern
    place: Annotated[str, Meta(max_length=FILTER_MAX + 1)] = ""     # that the page begins with
    only: Annotated[list[Pattern], Meta(max_length=WANTS_MAX)] = []


class RetainedPage(msgspec.Struct, array_like=True, tag=6, frozen=True):
    request: Token
    place: Annotated[str, Meta(max_length=FILTER_MAX + 1)]
    onward: Annotated[str, Meta(max_length=FILTER_MAX + 1)]         # where the next page begins, "": this is the last
    taken_ms: Millis                # when it was looked, by the origin's clock
    body: bytes = b""               # events with offsets 0, 1, 2 …, in order of topic
    partitions: Annotated[list[tuple[Name, Count]], Meta(max_length=WANTS_MAX)] = []    # of their streams, and …
    places: Annotated[list[tuple[Count, Offset]], Meta(max_length=WANTS_MAX)] = []      # … which, and where in it


class Step(enum.IntEnum):
    """Of a consumer on its way to another node."""

    LOOK = 1                        # has anybody got it?
    MOVE = 2                        # give it to me: yours is closed
    DONE = 3                        # it is durable here: forget it
    NEEDED = 4                      # nobody shares it here any more, and it was at yours before: take it, or say no


class ExportAsk(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """New node → others: about a durable consumer that was opened here."""

    request: Token
    name: Name
    user: Name                      # whose it must be
    step: Count
    since_ms: Millis = 0            # wall clock, with LOOK: since when it looks


class Export(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """Old node → new node."""

    request: Token
    name: Name
    step: Count
    found: bool
    used_ms: Millis = 0             # wall clock when somebody last read it, of several the latest is taken
    state: bytes = b""              # positions.Moved as MessagePack, with MOVE
    busy: bool = False              # with MOVE: somebody is connected to it there; it comes when he has gone


Message: TypeAlias = (
    Pull | Batch | Problem | Close | RetainedAsk | RetainedPage | ExportAsk | Export
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(body: bytes) -> Message:
    """Raises BadMessage."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)) from None
