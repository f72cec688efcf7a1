"""What operators see of replication: lag per origin and per destination, in events and in seconds; flows and rates."""
from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mesh.replication.filters import END
from mesh.replication.lag import Counter, Lag
from mesh.replication.outgoing.hold import Forecast

if TYPE_CHECKING:
    from mesh.replication.incoming.flow import Flow
    from mesh.replication.incoming.intake import Intake
    from mesh.replication.outgoing.outlets import Outlets
    from routing.log.partition import Partition
    from routing.router import Router

RATE_S: Final = 5.0             # rates are of the last so many seconds
LOOKED_AT_S: Final = 60.0       # lag is counted for so long after somebody asked
SCAN_PER_TICK: Final = 16_384   # records looked at for it
SAMPLE_S: Final = 1.0

Key = tuple[str, str, int, int]         # node, stream, partition, flow


class Rate:
    """Per second, of a number that rises."""

    __slots__ = ("_value", "per_s")

    def __init__(self, value: int) -> None:
        self._value = value
        self.per_s = 0.0

    def sample(self, value: int, passed_s: float) -> None:
        now = max(0, value - self._value) / passed_s
        self._value = value
        self.per_s += (now - self.per_s) * min(1.0, passed_s / RATE_S)
        if self.per_s < 0.01:
            self.per_s = 0.0


