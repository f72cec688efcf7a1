"""LocalStore: the streams of one data directory. The seam above which nothing knows about files.

    <root>/lock                                     held while a process has the store open
    <root>/epoch, <root>/catalog                    its random id and what it holds, see catalog.py
    <root>/streams/<stream, escaped>/<partition>/   segments, see segment.py

Lives on the loop thread. Threads work for it (workers.py): the writers (group commits, one at a time of each
partition) and the keeper (summaries, retention, compaction; in order). They touch no object of the loop; what they
found comes back by call_on_loop.
"""
from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from routing.errors import Reason, Refusal, StorageError
from routing.log.catalog import Bounds, Catalog, rename_internal
from routing.log.cold import ColdReads
from routing.log.committing.gather import Gather
from routing.log.committing.journal import JOURNAL_BYTES, TASKS_MIN, Journal
from routing.log.committing.pace import Pace
from routing.log.committing.workers import InlineWriter, ParallelWriter, ThreadWriter, Writer
from routing.log.crash import crash_point
from routing.log.fs import FileSystem, RealFileSystem
from routing.log.handles import OPEN_SEGMENTS_MAX, OpenSegments
from routing.log.kept.lifting import DIRECTORY as KEPT_DIRECTORY
from routing.log.kept.restore import restore_kept
from routing.log.opening import Opener
from routing.log.partition import Commit, Partition
from routing.log.records.decode import Decoder
from routing.log.recovery.recovery import recover_partition
from routing.log.recovery.replay import replay
from routing.log.segments.segment import segment_name
from routing.log.segments.sidecars import LOG
from routing.log.tail_cache import TailBudget
from routing.log.template import fixed_topic, topic_of_key
from routing.settings import Durability, StreamSettings
from routing.ticket import Ticket

log = logging.getLogger(__name__)

MAINTAIN_STEP_S = 0.002         # of forty thousand partitions some in each turn
CATALOG_EVERY_MS = 60_000       # what moved is in the partitions' own notes as well
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_NAME_BYTES_MAX = 249           # Kafka's bound of a topic name; escaped names must fit in a file name too


class Store(Protocol):
    """What the router needs of a store."""

    epoch: str
    pending_bytes: int
    steady_ms: Callable[[], int]

    @property
    def crowded(self) -> bool: ...

    def open_stream(self, settings: StreamSettings) -> list[Partition]: ...
    def open_more(self, settings: StreamSettings, first: int, until: int) -> list[Partition]: ...
    def close_again(self, partitions: list[Partition]) -> None: ...
    def prepare(self, settings: StreamSettings, first: int, done: Callable[[str | None], None]) -> None: ...
    def remove_stream(self, name: str, done: Callable[[str | None], None]) -> None: ...
    def remove_files(self, name: str) -> None: ...
    def kick(self) -> None: ...
    def take_done(self) -> None: ...
    def maintain(self, steady_ms: int) -> None: ...
    def close(self) -> None: ...


