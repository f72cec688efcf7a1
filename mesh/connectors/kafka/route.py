"""What routes in both directions have in common: a task that is begun again after every fault, a state, counters.

    starting ──► running ◄──► waiting (a fault; tried again)         paused (by an operator)
                    └──────► stopped (a record that cannot be taken; tried again, too)
"""
from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any

from mesh.connectors.kafka.cluster import Cluster
from mesh.connectors.kafka.path import of_node
from routing.router import Router

logger = logging.getLogger(__name__)

PROBLEM_CHARS_MAX = 300
COUNTERS = ("moved", "repeats", "looped", "refused", "expired", "lost", "faults")


class CannotTake(Exception):
    """A record that the other side will never take as it is."""


class Home:
    """What routes need of their node."""

    def __init__(self, router: Router, node: str, mesh: Any) -> None:
        """mesh: answers with (name, epoch) of the other nodes that are known."""
        self.router = router
        self.node = node
        self.place = of_node(node, router.store.epoch)
        self._mesh = mesh

    def places(self) -> frozenset[str]:
        """Of this mesh: what comes back with one of them in its way is not taken in."""
        return frozenset((self.place, *(of_node(name, epoch) for name, epoch in self._mesh())))


class Route(ABC):
    """Event loop only. start(), then stop()."""

    direction = ""

    def __init__(self, home: Home, bridge: str, cluster: Cluster, name: str) -> None:
        self.home = home
        self.bridge = bridge
        self.cluster = cluster
        self.route = name
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.last_problem = ""
        self.cluster_id = ""
        self._state = "starting"
        self._task: asyncio.Task[None] | None = None
        self._faults = 0                        # in a row

    @property
    def name(self) -> str:
        return f"{self.bridge}/{self.route}"

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        """Sessions, one after the other."""
        settings = self.cluster.settings
        while True:
            try:
                await self._session()
            except CannotTake as error:
                self._trouble("stopped", str(error))
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                    raise               # else it is aiokafka's: a connection that broke cancels what waited for it
                self.counts["faults"] += 1
                self._trouble("waiting", problem_of(error))
                logger.debug("bridge %s: %r", self.name, error, exc_info=error)
            wait_s = min(settings.retry_initial_s * 2 ** min(self._faults, 30), settings.retry_max_s)
            self._faults += 1
            await asyncio.sleep(wait_s)

    @abstractmethod
    async def _session(self) -> None:
        """From connecting to a fault, which is raised."""

    def _well(self) -> None:
        """Something was done."""
        if self._state != "running":
            logger.info("bridge %s: running", self.name)
        self._state, self._faults, self.last_problem = "running", 0, ""

    def _trouble(self, state: str, problem: str) -> None:
        if (state, problem) != (self._state, self.last_problem):
            logger.warning("bridge %s: %s: %s", self.name, state, problem)
        self._state, self.last_problem = state, problem

    # -- for people -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def paused(self) -> bool: ...

    @abstractmethod
    async def pause(self, paused: bool) -> None:
        """Also over a restart: it is on disk when this returns."""

    @abstractmethod
    def lag_events(self) -> int | None:
        """Records that are there and not moved yet. None: not known."""

    @abstractmethod
    def ends(self) -> tuple[str, str]:
        """From where, to where, in words."""

    @property
    def state(self) -> str:
        return "paused" if self.paused else self._state

    def snapshot(self) -> dict[str, Any]:
        """For the management API. No secret is in it."""
        source, target = self.ends()
        return {
            "name": self.name, "bridge": self.bridge, "route": self.route, "direction": self.direction,
            "from": source, "to": target, "state": self.state, "paused": self.paused,
            "lag_events": self.lag_events(), **self.counts, "cluster": self.cluster_id,
            "servers": list(self.cluster.settings.servers), "last_problem": self.last_problem,
        }


def problem_of(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, asyncio.CancelledError):
        text = "the connection broke"
    if isinstance(error, TimeoutError) and not str(error):
        text = "no answer in time"
    return "".join(char if char.isprintable() else "?" for char in text[:PROBLEM_CHARS_MAX])    # words of strangers
