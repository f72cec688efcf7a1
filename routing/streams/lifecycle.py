"""Streams at run time: made, changed, grown and deleted while the node runs, and what is stored of them.

    stream/<name>   in the state table: the incarnation of a stream, and its settings when no file has it

A stream of the configuration keeps its file's settings: what is changed here counts until the next reload, which says
so. Every stream has an incarnation, 16 bytes, another one when it is made again. A stream made at run time is known to
other nodes by its name and incarnation (`origin_name`), so that offsets which begin anew are not taken for old events.

Deleting is two steps: the record says so, durably, then the files go. A node that dies in between ends it at its start;
until then the name cannot be used again. Making is the other way round: the directories, then the record.
"""
from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.errors import Reason, Refusal, StorageError, TopicError
from routing.settings import Limits, StreamSettings
from routing.steps import in_steps
from routing.streams.streams import INCARNATION_DIGITS
from routing.ticket import Ticket, done_ticket
from routing.topic import check_filter

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.log.store import Store
    from routing.state import StateTable
    from routing.streams.streams import Stream, StreamTable

log = logging.getLogger(__name__)

STREAM = "stream/"
NAME_MAX = 249                      # Kafka's
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class StreamRecord(msgspec.Struct, omit_defaults=True):
    """What is stored of a stream."""

    incarnation: bytes
    settings: StreamSettings | None = None      # None: the configuration has them
    origin_name: str = ""                       # what other nodes know it by; "": its name
    owner: str = ""                             # the user who made it
    made_ms: int = 0
    gone: bool = False                          # deleted, but perhaps not all of its files yet


class Desk(Protocol):
    """What is needed of the router."""

    store: Store
    state: StateTable
    streams: StreamTable
    limits: Limits
    clock_ms: Callable[[], int]
    call_soon: Callable[[Callable[[], None]], object]

    def request_turn(self) -> None: ...
    def stream_opened(self, stream: Stream) -> None: ...
    def stream_changed(self, stream: Stream, before: StreamSettings) -> None: ...
    def partitions_gone(self, stream: Stream, gone: list[Partition]) -> None: ...


