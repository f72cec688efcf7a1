"""Kept: what retention has taken from one partition and queues still owe to their readers.

    ┌─ kept/ ──────────────────────┐   ┌─ the log ───────────────────────────┐
    │ some records of old segments │   │ all records of the newer segments   │
    └── only queues read here ─────┘   └── start_offset: everybody reads here ┘

Records keep their offsets, so a queue reads on as if nothing had happened. Loop thread only; files are changed on the
keeper thread (lifting.py). Retention says what it would like to remove (ask), the queues say what of that they owe
(lift), and what they have settled goes (settled).
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from routing.log.kept.lifting import KEPT, TooMuch, lift, remove_kept, settle
from routing.log.producing.producers import ProducerTable
from routing.log.reader import Reader
from routing.log.segments.rewriting import Source
from routing.log.segments.segment import Segment
from routing.log.segments.sidecars import LOG

if TYPE_CHECKING:
    from routing.log.cold import ColdReads
    from routing.log.handles import OpenSegments
    from routing.log.kept.owed import Owed
    from routing.log.opening import Opener
    from routing.log.records.decode import Decoder
    from routing.settings import StreamSettings

log = logging.getLogger(__name__)

WORTH_SHARE = 0.5               # of what retention would remove: if more is owed, it stays where it is for now
AGAIN_MS = 60_000               # after which it is looked at again
REWRITE_MS = 600_000            # how soon kept segments are written again without what was settled meanwhile,
REWRITE_MAX_MS = 86_400_000     # and how late, if that never frees much
REWRITE_SHARE = 0.1             # freed: it was worth it
MERGED_MIN = 4                  # kept segments of like size that are made one


class Owner(Protocol):
    """What it needs of the store."""

    steady_ms: Callable[[], int]
    open_segments: OpenSegments
    opener: Opener
    cold_reads: ColdReads

    def later(self, work: Callable[[], None]) -> None: ...
    def on_loop(self, work: Callable[[], None]) -> None: ...


class Home(Protocol):
    """The partition whose it is."""

    stream: str
    index: int
    settings: StreamSettings
    segments: list[Segment]
    producers: ProducerTable
    rewrites: int

    def fresh_decoder(self) -> Decoder: ...
    def remove_oldest(self, count: int) -> None: ...


class Kept:
    __slots__ = (
        "_asked", "_busy", "_home", "_not_before_ms", "_owner", "_reader", "_rewrite_every_ms", "_rewrite_ms",
        "segments")

    def __init__(self, home: Home, owner: Owner, segments: list[Segment], decoder: Decoder) -> None:
        """segments: as recovered, in order."""
        self.segments = segments
        self._home = home
        self._owner = owner
        self._reader = Reader(segments, decoder, owner.open_segments, ProducerTable(), owner.opener, owner.cold_reads)
        self._asked: list[Segment] = []                 # would go, if it were known what of it is owed
        self._busy = False
        self._not_before_ms = 0
        self._rewrite_every_ms = REWRITE_MS
        self._rewrite_ms = owner.steady_ms() + REWRITE_MS

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def start_offset(self) -> int | None:
        """None: nothing is kept."""
        return self.segments[0].base_offset if self.segments else None

    @property
    def end_offset(self) -> int:
        return self.segments[-1].next_offset if self.segments else 0

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def events(self) -> int:
        """Settled ones that have not gone yet included."""
        return sum(segment.record_count for segment in self.segments)

    @property
    def reader(self) -> Reader:
        return self._reader

    @property
    def is_busy(self) -> bool:
        """The list of segments must stay as it is."""
        return self._busy

    @property
    def asked_below(self) -> int | None:
        """Who knows the queues is to call lift() with what they owe below this offset."""
        return self._asked[-1].next_offset if self._asked and not self._busy else None

    # -- what retention asks ----------------------------------------------------------------------------------

    def ask(self, segments: list[Segment]) -> None:
        """These oldest segments of the log would go, but for what is owed of them."""
        if not self._busy and self._owner.steady_ms() >= self._not_before_ms:
            self._asked = segments

    def settled(self, floor: int | None) -> None:
        """Nothing below this offset is owed any more; None: nothing at all. Called once a second."""
        if not self.segments or self._busy:
            return
        count = 0
        while count < len(self.segments) and (floor is None or self.segments[count].next_offset <= floor):
            count += 1
        if count:
            self._remove(self.segments[:count])
        if self.segments and not self._asked:
            self._asked = self._mergeable() or self._rewritable()

    def _mergeable(self) -> list[Segment]:
        """The newest ones, as far as each is no larger than those after it together."""
        size, first = 0, len(self.segments)
        while first and self.segments[first - 1].size <= max(size, 64 * 1024) and (
                size + self.segments[first - 1].size <= self._home.settings.segment_bytes):
            first -= 1
            size += self.segments[first].size
        run = self.segments[first:]
        return run if len(run) >= MERGED_MIN else []

    def _rewritable(self) -> list[Segment]:
        now_ms = self._owner.steady_ms()
        if now_ms < self._rewrite_ms:
            return []
        self._rewrite_ms = now_ms + self._rewrite_every_ms
        return list(self.segments)

    def _remove(self, gone: list[Segment]) -> None:
        for segment in gone:
            self._reader.forget(segment)
            self.segments.remove(segment)

        def delete() -> None:
            for segment in gone:
                try:
                    remove_kept(segment)
                except OSError as error:
                    log.warning("%s: cannot be deleted: %s; the next start does", segment.path(), error)

        self._owner.later(delete)

    # -- what the queues answer -------------------------------------------------------------------------------

    def lift(self, owed: Owed) -> None:
        """Copy what is owed of what was asked about; then that goes."""
        asked, self._asked = self._asked, []
        home = self._home
        of_log = bool(asked) and asked == home.segments[:len(asked)] and len(asked) < len(home.segments)
        if self._busy or not asked or owed.below < asked[-1].next_offset or not (
                of_log or all(segment in self.segments for segment in asked)):
            return                                      # it is asked again
        covered = sum(segment.next_offset <= self.end_offset for segment in asked) if of_log else 0
        if of_log and (owed.is_empty or covered):       # lifted before a crash that brought the files back
            home.remove_oldest(covered or len(asked))
            return
        self._busy = True
        sources = [Source(segment.base_offset, segment.next_offset, segment.size, segment.opened_ms,
                          segment.appended_ms) for segment in asked]
        fs, directory = home.segments[0].fs, home.segments[0].directory
        decoder, segment_bytes = home.fresh_decoder(), home.settings.segment_bytes
        size = sum(source.size for source in sources)
        bytes_max = int(size * WORTH_SHARE) if of_log else size + 1024 * 1024
        aborted = ProducerTable()
        if of_log:
            aborted = home.producers.aborted_in(sources[0].base_offset, sources[-1].next_offset)

        def work() -> None:
            try:
                made = lift(fs, directory, sources, LOG if of_log else KEPT, decoder, owed, aborted, segment_bytes,
                            bytes_max)
            except TooMuch:
                self._owner.on_loop(lambda: self._later("more than half of it is owed to queues"))
            except OSError as error:
                text = f"cannot be kept: {error}"
                self._owner.on_loop(lambda: self._later(text))
            else:
                self._owner.on_loop(lambda: self._take(asked, made, of_log=of_log))

        self._owner.later(work)

    def _later(self, why: str) -> None:
        self._busy = False
        self._not_before_ms = self._owner.steady_ms() + AGAIN_MS
        log.info("stream %s partition %d: old segments stay for now: %s", self._home.stream, self._home.index, why)

    def _take(self, asked: list[Segment], made: list[Segment], *, of_log: bool) -> None:
        """The new segments keep file and index in memory until their names are in place."""
        home = self._home
        if of_log:
            self.segments += made
        else:
            at = self.segments.index(asked[0])
            self._pace(sum(segment.size for segment in asked), sum(segment.size for segment in made))
            for segment in asked:
                self._reader.forget(segment)
                self.segments.remove(segment)
            self.segments[at:at] = made
        home.rewrites += 1                              # whoever counts there counts anew
        sidecars = [segment.sidecars() for segment in made]
        replaced = [] if of_log else [segment for segment in asked
                                      if all(segment.base_offset != one.base_offset for one in made)]

        def name() -> None:
            try:
                for segment, save in zip(made, sidecars):
                    settle(segment)
                    save()
                for segment in replaced:
                    remove_kept(segment)
            except OSError as error:                    # a start finishes it; until then all stays open as it is
                log.error("stream %s partition %d: kept events have no name yet: %s", home.stream, home.index, error)
                self._owner.on_loop(self._idle)
                return
            self._owner.on_loop(lambda: self._named(made))

        self._owner.later(name)
        if of_log:
            size = sum(segment.size for segment in asked)
            log.info("stream %s partition %d: retention takes %d bytes, of which queues are owed %d events, kept in %d",
                     home.stream, home.index, size, sum(segment.record_count for segment in made),
                     sum(segment.size for segment in made))
            home.remove_oldest(len(asked))

    def _pace(self, before: int, after: int) -> None:
        """Written again: soon once more if that freed something, else later and later."""
        worth = before - after >= before * REWRITE_SHARE
        self._rewrite_every_ms = REWRITE_MS if worth else min(2 * self._rewrite_every_ms, REWRITE_MAX_MS)

    def _named(self, made: list[Segment]) -> None:
        for segment in made:
            segment.suffix = KEPT
            segment.release()
        self._busy = False

    def _idle(self) -> None:
        self._busy = False

    # -- files ------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Close the files as they are."""
        for segment in self.segments:
            self._owner.open_segments.forget(segment)
            segment.close()


