"""Once a second: figures of the node into its histories, and when the state of each thing last changed.

    node       events_in_s  denied_s  lag_events  connections  dropped_s  memory_bytes
    link       sent_bytes_s  received_bytes_s  backlog_bytes  backlog_seconds  rtt_ms
               lag_events  lag_seconds: of what waits behind it, while somebody looks
    stream     events_s  size_bytes
    consumer   lag_events  lag_seconds  acked_s

The number of series is bounded (history.SERIES_MAX); consumers with lag come before those without, so that a node with
100,000 quiet sessions still remembers what those did that are behind.

What is quiet costs little: who has caught up stays so while no stream grows. Then only consumers of which something is
kept are looked at, and some of the others in turn, for one that was set back.
"""
from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mesh.management.figures.history import Histories
from mesh.management.figures.link_lag import lag_by_neighbour
from mesh.management.paging.steps import in_steps

if TYPE_CHECKING:
    from mesh.node import Node

logger = logging.getLogger(__name__)

EVERY_S: Final = 1.0
TIDY_EVERY: Final = 60                  # samples
CONSUMERS_SAMPLED_MAX: Final = 200      # of one second
CONSUMERS_IN_TURN: Final = 1_000        # of a second in which nothing was stored: of 10,000, each within ten seconds
SKIPPED_PER_STEP: Final = 64


