"""No file or name is believed before it was checked: missing, empty, cut, flipped, another's."""
from __future__ import annotations

import random
import shutil

import pytest

from routing.errors import StorageError
from routing.event import Event
from routing.log.inspect import verify
from routing.log.segments.index import RELATIVE_OFFSET_MAX
from routing.settings import StreamSettings
from tests.support.log import make_store, open_partition, scan_all

COUNT = 60
SETTINGS = {"segment_bytes": 1_500}


def fill(root, tag="t", count=COUNT, name="events"):
    store = make_store(root)
    partition = open_partition(store, name=name, **SETTINGS)
    for index in range(count):
        store.store_events(partition, [Event(f"{tag}/{index % 3}", b"%d" % index, 1)])
    epoch = store.epoch
    store.close()
    return epoch


def opened(root, name="events"):
    store = make_store(root, tail_cache_bytes=0)
    return store, open_partition(store, name=name, **SETTINGS)


def numbers(partition):
    return [int(event.payload) for event in scan_all(partition)]


def segments(root, name="events"):
    return sorted((root / f"streams/{name}/0").glob("*.log"))


def damage_found(root):
    return [finding for finding in verify(root) if finding.level == "damage"]


def harm(path, how, other):
    raw = path.read_bytes() if path.exists() else b""
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(raw[:len(raw) // 2])
    elif how == "flipped":
        raw = raw or bytes(1)
        at = len(raw) // 3
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1:])
    elif how == "another's":
        shutil.copyfile(other, path)
    elif how == "directory":
        path.unlink()
        path.mkdir()


