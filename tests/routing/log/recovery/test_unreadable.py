"""Pages that the disk cannot read: for a moment, and for ever."""
from __future__ import annotations

import pytest

from routing.errors import StorageError
from routing.event import Event
from routing.log.fs import RealFileSystem
from routing.log.segments.pages import EIO_TRIES, UNREADABLE_SCANS
from tests.support.disk import FaultyFileSystem
from tests.support.log import make_store, open_partition, scan_all


@pytest.fixture
def broken(tmp_path):
    fs = FaultyFileSystem(RealFileSystem())
    store = make_store(tmp_path, fs=fs, tail_cache_bytes=0)
    partition = open_partition(store)
    store.store_events(partition, [Event("a", b"x", 1) for _ in range(10)])
    yield partition, fs.faults
    fs.faults.clear()
    store.close()


def test_a_short_fault_is_not_noticed(broken):
    partition, faults = broken
    faults.fail("pread", count=EIO_TRIES - 1, suffix=".log")
    assert len(scan_all(partition)) == 10


def test_a_longer_fault_stalls_the_reader_and_loses_nothing(broken):
    partition, faults = broken
    faults.fail("pread", count=-1, suffix=".log")
    for _ in range(UNREADABLE_SCANS - 1):
        with pytest.raises(StorageError, match="cannot read at 0"):
            scan_all(partition)
    faults.clear()
    assert len(scan_all(partition)) == 10
    assert not partition.damage


def test_a_page_that_stays_unreadable_becomes_damage(broken):
    partition, faults = broken
    faults.fail("pread", count=-1, suffix=".log")
    for _ in range(UNREADABLE_SCANS - 1):
        with pytest.raises(StorageError):
            scan_all(partition)
    assert scan_all(partition) == []
    assert (partition.damage[0].first_offset, partition.damage[0].end_offset) == (0, 10)


def test_while_a_node_starts_it_is_damage_at_once_since_nobody_would_try_again(broken):
    partition, faults = broken
    partition.be_patient(False)
    faults.fail("pread", count=-1, suffix=".log")
    assert scan_all(partition) == []
    assert partition.damage