class View:
    def __init__(self, router: Router, intake: Intake, outlets: Outlets, counts: Counts[str],
                 clock_s: Callable[[], float], clock_ms: Callable[[], int]) -> None:
        self.forecast = Forecast()
        self._router = router
        self._intake = intake
        self._outlets = outlets
        self._counts = counts
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._looked_s = -LOOKED_AT_S
        self._sampled_s = clock_s()
        self._counters: dict[Key, Counter] = {}
        self._rates: dict[object, Rate] = {}
        self._aged: dict[Partition, int] = {}           # where each partition ended a second ago or less

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        passed_s = now_s - self._sampled_s
        if passed_s >= SAMPLE_S:
            self._sampled_s = now_s
            self._sample(passed_s)
            self.forecast.sample(now_s, sum(partition.size_bytes for partition in self._router.own_partitions()))
        if now_s - self._looked_s < LOOKED_AT_S:
            self._count(SCAN_PER_TICK, self._aged)
        elif self._counters:
            self._counters.clear()

    def _sample(self, passed_s: float) -> None:
        rates: dict[object, Rate] = {}
        for branch in self._intake.branches.values():
            for flow in branch.flows():
                rates["in", flow.token] = self._rate("in", flow.token, flow.events, passed_s)
        for outlet in self._outlets.by_key.values():
            rates["out", outlet.token] = self._rate("out", outlet.token, outlet.events, passed_s)
        self._rates = rates
        self._aged = {partition: partition.end_offset for partition in self._router.own_partitions()}

    def _rate(self, kind: str, token: int, value: int, passed_s: float) -> Rate:
        rate = self._rates.get((kind, token))
        if rate is None:
            return Rate(value)
        rate.sample(value, passed_s)
        return rate

    def _per_s(self, kind: str, token: int) -> float:
        rate = self._rates.get((kind, token))
        return round(rate.per_s, 2) if rate is not None else 0.0

    def _count(self, budget: int, until: Mapping[Partition, int] | None = None) -> None:
        """Bring the counters of all destinations, those that are away too, further down the log.

        until: not beyond; in ticks where the log ended a second ago, for most of what is newer arrives before anybody
        asks.
        """
        alive: dict[Key, Counter] = {}
        for destination, (stream, index, flow), held in self._outlets.hold.flows():
            partition = self._router.streams.partition_of_origin(stream, index)
            if partition is None:
                continue
            key = destination.node, stream, index, flow
            counter = self._counters.get(key)
            if counter is None or not counter.is_for(held.selection) or counter.start > held.confirmed:
                counter = Counter(partition, held.selection, held.confirmed)
            if held.confirmed > counter.counted_to:
                counter.advance(held.confirmed)         # what has arrived is not looked at
            while budget > 0 and (looked := counter.step(END if until is None else until.get(partition, 0))):
                budget -= looked
            alive[key] = counter
        self._counters = alive

    # -- for operators ----------------------------------------------------------------------------------------

    def snapshot(self, *, filters: bool) -> dict[str, Any]:
        """filters: with those of each flow, which metrics have no use for."""
        self._looked_s = self._clock_s()
        self._count(SCAN_PER_TICK)
        return {
            "wanted": list(self._intake.filters), "widened": self._intake.widened,
            "origins": self._origins(filters=filters),
            "destinations": self._destinations(),
            "refused": {"batches": dict(self._intake.refusals), "pulls": dict(self._outlets.refusals),
                        "messages": self._counts["bad messages"]},
            "retained": {"asked": self._intake.retained.outstanding, "taken": self._intake.retained.taken},
            "disk": self.disk(),
        }

    def lags(self, *, look: bool) -> dict[str, Lag]:
        """Of each destination. look: somebody wants to know, so it is counted from now on. Empty while it is not."""
        now_s = self._clock_s()
        if look:
            self._looked_s = now_s
        elif now_s - self._looked_s >= LOOKED_AT_S:
            return {}
        self._count(SCAN_PER_TICK)
        now_ms = self._clock_ms()
        found: dict[str, Lag] = {}
        for destination, (stream, index, flow), held in self._outlets.hold.flows():
            if self._router.streams.partition_of_origin(stream, index) is not None:
                lag = self._lag((destination.node, stream, index, flow), held.confirmed, now_ms)
                before = found.get(destination.node)
                found[destination.node] = lag if before is None else before + lag
        return found

    def disk(self) -> dict[str, Any]:
        hold = self._outlets.hold
        free_bytes = hold.free_bytes()
        return {
            "held_bytes": sum(hold.held_bytes.values()), "spilled": hold.spilled,
            "growth_bytes_per_s": round(self.forecast.growth_bytes_s, 1), "free_bytes": free_bytes,
            "full_in_s": self.forecast.full_in_s(free_bytes),
            "publishers_refused": any(partition.held_up is not None for partition in self._router.own_partitions()),
        }

    def _origins(self, *, filters: bool) -> list[dict[str, Any]]:
        """What this node pulls. lag_offsets: how far behind the origin's end, wanted or not; lag_seconds: age of the
        first event that has not arrived, as the origin told with its last batch.
        """
        return [
            {
                "node": flow.origin.node, "epoch": flow.origin.epoch, "stream": flow.origin.stream,
                "partition": flow.origin.index, "flow": flow.number, "state": flow.state.value,
                "reachable": flow.reachable, "floor": flow.floor, "end": flow.end,
                "lag_offsets": max(0, flow.end - flow.floor), "lag_seconds": self._lag_s(flow),
                "filters": [] if not filters else sorted(
                    flow.history.open() if not flow.number else {want.filter for want in flow.history.intervals}),
                "events": flow.events, "bytes": flow.bytes, "events_per_s": self._per_s("in", flow.token),
                "lost_to_retention": flow.lost, "refused": flow.refused, "rewinds": flow.rewinds,
                "as_stored": flow.takes_stored,
                "rtt_ms": round(flow.trip.smooth_s * 1000, 1) if flow.trip.smooth_s is not None else None,
                "trouble": flow.trouble,
            }
            for branch in self._intake.branches.values() for flow in branch.flows()
        ]

    def _lag_s(self, flow: Flow) -> float:
        if flow.floor >= flow.end:
            return 0.0
        return flow.lag_ms / 1000 + max(0.0, self._clock_s() - flow.heard_s)

    def _destinations(self) -> list[dict[str, Any]]:
        """Who pulls from this node, now or before it went away."""
        now_ms = self._clock_ms()
        found = []
        for destination, (stream, index, flow), held in self._outlets.hold.flows():
            partition = self._router.streams.partition_of_origin(stream, index)
            if partition is None:
                continue
            key = destination.node, stream, index, flow
            outlet = self._outlets.by_key.get(key)
            lag = self._lag(key, held.confirmed, now_ms)
            found.append({
                "node": destination.node, "stream": stream, "partition": index, "flow": flow,
                "pulling": outlet is not None,
                "last_heard_s": max(0, self._router.steady_ms() - destination.seen_ms) / 1000,
                "confirmed": held.confirmed, "end": partition.end_offset, "lag_events": lag.events,
                "lag_seconds": lag.seconds, "lag_exact": lag.exact,
                "under_way": outlet.under_way_events if outlet is not None else 0,
                "events": outlet.events if outlet is not None else 0,
                "bytes": outlet.bytes if outlet is not None else 0,
                "events_per_s": self._per_s("out", outlet.token) if outlet is not None else 0.0,
                "expired": outlet.expired if outlet is not None else 0,
                "lost_to_retention": outlet.lost if outlet is not None else 0, "spilled": destination.spilled,
                "trouble": outlet.trouble if outlet is not None else "",
            })
        return found

    def _lag(self, key: Key, confirmed: int, now_ms: int) -> Lag:
        counter = self._counters.get(key)
        if counter is None:
            return Lag(0, 0.0, False)
        counter.advance(confirmed)
        return counter.lag(now_ms)
