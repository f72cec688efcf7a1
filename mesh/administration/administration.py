"""Administration: takes changes of managed documents, keeps them, has them in force. One per node, loop thread only.

    changes ── known and well-formed? ── versions as seen? ── somebody left who may administer? ── Prepared
            Prepared ── on disk (book.py) ── in force: keys, users, rules, link peers ── whoever is told

One change at a time, a reload of the configuration file included: all of them hold the lock. What grows with the
number of documents is done in a thread.
"""
from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from mesh.administration.book import (
    CHANGES_MAX,
    DOCUMENTS_MAX,
    TOMBSTONES_MAX,
    VALUE_BYTES_MAX,
    Book,
    BookRefused,
    Change,
)
from mesh.administration.check import circle_of_roles, problems_of
from mesh.administration.documents import Body, Key, RoleDocument, Stored, body_of, differences, document_of, stub_of
from mesh.administration.effective import Base, Place, Rights, combine
from mesh.administration.lastway import can_administer, is_timed, lockout_problem
from mesh.administration.revisions import Revision, Step
from mesh.administration.versions import Conflict, merged, next_version
from mesh.identity.masks import MASKS_MAX

log = logging.getLogger(__name__)

FORGET_EVERY_MS: Final = 3_600_000
IN_THREAD_ABOVE: Final = 200            # documents and rules; below that it takes less than a thread costs


class Invalid(Exception):
    """The changes cannot be taken as they are. The text says why, a line for each reason."""


class InFile(Invalid):
    """What the configuration file says is changed in the file."""


class LockedOut(Invalid):
    """Nobody would be left who may administer."""


class Stale(Exception):
    """Somebody else has changed the same documents meanwhile. conflicts: what differs, of each."""

    def __init__(self, conflicts: list[Body]) -> None:
        names = ", ".join(f"{one['kind']} {one['name']}" for one in conflicts[:10])
        super().__init__(f"changed by somebody else meanwhile: {names}; look at what differs, and send it again with "
                         "the version that there is now")
        self.conflicts = conflicts


class Prepared(msgspec.Struct, frozen=True):
    """Changes that may be made. rights: what will be in force."""

    steps: tuple[Step, ...]
    rights: Rights
    conflicts: tuple[Conflict, ...] = ()


