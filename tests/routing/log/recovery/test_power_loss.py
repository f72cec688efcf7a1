"""Power loss on a disk that forgets unsynced bytes: synced events are all there, written ones lose a suffix only.

Each seed is one history: random commits with rolls, checkpoints and retention, the lights go out at a random disk
operation, a random part of what was not synced survives; three times over on the same disk.   reliability.md, Faults
"""
from __future__ import annotations

import random
from pathlib import Path

import pytest

from routing.event import Event
from routing.log import upkeep
from routing.settings import Durability
from tests.support.disk import PowerLoss, SimulatedDisk
from tests.support.log import make_store, open_partition, scan_all

SEEDS = 200
ROOT = Path("/data")


def seen(event):
    return event.offset, event.topic, event.payload


class History:
    """What was sent and acked in the rounds of one seed."""

    def __init__(self, seed, durability):
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk()
        self.settings = {"durability": durability, "segment_bytes": 6_000, "compact": False}
        self.kept = []              # events known to be in the log, in order
        self.sent = []              # events of this round, in order; all behind those in kept
        self.acked = 0              # how many of sent were acked
        self.highest = -1           # highest offset that anybody saw

    def open(self):
        store = make_store(ROOT, fs=self.disk, tail_cache_bytes=2_000)
        return store, open_partition(store, **self.settings)

    def run_until_loss(self):
        rng = self.rng
        self.disk.loss_at = rng.randint(1, 120)
        self.sent, self.acked = [], 0
        try:
            store, partition = self.open()
            while True:
                for _ in range(rng.randint(1, 3)):
                    size = rng.choice((0, 10, 200, 1_500))
                    events = [Event(f"t/{rng.randrange(4)}", rng.randbytes(size), 1) for _ in range(rng.randint(1, 6))]
                    self.sent += events
                    store.publish(partition, events).on_done(lambda ticket: self.ack(ticket))
                store.commit()
                if rng.random() < 0.1:
                    store.close()
                    store, partition = self.open()
        except PowerLoss:
            pass

    def ack(self, ticket):
        assert not ticket.refusals
        self.acked += len(ticket.events)
        self.highest = max(self.highest, ticket.events[-1].offset)

    def check_after_loss(self, everything_acked):
        self.disk.power_loss(self.rng)
        store, partition = self.open()
        assert not partition.damage
        found = [seen(event) for event in scan_all(partition)]
        expected = self.kept + [seen(event) for event in self.sent]
        least = len(self.kept) + self.acked if everything_acked else 0
        assert len(found) >= least, "an acked event is lost"
        assert found == expected[:len(found)], "what is there is exactly a prefix of what was sent"
        assert partition.next_offset > self.highest, "an offset would be used twice"
        self.kept = found
        store.close()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(upkeep, "CHECKPOINT_BYTES", 3_000)
    monkeypatch.setattr("routing.log.partition.CHECKPOINT_BYTES", 3_000)
    monkeypatch.setattr("routing.log.committing.group.BATCH_BYTES", 1_000)      # a group has several batches


def test_synced_events_survive_power_loss():
    for seed in range(SEEDS):
        history = History(seed, Durability.FSYNC)
        for _ in range(3):
            history.run_until_loss()
            history.check_after_loss(everything_acked=True)


def test_written_events_lose_a_suffix_only_and_no_offset_comes_twice():
    for seed in range(SEEDS):
        history = History(seed, Durability.WRITE)
        for _ in range(2):
            history.run_until_loss()
            history.check_after_loss(everything_acked=False)