HARMS = ["missing", "empty", "cut", "flipped", "another's", "directory"]


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize("suffix", [".index", ".timeindex", ".summary"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_every_side_file_of_a_segment(tmp_path, suffix, how, which):
    """Nothing is hidden and nothing is cut: sealed segments and the active one (its checkpoint)."""
    fill(tmp_path / "a")
    fill(tmp_path / "b", tag="z")               # the same sizes and offsets, other topics
    victim = segments(tmp_path / "a")[which].with_suffix(suffix)
    harm(victim, how, tmp_path / "b" / victim.relative_to(tmp_path / "a"))
    for _ in range(2):
        store, partition = opened(tmp_path / "a")
        assert numbers(partition) == list(range(COUNT)) and not partition.damage
        assert len(scan_all(partition, wanted=lambda topic: topic == "t/1")) == COUNT // 3
        assert partition.count(0, lambda topic: topic.startswith("t/")) == COUNT
        store.loop.run_pending()
        store.close()


def test_a_summary_that_is_wrong_while_the_node_runs_is_made_again(tmp_path):
    fill(tmp_path)
    store, partition = opened(tmp_path)
    path = segments(tmp_path)[1].with_suffix(".summary")
    raw = path.read_bytes()
    path.write_bytes(raw[:-3])
    assert numbers(partition) == list(range(COUNT))
    store.loop.run_pending()
    assert path.read_bytes() == raw
    store.close()


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped", "another's"])
def test_a_lost_epoch_is_found_again(tmp_path, how, caplog):
    epoch = fill(tmp_path / "a")
    fill(tmp_path / "b")
    harm(tmp_path / "a/epoch", how, tmp_path / "b/epoch")
    store, _ = opened(tmp_path / "a")
    assert store.epoch == epoch and "which counts" in caplog.text
    store.close()
    (tmp_path / "a/epoch").unlink()
    (tmp_path / "a/catalog").unlink()
    store, _ = opened(tmp_path / "a")
    assert store.epoch == epoch
    store.close()


def test_an_epoch_that_is_lost_for_good_stops_the_start_and_says_what_to_do(tmp_path):
    fill(tmp_path)
    for name in ("epoch", "catalog", "streams/events/0/partition"):
        (tmp_path / name).unlink()
    with pytest.raises(StorageError, match=r"epoch: the name of this log is lost.*new-epoch"):
        make_store(tmp_path)
    assert not (tmp_path / "epoch").exists()


def test_a_directory_of_another_partition_or_node_is_refused(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    shutil.rmtree(tmp_path / "a/streams/events/0")
    shutil.copytree(tmp_path / "b/streams/events/0", tmp_path / "a/streams/events/0")
    store = make_store(tmp_path / "a")
    with pytest.raises(StorageError, match="Put it back"):
        open_partition(store)
    assert damage_found(tmp_path / "a")
    (tmp_path / "a/streams/events/0/partition").unlink()
    store, partition = (store, open_partition(store, **SETTINGS))
    assert numbers(partition) == list(range(COUNT))
    store.close()


def test_a_missing_first_segment_is_told_from_retention(tmp_path):
    fill(tmp_path / "a")
    segments(tmp_path / "a")[0].unlink()
    assert any("first segment is missing" in finding.text for finding in damage_found(tmp_path / "a"))
    for _ in range(2):
        store, partition = opened(tmp_path / "a")
        assert "first segment is missing" in str(partition.damage[0]) and partition.start_offset > 0
        store.close()

    fill(tmp_path / "b")
    store = make_store(tmp_path / "b")
    partition = open_partition(store, retention_bytes=2_000, **SETTINGS)
    store.maintain(store.now_ms)
    store._lock.release()                       # kill -9
    assert not damage_found(tmp_path / "b")
    store, partition = opened(tmp_path / "b")
    assert partition.start_offset > 0 and not partition.damage
    store.close()


def test_no_offset_is_used_twice_when_the_last_segment_is_missing(tmp_path):
    fill(tmp_path)
    segments(tmp_path)[-1].unlink()
    assert any("last segment is missing" in finding.text for finding in damage_found(tmp_path))
    store, partition = opened(tmp_path)
    assert partition.damage and partition.end_offset >= RELATIVE_OFFSET_MAX
    kept = numbers(partition)
    assert kept == list(range(len(kept))) and len(kept) > 20
    event = Event("t", b"999", 1)
    store.store_events(partition, [event])
    assert event.offset >= RELATIVE_OFFSET_MAX and numbers(partition)[-1] == 999
    store.close()
    store, partition = opened(tmp_path)
    assert numbers(partition) == [*kept, 999]
    store.close()


def test_a_partition_and_a_stream_that_are_missing_are_told(tmp_path):
    fill(tmp_path)
    store = make_store(tmp_path)
    store.open_stream(StreamSettings("gone"))
    store.close()
    shutil.rmtree(tmp_path / "streams/events/0")
    shutil.rmtree(tmp_path / "streams/gone")
    assert len(damage_found(tmp_path)) >= 2
    store, partition = opened(tmp_path)
    assert "missing" in str(partition.damage[0]) and partition.start_offset >= RELATIVE_OFFSET_MAX
    assert store.missing() == ["gone"]
    store.close()
    store, partition = opened(tmp_path)
    assert store.missing() == []
    store.close()


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_segment_under_a_wrong_name_is_put_aside_and_never_cut(tmp_path, which):
    fill(tmp_path)
    victim = segments(tmp_path)[which]
    raw = victim.read_bytes()
    wrong = victim.with_name(f"{int(victim.stem) + 7:020d}.log")
    victim.rename(wrong)
    assert damage_found(tmp_path)
    for _ in range(2):
        store, partition = opened(tmp_path)
        aside = wrong.with_name(wrong.name + ".misplaced")
        assert aside.read_bytes() == raw
        assert any("put aside" in str(damage) for damage in partition.damage)
        ends = partition.end_offset
        event = Event("t", b"1000", 1)
        store.store_events(partition, [event])
        assert event.offset == ends >= COUNT
        store.close()
    assert damage_found(tmp_path)


def test_batches_of_another_segment_at_the_end_are_kept_as_damage(tmp_path):
    fill(tmp_path)
    first, last = segments(tmp_path)[0], segments(tmp_path)[-1]
    whole = last.read_bytes()
    last.write_bytes(whole + first.read_bytes())
    for suffix in (".summary", ".index", ".timeindex"):
        last.with_suffix(suffix).unlink()
    store, partition = opened(tmp_path)
    assert last.read_bytes() == whole + first.read_bytes()
    assert numbers(partition) == list(range(COUNT)) and partition.damage
    event = Event("t", b"60", 1)
    store.store_events(partition, [event])
    assert event.offset >= COUNT and numbers(partition)[-1] == 60
    store.close()


@pytest.mark.parametrize("name", ["123.log", "copy.log", "00000000000000000000 (1).log", "²²²²²²²²²²²²²²²²²²²².log"])
def test_a_name_that_is_none_of_ours_is_left_alone(tmp_path, name, caplog):
    fill(tmp_path)
    stranger = tmp_path / "streams/events/0" / name
    stranger.write_bytes(b"something")
    assert any(name in finding.path and finding.level == "note" for finding in verify(tmp_path))
    store, partition = opened(tmp_path)
    assert numbers(partition) == list(range(COUNT)) and not partition.damage
    assert name in caplog.text and stranger.read_bytes() == b"something"
    store.close()


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize("name", ["catalog", "streams/events/0/partition"])
def test_one_copy_of_the_bounds_is_enough(tmp_path, name, how):
    fill(tmp_path / "a")
    fill(tmp_path / "b", name="other")
    if name != "catalog" and how == "another's":
        return                                  # refused, see above
    harm(tmp_path / "a" / name, how, tmp_path / "b" / name)
    segments(tmp_path / "a")[-1].unlink()
    store, partition = opened(tmp_path / "a")
    assert any("missing" in str(damage) for damage in partition.damage)
    assert partition.end_offset >= RELATIVE_OFFSET_MAX
    store.close()


@pytest.mark.parametrize("content", [b"", b"abc", bytes(12)])
def test_a_damaged_reservation_leaves_out_more_rather_than_less(tmp_path, content):
    from routing.settings import Durability
    store = make_store(tmp_path)
    partition = open_partition(store, durability=Durability.WRITE)
    store.store_events(partition, [Event("t", b"1", 1)])
    store._lock.release()
    (tmp_path / "streams/events/0/reserved").write_bytes(content)
    store = make_store(tmp_path)
    assert open_partition(store, durability=Durability.WRITE).end_offset > 1_000_000
    store.close()


def test_random_harm_to_any_small_file_hides_nothing(tmp_path):
    """Whatever happens to whatever small file: the events are served, or the start is refused with the file's name."""
    rng = random.Random(5)
    fill(tmp_path / "whole")
    fill(tmp_path / "other", tag="z")
    for number in range(40):
        root = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", root)
        small = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.endswith((".log", "lock")))
        victim = rng.choice(small)
        harm(victim, rng.choice(HARMS), tmp_path / "other" / victim.relative_to(root))
        try:
            store, partition = opened(root)
        except StorageError as error:
            assert victim.name in str(error)
            continue
        assert numbers(partition) == list(range(COUNT)), victim
        store.close()
