"""Overlays on a simulated network with a fake clock: links with delay, loss, doubling and reordering of gossip."""
from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from mesh.link.protocol.frames import Gossip, Relay, decode_message, encode_frame
from mesh.topology.linkstate.nodestate import NodeInfo
from mesh.topology.overlay import Overlay
from mesh.topology.settings import MeshSettings

WALL_MS = 1_800_000_000_000
TICK_S = 0.1


class FakeNeighbour:
    """One end's view of the other end. A frame is encoded, delayed and decoded."""

    def __init__(self, net: Net, me: str, other: str, link: Wire) -> None:
        """me, other: names of the net, which differ from those of the nodes where two have the same."""
        self.net, self.me, self.peer, self.wire = net, me, other, link
        info = net.nodes[other].me
        self.link, self.node, self.site, self.epoch, self.boot = link.name, info.name, info.site, info.epoch, info.boot
        self.version = info.version
        self.protocol = 1
        self.cost = link.cost
        self.exports: tuple[str, ...] = ("#",)
        self.imports: tuple[str, ...] = ("#",)
        self.console: tuple[str, ...] = ("view",)
        self.prefix = self.node_key = ""
        self.rtt_s: float | None = 2 * link.delay_s
        self.frame_bytes_max = 8 * 1024 * 1024
        self.backlog_bytes = 0
        self.lies: list[str] = []
        self.full = False
        self.other: FakeNeighbour | None = None     # what the other end sees of us
        self.sent_bytes = 0

    @property
    def skew_ms(self) -> float | None:
        return float(self.net.skews.get(self.peer, 0) - self.net.skews.get(self.me, 0))

    def send(self, frame: Any, priority: int) -> bool:
        if self.full or self.wire.down:
            return False
        data = encode_frame(frame)
        self.sent_bytes += len(data)
        self.net.carry(self, data)
        return True

    def lied(self, text: str) -> None:
        self.lies.append(text)
        self.net.lies.append((self.me, self.node, text))
        self.net.after(0.0, lambda: self.net.break_wire(self.wire))


class Wire:
    def __init__(self, a: str, b: str, cost: int, delay_s: float, name: str) -> None:
        self.a, self.b, self.cost, self.delay_s, self.name = a, b, cost, delay_s, name
        self.down = True
        self.loss = self.doubling = self.jitter_s = 0.0
        self.ends: dict[str, FakeNeighbour] = {}
        self.serial = 0