class LocalStore:
    def __init__(
        self,
        root: Path,
        *,
        call_on_loop: Callable[[Callable[[], None]], None],
        clock_ms: Callable[[], int],
        pending_bytes_max: int = 64 * 1024 * 1024,
        tail_cache_bytes: int = 64 * 1024 * 1024,
        fs: FileSystem | None = None,
        spawn_writer: Callable[[str], Writer] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        gather: Gather | None = None,
        steady_ms: Callable[[], int] | None = None,
        settled_for_ms: Callable[[], int] = lambda: 1 << 62,
        open_segments_max: int = OPEN_SEGMENTS_MAX,
        journal_bytes: int = JOURNAL_BYTES,
    ) -> None:
        """Lock the directory, which is made when missing. Raises StorageError when it is in use or cannot be read.

        call_on_loop must run functions in order on the loop's thread (loop.call_soon_threadsafe).
        spawn_writer makes the writer and the keeper, None: threads; workers.InlineWriter makes the store run on one.
        gather: when commits may wait for more; None: they never do.
        journal_bytes: of each of the two shared journals (journal.py); 0: each partition syncs for itself.
        steady_ms, settled_for_ms: the other times of routing/clock.py; None: clock_ms never jumps.
        """
        self.clock_ms = clock_ms
        self.clock_s = clock_s
        self.steady_ms = steady_ms or clock_ms
        self.settled_for_ms = settled_for_ms
        self.open_segments = OpenSegments(open_segments_max)
        self.opener = Opener(self)
        self.cold_reads = ColdReads(self.read_aside, self.on_loop)
        self.pending_bytes = 0
        self.pending_bytes_max = pending_bytes_max
        self._pace = Pace(pending_bytes_max // 2)
        self.partitions: list[Partition] = []
        self._catalog_due_ms = 0
        self._root = root
        self._fs = fs if fs is not None else RealFileSystem()
        self._call_on_loop = call_on_loop
        self._tail_budget = TailBudget(tail_cache_bytes)
        self._dirty: dict[Partition, None] = {}
        self._rejected: list[tuple[Ticket, Partition, Refusal]] = []
        self._answered: list[Ticket] = []
        self._notifications: deque[Callable[[], None]] = deque()
        self._notifying = False
        self._leaving: list[tuple[list[Partition], Callable[[], None]]] = []    # deleted, with a commit under way
        self._committing: dict[Partition, Commit] = {}
        self._done: deque[Commit] = deque()      # the writers add to it
        self._done_called = False                   # _take_done is on its way
        self._gather = gather
        self._gathering = False         # a timer will start the next commit
        self._started_s = 0.0           # of the last commit
        self._closed = False
        self.is_closing = False         # commits get no second try
        try:
            self._fs.make_directory(root)
            self._lock = self._fs.lock(root / "lock")
            replay(self._fs, root)
            rename_internal(self._fs, root)
            self._catalog = Catalog(self._fs, root)
            self.epoch = self._catalog.epoch
        except OSError as error:
            raise StorageError(f"{error.filename or root}: {error.strerror}") from error
        self._writer: Writer = (spawn_writer or ParallelWriter)("meshgate-log-writer")
        self._keeper: Writer = (spawn_writer or ThreadWriter)("meshgate-log-keeper")
        self._readers: Writer = (spawn_writer or ParallelWriter)("meshgate-log-reader")
        self._checker: Writer = (spawn_writer or ThreadWriter)("meshgate-log-checker")
        self._journal = Journal(self._fs, root, self.later, journal_bytes)

    # ------------------------------------------------------------------------------------------------ streams

    def open_stream(self, settings: StreamSettings) -> list[Partition]:
        """Recover the partitions of a stream. Raises StorageError when a partition cannot be served at all."""
        if any(partition.stream == settings.name for partition in self.partitions):
            raise StorageError(f"the stream {settings.name} is open already")
        directory = self._root / "streams" / escape_name(settings.name)
        return self._open(settings, directory, range(self._partition_count(directory, settings)))

    def open_more(self, settings: StreamSettings, first: int, until: int) -> list[Partition]:
        """Open the partitions from first to before until of a stream that is open, or is being opened."""
        return self._open(settings, self._root / "streams" / escape_name(settings.name), range(first, until))

    def close_again(self, partitions: list[Partition]) -> None:
        """Opened, and not to be used after all."""
        gone = set(partitions)
        self.partitions = [partition for partition in self.partitions if partition not in gone]
        for partition in partitions:
            partition.let_go()

    def _open(self, settings: StreamSettings, directory: Path, indexes: range) -> list[Partition]:
        opened = []
        for index in indexes:
            path = directory / str(index)
            decoder = Decoder(None, lambda key: topic_of_key(settings, key), fixed_topic(settings))
            try:
                bounds = self._catalog.bounds(path, directory.name, index)
                segments, missing = recover_partition(
                    self._fs, path, decoder, synced_groups=settings.durability is Durability.FSYNC,
                    steady_ms=self.steady_ms(), bounds=bounds,
                )
                kept = restore_kept(self._fs, path, decoder, segments[0].base_offset)
            except OSError as error:
                raise StorageError(f"{error.filename or path}: {error.strerror or error}") from error
            partition = Partition(self, settings, index, segments, self._tail_budget, kept)
            for damage in missing:
                partition.found_damage(damage)
            if bounds is not None:
                partition.kept_from = bounds.start
            opened.append(partition)
            self.note(partition)
        self.partitions += opened
        return opened

    def prepare(self, settings: StreamSettings, first: int, done: Callable[[str | None], None]) -> None:
        """Make the directories of partitions from first on, aside. done(problem) is called on the loop."""
        fs, directory = self._fs, self._root / "streams" / escape_name(settings.name)

        def work() -> None:
            problem = None
            try:
                for index in range(first, settings.partitions):
                    path = directory / str(index)
                    fs.make_directory(path)
                    fs.open(path / (segment_name(0) + LOG), create=True).close()
                    fs.sync_directory(path)
            except OSError as error:
                problem = f"{error.filename or directory}: {error.strerror}"
            self.on_loop(lambda: done(problem))

        self.read_aside(work)

    def remove_stream(self, name: str, done: Callable[[str | None], None]) -> None:
        """Close a stream and remove its files. done(problem) is called on the loop."""
        gone = [partition for partition in self.partitions if partition.stream == name]
        self.partitions = [partition for partition in self.partitions if partition.stream != name]
        for partition in gone:
            partition.abandon()
            self._dirty.pop(partition, None)

        def work() -> None:
            problem = None
            directory = self._root / "streams" / escape_name(name)
            try:
                self._journal.forget(directory)
                self._remove_directory(directory)
            except OSError as error:
                problem = f"{error.filename or name}: {error.strerror}"
            self.on_loop(lambda: done(problem))

        def quiet() -> None:
            """No commit of it is under way: behind all that the keeper has been given to do for it."""
            for partition in gone:
                partition.let_go()
            self._catalog.forget(escape_name(name))
            self.later(work)

        self._leaving.append((gone, quiet))
        self._leave()

    def _leave(self) -> None:
        leaving, self._leaving = self._leaving, []
        for gone, quiet in leaving:
            if any(partition in self._committing for partition in gone):
                self._leaving.append((gone, quiet))
            else:
                quiet()

    def remove_files(self, name: str) -> None:
        """Of a stream that is not open. Raises StorageError."""
        directory = self._root / "streams" / escape_name(name)
        try:
            self._journal.forget(directory)
            self._remove_directory(directory)
        except OSError as error:
            raise StorageError(f"{error.filename or directory}: {error.strerror}") from error
        self._catalog.forget(directory.name)

    def _remove_directory(self, directory: Path) -> None:
        if not self._fs.exists(directory):
            return
        for partition in self._fs.names(directory):
            for path in (directory / partition / KEPT_DIRECTORY, directory / partition):
                for file in self._fs.names(path) if self._fs.exists(path) else ():
                    self._fs.remove(path / file)
                    crash_point("in_delete")
                self._fs.remove_directory(path)
        self._fs.remove_directory(directory)
        self._fs.sync_directory(directory.parent)

    def note(self, partition: Partition) -> None:
        """The partition has a new segment: write that down. Once the start has moved the note must not be torn by a
        loss of power: without it what retention has removed would be missing.
        """
        save = self.noting(partition, durable=partition.kept_from > 0)
        if save is not None:
            self.later(save)

    def noting(self, partition: Partition, *, durable: bool) -> Callable[[], None] | None:
        """A function for the keeper that notes where the partition begins and ends; None when that is noted already."""
        active = partition.segments[-1]
        place = active.directory, active.directory.parent.name, partition.index
        if not self._catalog.set(*place, Bounds(partition.kept_from, active.base_offset)):
            return None
        return self._catalog.noting(*place, durable=durable)

    def _partition_count(self, directory: Path, settings: StreamSettings) -> int:
        """As many as are set, but none that holds events is left out."""
        names = self._fs.names(directory) if self._fs.exists(directory) else []
        existing = 1 + max((int(name) for name in names if name.isascii() and name.isdigit()), default=-1)
        existing = max(existing, self._catalog.known_partitions(directory.name))
        if existing > settings.partitions:
            log.warning(
                "stream %s has %d partitions on disk and %d in its settings; all on disk stay in use",
                settings.name, existing, settings.partitions,
            )
        return max(existing, settings.partitions)

    def missing(self) -> list[str]:
        """Streams that were in this directory and are gone. Each is told at one start."""
        directory = self._root / "streams"
        on_disk = self._fs.names(directory) if self._fs.exists(directory) else []
        return [unquote(name) for name in self._catalog.missing(set(on_disk))]

    def unserved(self) -> list[str]:
        """Streams on disk that nobody has opened: their events are kept, but not to be had."""
        opened = {escape_name(partition.stream) for partition in self.partitions}
        directory = self._root / "streams"
        found = self._fs.names(directory) if self._fs.exists(directory) else []
        return sorted(unquote(name) for name in found if name not in opened)

    # ------------------------------------------------------------------------------------------------ commit

    @property
    def crowded(self) -> bool:
        """More waits than the disk takes in some milliseconds: publishers should be held."""
        return self.pending_bytes > self._pace.bytes_max

    def dirty(self, partition: Partition) -> None:
        """The partition has something to write."""
        self._dirty[partition] = None

    def reject(self, ticket: Ticket, partition: Partition, refusal: Refusal) -> None:
        """Refuse a ticket's share with the next kick: never within append."""
        self._rejected.append((ticket, partition, refusal))

    def answer(self, ticket: Ticket) -> None:
        """One share of a ticket is done, whatever came of it: say so with the next kick, never within the call."""
        self._answered.append(ticket)

    def check(self, work: Callable[[], None]) -> None:
        """Run work on the checker thread: batches that would hold the loop."""
        self._checker.submit(work)

    def read_aside(self, work: Callable[[], None]) -> None:
        """Run work on a reader thread: what waits for the disk."""
        self._readers.submit(work)

    def later(self, work: Callable[[], None]) -> None:
        """Run work on the keeper thread."""
        self._keeper.submit(work)

    def on_loop(self, work: Callable[[], None]) -> None:
        """Run work on the loop thread, unless the store is closed by then."""
        self._call_on_loop(lambda: None if self._closed else work())

    def kick(self) -> None:
        """Start a group commit of every partition in which something waits and none is under way. Cheap to call."""
        if self._rejected:
            rejected, self._rejected = self._rejected, []
            for ticket, partition, refusal in rejected:
                ticket.part_failed(partition, refusal)
        if self._answered:
            answered, self._answered = self._answered, []
            for ticket in answered:
                ticket.part_done()
        if not self._dirty or self._gathering:
            return
        now_s = self.clock_s()
        ready = [
            partition for partition in self._dirty
            if partition not in self._committing and (self.is_closing or partition.may_commit(now_s))
        ]
        if not ready or self._wait_for_more():
            return
        self._started_s = now_s
        tasks = []
        for partition in ready:
            if partition.has_open_group:
                task = self._committing[partition] = partition.begin_commit()
                tasks.append(task)
            if not partition.has_open_group:
                del self._dirty[partition]
        if tasks:
            self._pace.begun(now_s)
        if len(tasks) >= TASKS_MIN:
            together = [task for task in tasks if task.is_plain]
            if self._journal.may_take(together):
                together = [task for task in together if task.alone]    # of the rest the whole file is to be synced
                self._run_together(together)
                tasks = [task for task in tasks if not task.shared]
        for task in tasks:
            self._writer.submit(task.run, lambda task=task: self._ran(task))    # type: ignore[misc]

    def _run_together(self, tasks: list[Commit]) -> None:
        if not tasks:
            return
        for task in tasks:
            task.shared = True
        self._journal.busy = True

        def told() -> None:
            self._journal.busy = False
            self._ran(*tasks)

        self._writer.submit(lambda: self._journal.run(tasks), told)

    def _ran(self, *tasks: Commit) -> None:
        """On a writer thread. The loop is called once for all that is done by the time it comes."""
        self._done += tasks
        if not self._done_called:
            self._done_called = True        # two threads may both get here; one call too many does no harm
            self._call_on_loop(self._take_done)

    def _wait_for_more(self) -> bool:
        """True when this commit should start later; it will."""
        wait_s = self._gather.wait_s(self._started_s, self.pending_bytes) if self._gather is not None else 0.0
        if wait_s <= 0.0:
            return False
        assert self._gather is not None
        self._gathering = True
        self._gather.call_later(wait_s, self._gathered)
        return True

    def _gathered(self) -> None:
        self._gathering = False
        self._started_s = 0.0           # long enough
        self.kick()

    def take_done(self) -> None:
        """Tell now what the commits that are back have brought, and not when the loop comes to it."""
        if self._done:
            self._take_done()

    def _take_done(self) -> None:
        """Commits are back. The next ones start before anybody is told, so that the disk is busy meanwhile."""
        self._done_called = False           # before looking: what comes from now on calls again
        size = commits = 0
        while self._done:
            task = self._done.popleft()
            commits += 1
            size += sum(map(len, task.pieces))
            partition = task.partition
            del self._committing[partition]
            if task.failure is not None and task.failure.reason is Reason.STORAGE_FAILED:
                self._journal.must_stay()
            self._notifications.append(partition.end_commit(task))
            if partition.has_open_group:
                self._dirty[partition] = None
        if self._leaving:
            self._leave()
        self._pace.done(size, commits, self.clock_s(), more=bool(self._committing))
        self.kick()
        self._notify()

    def _notify(self) -> None:
        if self._notifying:
            return                      # a writer that runs inline came back within kick: keep the order
        self._notifying = True
        try:
            while self._notifications:
                self._notifications.popleft()()
        finally:
            self._notifying = False

    # ------------------------------------------------------------------------------------------------ upkeep

    def maintain(self, steady_ms: int) -> None:
        """Retention, compaction, rolling by age. Call it about once a second; what is heavy runs on the keeper."""
        for _ in self.maintaining(steady_ms):
            pass

    def maintaining(self, steady_ms: int) -> Iterator[None]:
        """The same in steps: partitions may come and go meanwhile. One that is left out has the next second."""
        at = 0
        until_s = self.clock_s() + MAINTAIN_STEP_S
        while at < len(self.partitions) and not self._closed:
            self.partitions[at].maintain(steady_ms)
            at += 1
            if self.clock_s() >= until_s:
                self.kick()
                yield
                until_s = self.clock_s() + MAINTAIN_STEP_S
        if self._closed:
            return
        if self._catalog.has_changed and steady_ms >= self._catalog_due_ms:
            self._catalog_due_ms = steady_ms + CATALOG_EVERY_MS
            self.later(self._catalog.saving())
        self.kick()

    def close(self) -> None:
        """Write and sync everything that waits, save the checkpoints, release the lock. Blocks."""
        if self._closed:
            return
        self._closed = True
        self._gather = None             # nothing waits any more
        self._gathering = False
        self._readers.close()
        self._readers = InlineWriter("")
        self._checker.close()
        self._checker = InlineWriter("")
        self._keeper.close()
        self._keeper = InlineWriter("")
        self._writer.close()
        self._writer = InlineWriter("")     # from here on everything runs on this thread
        self._call_on_loop = _run_now
        self.is_closing = True
        self._take_done()
        while self._dirty or self._rejected or self._answered:
            self.kick()
        self._journal.close()
        for partition in self.partitions:
            partition.close()
        if self._catalog.has_changed:
            self._catalog.saving()()
        self._lock.release()


def _run_now(work: Callable[[], None]) -> None:
    work()


def escape_name(name: str) -> str:
    """A stream name as a directory name: everything but letters, digits and _-. is percent-encoded.

    Raises StorageError for names that cannot be one.
    """
    if not name:
        raise StorageError("a stream name must not be empty")
    escaped = "".join(
        char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in name
    )
    if escaped.startswith("."):             # ".", ".." and hidden files
        escaped = "%2E" + escaped[1:]
    if len(escaped) > _NAME_BYTES_MAX:
        raise StorageError(f"the stream name {name[:40]!r}… is too long")
    return escaped
