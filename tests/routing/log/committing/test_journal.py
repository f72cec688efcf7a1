"""The shared journal: many partitions that commit at once are on disk by one sync, also after a loss of power."""
from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from routing.errors import Reason
from routing.event import Event
from routing.log.committing import journal
from routing.log.committing.journal import FORGET, NAMES, TASKS_MIN, WRITE, decode, encode, encode_entries
from routing.log.recovery.replay import replay
from routing.settings import Durability, StreamSettings
from tests.support.disk import FaultyFileSystem, PowerLoss, SimulatedDisk
from tests.support.log import make_store, scan_all

ROOT = Path("/data")
MANY = TASKS_MIN + 2
SEEDS = 150


@pytest.fixture(autouse=True)
def made_at_once(monkeypatch):
    monkeypatch.setattr(journal, "WISHES_MIN", 1)


def open_many(store, name="events", partitions=MANY, **settings):
    return store.open_stream(StreamSettings(name, (f"{name}/#",), partitions=partitions, **settings))


def write(store, partitions, payload=b"x"):
    """One event to each, all in one commit. Returns the tickets."""
    tickets = [store.publish(partition, [Event("events/1", payload, 1)]) for partition in partitions]
    store.commit()
    return tickets


def payloads(partition):
    return [event.payload for event in scan_all(partition)]


def opened(fs, **options):
    return make_store(ROOT, fs=fs, **{"journal_bytes": 16_000, **options})


def test_the_segments_of_many_are_synced_by_one_write_elsewhere():
    faulty = FaultyFileSystem(SimulatedDisk())
    store = opened(faulty)
    partitions = open_many(store)
    write(store, partitions)                    # the first makes the journals
    before = faulty.faults.calls["datasync"]
    for number in range(5):
        write(store, partitions, b"%d" % number)
    assert faulty.faults.calls["datasync"] - before == 5
    assert store._journal.rounds == 5
    for partition in partitions:
        assert payloads(partition) == [b"x", b"0", b"1", b"2", b"3", b"4"]


def test_few_have_none():
    disk = SimulatedDisk()
    store = opened(disk)
    write(store, open_many(store, partitions=TASKS_MIN - 1))
    assert not any(disk.exists(ROOT / name) for name in NAMES)


def test_it_is_made_for_those_who_would_often_use_it(monkeypatch):
    monkeypatch.setattr(journal, "WISHES_MIN", 3)
    disk = SimulatedDisk()
    store = opened(disk)
    partitions = open_many(store)
    for _ in range(2):
        write(store, partitions)
    assert not disk.exists(ROOT / NAMES[0])
    write(store, partitions)
    assert disk.exists(ROOT / NAMES[0])


def test_after_a_clean_stop_there_is_none():
    disk = SimulatedDisk()
    store = opened(disk)
    partitions = open_many(store)
    for _ in range(3):
        write(store, partitions)
    assert all(disk.exists(ROOT / name) for name in NAMES)
    store.close()
    assert not any(disk.exists(ROOT / name) for name in NAMES)
    disk.power_loss(random.Random(1))
    assert [len(payloads(partition)) for partition in open_many(opened(disk))] == [3] * MANY


