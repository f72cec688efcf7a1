"""What was changed, step by step, and can be brought back. Loop thread only.

In memory are a head of each revision, and the newest revisions themselves as far as there is room; older ones are read
from the log when somebody wants them. Bounded in number and in bytes, there and here.
"""
from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from mesh.administration.documents import Key, Stored

REVISIONS_KEPT: Final = 1_000           # that can be shown and brought back
LOGGED_BYTES_MAX: Final = 256 * 1024 * 1024     # of them in the log; beyond it the oldest go
HELD_BYTES_MAX: Final = 16 * 1024 * 1024        # as they are in the log; in memory some four times that
NAMED_MAX: Final = 100                  # documents that a head names


class Step(msgspec.Struct, frozen=True):
    """One document in a revision."""

    before: Stored | None
    after: Stored

    @property
    def key(self) -> Key:
        return self.after.key


class Revision(msgspec.Struct, frozen=True):
    """One apply. number: of this node, without gaps.  source: the node that it came from, "" for this one."""

    number: int
    time_ms: int
    author: str
    reason: str
    steps: tuple[Step, ...]
    source: str = ""


class Head(msgspec.Struct, frozen=True):
    """What a table shows of a revision. documents: the first NAMED_MAX, "kind/name"."""

    number: int
    time_ms: int
    author: str
    reason: str
    source: str
    documents: tuple[str, ...]
    count: int
    offset: int                         # in the log
    size_bytes: int
    marks: array[int]                   # of all its documents, in order


class Revisions:
    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        """read: the value at an offset of the log."""
        self.last = 0                   # the number of the last apply
        self._read = read
        self._heads: OrderedDict[int, Head] = OrderedDict()
        self._held: OrderedDict[int, Revision] = OrderedDict()
        self._logged_bytes = 0
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._heads)

    def __contains__(self, number: int) -> bool:
        return number in self._heads

    def heads(self) -> list[Head]:
        """Newest first."""
        return list(reversed(self._heads.values()))

    def head(self, number: int) -> Head:
        """Of one that is kept."""
        return self._heads[number]

    def get(self, number: int) -> Revision | None:
        """None: it is not kept any more, or cannot be read."""
        held = self._held.get(number)
        head = self._heads.get(number)
        if held is not None or head is None:
            return held
        value = self._read(head.offset)
        try:
            found = msgspec.msgpack.decode(value, type=Revision) if value else None
        except msgspec.MsgspecError:
            return None
        return found if found is not None and found.number == number else None

    def with_document(self, key: Key) -> Iterator[Head]:
        """Newest first; now and then one that has it not."""
        mark = _mark(key)
        for head in self.heads():
            at = bisect_left(head.marks, mark)
            if at < len(head.marks) and head.marks[at] == mark:
                yield head

    def add(self, revision: Revision, offset: int, size_bytes: int) -> None:
        """It is on disk. In order of their numbers."""
        self.last = max(self.last, revision.number)
        keys = [step.key for step in revision.steps]
        named = tuple(f"{kind}/{name}" for kind, name in keys[:NAMED_MAX])
        self._heads[revision.number] = Head(
            revision.number, revision.time_ms, revision.author, revision.reason, revision.source, named, len(keys),
            offset, size_bytes, array("Q", sorted(map(_mark, keys))))
        self._logged_bytes += size_bytes
        self._held[revision.number] = revision
        self._held_bytes += size_bytes
        while self._held_bytes > HELD_BYTES_MAX and len(self._held) > 1:
            number, _ = self._held.popitem(last=False)
            self._held_bytes -= self._heads[number].size_bytes

    def too_old(self, size_bytes: int) -> list[int]:
        """Numbers of those that go when there is another one of this size."""
        count, size = len(self._heads) + 1, self._logged_bytes + size_bytes
        found = []
        for head in self._heads.values():
            if count <= REVISIONS_KEPT and size <= LOGGED_BYTES_MAX:
                break
            found.append(head.number)
            count, size = count - 1, size - head.size_bytes
        return found

    def forget(self, number: int) -> None:
        head = self._heads.pop(number, None)
        if head is None:
            return
        self._logged_bytes -= head.size_bytes
        if self._held.pop(number, None) is not None:
            self._held_bytes -= head.size_bytes


def _mark(key: Key) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode("utf-8", "backslashreplace"), digest_size=8).digest(), "big")
