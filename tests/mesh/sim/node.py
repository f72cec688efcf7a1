"""A simulated node: the real Router, LocalStore, Overlay and Replication on a simulated disk, loop, clock and network.

    world.after ─► do(work) ─► the loop's queue, turn by turn, until nothing is left ─► frames to the network's pipes
                                    writer and keeper: each task a little later, gone when the node crashes

kill() is SIGKILL: the page cache survives. lights_out() is power loss: what was not synced may be gone. wipe() is a new
disk under the same name.
"""
from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from routing.event import Event
from routing.log.committing.workers import one_behind_the_other
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, Identity, Policy
from routing.router import Router
from routing.settings import Limits, StreamSettings
from tests.mesh.sim.parts import make_meshing
from tests.mesh.sim.world import WALL_MS, World
from tests.support.disk import FaultyFileSystem, PowerLoss, SimulatedDisk

if TYPE_CHECKING:
    from tests.mesh.sim.network import SimLink

ROOT = Path("/data")
TICK_S = 0.05
TURNS_MAX = 200_000         # of one loop without time passing: more is an endless loop of ours
LIMITS = Limits(tail_cache_bytes=20_000)        # small, so that much is read from disk
Answer = TypeVar("Answer")


class LaterWriter:
    """A thread of the store: tasks in order, each after a random while."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._life = node.life
        self._free_s = 0.0

    def submit(self, work: Callable[[], None], told: Callable[[], None] | None = None) -> None:
        work = one_behind_the_other(work, told)
        node = self._node
        start_s = max(self._free_s, node.world.now_s)
        self._free_s = start_s + node.world.rng.uniform(0.0001, node.disk_s)
        life = self._life
        node.world.after(self._free_s - node.world.now_s,
                         lambda: node.do(work) if node.life == life and node.alive else None)

    def close(self) -> None:
        raise AssertionError("a simulated node is never stopped in good order")


class SimNode:
    """name, site; replicate: [(filter, "earliest" | "latest")]; streams: settings."""

    def __init__(self, world: World, name: str, streams: list[StreamSettings],
                 replicate: list[tuple[str, str]]) -> None:
        self.world = world
        self.name = name
        self.site = f"site-{name}"
        self.version = "sim"
        self.streams = streams
        self.replicate = replicate
        self._new_disk()
        self.disk_s = 0.003                     # longest commit
        self.window_bytes = world.rng.choice((4_000, 40_000, 8 * 1024 * 1024))
        self.wall_error_ms = world.rng.randint(-2_000, 2_000)
        self.alive = False
        self.life = 0
        self.boot = ""
        self.links: list[SimLink] = []
        self.on_start: list[Callable[[], None]] = []        # clients that come back
        self._queue: deque[Callable[[], None]] = deque()
        self._running = False
        self._monotonic_base_s = world.rng.uniform(0, 1e6)
        world.every(TICK_S, self._tick)

    # --- clocks ------------------------------------------------------------------------------------------------------
    def clock_s(self) -> float:
        return self.world.now_s + self._monotonic_base_s

    def clock_ms(self) -> int:
        return WALL_MS + round(self.world.now_s * 1000) + self.wall_error_ms

    # --- the loop ----------------------------------------------------------------------------------------------------
    def call_soon(self, work: Callable[[], None]) -> None:
        self._queue.append(work)

    def do(self, work: Callable[[], Answer]) -> Answer | None:
        """Run work on this node's loop, and all that follows from it at this moment. PowerLoss ends the node."""
        if self._running:
            return work()
        self._running = True
        answer = None
        try:
            answer = work()
            for _ in range(TURNS_MAX):
                if not self._queue:
                    break
                self._queue.popleft()()
            else:
                raise AssertionError(f"{self.name}: the loop never comes to rest")
        except PowerLoss:
            self._running = False
            self.lights_out()
        finally:
            self._running = False
        return answer

    def _tick(self) -> None:
        if self.alive:
            self.do(self._work_of_a_tick)

    def _work_of_a_tick(self) -> None:
        self.router.tick(self.clock_s())
        self.mesh.tick(self.clock_s())
        if int(self.world.now_s / TICK_S) % 20 == 0:
            self.store.maintain(self.clock_ms())

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        assert not self.alive
        self.life += 1
        self.boot = f"boot-{self.world.rng.getrandbits(64):016x}"
        self._queue.clear()
        self._prepare_epoch()
        self.alive = True
        self.do(self._build)
        for come_back in self.on_start if self.alive else ():
            self.do(come_back)

    def _prepare_epoch(self) -> None:
        """The store draws its epoch from the system's randomness; here it must come from the seed."""
        path = ROOT / "epoch"
        if not self.disk.exists(path):
            self.disk.make_directory(ROOT)
            file = self.disk.open(path, create=True)
            file.pwrite(b"%016x\n" % self.world.rng.getrandbits(64), 0)
            file.datasync()
            self.disk.sync_directory(ROOT)

    def _build(self) -> None:
        self.store = LocalStore(
            ROOT, call_on_loop=self.call_soon, clock_ms=self.clock_ms, clock_s=self.clock_s, fs=self.files,
            pending_bytes_max=LIMITS.pending_commit_bytes, tail_cache_bytes=LIMITS.tail_cache_bytes,
            spawn_writer=lambda name: LaterWriter(self), journal_bytes=64 * 1024)
        self.router = Router(
            self.store, self.streams, Policy((ALLOW_ALL,)), limits=LIMITS, call_soon=self.call_soon,
            clock_s=self.clock_s, clock_ms=self.clock_ms)
        self.router.retained.node_name = self.name
        self.publisher = self.router.publisher(Identity(user=self.name, protocol="sim", client_id=f"p-{self.name}"))
        self.mesh = make_meshing(self)

    @property
    def overlay(self) -> Any:
        return self.mesh.overlay

    @property
    def epoch(self) -> str:
        return self.store.epoch

    def kill(self) -> None:
        """SIGKILL: nothing more is written, what was written stays."""
        self._gone(silent=False)
        self.disk.locks.clear()
        self.disk.loss_at = None

    def lights_out(self) -> None:
        """Power loss: of what was not synced an arbitrary part survives."""
        self._gone(silent=True)
        self.disk.power_loss(self.world.rng)
        self._monotonic_base_s = self.world.rng.uniform(0, 1e6)     # starts anew with the machine

    def _gone(self, *, silent: bool) -> None:
        if not self.alive:
            return
        self.alive = False
        self.life += 1
        self._queue.clear()
        for link in self.links:
            link.node_gone(self, silent=silent)

    def wipe(self) -> None:
        """A new disk: the log, its epoch, positions and consumers are gone."""
        assert not self.alive
        self._new_disk()

    def fill_disk(self, writes: int, at: int) -> None:
        """From the at-th write from now so many are refused: the disk is full."""
        self.files.faults.fail("pwrite", at=at, count=writes, code=errno.ENOSPC, suffix=".log")

    def _new_disk(self) -> None:
        self.disk = SimulatedDisk()
        self.files = FaultyFileSystem(self.disk)

    # --- what is here ------------------------------------------------------------------------------------------------
    def retained_events(self) -> list[Event]:
        return list(self.router.retained.tree.match("#"))