class History:
    """Two streams of many partitions, one of which comes and goes."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk()
        self.kept = {}                      # (stream, life, partition) → payloads that are known to be there, in order
        self.sent = {}                      # the same of this round: (payload, acked)
        self.life = 0                       # of the stream that comes and goes
        self.rounds = 0

    def open(self):
        store = opened(self.disk, journal_bytes=self.rng.choice((20_000, 40_000)), tail_cache_bytes=2_000)
        self.partitions = {("stays", 0, one.index): one for one in open_many(store, "stays", segment_bytes=4_000)}
        self.partitions |= {("goes", self.life, one.index): one for one in open_many(store, "goes")}
        return store

    def run_until_loss(self):
        rng = self.rng
        self.disk.loss_at = rng.randint(50, 700)
        try:
            store = self.open()
            while True:
                for key in rng.sample(list(self.partitions), rng.randint(1, 2 * MANY)):
                    payload = rng.randbytes(rng.choice((2, 40, 300)))
                    sent = self.sent.setdefault(key, [])
                    entry = [payload, False]
                    sent.append(entry)
                    store.publish(self.partitions[key], [Event("x/1", payload, 1)]).on_done(
                        lambda ticket, entry=entry: self.ack(ticket, entry))
                store.commit()
                self.rounds = max(self.rounds, store._journal.rounds)
                if rng.random() < 0.05:
                    self.again(store)
                if rng.random() < 0.05:
                    store.close()
                    store = self.open()
        except PowerLoss:
            pass

    def ack(self, ticket, entry):
        assert not ticket.refusals
        entry[1] = True

    def again(self, store):
        """The stream is deleted, and made anew under the same name. The power stays: what is left of a directory that
        was being removed is another subject, and this disk knows no directories.
        """
        left, self.disk.loss_at = self.disk.loss_at, None
        for index in range(MANY):
            self.sent.pop(("goes", self.life, index), None)
            self.kept.pop(("goes", self.life, index), None)
            del self.partitions["goes", self.life, index]
        gone = []
        self.life += 1
        store.remove_stream("goes", gone.append)
        store.loop.run_until(lambda: gone)
        assert gone == [None]
        for directory in list(self.disk.changes):
            self.disk.sync_directory(directory)
        self.partitions |= {("goes", self.life, one.index): one for one in open_many(store, "goes")}
        self.disk.loss_at = left

    def check_after_loss(self):
        self.disk.power_loss(self.rng)
        store = self.open()
        for (name, life, index), partition in self.partitions.items():
            assert not partition.damage, partition.damage
            found = payloads(partition)
            known = self.kept.get((name, life, index), [])
            sent = self.sent.get((name, life, index), [])
            acked = max((number + 1 for number, (_, done) in enumerate(sent) if done), default=0)
            expected = known + [payload for payload, _ in sent]
            assert len(found) >= len(known) + acked, f"an acked event of {name}/{index} is lost"
            assert found == expected[:len(found)], f"what {name}/{index} holds is not what was sent"
            self.kept[name, life, index] = found
        self.sent.clear()
        store.close()


def test_what_is_acked_survives_a_loss_of_power_at_any_moment(monkeypatch):
    monkeypatch.setattr("routing.log.upkeep.CHECKPOINT_BYTES", 3_000)
    rounds = 0
    for seed in range(SEEDS):
        history = History(seed)
        for _ in range(3):
            history.run_until_loss()
            history.check_after_loss()
        rounds += history.rounds
    assert rounds > SEEDS                       # they did go by the journal


def lost(disk, seed=7):
    disk.power_loss(random.Random(seed))
    return disk


@pytest.mark.parametrize("call", ["pwrite", "datasync", "pwrite_synced"])
def test_a_journal_that_fails_is_used_no_more_and_nothing_is_lost(call):
    disk = SimulatedDisk()
    faulty = FaultyFileSystem(disk)
    faulty.faults.one_call = call == "pwrite_synced"
    store = opened(faulty)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions, b"by it")
    faulty.faults.fail(call, suffix="journal-0")
    assert not any(ticket.refusals for ticket in write(store, partitions, b"alone"))
    rounds = store._journal.rounds
    assert not any(ticket.refusals for ticket in write(store, partitions, b"after"))
    assert store._journal.rounds == rounds == 1
    assert not any(disk.exists(ROOT / name) for name in NAMES)
    for partition in open_many(opened(lost(disk))):
        assert payloads(partition) == [b"x", b"by it", b"alone", b"after"]


def test_a_disk_without_room_for_it_is_no_fault():
    disk = SimulatedDisk()
    faulty = FaultyFileSystem(disk)
    store = opened(faulty)
    partitions = open_many(store)
    faulty.faults.fail("allocate", suffix="journal-1", code=28)
    for _ in range(3):
        assert not any(ticket.refusals for ticket in write(store, partitions))
    assert store._journal.rounds == 0 and not any(disk.exists(ROOT / name) for name in NAMES)


def test_a_segment_that_cannot_be_synced_keeps_the_journal_for_the_next_start(caplog):
    """The system tells of it once: a sync that is tried again says nothing."""
    disk = SimulatedDisk()
    faulty = FaultyFileSystem(disk)
    store = opened(faulty, journal_bytes=12_000)
    partitions = open_many(store)
    write(store, partitions)
    count = 0
    faulty.faults.fail("datasync", suffix="0.log", stream="events")
    while not store._journal._must_stay:
        count += 1
        assert not any(ticket.refusals for ticket in write(store, partitions, b"%d" % count)), count
        assert count < 100
    assert not any(ticket.refusals for ticket in write(store, partitions, b"after"))
    assert "for the next start" in caplog.text
    store.close()
    assert disk.exists(ROOT / NAMES[0])
    for partition in open_many(opened(lost(disk))):
        assert payloads(partition) == [b"x", *(b"%d" % number for number in range(1, count + 1)), b"after"]


def test_a_partition_that_fails_keeps_it_too():
    disk = SimulatedDisk()
    faulty = FaultyFileSystem(disk)
    store = opened(faulty)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions, b"by it")
    faulty.faults.fail("datasync", suffix=".log")
    ticket = store.store_events(partitions[0], [Event("events/1", b"refused", 1)])
    assert ticket.refusals[0].reason is Reason.STORAGE_FAILED
    store.close()
    assert disk.exists(ROOT / NAMES[0])
    for partition in open_many(opened(lost(disk))):
        assert payloads(partition)[:2] == [b"x", b"by it"]


def test_a_stream_that_is_made_anew_gets_nothing_of_the_one_before():
    disk = SimulatedDisk()
    store = opened(disk)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions, b"of the first")
    gone = []
    store.remove_stream("events", gone.append)
    store.loop.run_until(lambda: gone)
    partitions = open_many(store)
    store.store_events(partitions[0], [Event("events/1", b"of the second", 1)])
    again = open_many(opened(lost(disk)))
    assert payloads(again[0]) == [b"of the second"]
    assert [payloads(partition) for partition in again[1:]] == [[]] * (MANY - 1)


def test_where_that_cannot_be_noted_it_is_not_removed(monkeypatch):
    disk = SimulatedDisk()
    faulty = FaultyFileSystem(disk)
    store = opened(faulty)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions)
    store._journal.must_stay()
    gone = []
    store.remove_stream("events", gone.append)
    store.loop.run_until(lambda: gone)
    assert "removed" in gone[0]
    assert disk.exists(ROOT / "streams/events/0/00000000000000000000.log")


def test_records():
    first = encode(3, 0, encode_entries([(WRITE, "streams/ä/0/1.log", 12, b"one"), (FORGET, "streams/b", 0, b"")]))
    second = encode(3, 1, encode_entries([(WRITE, "c", 1 << 40, b"")]))
    old = encode(1, 2, encode_entries([(WRITE, "of before", 0, b"")]))
    entries = [[(WRITE, "streams/ä/0/1.log", 12, b"one"), (FORGET, "streams/b", 0, b"")], [(WRITE, "c", 1 << 40, b"")]]
    assert [found for _, found in decode(first + second + old)] == entries
    assert [found for _, found in decode(first + second + bytes(100))] == entries
    assert list(decode(second)) == []                           # not the first of its generation
    for end in range(len(first + second)):
        assert len(list(decode((first + second)[:end]))) == (end >= len(first))
    for at in range(len(second)):
        broken = bytearray(first + second)
        broken[len(first) + at] ^= 1
        assert len(list(decode(bytes(broken)))) == 1
    assert list(decode(bytes(100))) == list(decode(b"")) == []


def test_a_sealed_segment_is_left_as_it_is():
    """It was synced when it was sealed, and may have been compacted since."""
    disk = SimulatedDisk()
    store = opened(disk)
    partitions = open_many(store, segment_bytes=600)
    for number in range(8):
        write(store, partitions, b"%d" % number * 100)
    first = ROOT / "streams/events/0/00000000000000000000.log"
    assert len([name for name in disk.names(first.parent) if name.endswith(".log")]) > 1
    disk.locks.clear()
    records = decode(bytes(disk.files[ROOT / NAMES[0]].content))
    assert any(path.endswith("streams/events/0/" + first.name) for _, found in records for _, path, _, _ in found)
    inode = disk.files[first]
    inode.content[:] = b"another form of it"
    replay(disk, ROOT)
    assert bytes(inode.content) == b"another form of it"


def test_more_than_a_record_takes_is_synced_by_each():
    store = opened(SimulatedDisk(), journal_bytes=journal.JOURNAL_BYTES)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions, bytes(journal.ROUND_BYTES_MAX // MANY + 1))
    assert store._journal.rounds == 0
    write(store, partitions, bytes(1_000))
    assert store._journal.rounds == 1


def test_what_was_only_written_before_is_synced_by_its_own_file(monkeypatch):
    """The journal has only the last commit: with durability "write" more before it waits for that sync."""
    monkeypatch.setattr("routing.log.partition.CHECKPOINT_BYTES", 2_000)
    disk = SimulatedDisk()
    store = opened(disk)
    partitions = open_many(store)
    write(store, partitions)
    write(store, partitions)
    assert store._journal.rounds == 1
    loose = open_many(store, "loose", durability=Durability.WRITE)
    for _ in range(40):
        write(store, loose, bytes(200))
        if all(partition.is_synced for partition in loose):
            break
    ends = [partition.high_watermark for partition in loose]
    assert all(partition.is_synced for partition in loose) and min(ends) > 3
    again = open_many(opened(lost(disk)), "loose", durability=Durability.WRITE)
    assert [len(payloads(partition)) for partition in again] == ends
    assert not any(partition.damage for partition in again)


def no_descriptors(fs, path):
    raise OSError(errno.EMFILE, "too many open files")


def test_a_machine_that_was_short_of_descriptors_goes_on_with_it(monkeypatch):
    store = opened(SimulatedDisk())
    partitions = open_many(store)
    with monkeypatch.context() as short:
        short.setattr(journal, "sync_file", no_descriptors)
        for _ in range(100):
            write(store, partitions, b"x" * 20)
    stuck = store._journal.rounds
    assert stuck
    for _ in range(10):
        write(store, partitions, b"x" * 20)
    assert store._journal.rounds > stuck + 5


def test_very_many_are_synced_by_each():
    """All of them would be written by one thread, and come back in one turn."""
    store = opened(SimulatedDisk(), journal_bytes=journal.JOURNAL_BYTES)
    partitions = open_many(store, partitions=journal.TASKS_MAX + 1)
    for _ in range(3):
        write(store, partitions)
    assert store._journal.rounds == 0
    for _ in range(2):
        write(store, partitions[1:])
    assert store._journal.rounds == 1
