"""Shared: the queues of this node of which others may have a part, and the talk with those nodes. One per node.

The entry of this room. Sans-IO: the overlay carries the frames, clocks and random are injected. Wired by
mesh/meshing.py.
"""
from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.link.protocol.frames import PRIORITY_DIRECT
from mesh.queues.borders import Borders
from mesh.queues.guests import Guests
from mesh.queues.messages import (
    Absent,
    Back,
    BadMessage,
    Bind,
    Delete,
    Done,
    Fetch,
    Join,
    Leave,
    Lend,
    Message,
    Nothing,
    Offer,
    Purge,
    Reach,
    Seek,
    Unbind,
    Want,
    decode,
    decode_frame,
    encode,
)
from mesh.queues.part import ASK_S, STATE, Part, PartState
from mesh.queues.reaches import Places, Reaches
from mesh.queues.talk import Talk
from mesh.replication.bodies import BadBody
from protocols.transport.loglimit import LogLimit
from routing.event import OriginPartition
from routing.rights.policy import INTERNAL
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from mesh.topology.settings import MeshSettings
    from routing.log.partition import Partition
    from routing.queues.queue import Queue
    from routing.router import Router

log = logging.getLogger(__name__)

LOST_S: Final = 10.0            # a node out of sight for so long has lost what it was lent
REACH_EVERY_S: Final = 0.5
PIECE: Final = 20               # messages of one node read in one turn: some 5 ms when each is a Join
INBOX_MAX: Final = 1_000        # that wait for that, beside those of one frame; beyond it they are said again
INBOX_BYTES_MAX: Final = 4 * 1024 * 1024
WAITING_PER_TICK: Final = 200   # parts that wait for answers: some 5 ms when the time of all is over
LOG_LINES_PER_S: Final = 20
LOOKED_PER_TICK: Final = 500    # parts of queues that others have, too
JOINS_PER_TICK: Final = 100     # queues that a node is told of that has come into sight


