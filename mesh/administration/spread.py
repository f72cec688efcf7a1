"""Managed documents go from neighbour to neighbour: who takes them pulls them. One per node, loop thread only.

    Have ──► of a neighbour that may administer this node? ── List please ──► Listed ── Want ──► Documents ── take()
             of any other: nothing is asked, and what comes unasked is refused and counted

Trust is between the two ends of a link: `administer` of its [[links]] or [[link_peers]] entry, or of the managed peer.
So a node behind a neighbour decides nothing by itself: what it has made comes here only if the neighbour took it. A
neighbour is given what counts at it, or at a node behind it, and nothing else: there are hashes of passwords in it.
"""
from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.administration.administration import Administration, BookRefused
from mesh.administration.book import DOCUMENTS_MAX, Revision
from mesh.administration.check import name_problem
from mesh.administration.documents import KINDS, Key, Stored, digest_of
from mesh.administration.messages import (
    BODY_BYTES_MAX,
    LISTED_MAX,
    MESSAGE_BYTES_MAX,
    WANTED_MAX,
    BadMessage,
    Documents,
    Have,
    Listed,
    ListPlease,
    Message,
    Told,
    Want,
    decode,
    encode,
    told,
)

if TYPE_CHECKING:
    from mesh.link.neighbour import Neighbour
    from mesh.topology.overlay import Overlay

log = logging.getLogger(__name__)

SAY_EVERY_S: Final = 5.0            # what we have is said again, should a message have been lost
LOOK_EVERY_S: Final = 0.25          # for links that are new
GIVE_UP_S: Final = 10.0             # a pull that hears nothing for so long; the next Have begins another one
UNASKED_TOLD_S: Final = 60.0        # of one neighbour: unasked documents are told at most so often


class _Pull:
    """What we are getting from a neighbour."""

    __slots__ = ("digest", "heard_s", "listed", "listing", "wanted")

    def __init__(self, digest: str, now_s: float) -> None:
        self.digest = digest
        self.heard_s = now_s
        self.listing = True
        self.listed: Key = "", ""              # the last one of what it has named
        self.wanted: list[Key] = []


class _End:
    """One connection to a neighbour."""

    __slots__ = ("neighbour", "pull", "said", "said_s", "synced", "unasked_told_s")

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour
        self.said = ""                  # the digest that we told it last
        self.said_s = -SAY_EVERY_S
        self.synced = ""                # of what it has, when we had all of it
        self.pull: _Pull | None = None
        self.unasked_told_s = -UNASKED_TOLD_S


