"""Managed documents go from neighbour to neighbour: who takes them pulls them. One per node, loop thread only.

    Have ──► of a neighbour that may administer this node? ── List please ──► Listed ── Want ──► Documents ── take()
             of any other: nothing is asked, and what comes unasked is refused and counted

Trust is between the two ends of a link: `administer` and `entrust` of its [[links]] or [[link_peers]] entry, or of the
managed peer. So a node behind a neighbour decides nothing by itself: what it has made comes here only if the neighbour
took it. What a neighbour is given: giving.py. One that is trusted with nothing gets no answer at all.
"""
from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.administration.administration import Administration, BookRefused
from mesh.administration.book import DOCUMENTS_MAX, TOMBSTONES_MAX
from mesh.administration.check import name_problem
from mesh.administration.documents import KINDS, Key, Stored
from mesh.administration.giving import Giving, trusts
from mesh.administration.messages import (
    BODY_BYTES_MAX,
    WANTED_MAX,
    BadMessage,
    Documents,
    Have,
    Listed,
    ListPlease,
    Message,
    Want,
    decode,
    encode,
)

if TYPE_CHECKING:
    from mesh.administration.revisions import Revision
    from mesh.link.protocol.neighbour import Neighbour
    from mesh.topology.overlay import Overlay

log = logging.getLogger(__name__)

SAY_EVERY_S: Final = 5.0            # what we have is said again, should a message have been lost
LOOK_EVERY_S: Final = 0.25          # for links that are new
AHEAD_MAX: Final = 1_000_000        # versions of one document; else one of the last number would be the last for all
GIVE_UP_S: Final = 10.0             # a pull that hears nothing for so long; the next Have begins another one
SILENT_S: Final = 4 * SAY_EVERY_S   # after which a neighbour that says nothing of what it has trusts us with nothing
TOLD_EVERY_S: Final = 60.0          # of one neighbour: what it may not is told at most so often


class _Pull:
    """What we are getting from a neighbour."""

    __slots__ = ("digest", "doubtful", "heard_s", "horizon_ms", "listed", "listing", "named", "wanted")

    def __init__(self, digest: str, horizon_ms: int, now_s: float) -> None:
        self.digest = digest
        self.horizon_ms = horizon_ms
        self.heard_s = now_s
        self.listing = True
        self.listed: Key = "", ""              # the last one of what it has named
        self.named: set[Key] = set()
        self.wanted: list[Key] = []
        self.doubtful: list[Key] = []           # that we have and it has not named: do they count here any more?


class _End:
    """One connection to a neighbour."""

    __slots__ = ("has_said", "list_after", "neighbour", "pull", "said", "said_s", "say",
                 "say_again", "since_s", "synced", "told_s", "working")

    def __init__(self, neighbour: Neighbour, now_s: float) -> None:
        self.neighbour = neighbour
        self.since_s = now_s
        self.has_said = False           # it has something for us, or nothing: it trusts us with it
        self.said = ""                  # the digest that we told it last
        self.said_s = -SAY_EVERY_S
        self.synced = ""                # of what it has, when we had all of it
        self.pull: _Pull | None = None
        self.told_s = {"asked": -TOLD_EVERY_S, "unasked": -TOLD_EVERY_S}      # when what it may not was told
        self.say = self.say_again = False       # what it gets is to be looked at; …told, also if it is as it was
        self.list_after: Key | None = None      # it wants the list from here on
        self.working = False


