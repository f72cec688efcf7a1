"""Links between simulated nodes: what the link layer does for the overlay, on virtual wires with faults.

    overlay.send ─► SimNeighbour.send ─► Pipe: queue by priority ─► bandwidth ─► delay ─► decode ─► overlay.received
                                          loss · doubling · reordering · blocked (either way) · broken with all in it

Frames are really encoded and decoded. As with TCP a blocked wire holds frames back; they are lost when the connection
breaks, which each end notices in its own time. A link dials again by itself; a new connection takes over from a stale
one.
"""
from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from mesh.link.protocol.frames import FRAME_BYTES_MAX, Gossip, Relay, decode_message, encode_frame

if TYPE_CHECKING:
    from tests.mesh.sim.node import SimNode
    from tests.mesh.sim.world import World

QUEUE_BYTES_MAX = 4 * 1024 * 1024
DIAL_EVERY_S = 0.5
DEAD_AFTER_S = (3.0, 6.0)           # silence after which an end gives a connection up
NOTICE_S = 0.5                      # a broken connection is noticed within this time
DATA_PRIORITY = 3


class Pipe:
    """One direction of one connection."""

    def __init__(self, connection: Connection, sender: SimNode, receiver: SimNode) -> None:
        self.connection = connection
        self.sender = sender
        self.receiver = receiver
        self.backlog_bytes = 0
        self._queue: list[tuple[int, int, bytes]] = []
        self._number = 0
        self._sending = False
        self._last_arrival_s = 0.0

    def send(self, frame: Gossip | Relay, priority: int) -> bool:
        link, world = self.connection.link, self.connection.link.world
        if self.connection.broken:
            return False
        data = encode_frame(frame)
        if self.backlog_bytes + len(data) > link.queue_bytes_max:
            link.counts["refused"] += 1
            return False
        if isinstance(frame, Relay) and world.rng.random() < link.loss:
            link.counts["lost"] += 1
            return True                             # dropped further on; nobody tells the sender
        self.backlog_bytes += len(data)
        link.sent_bytes[self.sender.name] += len(data)
        self._number += 1
        heapq.heappush(self._queue, (priority, self._number, data))
        self.pump()
        return True

    def pump(self) -> None:
        """Put the next frame on the wire when it is free."""
        link = self.connection.link
        if self._sending or not self._queue or self.connection.broken or link.blocked(self.sender):
            return
        self._sending = True
        _, _, data = heapq.heappop(self._queue)
        took_s = len(data) / link.bytes_per_s if link.bytes_per_s else 0.0
        link.world.after(took_s, lambda: self._sent(data))

    def _sent(self, data: bytes) -> None:
        self._sending = False
        self.backlog_bytes -= len(data)
        link, world = self.connection.link, self.connection.link.world
        if self.connection.broken:
            return
        arrival_s = max(self._last_arrival_s, world.now_s + link.delay_s * world.rng.uniform(0.9, 1.3))
        self._last_arrival_s = arrival_s
        if world.rng.random() < link.reorder:
            link.counts["reordered"] += 1
            arrival_s += world.rng.uniform(0.0, 0.3)
        world.after(arrival_s - world.now_s, lambda: self._arrive(data))
        if world.rng.random() < link.doubling:
            link.counts["doubled"] += 1
            world.after(arrival_s - world.now_s + world.rng.uniform(0.0, 0.5), lambda: self._arrive(data))
        self.pump()

    def _arrive(self, data: bytes) -> None:
        connection, overlay = self.connection, self.receiver.overlay if self.receiver.alive else None
        if overlay is None or connection.broken or connection.neighbours.get(self.receiver.name) is None:
            return
        connection.link.counts["frames"] += 1
        connection.link.counts["bytes"] += len(data)
        for frame in decode_message(data):
            neighbour = connection.neighbours.get(self.receiver.name)
            if neighbour is not None:
                self.receiver.do(lambda frame=frame, neighbour=neighbour: overlay.received(neighbour, frame))


class SimNeighbour:
    """What one node's overlay sees of the other end."""

    def __init__(self, pipe: Pipe, link: SimLink) -> None:
        peer = pipe.receiver
        self.link = link.name
        self.node, self.site, self.epoch, self.boot = peer.name, peer.site, peer.epoch, peer.boot
        self.version = peer.version
        self.protocol = 1
        self.cost = link.cost
        self.frame_bytes_max = FRAME_BYTES_MAX
        self.owner_boot = pipe.sender.boot
        self.exports: tuple[str, ...] = link.exports.get(pipe.sender.name, ("#",))
        self.imports: tuple[str, ...] = link.imports.get(pipe.sender.name, ("#",))
        self.console: tuple[str, ...] = ("view",)
        self.prefix = self.node_key = ""
        self._pipe = pipe
        self._link = link

    @property
    def rtt_s(self) -> float | None:
        return 2 * self._link.delay_s

    @property
    def skew_ms(self) -> float | None:
        return float(self._pipe.receiver.clock_ms() - self._pipe.sender.clock_ms())

    @property
    def backlog_bytes(self) -> int:
        return self._pipe.backlog_bytes

    def send(self, frame: Gossip | Relay, priority: int) -> bool:
        return self._pipe.send(frame, priority)

    def lied(self, text: str) -> None:
        self._link.lies.append(f"{self._pipe.sender.name} of {self.node}: {text}")
        self._link.world.after(0.0, self._pipe.connection.give_up)