class Spread:
    def __init__(self, administration: Administration, overlay: Overlay, clock_s: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self.on_unasked: Callable[[str, int], None] = lambda neighbour, count: None
        self._administration = administration
        self._overlay = overlay
        self._clock_s = clock_s
        self._ends: dict[int, _End] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._due_s = 0.0
        administration.on_applied.append(self._applied)

    def tick(self, now_s: float) -> None:
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_EVERY_S
        neighbours = {id(one): one for one in self._overlay.neighbours()}
        for number in [number for number in self._ends if number not in neighbours]:
            del self._ends[number]
        for number, neighbour in neighbours.items():
            end = self._ends.setdefault(number, _End(neighbour))
            if end.neighbour is not neighbour:
                end = self._ends[number] = _End(neighbour)
            if end.pull is not None and now_s - end.pull.heard_s > GIVE_UP_S:
                end.pull = None
            if now_s - end.said_s >= SAY_EVERY_S and neighbour.node in self._overlay.nodes:
                self._say(end, now_s, again=True)

    def _applied(self, revision: Revision) -> None:
        now_s = self._clock_s()
        for end in self._ends.values():
            if end.neighbour.node in self._overlay.nodes:
                self._say(end, now_s, again=False)

    def _say(self, end: _End, now_s: float, *, again: bool) -> None:
        digest = self._digest(end.neighbour)
        if again or digest != end.said:
            end.said, end.said_s = digest, now_s
            self._send(end, Have(digest))

    def _send(self, end: _End, message: Message) -> None:
        if not self._overlay.send_beside(end.neighbour, encode(message)):
            self.counts["not taken"] += 1

    # -- what a neighbour is given ------------------------------------------------------------------------------

    def _gets(self, neighbour: Neighbour) -> Callable[[Stored], bool]:
        """Does a document count at it, or behind it? Deleted ones do."""
        places = {neighbour.node: neighbour.site, **self._overlay.behind(neighbour)}
        nodes, sites = set(places), set(places.values())

        def gets(stored: Stored) -> bool:
            body = stored.body
            if body is None:
                return True
            wanted_nodes, wanted_sites = body.get("nodes"), body.get("sites")
            return (not wanted_nodes or not nodes.isdisjoint(wanted_nodes)) and (
                not wanted_sites or not sites.isdisjoint(wanted_sites))
        return gets

    def _digest(self, neighbour: Neighbour) -> str:
        """The sum of the marks of what it gets; at most some 10 ms for the most documents that there may be."""
        book, gets = self._administration.book, self._gets(neighbour)
        found = sum(mark for key, mark in book.marks.items() if gets(book.documents[key]))
        return f"{found % 2**128:032x}"

    # -- in -----------------------------------------------------------------------------------------------------

    def on_message(self, source: str, body: bytes) -> None:
        neighbour = self._overlay.came_by
        if neighbour is None or neighbour.node != source:
            self.counts["from afar"] += 1           # trust is between the two ends of a link
            return
        try:
            message = decode(body)
        except BadMessage:
            self.counts["bad"] += 1
            return
        end = self._ends.setdefault(id(neighbour), _End(neighbour))
        if isinstance(message, ListPlease):
            self._list(end, (message.kind, message.name))
        elif isinstance(message, Want):
            self._give(end, message.keys)
        elif isinstance(message, Have):
            self._heard(end, message)
        else:
            self._take(end, message)

    def _list(self, end: _End, after: Key) -> None:
        documents, gets = self._administration.book.documents, self._gets(end.neighbour)
        keys = sorted(key for key, stored in documents.items() if key > after and gets(stored))
        rows = [(one.kind, one.name, one.number, one.node, digest_of(one.body))
                for one in (documents[key] for key in keys[:LISTED_MAX])]
        self._send(end, Listed(rows, len(keys) > LISTED_MAX))

    def _give(self, end: _End, keys: list[Key]) -> None:
        """As many as a message holds; it asks for the rest again."""
        documents, gets = self._administration.book.documents, self._gets(end.neighbour)
        found: list[Told] = []
        size = 0
        for key in keys:
            stored = documents.get(key)
            if stored is not None and gets(stored):
                size += len(msgspec.msgpack.encode(stored)) + 64
                if found and size > MESSAGE_BYTES_MAX // 2:
                    break
                found.append(told(stored))
        self._send(end, Documents(found))

    def _heard(self, end: _End, message: Have) -> None:
        if not end.neighbour.administer or message.digest == end.synced or end.pull is not None:
            return
        end.pull = _Pull(message.digest, self._clock_s())
        self._send(end, ListPlease())

    def _take(self, end: _End, message: Listed | Documents) -> None:
        pull = end.pull
        if pull is None or not end.neighbour.administer:
            count = len(message.entries if isinstance(message, Listed) else message.documents)
            self.counts["unasked"] += count
            now_s = self._clock_s()
            if now_s - end.unasked_told_s >= UNASKED_TOLD_S:
                end.unasked_told_s = now_s
                log.warning("%s sent %d managed documents that nobody asked it for: refused", end.neighbour.node, count)
                self.on_unasked(end.neighbour.node, count)
            return
        pull.heard_s = self._clock_s()
        if isinstance(message, Listed):
            self._compare(end, pull, message)
        else:
            task = asyncio.get_running_loop().create_task(self._taken(end, pull, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _compare(self, end: _End, pull: _Pull, message: Listed) -> None:
        documents = self._administration.book.documents
        keys = [entry[:2] for entry in message.entries]
        if not pull.listing or keys != sorted(set(keys)) or (keys and keys[0] <= pull.listed):
            self.counts["bad"] += 1             # it would go on without end
            end.pull = None
            return
        pull.listed = keys[-1] if keys else pull.listed
        for kind, name, number, node, digest in message.entries:
            mine = documents.get((kind, name))
            if mine is None or (number, node, digest) > mine.rank or (
                    mine.rank != (number, node, digest) and mine.seen.get(node, 0) < number):
                pull.wanted.append((kind, name))
        if len(pull.wanted) > DOCUMENTS_MAX:
            self.counts["bad"] += 1
            end.pull = None
            return
        if message.more and message.entries:
            self._send(end, ListPlease(*message.entries[-1][:2]))
        else:
            pull.listing = False
            self._next(end, pull)

    def _next(self, end: _End, pull: _Pull) -> None:
        if pull.wanted:
            self._send(end, Want(pull.wanted[:WANTED_MAX]))
            return
        end.synced, end.pull = pull.digest, None

    async def _taken(self, end: _End, pull: _Pull, message: Documents) -> None:
        wanted = set(pull.wanted[:WANTED_MAX])
        found = [one.stored() for one in message.documents if (one.kind, one.name) in wanted]
        good = [stored for stored in found if self._is_well(stored)]
        self.counts["ill-formed"] += len(found) - len(good)
        try:
            await self._administration.take(good, end.neighbour.node)
        except BookRefused as error:
            log.warning("documents of %s cannot be stored: %s", end.neighbour.node, error)
            end.pull = None                     # the next Have begins anew
            return
        self.counts["taken"] += len(good)
        gone = {stored.key for stored in found}
        left = len(pull.wanted)
        pull.wanted = [key for key in pull.wanted if key not in gone]
        if end.pull is not pull:
            return
        if len(pull.wanted) == left:            # it has none of them any more
            end.pull = None
            return
        self._next(end, pull)

    def _is_well(self, stored: Stored) -> bool:
        """A kind that only a later version knows is kept and does nothing."""
        if stored.kind in KINDS and name_problem(stored.kind, stored.name) is not None:
            return False
        return stored.body is None or len(msgspec.json.encode(stored.body)) <= BODY_BYTES_MAX

    def snapshot(self) -> list[dict[str, object]]:
        return [{"node": end.neighbour.node, "administers_us": end.neighbour.administer,
                 "pulling": end.pull is not None} for end in self._ends.values()]
