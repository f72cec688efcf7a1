"""Recovery: a torn tail is cut to the valid prefix, damage is kept, loud and served around, sidecars are rebuilt."""
from __future__ import annotations

import random
import shutil
from itertools import pairwise

import pytest

from routing.event import Event
from routing.log.inspect import verify
from routing.log.records.batch import HEADER_BYTES, batch_at, check_batch, place
from routing.settings import Durability
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all

FOLDER = "streams/events/0"


def fill(root, groups, *, per_group=3, size=40, start=0, **settings):
    """Commit groups of events whose payload begins with their offset, then stop cleanly."""
    store = make_store(root)
    partition = open_partition(store, **settings)
    for group in range(groups):
        first = start + group * per_group
        store.store_events(partition, [
            Event(f"t/{index % 3}", b"%06d" % index + bytes(size), 1) for index in range(first, first + per_group)])
    assert [int(event.payload[:6]) for event in scan_all(partition)] == list(range(start + groups * per_group))
    store.close()


def numbers(partition):
    found = [(event.offset, int(event.payload[:6])) for event in scan_all(partition)]
    assert all(offset == number for offset, number in found)
    return [offset for offset, _ in found]


def logs(root):
    return sorted((root / FOLDER).glob("*.log"))


def without_sidecars(root):
    for path in (root / FOLDER).iterdir():
        if path.suffix in (".index", ".timeindex", ".summary"):
            path.unlink()


def batches(data):
    """Position and header of each batch of a whole file."""
    found, position = [], 0
    while header := batch_at(data, position):
        found.append((position, header))
        position += header.size
    assert position == len(data)
    return found