class Sampler:
    """One per node. run() as a task."""

    def __init__(self, node: Node) -> None:
        self.histories = Histories()
        self.rates: dict[tuple[str, str], dict[str, float]] = {}       # (kind, subject) → the newest figures
        self.on_sample: list[Callable[[], None]] = []
        self._node = node
        self._totals: dict[tuple[str, str, str], float] = {}
        self._states: dict[tuple[str, str], tuple[str, int]] = {}       # (kind, subject) → its state, since when (ms)
        self._sampled_s = 0.0
        self._count = 0
        self._seen = (-1, -1)               # ends of all streams and number of consumers, of the sample before
        self._kept: set[str] = set()        # consumers that are looked at in every sample
        self._turn = 0                      # of the others: where the next ones begin

    async def run(self) -> None:
        """Until it is cancelled. A fault is logged, and the next second is sampled again."""
        loop = asyncio.get_running_loop()
        while True:
            begun_s = loop.time()
            try:
                await self.sample(begun_s)
            except Exception:
                logger.exception("a sample of the node's figures failed")
            await asyncio.sleep(max(EVERY_S - (loop.time() - begun_s), EVERY_S / 4))

    async def sample(self, now_s: float) -> None:
        """now_s: monotonic. Takes its figures in steps."""
        passed_s = now_s - self._sampled_s if self._sampled_s else 0.0
        self._sampled_s = now_s
        at_s = self._node.clock_ms() // 1000
        rates: dict[tuple[str, str], dict[str, float]] = {}
        await in_steps(self._taken(passed_s, at_s, rates))
        self.rates = rates
        self._count += 1
        if self._count % TIDY_EVERY == 0:
            self._tidy(at_s)
        for told in self.on_sample:
            told()

    def since_ms(self, kind: str, subject: str) -> int | None:
        """From when on the state that the subject has now was seen; None: never seen."""
        known = self._states.get((kind, subject))
        return known[1] if known is not None else None

    def state_is(self, kind: str, subject: str, state: str) -> int:
        """Note a state; returns since when it holds (wall clock, ms)."""
        known = self._states.get((kind, subject))
        if known is None or known[0] != state:
            known = self._states[kind, subject] = (state, self._node.clock_ms())
        return known[1]

    # -- figures ----------------------------------------------------------------------------------------------

    def _taken(self, passed_s: float, at_s: int, rates: dict[tuple[str, str], dict[str, float]]) -> Iterator[None]:
        for figure in self._figures(passed_s):
            if figure is not None:
                kind, subject, figures = figure
                rates[kind, subject] = figures
                for name, value in figures.items():
                    self.histories.add(kind, subject, name, at_s, value)
            yield

    def _figures(self, passed_s: float) -> Iterator[tuple[str, str, dict[str, float]] | None]:
        """None: one was looked at of which nothing is kept. Of 100,000 such consumers each is a step."""
        yield from self._links()
        stored = 0
        for stream in list(self._node.router.streams):
            end = sum(partition.end_offset for partition in stream.partitions)
            stored += end
            size = sum(partition.size_bytes for partition in stream.partitions)
            yield "stream", stream.name, {
                "events_s": self._rate("stream", stream.name, "end", end, passed_s), "size_bytes": float(size)}
        lag = 0.0
        for name, figures in self._consumers(passed_s, stored):
            lag += figures.get("lag_events", 0.0)
            yield ("consumer", name, figures) if len(figures) > 1 else None
        yield "node", self._node.name, self._own(passed_s, lag)

    def _links(self) -> Iterator[tuple[str, str, dict[str, float]]]:
        lags = lag_by_neighbour(self._node, look=False)
        for row in self._node.links.snapshot():
            self.state_is("link", str(row["id"]), str(row["state"]))
            backlog = row["backlog"]
            figures = {
                "sent_bytes_s": row["sent"]["bytes_s"], "received_bytes_s": row["received"]["bytes_s"],
                "backlog_bytes": backlog["bytes"] + backlog["unconfirmed_bytes"], "backlog_seconds": backlog["seconds"],
                "rtt_ms": row["rtt_ms"],
            }
            lag = lags.get(str(row["node"]))
            if lag is not None and lag.exact:
                figures.update(lag_events=lag.events, lag_seconds=lag.seconds)
            yield "link", str(row["id"]), {name: float(value) for name, value in figures.items() if value is not None}

    def _consumers(self, passed_s: float, stored: int) -> Iterator[tuple[str, dict[str, float]]]:
        """Those behind with all their figures, the others as far as there is room; the rest by their lag alone.
        stored: ends of all streams.
        """
        everyone = list(self._node.router.registry.awake())
        seen = stored, len(everyone)
        turn = self._in_turn(len(everyone)) if seen == self._seen else range(len(everyone))
        before = self._kept
        kept: set[str] = set()
        sampled = 0
        for number, consumer in enumerate(everyone):
            if number not in turn and consumer.name not in before:
                if number % SKIPPED_PER_STEP == 0:
                    yield consumer.name, {}
                continue
            if consumer.closed or not consumer.spec.durable:
                yield consumer.name, {}
                continue
            lag = consumer.lag()
            if not lag.exact:
                kept.add(consumer.name)                 # it is being counted
            if not lag.events and sampled >= CONSUMERS_SAMPLED_MAX:
                yield consumer.name, {"lag_events": 0.0}
                continue
            sampled += 1
            kept.add(consumer.name)
            yield consumer.name, {
                "lag_events": float(lag.events), "lag_seconds": lag.seconds,
                "acked_s": self._rate("consumer", consumer.name, "acked", consumer.acked, passed_s)}
        self._seen, self._kept = seen, kept             # not before all is done: a sample that fails is made up for

    def _in_turn(self, consumers: int) -> range:
        """The numbers of those that are looked at now although they had caught up."""
        begin = self._turn if self._turn < consumers else 0
        self._turn = begin + CONSUMERS_IN_TURN
        return range(begin, self._turn)

    def _own(self, passed_s: float, lag: float) -> dict[str, float]:
        node, name = self._node, self._node.name
        router = node.router
        return {
            "events_in_s": self._rate("node", name, "in", router.published, passed_s),
            "denied_s": self._rate("node", name, "denied", router.policy.denied.total(), passed_s),
            "dropped_s": self._rate("node", name, "dropped", router.drops.total(), passed_s),
            "lag_events": lag,
            "connections": float(node.connections),
            "memory_bytes": float(resident_bytes()),
        }

    def _rate(self, kind: str, subject: str, name: str, total: float, passed_s: float) -> float:
        """Per second since the last sample; 0 for the first one, never negative."""
        key = (kind, subject, name)
        before = self._totals.get(key, total)
        self._totals[key] = total
        return max(total - before, 0.0) / passed_s if passed_s > 0 else 0.0

    def _tidy(self, at_s: int) -> None:
        if self.histories.untracked:
            logger.info("%d figures a minute have no room in the histories", self.histories.untracked)
        self.histories.tidy(at_s)
        alive = set(self.rates)
        self._totals = {key: value for key, value in self._totals.items() if key[:2] in alive}
        links = set(self._node.links.links)
        self._states = {key: value for key, value in self._states.items() if key[0] != "link" or key[1] in links}


def resident_bytes() -> int:
    """Memory that the process holds now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rates_of(sampler: Sampler, kind: str) -> dict[str, dict[str, Any]]:
    """Subject → figure → value, of one kind."""
    return {subject: dict(figures) for (one, subject), figures in sampler.rates.items() if one == kind}