class Connection:
    """Both directions, until it breaks. neighbours: node → its neighbour object, None once it knows the end."""

    def __init__(self, link: SimLink) -> None:
        self.link = link
        self.broken = False
        self.pipes = {one.name: Pipe(self, one, other) for one, other in ((link.a, link.b), (link.b, link.a))}
        self.neighbours: dict[str, SimNeighbour | None] = {}

    def open(self) -> None:
        for node in (self.link.a, self.link.b):
            if self.broken or not node.alive:
                self.cut(0.0)
                return
            neighbour = SimNeighbour(self.pipes[node.name], self.link)
            self.neighbours[node.name] = neighbour
            refusal = node.do(lambda node=node, neighbour=neighbour: node.overlay.neighbour_up(neighbour))
            if refusal is not None:
                self.link.counts["not admitted"] += 1
                self.link.refusals.append(refusal.text)
                self.neighbours[node.name] = None
                self.cut(0.0)
                return

    def cut(self, notice_s: float) -> None:
        """Everything under way is gone. Each end notices by itself within notice_s."""
        self.broken = True
        for node in (self.link.a, self.link.b):
            delay_s = self.link.world.rng.uniform(0.0, notice_s) if notice_s else 0.0
            self.link.world.after(delay_s, lambda node=node: self.noticed(node, "broken"))

    def noticed(self, node: SimNode, reason: str) -> None:
        neighbour = self.neighbours.get(node.name)
        self.neighbours[node.name] = None
        if neighbour is not None and node.alive and neighbour.owner_boot == node.boot:
            node.do(lambda: node.overlay.neighbour_down(neighbour, reason))

    def give_up(self) -> None:
        if not self.broken:
            self.cut(NOTICE_S)


class SimLink:
    """A configured link. The fault knobs may be turned at any time."""

    def __init__(self, world: World, a: SimNode, b: SimNode, *, cost: int = 1, delay_s: float = 0.005) -> None:
        self.world = world
        self.name = f"{a.name}~{b.name}"
        self.a, self.b = a, b
        self.cost = cost
        self.exports: dict[str, tuple[str, ...]] = {}
        self.imports: dict[str, tuple[str, ...]] = {}
        self.counts: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()       # by sender
        self.refusals: list[str] = []
        self.lies: list[str] = []               # what an overlay said of a peer: nobody lies in the simulation
        self.connection: Connection | None = None
        self.closed = False                     # pulled by the operator
        self._blocked: set[str] = set()         # senders whose frames do not get through
        self._blocked_since_s: float | None = None
        self._patience_s = 0.0
        self._stale: Connection | None = None   # of a node that has gone, which the other may not know yet
        self.usual_delay_s = delay_s
        self.calm()
        world.every(DIAL_EVERY_S, self._dial)

    def calm(self) -> None:
        """No faults any more. What is queued goes on."""
        self.loss = self.doubling = self.reorder = 0.0
        self.bytes_per_s: float | None = None
        self.queue_bytes_max = QUEUE_BYTES_MAX
        self.delay_s = self.usual_delay_s
        self.closed = False
        self.block()

    def blocked(self, sender: SimNode) -> bool:
        return sender.name in self._blocked

    def block(self, *senders: SimNode) -> None:
        """Nothing of these senders gets through from now on (none: all goes through again)."""
        self._blocked = {node.name for node in senders}
        self._blocked_since_s = self.world.now_s if senders else None
        self._patience_s = self.world.rng.uniform(*DEAD_AFTER_S)
        if self.connection is not None and not senders:
            for pipe in self.connection.pipes.values():
                pipe.pump()

    def cut(self) -> None:
        """Break the connection, whatever is in it."""
        if self.connection is not None:
            self.connection.cut(NOTICE_S)
            self.connection = None

    def node_gone(self, node: SimNode, *, silent: bool) -> None:
        """The process at one end is no more. silent: its machine is, too, so that nobody says so."""
        connection = self.connection
        if connection is None:
            return
        connection.neighbours[node.name] = None
        connection.broken = True
        other = self.b if node is self.a else self.a
        delay_s = self.world.rng.uniform(*DEAD_AFTER_S) if silent else self.world.rng.uniform(0.0, 0.05)
        self.world.after(delay_s, lambda: connection.noticed(other, "the peer is gone"))
        self.connection = None
        self._stale = connection

    def _dial(self) -> None:
        if self._blocked_since_s is not None and self.world.now_s - self._blocked_since_s > self._patience_s:
            self.cut()
        if self.connection is not None and self.connection.broken:
            self.connection = None
        if self.connection is not None or self.closed or self._blocked or not (self.a.alive and self.b.alive):
            return
        if self._stale is not None:
            for node in (self.a, self.b):
                self._stale.noticed(node, "taken over by a new connection")
            self._stale = None
        self.connection = Connection(self)
        self.counts["dialled"] += 1
        self.connection.open()