class Net:
    """nodes: name → overlay. Nothing here knows real time."""

    def __init__(self, seed: int = 1, settings: MeshSettings | None = None) -> None:
        self.rng = random.Random(seed)
        self.now_s = 1_000.0
        self.settings = settings or MeshSettings()
        self.nodes: dict[str, Overlay] = {}
        self.wires: list[Wire] = []
        self.skews: dict[str, int] = {}
        self.lies: list[tuple[str, str, str]] = []
        self.refusals: list[str] = []
        self.messages: list[tuple[str, str, bytes]] = []        # to, source, body
        self.changes: list[tuple[str, frozenset[str]]] = []
        self.bytes = 0
        self.frames = 0
        self.turns: list[Callable[[], None]] = []               # done after every step: the nodes' loops
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._lives: dict[str, int] = {}

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_s + seconds, next(self._numbers), work))

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, work = heapq.heappop(self._heap)
            work()
            for turn in self.turns:
                turn()
        self.now_s = end_s

    def run_until(self, condition: Callable[[], bool], limit_s: float, step_s: float = 0.001) -> float:
        """Seconds until the condition held."""
        start_s = self.now_s
        while not condition():
            assert self.now_s - start_s < limit_s, f"not within {limit_s} s"
            self.run(step_s)
        return self.now_s - start_s

    def add(self, name: str, *, site: str = "site", versions: tuple[int, int] = (1, 1),
            clock_off_ms: int = 0) -> Overlay:
        life = self._lives[name] = self._lives.get(name, 0) + 1
        epoch, boot = f"epoch-{name.replace('!', '-')}", f"boot-{self.rng.getrandbits(48):012x}"
        info = NodeInfo(name.split("!")[0], site, epoch, boot, "1.0", *versions)

        def clock_ms() -> int:
            return WALL_MS + clock_off_ms + round(self.now_s * 1000)

        node, work_of_a_tick = self.make(name, info, clock_ms)
        self.nodes[name] = node

        def tick() -> None:
            if self._lives[name] == life:
                work_of_a_tick(self.now_s)
                self.after(TICK_S, tick)

        self.after(self.rng.uniform(0, TICK_S), tick)
        return node

    def make(self, name: str, info: NodeInfo,
             clock_ms: Callable[[], int]) -> tuple[Overlay, Callable[[float], None]]:
        """An overlay and its tick."""
        node = Overlay(info, lambda: self.now_s, clock_ms, random.Random(self.rng.random()), self.settings, self.after)
        node.on_message = lambda source, body: self.messages.append((name, source, body))
        node.on_nodes_changed = lambda names: self.changes.append((name, frozenset(names)))
        return node, node.tick

    def link(self, a: str, b: str, *, cost: int = 1, delay_s: float = 0.001, name: str = "") -> Wire:
        wire = Wire(a, b, cost, delay_s, name or f"{a}~{b}")
        self.wires.append(wire)
        self.connect(wire)
        return wire

    def connect(self, wire: Wire) -> bool:
        wire.down = False
        wire.serial += 1
        wire.ends = {}
        ends = {one: FakeNeighbour(self, one, other, wire)
                for one, other in ((wire.a, wire.b), (wire.b, wire.a))}
        ends[wire.a].other, ends[wire.b].other = ends[wire.b], ends[wire.a]
        for name, end in ends.items():
            refusal = self.nodes[name].neighbour_up(end)
            if refusal is not None:
                self.refusals.append(refusal.text)
                self.break_wire(wire)
                return False
            wire.ends[name] = end
        return True

    def break_wire(self, wire: Wire) -> None:
        if wire.down:
            return
        wire.down = True
        ends, wire.ends = wire.ends, {}
        for name, end in ends.items():
            self.nodes[name].neighbour_down(end, "cut")

    def kill(self, name: str) -> None:
        self._lives[name] += 1
        for wire in self.wires:
            if name in (wire.a, wire.b):
                wire.ends.pop(name, None)
                self.break_wire(wire)
        del self.nodes[name]

    def carry(self, sender: FakeNeighbour, data: bytes) -> None:
        wire = sender.wire
        self.bytes += len(data)
        self.frames += 1
        serial = wire.serial
        for _ in range(1 + (self.rng.random() < wire.doubling)):
            if self.rng.random() < wire.loss:
                continue
            delay_s = wire.delay_s + (self.rng.uniform(0, wire.jitter_s) if wire.jitter_s else 0.0)
            self.after(delay_s, lambda: self._arrive(sender, data, serial))

    def _arrive(self, sender: FakeNeighbour, data: bytes, serial: int) -> None:
        wire = sender.wire
        end = wire.ends.get(sender.peer)
        if wire.down or wire.serial != serial or end is None:
            return
        for frame in decode_message(data):
            if sender.peer in self.nodes and not wire.down:
                assert isinstance(frame, (Gossip, Relay))
                self.nodes[sender.peer].received(end, frame)

    def line(self, count: int, **options: Any) -> list[str]:
        names = [f"n{index}" for index in range(count)]
        for name in names:
            self.add(name)
        for one, other in itertools.pairwise(names):
            self.link(one, other, **options)
        return names

    def agree(self, names: Iterable[str] | None = None) -> bool:
        """Everybody reaches everybody and has their newest interest and links."""
        group = list(names or self.nodes)
        for name in group:
            node = self.nodes[name]
            for other in group:
                if other == name:
                    continue
                seen = node.nodes.get(other)
                truth = self.nodes[other]
                if seen is None or seen.boot != truth.me.boot or set(seen.interest) != set(truth._own.interest) \
                        or seen.links != truth._own.links or seen.streams != truth._own.streams:
                    return False
        return True
