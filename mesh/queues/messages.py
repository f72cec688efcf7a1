"""What the parts of a queue say to each other. Sans-IO.

    [50, run, to_run, first, heard, [message, …]]      Frame: see talk.py. A message is one of these:

    [1, name, user, asks, term, collects, members, bindings, ends]      Join: I have a part of this queue
    [2, name]                                   Absent: I have none
    [3, name, ends]                             Leave: I have one no more
    [4, name]                                   Delete: the whole queue is deleted
    [5, name]                                   Purge
    [6, name, binding]                          Bind
    [7, name, binding]                          Unbind
    [8, name, total, readers]                   Want: so many events in all, since this talk began
    [9, name, number]                           Fetch: one event, or Nothing
    [10, name, number]                          Nothing
    [11, name, first, attempts, body]           Lend: events, numbered from first on; body as that of mesh/replication
    [12, name, numbers]                         Done: these are settled there
    [13, name, [[number, attempts], …]]         Back: these are not, and have been tried so often
    [14, [[node, epoch, stream, index, offset], …]]     Reach: below it everything has come to whoever collects

    [15, name]                                  Seek: somebody here publishes to it, and it is not here
    [16, name, user, options, expires_s, max_deliveries]    Offer: this is what it is

bad bytes raise BadMessage and nothing else.
"""
from __future__ import annotations

from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.queues.predicates import Predicate

TAG: Final = 50
FRAME_BYTES_MAX: Final = 2 * 1024 * 1024    # of messages that go in one frame; a larger one goes alone
NUMBER_MAX: Final = 2**53
ENDS_MAX: Final = 1_024
LENT_MAX: Final = 1_000                     # events lent to one node of one queue and not settled yet

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=255)]
Node: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
Text: TypeAlias = Annotated[str, Meta(max_length=65_535)]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Index: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Attempts: TypeAlias = Annotated[int, Meta(ge=0, le=2**31)]
Stream: TypeAlias = Annotated[str, Meta(min_length=1, max_length=249)]
Ends: TypeAlias = Annotated[list[tuple[Stream, Index, Number]], Meta(max_length=ENDS_MAX)]


class BadMessage(Exception):
    """The sender's fault."""


class Bound(msgspec.Struct, array_like=True, frozen=True):
    """A binding, as it holds on every node."""

    pattern: Text
    predicate: Predicate | None = None
    native: bytes = b""

    @classmethod
    def of(cls, binding: Binding) -> Bound:
        return cls(binding.pattern, binding.predicate, binding.native)

    def binding(self) -> Binding:
        return Binding(self.pattern, self.predicate, self.native)


class Join(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """user: whose it is. asks: wants to hear the same from there. ends: from where on it takes its own events."""

    name: Name
    user: Text
    asks: bool
    term: Number
    collects: bool
    members: Annotated[list[Node], Meta(max_length=1_000)] = []
    bindings: Annotated[list[Bound], Meta(max_length=20_000)] = []
    ends: Ends = []


class Absent(msgspec.Struct, array_like=True, tag=2, frozen=True):
    name: Name


class Leave(msgspec.Struct, array_like=True, tag=3, frozen=True):
    name: Name
    ends: Ends = []


class Delete(msgspec.Struct, array_like=True, tag=4, frozen=True):
    name: Name


class Purge(msgspec.Struct, array_like=True, tag=5, frozen=True):
    name: Name


class Bind(msgspec.Struct, array_like=True, tag=6, frozen=True):
    name: Name
    binding: Bound


class Unbind(msgspec.Struct, array_like=True, tag=7, frozen=True):
    name: Name
    binding: Bound


class Want(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """readers: members of the part that are not other nodes; 0: it has none, and gives back what it has."""

    name: Name
    total: Number
    readers: Number


class Fetch(msgspec.Struct, array_like=True, tag=9, frozen=True):
    name: Name
    number: Number


class Nothing(msgspec.Struct, array_like=True, tag=10, frozen=True):
    name: Name
    number: Number


class Lend(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """attempts: of the delivery that the borrower makes first, of each event."""

    name: Name
    first: Number
    attempts: Annotated[list[Attempts], Meta(min_length=1, max_length=LENT_MAX)]
    body: bytes


class Done(msgspec.Struct, array_like=True, tag=12, frozen=True):
    name: Name
    numbers: Annotated[list[Number], Meta(max_length=LENT_MAX)]


class Back(msgspec.Struct, array_like=True, tag=13, frozen=True):
    name: Name
    numbers: Annotated[list[tuple[Number, Attempts]], Meta(max_length=LENT_MAX)]


class Reach(msgspec.Struct, array_like=True, tag=14, frozen=True):
    places: Annotated[list[tuple[Node, Node, Stream, Index, Number]], Meta(max_length=20_000)]


class Seek(msgspec.Struct, array_like=True, tag=15, frozen=True):
    name: Name


class Offer(msgspec.Struct, array_like=True, tag=16, frozen=True):
    name: Name
    user: Text
    options: QueueOptions
    expires_s: Annotated[float, Meta(ge=0, le=1e10)] | None = None
    max_deliveries: Annotated[int, Meta(ge=1, le=2**31)] | None = None


Message: TypeAlias = (Join | Absent | Leave | Delete | Purge | Bind | Unbind | Want | Fetch | Nothing | Lend | Done
                      | Back | Reach | Seek | Offer)


class Frame(msgspec.Struct, array_like=True, tag=TAG, frozen=True):
    """first: number of the first message. heard: of the last one that came from there, in order."""

    run: Annotated[int, Meta(ge=1, le=2**62)]
    to_run: Annotated[int, Meta(ge=0, le=2**62)]
    first: Number
    heard: Number
    messages: Annotated[list[msgspec.Raw], Meta(max_length=1_000)]


_T = TypeVar("_T")

_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def is_of_queues(body: bytes) -> bool:
    return len(body) > 1 and body[1] == TAG and 0x91 <= body[0] <= 0x9F


def encode(message: Message | Frame) -> bytes:
    return _encoder.encode(message)


def decode_frame(body: bytes) -> Frame:
    """Raises BadMessage."""
    return _decode(_frame_decoder, body)


def decode(body: msgspec.Raw) -> Message:
    """Raises BadMessage."""
    return _decode(_decoder, body)


def _decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes | msgspec.Raw) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(str(error)[:200]) from None