class Spread:
    def __init__(self, administration: Administration, overlay: Overlay, clock_s: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self.on_unasked: Callable[[str, int], None] = lambda neighbour, count: None
        self.on_asked: Callable[[str], None] = lambda neighbour: None
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
            end = self._ends.setdefault(number, _End(neighbour, now_s))
            if end.neighbour is not neighbour:
                end = self._ends[number] = _End(neighbour, now_s)
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
        if trusts(end.neighbour):
            end.say_again = end.say_again or again
            end.said_s = now_s if again else end.said_s
            end.say = True
            self._work(end)

    def _work(self, end: _End) -> None:
        """What grows with the number of documents is done in steps, one thing at a time for each neighbour."""
        if not end.working:
            end.working = True
            self._start(self._answer(end))

    async def _answer(self, end: _End) -> None:
        try:
            while end.say or end.list_after is not None:
                giving = Giving(self._administration.book, self._overlay, end.neighbour)
                if end.list_after is not None:
                    after, end.list_after = end.list_after, None
                    self._send(end, await giving.listed(after))
                    continue
                end.say = False
                digest = await giving.digest()
                if end.say_again or digest != end.said:
                    end.say_again, end.said, end.said_s = False, digest, self._clock_s()
                    self._send(end, Have(digest, self._administration.book.horizon_ms))
        finally:
            end.working = False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, end: _End, message: Message) -> None:
        if not self._overlay.send_beside(end.neighbour, encode(message)):
            self.counts["not taken"] += 1

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
        end = self._ends.setdefault(id(neighbour), _End(neighbour, self._clock_s()))
        if isinstance(message, (ListPlease, Want)) and not trusts(neighbour):
            self._asked_in_vain(end)
        elif isinstance(message, ListPlease):
            end.list_after = message.kind, message.name
            self._work(end)
        elif isinstance(message, Want):
            self._send(end, Giving(self._administration.book, self._overlay, neighbour).documents(message.keys))
        elif isinstance(message, Have):
            self._heard(end, message)
        else:
            self._take(end, message)

    def _asked_in_vain(self, end: _End) -> None:
        self.counts["not entrusted"] += 1
        if self._is_to_tell(end, "asked"):
            log.warning("%s asked for managed documents, and is not trusted with them: refused", end.neighbour.node)
            self.on_asked(end.neighbour.node)

    def _is_to_tell(self, end: _End, what: str) -> bool:
        now_s = self._clock_s()
        due = now_s - end.told_s[what] >= TOLD_EVERY_S
        if due:
            end.told_s[what] = now_s
        return due

    def _heard(self, end: _End, message: Have) -> None:
        end.has_said = True
        if not end.neighbour.administer or message.digest == end.synced or end.pull is not None:
            return
        end.pull = _Pull(message.digest, message.horizon_ms, self._clock_s())
        self._send(end, ListPlease())

    def _take(self, end: _End, message: Listed | Documents) -> None:
        pull = end.pull
        if pull is None or not end.neighbour.administer:
            count = len(message.entries if isinstance(message, Listed) else message.documents)
            self.counts["unasked"] += count
            if self._is_to_tell(end, "unasked"):
                log.warning("%s sent %d managed documents that nobody asked it for: refused", end.neighbour.node, count)
                self.on_unasked(end.neighbour.node, count)
            return
        pull.heard_s = self._clock_s()
        if isinstance(message, Listed):
            self._compare(end, pull, message)
        else:
            self._start(self._taken(end, pull, message))

    def _compare(self, end: _End, pull: _Pull, message: Listed) -> None:
        documents, ranks = self._administration.book.documents, self._administration.book.ranks
        keys = [entry[:2] for entry in message.entries]
        if not pull.listing or keys != sorted(set(keys)) or (keys and keys[0] <= pull.listed):
            self.counts["bad"] += 1             # it would go on without end
            end.pull = None
            return
        pull.listed = keys[-1] if keys else pull.listed
        for kind, name, number, node, digest in message.entries:
            mine, rank = documents.get((kind, name)), (number, node, digest)
            if mine is None or rank > ranks[mine.key] or (
                    ranks[mine.key] != rank and mine.seen.get(node, 0) < number):
                pull.wanted.append((kind, name))
        pull.named.update(keys)
        if len(pull.wanted) > DOCUMENTS_MAX + TOMBSTONES_MAX:
            self.counts["bad"] += 1
            end.pull = None
            return
        if message.more and message.entries:
            self._send(end, ListPlease(*message.entries[-1][:2]))
        else:
            pull.listing = False
            here = self._administration.place.node
            pull.doubtful = [key for key, mine in documents.items() if key not in pull.named and mine.node != here
                             and mine.body is not None and not mine.withheld]
            self._next(end, pull)

    def _next(self, end: _End, pull: _Pull) -> None:
        asked = pull.wanted or pull.doubtful
        if asked:
            self._send(end, Want(asked[:WANTED_MAX]))
            return
        end.synced, end.pull = pull.digest, None

    async def _taken(self, end: _End, pull: _Pull, message: Documents) -> None:
        doubtful = not pull.wanted
        wanted = set((pull.wanted or pull.doubtful)[:WANTED_MAX])
        found = [one.stored() for one in message.documents if (one.kind, one.name) in wanted]
        good = [stored for stored in found if self._is_well(stored)]
        self.counts["ill-formed"] += len(found) - len(good)
        given = {stored.key for stored in found}
        try:
            await self._administration.take(good, end.neighbour.node)
            if doubtful and pull.horizon_ms:        # nor was it said where they are: they were deleted long ago
                await self._administration.withdraw(self._forgotten(wanted - given, pull.horizon_ms),
                                                    end.neighbour.node)
        except BookRefused as error:
            log.warning("documents of %s cannot be stored: %s", end.neighbour.node, error)
            end.pull = None                     # the next Have begins anew
            return
        self.counts["taken"] += len(good)
        if doubtful:                            # of which it need not know anything
            pull.doubtful = pull.doubtful[WANTED_MAX:]
            if end.pull is pull:
                self._next(end, pull)
            return
        left = len(pull.wanted)
        pull.wanted = [key for key in pull.wanted if key not in given]
        if end.pull is not pull:
            return
        if len(pull.wanted) == left:            # it has none of them any more
            end.pull = None
            return
        self._next(end, pull)

    def _forgotten(self, keys: Iterable[Key], horizon_ms: int) -> list[Key]:
        found = ((key, self._administration.book.current(key)) for key in keys)
        return [key for key, mine in found if mine is not None and mine.time_ms <= horizon_ms]

    def _is_well(self, stored: Stored) -> bool:
        """A kind that only a later version knows is kept and does nothing."""
        if stored.kind in KINDS and name_problem(stored.kind, stored.name) is not None:
            return False
        mine = self._administration.book.current(stored.key)
        if stored.number > (mine.number if mine is not None else 0) + AHEAD_MAX:
            return False
        return stored.body is None or len(msgspec.json.encode(stored.body)) <= BODY_BYTES_MAX

    def silent(self) -> list[str]:
        """Neighbours that may administer this node and give it nothing: they do not trust it, or are older."""
        now_s = self._clock_s()
        return sorted(end.neighbour.node for end in self._ends.values()
                      if end.neighbour.administer and not end.has_said and now_s - end.since_s > SILENT_S)

    def snapshot(self) -> list[dict[str, object]]:
        return [{"node": end.neighbour.node, "administers_us": end.neighbour.administer,
                 "entrusted": trusts(end.neighbour), "pulling": end.pull is not None} for end in self._ends.values()]
