"""Opening: what the compressed batches of Kafka producers come to, for readers on the loop.

    small                       opened at once
    large, and it may wait      opened on a reader thread; who asked comes again in another turn, and finds it then
    large, and it may not       opened now: at a start, or for one event of it

What was opened is kept for a while, since readers take a large batch in many steps. Of what was opened for somebody who
has not come again only so many are there at a time, and none of them goes to make room: so everybody gets on.
Loop thread only. One per store; used by reader.py and raw_entry.py.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from routing.log.records.batch import BatchHeader
from routing.log.records.codecs import ExpandsTooMuch
from routing.log.records.decode import plain_batch

INLINE_BYTES = 64 * 1024                # of a compressed batch that is opened within the turn,
INLINE_EXPANDED_BYTES = 512 * 1024      # and of what comes out of it: a millisecond
KEPT_BYTES_MAX = 64 * 1024 * 1024       # of what was opened, of all partitions together
UNREAD_MAX = 3                          # being opened, or not yet taken: each may come to EXPANDED_BYTES_MAX
UNREAD_S = 5.0                          # then nobody is believed to come for it

Key = tuple[object, int, int]           # of whom it is, base offset, checksum


class Owner(Protocol):
    """What opening needs of the store."""

    clock_s: Callable[[], float]

    def read_aside(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...


class _Kept:
    __slots__ = ("at_s", "outcome", "was_read")

    def __init__(self, outcome: bytes | Exception, at_s: float, *, was_read: bool) -> None:
        self.outcome = outcome
        self.at_s = at_s
        self.was_read = was_read

    @property
    def size(self) -> int:
        return len(self.outcome) if isinstance(self.outcome, bytes) else 0


class Opener:
    """See the module's head."""

    __slots__ = ("_bytes", "_kept", "_owner", "_under_way")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()     # the one that was used last at the end
        self._bytes = 0
        self._under_way: set[Key] = set()

    def open(self, whose: object, header: BatchHeader, raw: Callable[[], bytes], *, may_wait: bool) -> bytes | None:
        """The batch with its records expanded; None: not yet. header: with the base offset that it has in the log.

        Raises BatchError where it cannot be opened.
        """
        key = whose, header.base_offset, header.crc
        kept = self._kept.get(key)
        if kept is not None:
            kept.was_read = True
            self._kept.move_to_end(key)
            if isinstance(kept.outcome, Exception):
                raise kept.outcome
            return kept.outcome
        if key in self._under_way and may_wait:
            return None
        batch = raw()
        if may_wait:
            try:
                if len(batch) <= INLINE_BYTES:
                    return plain_batch(batch, header, INLINE_EXPANDED_BYTES)
            except ExpandsTooMuch:
                pass
            self._aside(key, batch, header)
            return None
        data = plain_batch(batch, header)
        if len(data) > INLINE_EXPANDED_BYTES:
            self._keep(key, data, was_read=True)
        return data

    def _aside(self, key: Key, batch: bytes, header: BatchHeader) -> None:
        """Begin to open it, if not too many wait to be taken."""
        oldest_s = self._owner.clock_s() - UNREAD_S
        unread = [kept for kept in self._kept.values() if not kept.was_read]
        for kept in unread:
            kept.was_read = kept.at_s < oldest_s
        if len(self._under_way) + sum(not kept.was_read for kept in unread) >= UNREAD_MAX:
            return
        self._under_way.add(key)

        def work() -> None:
            outcome: bytes | Exception
            try:
                outcome = plain_batch(batch, header)
            except Exception as error:
                outcome = error
            self._owner.on_loop(lambda: self._opened(key, outcome))

        self._owner.read_aside(work)

    def _opened(self, key: Key, outcome: bytes | Exception) -> None:
        self._under_way.discard(key)
        self._keep(key, outcome, was_read=False)

    def _keep(self, key: Key, outcome: bytes | Exception, *, was_read: bool) -> None:
        before = self._kept.pop(key, None)
        kept = self._kept[key] = _Kept(outcome, self._owner.clock_s(), was_read=was_read)
        self._bytes += kept.size - (before.size if before is not None else 0)
        for other in list(self._kept) if self._bytes > KEPT_BYTES_MAX else ():
            if self._kept[other].was_read and other != key and self._bytes > KEPT_BYTES_MAX:
                self._bytes -= self._kept.pop(other).size


