"""At the end of a run: what every node holds, in the checker's terms."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.topic import filter_matches
from tests.support.checker import Figures, Place
from tests.support.mesh_checker import MeshHistory, Origin, Stored

if TYPE_CHECKING:
    from tests.mesh.sim.clients import DurableReader
    from tests.mesh.sim.node import SimNode
    from tests.mesh.sim.scenario import Scenario

SCANNED = 1_000_000


def harvest(scenario: Scenario) -> MeshHistory:
    """The history with logs, epochs and retained tables of now."""
    history = scenario.book.history
    for node in scenario.nodes:
        history.epochs[node.name] = node.epoch
        history.logs[node.name] = list(_log(scenario, node))
        history.retained[node.name] = _retained(scenario, node)
    return history


def _log(scenario: Scenario, node: SimNode):
    for stream in node.router.streams.by_name.values():
        for partition in stream.partitions:
            offset = partition.start_offset
            while offset < partition.end_offset:
                scan = partition.scan(offset, lambda topic: True, max_events=10_000, max_scanned=SCANNED)
                for event in scan.events:
                    yield _stored(scenario, stream.name, partition.index, event)
                offset = scan.next_offset


def _stored(scenario: Scenario, stream: str, index: int, event) -> Stored:
    origin = event.origin
    return Stored(
        Place(stream, index, event.offset), scenario.book.message_of(event), event.topic,
        Origin(origin.node, origin.epoch, origin.stream, origin.index) if origin is not None else None,
        event.origin_offset, event.timestamp_ms, event.flow)


def _retained(scenario: Scenario, node: SimNode):
    found = {}
    for event in node.retained_events():
        found[event.topic] = scenario.book.message_of(event)
    return found


def check_reader(reader: DurableReader, figures: Figures, log: list[Stored]) -> None:
    """A durable consumer gets what is in its node's log behind its start, repeats marked."""
    seen: set[tuple[str, int, int]] = set()
    for *place, repeated in reader.got:
        if tuple(place) in seen and not repeated:
            figures.add("CONSUMER", f"{reader.name} at {reader.node.name}: {place} again, without the mark")
        seen.add(tuple(place))
    first: dict[tuple[str, int], int] = {}
    for stream, index, offset in seen:
        first[stream, index] = min(offset, first.get((stream, index), offset))
    for record in log:
        start = 0 if reader.start == "earliest" else first.get(record.place[:2])
        if start is not None and record.place.offset >= start and filter_matches(reader.pattern, record.topic) \
                and tuple(record.place) not in seen:
            figures.add("CONSUMER", f"{reader.name} at {reader.node.name}: never got {record.place} {record.message}")