class Shared:
    """Loop thread only."""

    def __init__(self, router: Router, overlay: Overlay, clock_s: Callable[[], float], clock_ms: Callable[[], int],
                 rng: random.Random, settings: MeshSettings) -> None:
        self.router = router
        self.clock_s = clock_s
        self.clock_ms = clock_ms
        self.counts: Counter[str] = Counter()
        self.parts: dict[str, Part] = {}
        self.borders = Borders(overlay)
        self._overlay = overlay
        self._rng = rng
        self._settings = settings
        self._talks: dict[str, Talk] = {}
        # What it has said and nobody has looked at yet; and whether the link by which that came lets it manage queues.
        self._inboxes: dict[str, deque[tuple[msgspec.Raw, bool]]] = {}
        self._away: dict[str, float] = {}               # node with a talk that is out of sight → since when
        self._known: dict[str, str] = {}                # nodes in sight that know of our queues: their boot
        self._untold: deque[tuple[str, str]] = deque()  # node and queue
        self._reaches = Reaches(router, clock_s)
        self.guests = Guests(self, lambda: overlay.nodes if settings.queues_shared else ())
        self._told_reach: dict[str, Places] = {}
        self._reach_due_s = 0.0
        self._waiting: dict[Part, None] = {}            # for answers
        self._joint: dict[Part, None] = {}              # of which others have a part, too
        self._round: deque[Part] = deque()              # of those, to be looked at before the next time
        self._followers: set[str] = set()               # found in this round: nodes for whose parts we collect
        self._collectors: set[str] = set()              # and nodes that collect for ours
        self._log_limit = LogLimit(LOG_LINES_PER_S)
        self._later: deque[Callable[[], None]] = deque()        # to be done in pieces, see later()
        self._turn_requested = False
        self._started = False

    def start(self) -> None:
        """What is stored is restored, and the overlay can be asked."""
        self._started = True
        self.guests.start()
        queues = self.router.queues
        self._reaches.start()
        stored = dict(self.router.state.decoded(STATE, PartState, "part of a queue"))
        before = {origin: self.reach(origin) for origin in self._reaches.origins()} if stored else {}
        for queue in queues.by_name.values():
            part = self._adopt(queue)
            if part is not None and queue.name in stored:
                part.restore(stored.pop(queue.name), before)
        for name in stored:
            self.router.state.delete(STATE + name)
        queues.on_declared.append(self._declared)
        queues.on_deleted.append(self._deleted)
        self.on_nodes_changed()

    def close(self) -> None:
        self._started = False

    # -- queues of ours ---------------------------------------------------------------------------------------

    def _adopt(self, queue: Queue) -> Part | None:
        spec = queue.consumer.spec
        if not self._settings.queues_shared or not spec.durable or queue.options.single_active or "/" in queue.name \
                or queue.consumer.identity is INTERNAL:
            return None
        part = self.parts[queue.name] = Part(queue, self)
        queue.elsewhere = part
        return part

    def _declared(self, queue: Queue) -> None:
        part = self._adopt(queue)
        if part is not None:
            part.ask(self._overlay.nodes, ASK_S)

    def _deleted(self, queue: Queue) -> None:
        part = self.parts.get(queue.name)
        if part is not None and part.queue is queue:
            del self.parts[queue.name]

    # -- what parts ask (part.Others) -------------------------------------------------------------------------

    @property
    def me(self) -> str:
        return self._overlay.me.name

    @property
    def in_sight(self) -> Container[str]:
        return self._overlay.nodes

    def waits(self, part: Part) -> None:
        self._waiting[part] = None

    def joint(self, part: Part) -> None:
        if part not in self._joint:
            self._joint[part] = None
            self._round.append(part)

    def say(self, node: str, message: Message) -> None:
        talk = self._talks.get(node)
        if talk is None:
            if node not in self._overlay.nodes:
                return                                  # it hears all when it is in sight
            talk = self._talk(node)
        talk.say(encode(message))
        self._flush_soon()

    def origins_of(self, node: str) -> list[OriginPartition]:
        """Partitions of that node that something has come of; "": of all."""
        return [origin for origin in self._reaches.origins() if node in ("", origin.node)]

    def origin(self, node: str, stream: str, index: int) -> OriginPartition | None:
        state = self._overlay.nodes.get(node)
        return self.router.origins.of(node, state.epoch, stream, index) if state is not None else None

    def reach(self, origin: OriginPartition) -> int:
        return self._reaches.reach(origin)

    def reach_of(self, node: str, origin: OriginPartition) -> int:
        return self._reaches.of(node, origin)

    def common_ends(self, node: str) -> dict[Partition, int]:
        return self._reaches.ends(node)

    def notice(self, level: int, text: str, *values: object) -> None:
        """A line of the log, unless there were many just now: there may be thousands of queues, and nodes that lie."""
        if self._log_limit.allows(self.clock_s()):
            log.log(level, text, *values)

    def later(self, work: Callable[[], None]) -> None:
        """A little of what a node that is lost has left in thousands of queues."""
        self._later.append(work)
        if len(self._later) == 1:
            self.router.call_soon(lambda: in_steps(self.router, self._do_later()))

    def _do_later(self) -> Iterator[None]:
        number = 0
        while self._later:
            try:
                self._later[0]()            # it stands in the line until it is done
            except Exception:
                log.exception("a fault of ours with what a lost node has left")
            self._later.popleft()
            number += 1
            if number % PIECE == 0 and self._later:
                yield

    # -- frames -----------------------------------------------------------------------------------------------

    def _talk(self, node: str) -> Talk:
        talk = self._talks.get(node)
        if talk is None:
            talk = self._talks[node] = Talk(
                self._rng.getrandbits(61) + 1, lambda body: self._overlay.send(node, body, PRIORITY_DIRECT),
                self.clock_s)
        return talk

    def _flush_soon(self) -> None:
        if not self._turn_requested:
            self._turn_requested = True
            self.router.call_soon(self._flush)

    def _flush(self) -> None:
        self._turn_requested = False
        for talk in self._talks.values():
            talk.flush()

    def on_message(self, source: str, body: bytes) -> None:
        """A frame from another node, by the overlay."""
        if not self._started or source not in self._overlay.nodes:
            return
        try:
            frame = decode_frame(body)
        except BadMessage:
            self.counts["bad messages"] += 1
            return
        talk = self._talk(source)
        if talk.begins_anew(frame):
            self._inboxes.pop(source, None)
            self._begin_anew(source)
        inbox = self._inboxes.setdefault(source, deque())
        if len(inbox) > INBOX_MAX or sum([len(message) for message, _ in inbox]) > INBOX_BYTES_MAX:
            frame = msgspec.structs.replace(frame, messages=[])         # it says them again
        was_empty = not inbox
        manages = self.borders.may_manage
        inbox += [(message, manages) for message in talk.hear(frame)]
        if not inbox:
            del self._inboxes[source]
        elif was_empty:
            in_steps(self.router, self._read(source, inbox))
        self._flush_soon()

    def _read(self, node: str, inbox: deque[tuple[msgspec.Raw, bool]]) -> Iterator[None]:
        """What a node has said, in order, a piece in a turn; until nothing of before counts any more."""
        number = 0
        while inbox and self._inboxes.get(node) is inbox:
            message, manages = inbox.popleft()
            try:
                self._hear(node, decode(message), manages=manages)
            except (BadMessage, BadBody) as error:
                self.counts["bad messages"] += 1
                self.notice(logging.WARNING, "node %s: what it says about queues cannot be read: %s", node, error)
            except Exception:
                log.exception("node %s: a fault of ours with what it says about queues", node)
            number += 1
            if number % PIECE == 0 and inbox:
                yield
        if self._inboxes.get(node) is inbox:
            del self._inboxes[node]

    def _begin_anew(self, node: str) -> None:
        """Nothing that was said before counts."""
        for part in list(self._joint):
            if node in part.spans.members or node in part.lenders:
                part.lost(node)
        self._told_reach.pop(node, None)
        self._tell_all(node)

    def _tell_all(self, node: str) -> None:
        """Of all our queues, some with every tick; those that it is known to have first."""
        self._untold = deque(entry for entry in self._untold if entry[0] != node)
        known = [name for name, part in self.parts.items() if node in part.spans.members]
        self._untold.extend((node, name) for name in known)
        self._untold.extend((node, name) for name, part in self.parts.items() if node not in part.spans.members)

    def _hear(self, node: str, message: Message, *, manages: bool = False) -> None:
        """manages: the link by which it came lets who is behind it manage queues."""
        if isinstance(message, Reach):
            if any(node in part.spans.members for part in self._joint):     # else it is nothing to go on from
                self._reaches.heard(node, message.places)
            return
        if isinstance(message, Seek):
            self.guests.seek(node, message)
            return
        if isinstance(message, Offer):
            self.guests.offered(node, message)
            return
        part = self.parts.get(message.name)
        if part is None:
            if isinstance(message, Join) and self.guests.is_sought(message.name):
                self.say(node, Seek(message.name))
            if isinstance(message, Join) and message.asks:
                self.say(node, Absent(message.name))
            elif isinstance(message, Lend):             # deleted meanwhile: it hears that, too
                self.counts["lent in vain"] += len(message.attempts)
            return
        if isinstance(message, Join):
            self._joined(part, node, message)
        elif isinstance(message, Absent):
            if node in part.spans.members:
                part.left(node, None)
            part.answered(node)
        elif node not in part.spans.members:
            self.counts["not a member"] += 1
        elif isinstance(message, Leave):
            part.left(node, message)
        elif isinstance(message, Delete | Purge | Unbind) and not manages and node != part.guest_of:
            self.counts["not granted"] += 1
            self.notice(logging.WARNING, "queue %s: node %s says %s, which its link does not let it: `console` has no "
                        "\"operate\"", part.name, node, type(message).__name__.lower())
        elif isinstance(message, Delete):
            part.heard(lambda: self.router.queues.delete(part.name, reason=f"it was deleted on node {node}", here=True))
        elif isinstance(message, Purge):
            part.queue.purge(here=True)
        elif isinstance(message, Bind):
            bound = message.binding
            if not self.borders.may_pass(node, part.queue.topic, [bound.pattern]):
                part.part_from(node)
            else:
                part.heard(lambda: part.queue.bind(bound.binding(), part.queue.consumer.identity))
        elif isinstance(message, Unbind):
            ended = message.binding.binding()
            part.heard(lambda: part.queue.unbind(ended))
        else:
            self._give_and_take(part, node, message)

    def _give_and_take(self, part: Part, node: str, message: Want | Fetch | Nothing | Lend | Done | Back) -> None:
        if isinstance(message, Want):
            part.lender(node).want(message)
        elif isinstance(message, Fetch):
            part.lender(node).fetch(message)
        elif isinstance(message, Nothing):
            part.nothing(node, message)
        elif isinstance(message, Lend):
            part.borrowing.lent(node, message)
        elif isinstance(message, Done):
            part.lender(node).done(message)
        else:
            part.lender(node).back(message)

    def _joined(self, part: Part, node: str, join: Join) -> None:
        refused = ""
        if join.user != part.user:
            refused = f"is of user {join.user!r} there and of {part.user!r} here"
        elif not self.borders.may_share(part.queue, node, more=[bound.pattern for bound in join.bindings]):
            refused = "has bindings that the link does not let pass"
        if refused:
            if node not in part.spans.members:
                self.notice(logging.WARNING, "queue %s %s: it is not shared with node %s", part.name, refused, node)
            part.part_from(node)
            part.answered(node)
            if join.asks:
                self.say(node, Absent(part.name))
            return
        part.joined(node, join)

    # -- who is in sight, and time ----------------------------------------------------------------------------

    def on_nodes_changed(self) -> None:
        if not self._started:
            return
        now_s, nodes = self.clock_s(), self._overlay.nodes
        for node, state in nodes.items():
            self._away.pop(node, None)
            boot = self._known.get(node)
            if boot != state.boot:
                self._known[node] = state.boot
                if boot is not None:                    # it was started again, so fast that it was not missed
                    self._give_up(node)
                else:
                    self._tell_all(node)
        for node in [node for node in self._known if node not in nodes]:
            del self._known[node]
            if node in self._talks:
                self._away[node] = now_s

    def tick(self, now_s: float) -> None:
        """Every 5 to 50 ms."""
        if not self._started:
            return
        for node, since_s in list(self._away.items()):
            if now_s >= since_s + LOST_S:
                del self._away[node]
                self._give_up(node)
        for node, talk in list(self._talks.items()):
            if talk.is_lost:
                self._give_up(node)
            elif node in self._overlay.nodes:
                talk.tick(now_s)
        for _ in range(min(JOINS_PER_TICK, len(self._untold))):
            node, name = self._untold.popleft()
            part = self.parts.get(name)
            if part is not None:
                part.tell(node, asks=True)
        for part in list(islice(self._waiting, WAITING_PER_TICK)):
            del self._waiting[part]
            part.look(now_s)
            if part.is_waiting:
                self._waiting[part] = None              # behind the others
        self._go_round(now_s)

    def _go_round(self, now_s: float) -> None:
        """Some of the parts that others have, too; after the last one those are told who might have to go on for us."""
        if not self._round:
            if now_s < self._reach_due_s:
                return
            self._reach_due_s = now_s + REACH_EVERY_S
            self._tell_reach()
            self.borders.look(self._talks.keys())
            self._round.extend(self._joint)
        for _ in range(min(LOOKED_PER_TICK, len(self._round))):
            part = self._round.popleft()
            if not part.is_shared or self.parts.get(part.name) is not part:
                self._joint.pop(part, None)
                continue
            for node in [node for node in part.spans.members if node in self.borders.moved]:
                if not self.borders.may_share(part.queue, node):
                    part.part_from(node)
            part.look_for_collector(now_s, self._settings.queue_lost_s)
            if part.spans.collects:
                self._followers.update(part.spans.members)
            elif part.collector:
                self._collectors.add(part.collector)

    def _give_up(self, node: str) -> None:
        self._talks.pop(node, None)
        self._inboxes.pop(node, None)
        for part in list(self._joint):
            part.lost(node)
        if node in self._overlay.nodes:
            self._tell_all(node)

    def _tell_reach(self) -> None:
        """Those who might have to go on for us; and how far are those for whom we might?"""
        told, self._followers = self._followers, set()
        collectors, self._collectors = self._collectors, set()
        self._reaches.look(collectors)
        if not told:
            return
        places = self._reaches.own()
        for node in told:
            if places != self._told_reach.get(node) and node in self._overlay.nodes:
                self._told_reach[node] = places
                self.say(node, Reach(places))