class Lifecycle:
    """Loop thread only. What is asked answers with a Ticket: done when it is durable, refusals[0] says why not."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._records: dict[str, StreamRecord] = {}
        self._busy: set[str] = set()                    # names that are being made, grown or deleted
        self.on_deleted: list[Callable[[str, bytes], None]] = []        # told of name and incarnation

    # -- start and reload -------------------------------------------------------------------------------------

    def start(self, configured: list[StreamSettings]) -> None:
        """Open all streams: those of the configuration, then those that were made at run time."""
        desk = self._desk
        for name, record in desk.state.decoded(STREAM, StreamRecord, "stream"):
            self._records[name] = record
        for name in [name for name, record in self._records.items() if record.gone]:
            desk.store.remove_files(name)
            del self._records[name]
            desk.state.delete(STREAM + name)
        names = {settings.name for settings in configured}
        for settings in configured:
            self._take_over(settings)
            self._open(settings)
        for name, record in self._records.items():
            if name in names or record.settings is None:
                continue
            try:
                self._open(record.settings)
            except StorageError as error:               # one bad stream of a client's must not keep a node down
                log.error("stream %s cannot be opened: %s", name, error)

    def reload(self, configured: list[StreamSettings]) -> list[Stream]:
        """Streams of the file that are new or changed. The file wins."""
        for settings in configured:
            self._take_over(settings)
        changed = self._desk.streams.apply(configured)
        for stream in changed:
            self._tag(stream)
        return changed

    def _take_over(self, settings: StreamSettings) -> None:
        record = self._records.get(settings.name)
        if record is None:
            record = StreamRecord(secrets.token_bytes(16), made_ms=self._desk.clock_ms())
        elif record.settings is None:
            return
        else:
            log.warning("stream %s was made at run time; the configuration has it now, and its settings count",
                        settings.name)
            record.settings = None
        self._put(settings.name, record)

    def _open(self, settings: StreamSettings) -> Stream:
        stream = self._desk.streams.open(settings)
        self._tag(stream)
        return stream

    def _tag(self, stream: Stream) -> None:
        record = self._records[stream.name]
        stream.incarnation = record.incarnation
        self._desk.streams.name_for_others(stream, record.origin_name or stream.name)

    # -- questions --------------------------------------------------------------------------------------------

    def is_configured(self, name: str) -> bool:
        """The configuration has it: what is changed here does not outlive a reload, and it cannot be deleted."""
        record = self._records.get(name)
        return record is not None and record.settings is None

    def owner(self, name: str) -> str:
        """The user who made it, "" for none."""
        record = self._records.get(name)
        return record.owner if record is not None else ""

    # -- acts -------------------------------------------------------------------------------------------------

    def refuse_new(self, settings: StreamSettings) -> Refusal | None:
        """Why such a stream cannot be made."""
        name = settings.name
        if not 0 < len(name) <= NAME_MAX or set(name) - _NAME_CHARS or name in (".", ".."):
            return Refusal(Reason.TOPIC_INVALID, f"a stream's name has 1 to {NAME_MAX} letters, digits, dots, dashes "
                           f"and underscores, got {name[:50]!r}")
        if name in self._desk.streams.by_name or name in self._busy or name in self._records:
            return Refusal(Reason.CONFLICT, f"the stream {name} exists" if name not in self._busy else
                           f"the stream {name} is being made or deleted", 1 if name in self._busy else None)
        return self._refuse_settings(settings, settings.partitions)

    def _refuse_settings(self, settings: StreamSettings, more: int) -> Refusal | None:
        for pattern in settings.capture:
            try:
                check_filter(pattern)
            except TopicError as error:
                return Refusal(Reason.FILTER_INVALID, f"capture {pattern}: {error}")
            if pattern.startswith("$"):
                return Refusal(Reason.FILTER_INVALID, f"capture {pattern}: topics that begin with $ are the node's own")
        if settings.partitions < 1:
            return Refusal(Reason.PAYLOAD_INVALID, f"{settings.partitions} partitions, there must be at least one")
        count = sum(len(stream.partitions) for stream in self._desk.streams) + more
        if more and count > self._desk.limits.partitions_max:
            return Refusal(Reason.QUOTA_EXCEEDED, f"{count} partitions, limits.partitions_max is "
                           f"{self._desk.limits.partitions_max}")
        return None

    def create(self, settings: StreamSettings, owner: str = "", incarnation: bytes = b"") -> Ticket:
        """Make a stream. When the ticket is done it is open, and there again after any crash. incarnation: that of the
        same stream on another node; else it gets one of its own.
        """
        refusal = self.refuse_new(settings)
        if refusal is not None:
            return done_ticket(refusal)
        name = settings.name
        incarnation = incarnation or secrets.token_bytes(16)
        record = StreamRecord(incarnation, settings, f"{name}@{incarnation.hex()[:INCARNATION_DIGITS]}", owner,
                              self._desk.clock_ms())
        ticket = Ticket(())
        self._busy.add(name)

        def opened(outcome: list[Partition] | StorageError | Refusal) -> None:
            self._busy.discard(name)
            if isinstance(outcome, list):
                stream = self._desk.streams.open(settings, outcome)
                self._tag(stream)
                self._desk.stream_opened(stream)
                log.info("stream %s was made with %d partitions", name, len(stream.partitions))
            else:
                self._forget(name)
                ticket.refusals[0] = _refused(outcome)
            ticket.part_done()

        def stored(done: Ticket) -> None:
            if done.refusals:
                opened(done.refusals[0])
            else:
                in_steps(self._desk, self._desk.streams.open_in_steps(settings, 0, opened))

        def prepared(problem: str | None) -> None:
            if problem is None:
                self._put(name, record).on_done(stored)
                return
            self._busy.discard(name)
            ticket.refusals[0] = Refusal(Reason.STORAGE_FULL, problem)
            ticket.part_done()

        self._desk.store.prepare(settings, 0, prepared)
        return ticket

    def change(self, settings: StreamSettings) -> Ticket:
        """Other settings for a stream, but not fewer or more partitions: see grow()."""
        stream = self._desk.streams.by_name.get(settings.name)
        if stream is None or settings.name in self._busy:
            return done_ticket(Refusal(Reason.NOT_FOUND, f"there is no stream {settings.name}"))
        settings = msgspec.structs.replace(settings, partitions=stream.settings.partitions)
        refusal = self._refuse_settings(settings, 0)
        if refusal is not None:
            return done_ticket(refusal)
        before = stream.settings
        self._desk.streams.apply([settings])
        self._desk.stream_changed(stream, before)
        return self._keep(settings)

    def grow(self, name: str, partitions: int) -> Ticket:
        """More partitions for a stream; keys may go to others than before."""
        stream = self._desk.streams.by_name.get(name)
        if stream is None or name in self._busy:
            return done_ticket(Refusal(Reason.NOT_FOUND, f"there is no stream {name}"))
        have = len(stream.partitions)
        if partitions <= have:
            return done_ticket(Refusal(
                Reason.PAYLOAD_INVALID, f"{name} has {have} partitions, {partitions} are not more"))
        settings = msgspec.structs.replace(stream.settings, partitions=partitions)
        refusal = self._refuse_settings(settings, partitions - have)
        if refusal is not None:
            return done_ticket(refusal)
        ticket = Ticket(())
        self._busy.add(name)

        def grown(outcome: list[Partition] | StorageError | Refusal) -> None:
            self._busy.discard(name)
            if isinstance(outcome, list):
                before = stream.settings
                self._desk.streams.grow(stream, settings, outcome)
                self._desk.stream_changed(stream, before)
            else:
                ticket.refusals[0] = _refused(outcome)
            ticket.part_done()

        def stored(done: Ticket) -> None:
            if done.refusals:
                grown(done.refusals[0])
            else:
                in_steps(self._desk, self._desk.streams.open_in_steps(settings, have, grown))

        def prepared(problem: str | None) -> None:
            if problem is None:
                self._keep(settings).on_done(stored)
                return
            self._busy.discard(name)
            ticket.refusals[0] = Refusal(Reason.STORAGE_FULL, problem)
            ticket.part_done()

        self._desk.store.prepare(settings, have, prepared)
        return ticket

    def delete(self, name: str) -> Ticket:
        """A stream with all its events. It takes nothing in from now on; the ticket is done when its name is free."""
        stream = self._desk.streams.by_name.get(name)
        if stream is None or name in self._busy:
            return done_ticket(Refusal(Reason.NOT_FOUND, f"there is no stream {name}"))
        record = self._records[name]
        if record.settings is None:
            return done_ticket(Refusal(Reason.CONFLICT, f"the stream {name} belongs to the configuration; it stays"))
        ticket = Ticket(())
        self._busy.add(name)
        record.gone = True

        def noted(done: Ticket) -> None:
            if done.refusals:                           # such as by a full disk: it stays
                record.gone = False
                self._busy.discard(name)
                self._put(name, record)
                ticket.refusals[0] = done.refusals[0]
                ticket.part_done()
                return
            self._desk.streams.close(stream)
            self._desk.partitions_gone(stream, stream.partitions)
            for told in self.on_deleted:
                told(name, stream.incarnation)
            self._desk.store.remove_stream(name, removed)

        def removed(problem: str | None) -> None:
            self._busy.discard(name)
            if problem is None:
                self._forget(name)
                log.info("stream %s was deleted", name)
            else:                                       # the record keeps the name, and the next start tries again
                log.error("stream %s: its files cannot be removed: %s", name, problem)
                ticket.refusals[0] = Refusal(Reason.STORAGE_FAILED, problem)
            ticket.part_done()

        self._put(name, record).on_done(noted)
        return ticket

    # -- helpers ----------------------------------------------------------------------------------------------

    def _keep(self, settings: StreamSettings) -> Ticket:
        """Store new settings, if they are ours to store."""
        record = self._records[settings.name]
        if record.settings is None:
            log.warning("stream %s belongs to the configuration: what was changed counts until it is read again",
                        settings.name)
            return done_ticket()
        record.settings = settings
        return self._put(settings.name, record)

    def _put(self, name: str, record: StreamRecord) -> Ticket:
        self._records[name] = record
        return self._desk.state.put(STREAM + name, msgspec.msgpack.encode(record))

    def _forget(self, name: str) -> None:
        self._records.pop(name, None)
        self._desk.state.delete(STREAM + name)


def _refused(problem: StorageError | Refusal) -> Refusal:
    return problem if isinstance(problem, Refusal) else Refusal(Reason.STORAGE_FAILED, str(problem))