def open_copy(root, log_data, tmp_path, **settings):
    """Open the partition as if its only segment were log_data after a crash."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    shutil.copytree(root, tmp_path / "copy")
    path, = logs(tmp_path / "copy")
    path.write_bytes(log_data)
    store = make_store(tmp_path / "copy")
    return store, open_partition(store, **settings)


# ------------------------------------------------------------------------------------------------------- the tail

@pytest.mark.parametrize(
    "tail", [b"", bytes(100), bytes(5_000), b"\xff" * 30], ids=["cut", "zeros", "many zeros", "rubbish"])
def test_every_torn_write_of_the_last_three_records_leaves_exactly_the_valid_prefix(tmp_path, tail):
    """Each record is a group of its own here; the file ends after any number of bytes of them.  reliability.md"""
    fill(tmp_path / "log", 6, per_group=1, size=4)
    without_sidecars(tmp_path / "log")
    data = logs(tmp_path / "log")[0].read_bytes()
    ends = [position + header.size for position, header in batches(data)]
    for cut in range(ends[2], len(data) + 1):
        store, partition = open_copy(tmp_path / "log", data[:cut] + tail, tmp_path)
        whole = sum(end <= cut for end in ends)
        assert numbers(partition) == list(range(whole))
        assert not partition.damage
        assert store.store_events(partition, [Event("t", b"%06d" % whole, 1)]).done
        assert numbers(partition) == list(range(whole + 1))
        store.close()
        assert [finding.level for finding in verify(tmp_path / "copy")] == ["ok"]


def test_what_follows_a_torn_batch_of_the_same_group_is_cut_too(tmp_path, monkeypatch):
    """A power failure may keep the second batch of an unsynced group and lose the first."""
    monkeypatch.setattr("routing.log.committing.group.BATCH_BYTES", 100)
    fill(tmp_path / "log", 3, per_group=6)
    without_sidecars(tmp_path / "log")
    data = bytearray(logs(tmp_path / "log")[0].read_bytes())
    last_group = [position for position, header in batches(data) if header.base_offset >= 12]
    assert len(last_group) > 2
    data[last_group[0] + 80] ^= 1
    store, partition = open_copy(tmp_path / "log", bytes(data), tmp_path)
    assert numbers(partition) == list(range(12)) and not partition.damage
    store.close()


def test_reserved_zeros_behind_the_tail_are_a_clean_end(tmp_path, caplog):
    store = make_store(tmp_path)
    partition = open_partition(store)
    store.store_events(partition, [Event("t", b"000000", 1)])
    path = logs(tmp_path)[0]
    assert path.stat().st_size > partition.size_bytes, "space is reserved ahead of the writes"
    store._lock.release()
    store = make_store(tmp_path)
    partition = open_partition(store)
    assert numbers(partition) == [0] and "torn" not in caplog.text
    assert path.stat().st_size == partition.size_bytes
    store.close()
    assert path.stat().st_size == partition.size_bytes


def test_a_batch_that_ends_in_zeros_is_not_taken_for_reserved_space(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store)
    ticket = store.store_events(partition, [Event("t", b"x", 1, headers=(("h", bytes(50)), ("h;type", "text")))])
    assert ticket.done
    store._lock.release()
    partition = open_partition(make_store(tmp_path))
    assert partition.event(0).headers[0] == ("h", bytes(50))


# ------------------------------------------------------------------------------------------------------- damage

def test_damage_before_the_last_group_is_loud_and_the_rest_is_served(tmp_path, caplog):
    fill(tmp_path / "log", 10)
    without_sidecars(tmp_path / "log")
    data = bytearray(logs(tmp_path / "log")[0].read_bytes())
    position, _ = batches(data)[4]
    data[position + HEADER_BYTES + 10] ^= 0x40
    store, partition = open_copy(tmp_path / "log", bytes(data), tmp_path)
    damage, = partition.damage
    assert (damage.first_offset, damage.end_offset, damage.position) == (12, 15, position)
    assert damage.path in caplog.text and f"bytes {position} to" in caplog.text and "offsets 12 to 14" in caplog.text
    assert numbers(partition) == [*range(12), *range(15, 30)]
    assert partition.next_offset == 30
    store.store_events(partition, [Event("t", b"000030", 1)])
    assert numbers(partition)[-2:] == [29, 30]
    path, = logs(tmp_path / "copy")
    assert path.read_bytes()[:len(data)] == bytes(data), "nothing is deleted or repaired by itself"
    store.close()
    store = make_store(tmp_path / "copy")
    assert [str(each) for each in open_partition(store).damage] == [str(damage)], "loud at every start"
    store.close()


@pytest.mark.parametrize("region", [(0, 8), (8, 12), (16, 17), (17, 21), (21, 61), (61, 70), (0, 61)])
def test_damage_in_any_part_of_a_batch_takes_only_that_batch(tmp_path, region):
    fill(tmp_path / "log", 10)
    without_sidecars(tmp_path / "log")
    data = bytearray(logs(tmp_path / "log")[0].read_bytes())
    position, _ = batches(data)[4]
    for at in range(position + region[0], position + region[1]):
        data[at] ^= 0xA5
    store, partition = open_copy(tmp_path / "log", bytes(data), tmp_path)
    assert numbers(partition) == [*range(12), *range(15, 30)]
    assert [(damage.first_offset, damage.end_offset) for damage in partition.damage] == [(12, 15)]
    store.close()


def test_a_payload_that_looks_like_a_batch_is_never_served_as_one(tmp_path):
    """An image of a batch inside a damaged one must not bring forged events into the log."""
    fill(tmp_path / "forge", 1, per_group=1)
    image = logs(tmp_path / "forge")[0].read_bytes()
    store = make_store(tmp_path / "log")
    partition = open_partition(store)
    store.store_events(partition, [Event("t", b"000000", 1)])
    forged = b"".join(place(image, offset, first_in_group=True) for offset in range(3, 40))
    store.store_events(partition, [Event("t", b"000001" + forged, 1), Event("t", b"000002", 1)])
    store.close()
    without_sidecars(tmp_path / "log")
    data = bytearray(logs(tmp_path / "log")[0].read_bytes())
    position, _ = batches(data)[1]
    for at in range(position, position + 20):
        data[at] ^= 0xFF
    store, partition = open_copy(tmp_path / "log", bytes(data), tmp_path)
    assert numbers(partition) == [0] and partition.next_offset == 1
    store.close()


FLIPS = 50


def test_bit_flips_in_sealed_segments_are_all_found_and_the_rest_is_served(tmp_path):
    """reliability.md: bit flip or cut in sealed segments, 50 per commit."""
    fill(tmp_path / "log", 60, per_group=5, segment_bytes=3_000)
    rng = random.Random(11)
    segments = logs(tmp_path / "log")
    assert len(segments) > 6
    for _ in range(FLIPS):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        victim = rng.choice(logs(tmp_path / "copy")[:-1])
        data = bytearray(victim.read_bytes())
        bit = rng.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(bytes(data))
        hit = next(header for position, header in batches(bytearray(segments[logs(tmp_path / "copy").index(victim)]
                   .read_bytes())) if position <= bit // 8 < position + header.size)
        in_epoch = batch_position(segments, victim, bit // 8) in range(12, 16)
        store = make_store(tmp_path / "copy")
        partition = open_partition(store, segment_bytes=3_000)
        lost = set(range(300)) - set(numbers(partition))
        if in_epoch:                # the leader epoch means nothing in a sealed segment and lies outside the checksum
            assert not lost
        else:
            assert lost == set(range(hit.base_offset, hit.next_offset)), (bit // 8, victim)
            assert [(each.first_offset, each.end_offset) for each in partition.damage] == [
                (hit.base_offset, hit.next_offset)]
            assert [each.level for each in verify(tmp_path / "copy")].count("damage") == 1
        store.close()


def batch_position(segments, victim, at):
    """How far into its batch a byte lies."""
    data = next(path for path in segments if path.name == victim.name).read_bytes()
    return next(at - position for position, header in batches(data) if position <= at < position + header.size)


def test_cuts_of_sealed_segments_are_found_and_the_rest_is_served(tmp_path):
    fill(tmp_path / "log", 60, per_group=5, segment_bytes=3_000)
    rng = random.Random(12)
    for _ in range(20):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        segments = logs(tmp_path / "copy")
        index = rng.randrange(len(segments) - 1)
        data = segments[index].read_bytes()
        cut = rng.randrange(len(data))
        segments[index].write_bytes(data[:cut])
        first_lost = next(header.base_offset for position, header in batches(data) if position + header.size > cut)
        next_base = int(segments[index + 1].stem)
        store = make_store(tmp_path / "copy")
        partition = open_partition(store, segment_bytes=3_000)
        assert [(each.first_offset, each.end_offset) for each in partition.damage] == [(first_lost, next_base)]
        assert numbers(partition) == [*range(first_lost), *range(next_base, 300)]
        assert partition.count(0, lambda topic: True) == 300 - (next_base - first_lost)
        store.close()


def test_a_missing_segment_is_damage(tmp_path):
    fill(tmp_path, 60, per_group=5, segment_bytes=3_000)
    segments = logs(tmp_path)
    segments[2].unlink()
    gap = int(segments[2].stem), int(segments[3].stem)
    assert any(finding.level == "damage" for finding in verify(tmp_path))
    store = make_store(tmp_path)
    partition = open_partition(store, segment_bytes=3_000)
    assert [(each.first_offset, each.end_offset) for each in partition.damage] == [gap]
    assert numbers(partition) == [*range(gap[0]), *range(gap[1], 300)]
    store.close()


def test_pages_that_the_disk_cannot_read_are_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("routing.log.segments.pages.UNREADABLE_SCANS", 1)      # at once; see test_unreadable.py
    from routing.log.fs import RealFileSystem
    disk = FaultyFileSystem(RealFileSystem())
    fill(tmp_path, 60, per_group=5, segment_bytes=3_000)
    store = make_store(tmp_path, fs=disk, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=3_000)
    second = partition.segments[1]
    disk.faults.fail("pread", count=-1, suffix=second.name + ".log")
    assert numbers(partition) == [*range(second.base_offset), *range(second.next_offset, 300)]
    assert [(each.first_offset, each.end_offset) for each in partition.damage] == [
        (second.base_offset, second.next_offset)]
    disk.faults.clear()
    store.close()


# ------------------------------------------------------------------------------------------------------- sidecars

@pytest.mark.parametrize("harm", ["delete", "empty", "rubbish", "old"])
@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".summary"])
def test_lost_or_broken_sidecars_are_made_again(tmp_path, suffix, harm):
    fill(tmp_path, 30, per_group=10, segment_bytes=8_000)
    old = {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()}
    fill(tmp_path, 30, per_group=10, segment_bytes=8_000, start=300)
    for path in (tmp_path / FOLDER).glob(f"*{suffix}"):
        if harm == "delete":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "rubbish": b"\xff" * 96, "old": old.get(path.name, b"")}[harm])
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=8_000)
    assert not partition.damage and numbers(partition) == list(range(600))
    for offset in range(0, 600, 53):
        assert partition.event(offset).offset == offset
        assert partition.count(offset, lambda topic: topic == "t/1") == sum(n % 3 == 1 for n in range(offset, 600))
    store.close()


def test_recovery_reads_only_behind_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("routing.log.upkeep.CHECKPOINT_BYTES", 5_000)
    store = make_store(tmp_path)
    partition = open_partition(store)
    for start in range(0, 3_000, 10):
        store.store_events(partition, [Event("t", b"%06d" % index, 1) for index in range(start, start + 10)])
    store._lock.release()                                       # no clean stop
    first = logs(tmp_path)[0]
    data = bytearray(first.read_bytes())
    data[100] ^= 1                                              # behind us: not looked at now, but when it is read
    first.write_bytes(bytes(data))
    reads = []
    monkeypatch.setattr(
        "routing.log.recovery.recovery._topics", lambda batch, header, decoder: reads.append(header) or [])
    store = make_store(tmp_path)
    partition = open_partition(store)
    assert 0 < sum(header.size for header in reads) < 10_000 < partition.size_bytes
    assert not partition.damage and partition.end_offset == 3_000
    assert partition.event(3) is None and len(partition.damage) == 1, "found when read"
    assert partition.event(10).payload == b"000010"
    store.close()


# ------------------------------------------------------------------------------------------------------- all together

def test_many_restarts_lose_and_double_nothing(tmp_path):
    """Clean and unclean stops in turn; every third time the sidecars are gone too."""
    total = 0
    rng = random.Random(5)
    for round_number in range(40):
        store = make_store(tmp_path, tail_cache_bytes=2_000)
        partition = open_partition(store, segment_bytes=5_000)
        assert numbers(partition) == list(range(total))
        for _ in range(rng.randint(0, 4)):
            count = rng.randint(1, 8)
            store.store_events(partition, [Event("t", b"%06d" % n, 1) for n in range(total, total + count)])
            total += count
        if round_number % 2:
            store.close()
        else:
            store._lock.release()
        if round_number % 3 == 0:
            without_sidecars(tmp_path)
    assert total > 100
    assert all(finding.level != "damage" for finding in verify(tmp_path))


def test_offsets_go_on_behind_the_reservation_after_a_crash_of_a_written_stream(tmp_path):
    store = make_store(tmp_path)
    partition = open_partition(store, durability=Durability.WRITE)
    store.store_events(partition, [Event("t", b"000000", 1)])
    store._lock.release()
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, durability=Durability.WRITE)
    assert partition.next_offset > 1_000_000
    ticket = store.store_events(partition, [Event("t", b"after", 1)])
    assert [event.offset for event in scan_all(partition)] == [0, ticket.events[0].offset]
    assert partition.count(0, lambda topic: True) == 2 and partition.event(500) is None
    chain = [check_batch(batch) for batch in partition.read(0, 1 << 20)]
    assert all(left.next_offset == right.base_offset for left, right in pairwise(chain))
    store.close()
    store = make_store(tmp_path)
    assert open_partition(store, durability=Durability.WRITE).next_offset == ticket.events[0].offset + 1
    store.close()