class Administration:
    def __init__(self, book: Book, place: Place, clock_ms: Callable[[], int],
                 take: Callable[[Base, Rights], None]) -> None:
        """take: puts rights in force. start() before anything else."""
        self.book = book
        self.place = place
        self.lock = asyncio.Lock()
        self.on_applied: list[Callable[[Revision], None]] = []
        self.base_since_ms = 0                  # when the configuration file was read last
        self.problem = ""                       # why what is in force is not well, for people
        self._clock_ms = clock_ms
        self._take = take
        self.not_taken: Counter[str] = Counter()        # node → documents that may have been deleted long ago
        self._recombining: asyncio.Task[None] | None = None
        self._forgetting: asyncio.Task[None] | None = None
        self._forget_due_ms = 0
        self.base: Base
        self.rights: Rights

    def start(self, base: Base) -> None:
        """With the configuration of the start; before anybody is served."""
        self.take_base(base, self._combined(base, list(self.book.alive()), self._clock_ms()))

    # -- reading ----------------------------------------------------------------------------------------------

    def in_file(self, key: Key) -> bool:
        return key[1] in self.base.names(key[0])

    def state_of(self, key: Key) -> str:
        return self.rights.states.get(key, "")

    # -- the file and the clock -------------------------------------------------------------------------------

    async def combined(self, base: Base) -> Rights:
        """Of another configuration file. The caller holds the lock, and then calls take_base()."""
        many = len(self.book.documents) + len(base.config.policies) > IN_THREAD_ABOVE
        return await self._off_loop(many, self._combined, base, list(self.book.alive()), self._clock_ms())

    def take_base(self, base: Base, rights: Rights) -> None:
        self.base = base
        self.base_since_ms = self._clock_ms()
        self._in_force(rights)

    def tick(self, now_ms: int) -> None:
        """A right may begin or end by the clock."""
        due_ms = self.rights.until_ms
        if due_ms is not None and now_ms >= due_ms and (self._recombining is None or self._recombining.done()):
            self._recombining = asyncio.get_running_loop().create_task(self._recombine())

        if now_ms >= self._forget_due_ms and (self._forgetting is None or self._forgetting.done()):
            self._forget_due_ms = now_ms + FORGET_EVERY_MS
            self._forgetting = asyncio.get_running_loop().create_task(self.forget_deleted())

    async def forget_deleted(self) -> None:
        """That documents were deleted, long ago."""
        with contextlib.suppress(BookRefused):          # of a full disk others tell
            forgotten = 1
            while forgotten:
                async with self.lock:
                    forgotten = await self.book.forget_deleted(self._clock_ms())

    async def _recombine(self) -> None:
        async with self.lock:
            self._in_force(await self.combined(self.base))

    def _combined(self, base: Base, documents: list[Stored], now_ms: int) -> Rights:
        return combine(base, documents, self.place, now_ms)

    def _in_force(self, rights: Rights) -> None:
        self.rights = rights
        self._take(self.base, rights)
        locked = self.base.config.authenticates and not can_administer(self.base, rights, self._clock_ms())
        self.problem = "nobody who can log in may administer this node" if locked else ""

    async def _off_loop(self, many: bool, work: Callable[..., Rights], *arguments: object) -> Rights:
        return await asyncio.to_thread(work, *arguments) if many else work(*arguments)

    def _are_many(self, documents: list[Stored]) -> bool:
        """Or some that the clock changes: each of its moments is looked at."""
        return len(documents) + len(self.base.config.policies) + len(self.base.users) > IN_THREAD_ABOVE or any(
            map(is_timed, documents))

    # -- changes ----------------------------------------------------------------------------------------------

    async def prepare(self, changes: Iterable[Change], *, author: str, reason: str) -> Prepared:
        """Raises Invalid and Stale. The caller holds the lock until commit()."""
        changes = list(changes)
        self.check(changes)
        stale = self.stale(changes)
        if stale:
            raise Stale(stale)
        now_ms = self._clock_ms()
        steps = tuple(
            Step(before, next_version(before, change.kind, change.name, change.body, node=self.place.node,
                                      author=author, time_ms=now_ms, reason=reason))
            for change in changes for before in (self.book.current(change.key),))
        after = self._after(steps)
        if sum(stored.body is not None for stored in after) > DOCUMENTS_MAX:
            raise Invalid(f"at most {DOCUMENTS_MAX} documents are kept")
        many = self._are_many(after)
        return Prepared(steps, await self._off_loop(many, self._judged, list(self.book.alive()), after, now_ms))

    def _after(self, steps: Iterable[Step]) -> list[Stored]:
        after = {**self.book.documents, **{step.key: step.after for step in steps}}
        return list(after.values())

    def _judged(self, before: list[Stored], after: list[Stored], now_ms: int) -> Rights:
        """The rights that they will give. Raises Invalid. May take a thread."""
        alive = [stored for stored in after if stored.body is not None]
        roles = {}
        for stored in alive:
            if stored.kind == "role":
                with contextlib.suppress(msgspec.ValidationError):      # of a later version: it does nothing here
                    document = document_of("role", stored.body or {})
                    assert isinstance(document, RoleDocument)
                    roles[stored.name] = document.held_by
        circle = circle_of_roles(roles)
        if circle is not None:
            raise Invalid(f"held_by: the role {circle} would hold itself")
        problem = lockout_problem(self.base, before, alive, self.place, now_ms)
        if problem is not None:
            raise LockedOut(problem)
        return self._combined(self.base, alive, now_ms)

    def check(self, changes: list[Change]) -> None:
        """Raises Invalid: for what no version of anything could make good."""
        if not 1 <= len(changes) <= CHANGES_MAX:
            raise Invalid(f"changes: expected 1 to {CHANGES_MAX}")
        problems: list[str] = []
        seen: set[Key] = set()
        in_file = {kind: self.base.names(kind) for kind in {change.kind for change in changes}}
        hashes = self._key_hashes() if "key" in in_file else {}
        for change in changes:
            what = f"{change.kind} {change.name[:200]}"
            if change.key in seen:
                problems.append(f"{what}: it is changed twice")
            seen.add(change.key)
            if change.name in in_file[change.kind]:
                raise InFile(f"{what} stands in the configuration file, and is changed there")
            problems += [f"{what}: {text}" for text in self._problems(change, hashes)]
        if problems:
            raise Invalid("\n".join(problems))

    def _key_hashes(self) -> dict[str, str]:
        """Of every managed key, the one before a rotation included → its name."""
        found = {}
        for stored in self.book.alive("key"):
            assert stored.body is not None
            for field in ("old_hash", "key_hash"):
                found[stored.body.get(field, "")] = stored.name
        return found

    def _problems(self, change: Change, hashes: dict[str, str]) -> list[str]:
        """hashes: of keys, see _key_hashes(); that of this change is added."""
        if change.body is None:
            return [] if self.book.version_of(change.key) else ["there is none"]
        if len(msgspec.json.encode(change.body)) > VALUE_BYTES_MAX // 8:
            return [f"at most {VALUE_BYTES_MAX // 8} bytes"]
        try:
            document = document_of(change.kind, change.body)
        except (msgspec.ValidationError, RecursionError) as error:
            return [str(error)]
        problems = problems_of(change.kind, change.name, document)
        return problems or self._unfit(change, hashes)

    def _unfit(self, change: Change, hashes: dict[str, str]) -> list[str]:
        """What fits no other document, or this node."""
        if not self.base.config.authenticates:
            return ["on this node nobody logs in, and everybody on this machine may do everything: add [[users]], "
                    "[[api_keys]] or [[jwt]] to the configuration file first"]
        if change.kind == "mask" and self._masks_left() <= 0 and not self.book.version_of(change.key):
            return [f"there are {MASKS_MAX} masks already, those of the file included"]
        if change.kind == "key":
            assert change.body is not None
            mine = change.body["key_hash"]
            holder = hashes.setdefault(mine, change.name)
            if holder != change.name:
                return [f"key_hash: the same key as {holder}"]
            if mine in self.base.keys:
                return ["key_hash: a key of the configuration file"]
        return []

    def _masks_left(self) -> int:
        return MASKS_MAX - len(self.base.config.masks) - sum(1 for _ in self.book.alive("mask"))

    def stale(self, changes: list[Change]) -> list[Body]:
        """Those whose author has not seen what there is now: with who changed it, when, and what differs."""
        found: list[Body] = []
        for change in changes:
            version = self.book.version_of(change.key)
            if version == change.version:
                continue
            stored = self.book.current(change.key)
            assert stored is not None or not version
            found.append({
                "kind": change.kind, "name": change.name, "your_version": change.version, "version": version,
                "by": stored.author if stored is not None else "", "time_ms": stored.time_ms if stored else None,
                "differs": differences(stored.body if stored is not None else None, change.body)})
        return found

    async def commit(self, prepared: Prepared, *, author: str, reason: str, source: str = "",
                     draft: str = "") -> Revision:
        """On disk, then in force. Raises BookRefused: nothing has changed."""
        revision = await self.book.apply(
            prepared.steps, prepared.conflicts, author=author, reason=reason, time_ms=self._clock_ms(),
            source=source, draft=draft)
        self._in_force(prepared.rights)
        log.info("revision %d: %d documents by user %s", revision.number, len(prepared.steps), author)
        for told in self.on_applied:
            told(revision)
        return revision

    async def change(self, changes: Iterable[Change], *, author: str, reason: str = "") -> Revision:
        """prepare() and commit() in one. Raises Invalid, Stale, BookRefused."""
        async with self.lock:
            return await self.commit(
                await self.prepare(changes, author=author, reason=reason), author=author, reason=reason)

    async def take(self, versions: Iterable[Stored], source: str) -> Revision | None:
        """Versions of another node, which may administer this one. None: all of that was known. Raises BookRefused.

        No lock-out is looked for: the mesh has to agree. Should nobody be left, the node says so (`problem`).
        """
        async with self.lock:
            now_ms = self._clock_ms()
            steps: list[Step] = []
            conflicts: list[Conflict] = []
            for theirs in versions:
                mine = self.book.current(theirs.key)
                if self.book.may_be_forgotten(theirs):
                    self.not_taken[source] += theirs.body is not None
                    continue
                kept, conflict = merged(mine, theirs, now_ms)
                if conflict is not None:
                    conflicts.append(conflict)
                if kept is not mine and (mine is not None or self._has_room(theirs, len(steps))):
                    steps.append(Step(mine, msgspec.structs.replace(kept, by=source)))
            return await self._take_steps(steps, conflicts, source, now_ms)

    def _has_room(self, theirs: Stored, more: int) -> bool:
        book = self.book
        return (book.alive_count if theirs.body is not None else book.tombstone_count - TOMBSTONES_MAX) + more \
            < DOCUMENTS_MAX

    async def withdraw(self, keys: Iterable[Key], source: str) -> Revision | None:
        """What that node has given us and does not know any more, because it was deleted there long ago, does nothing
        here from now on. Raises BookRefused.
        """
        async with self.lock:
            found = [stored for stored in map(self.book.current, keys) if stored is not None]
            steps = [Step(stored, stub_of(stored)) for stored in found
                     if stored.by == source and stored.body is not None and not stored.withheld]
            return await self._take_steps(steps, [], source, self._clock_ms())

    async def _take_steps(self, steps: list[Step], conflicts: list[Conflict], source: str,
                          now_ms: int) -> Revision | None:
        if not steps:
            return None
        alive = [stored for stored in self._after(steps) if stored.body is not None]
        rights = await self._off_loop(self._are_many(alive), self._combined, self.base, alive, now_ms)
        author = steps[0].after.author if len(steps) == 1 else "several"
        return await self.commit(Prepared(tuple(steps), rights, tuple(conflicts)), author=author,
                                 reason=steps[0].after.reason if len(steps) == 1 else "", source=source)

    async def documents_at(self, time_ms: int) -> tuple[list[Stored], int]:
        """Those that there were at a moment, and the revision by which they came. In steps. Raises Invalid."""
        book = self.book
        documents: dict[Key, Stored | None] = dict(book.documents)
        last = book.revision
        for head in book.revisions.heads():
            if head.time_ms <= time_ms:
                break
            revision = book.revisions.get(head.number)
            if revision is None:
                raise Invalid(f"revision {head.number} cannot be read, so nobody knows what was before it")
            documents.update((step.key, step.before) for step in revision.steps)
            last = head.number - 1
            await asyncio.sleep(0)
        if last and last not in book.revisions:
            raise Invalid(f"the revisions of that time are not kept any more, {len(book.revisions)} are")
        return [stored for stored in documents.values() if stored is not None and stored.body is not None], last

    async def back_to(self, number: int) -> list[Change]:
        """The changes that bring everything back to what it was after a revision. In steps: there may be a million.
        Raises Invalid.
        """
        book = self.book
        if not 0 <= number < book.revision:
            raise Invalid(f"revision {number} is none of those before the last one, {book.revision}")
        if any(one not in book.revisions for one in range(number + 1, book.revision + 1)):
            raise Invalid(f"revision {number} is too far back: the last {len(book.revisions)} are kept")
        then: dict[Key, Stored | None] = {}
        for one in range(book.revision, number, -1):
            revision = book.revisions.get(one)
            if revision is None:
                raise Invalid(f"revision {one} cannot be read, so there is no way back over it")
            for step in revision.steps:
                then[step.key] = step.before
            await asyncio.sleep(0)
        changes = []
        for key, before in sorted(then.items()):
            body = before.body if before is not None else None
            current = book.current(key)
            if (current.body if current is not None else None) != body:
                changes.append(Change(*key, body, book.version_of(key)))
        if not changes:
            raise Invalid(f"nothing differs from revision {number}")
        return changes

    def normal(self, kind: str, body: Body) -> Body:
        """A document as it is stored: what is at its default is left out. Raises msgspec.ValidationError."""
        return body_of(document_of(kind, body))


__all__ = ["Administration", "BookRefused", "InFile", "Invalid", "LockedOut", "Prepared", "Stale"]
