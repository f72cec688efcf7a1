"""The simulation finds what is wrong: each of these mistakes, planted into the real code, shows within a few seeds."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import pytest

from mesh.replication import filters
from mesh.replication.incoming import branch, late
from routing.replicas import feed, replicas
from tests.mesh.sim import scenario
from tests.mesh.sim.scenario import Scenario

SEEDS = range(5_000, 5_012)


def forget_positions(patch: pytest.MonkeyPatch) -> None:
    """A replica that is here already is stored again."""
    original = replicas.Replicas._sort

    def sort(self, flow, *rest):
        flow.positions.clear()
        return original(self, flow, *rest)

    patch.setattr(replicas.Replicas, "_sort", sort)


def lose_the_last_of_a_batch(patch: pytest.MonkeyPatch) -> None:
    """What was said to be durable was not even stored."""
    original = replicas.Replicas.publish

    def publish(self, origin, flow, events, *rest):
        original(self, origin, flow, events[:-1] if len(events) > 3 else events, *rest)

    patch.setattr(replicas.Replicas, "publish", publish)


def export_what_others_own(patch: pytest.MonkeyPatch) -> None:
    """A node passes on replicas as if they were its own."""
    def take(self, *, max_events, max_bytes, max_scanned, until):
        found = self.partition.scan(self.position, self._wants, max_events=max_events, max_scanned=max_scanned)
        self.position = found.next_offset
        return found.events, found.next_offset

    patch.setattr(feed.Feed, "take", take)


def want_everything(patch: pytest.MonkeyPatch) -> None:
    """Filters do not count, at either end."""
    patch.setattr(filters.Selection, "_spans", lambda self, topic: filters.ALWAYS)


def swap_two(patch: pytest.MonkeyPatch) -> None:
    """Two events of a batch change places, with their offsets."""
    original = replicas.Replicas._append

    def append(self, flow, partition, group, batch):
        if len(group) > 2:
            group[0], group[1] = group[1], group[0]
        original(self, flow, partition, group, batch)

    patch.setattr(replicas.Replicas, "_append", append)


def count_from_the_return(patch: pytest.MonkeyPatch) -> None:
    """A filter that is new while a node is away counts from when it is back."""
    patch.setattr(late.Wishes, "wants", lambda self, *rest: {})


def miss_what_was_passed(patch: pytest.MonkeyPatch) -> None:
    """What the live flow passed before its origin heard of a filter is not asked for."""
    patch.setattr(branch.Branch, "add_late", lambda self, *rest: None)


@pytest.mark.parametrize(("plant", "kinds"), [
    (forget_positions, {"DUP"}), (lose_the_last_of_a_batch, {"LOST"}),
    (export_what_others_own, {"PHANTOM", "LOOP", "DUP", "OFFSET-CONFLICT"}), (want_everything, {"UNASKED"}),
    (swap_two, {"REORDER"}), (count_from_the_return, {"LOST"}), (miss_what_was_passed, {"LOST"}),
], ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_mistake_is_found(plant: Callable[[pytest.MonkeyPatch], None], kinds: set[str],
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)     # nodes complain, rightly
    monkeypatch.setattr(scenario, "CONVERGE_S", 10.0)
    found: Counter[str] = Counter()
    for seed in SEEDS:
        found.update(Scenario(seed, nodes=2).run().figures.faults)
        if any(found[kind] for kind in kinds):
            return
    raise AssertionError(f"none of {kinds} in seeds {SEEDS}: {found}")
