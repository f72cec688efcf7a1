"""kill -9 at every named point: whatever was acked is there, and the log verifies.          reliability.md, Faults

A child process commits numbers, says each ack on its standard output, and dies at the point. CRASH_ROUNDS rounds at
each point; each round goes on with the log that the crash left.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from routing.log.inspect import verify
from routing.settings import StreamSettings
from tests.support.log import make_store, open_partition, scan_all

CRASH_ROUNDS = 2
REPOSITORY = Path(__file__).parents[4]

CHILD = """
import sys
from pathlib import Path
from routing.event import Event
from routing.log import upkeep
from tests.support.log import make_store, open_partition
upkeep.CHECKPOINT_BYTES = 2_000
store = make_store(Path(sys.argv[1]), inline=False)
compacted = sys.argv[2] == "compacted"
partition = open_partition(store, segment_bytes=3_000, compact=compacted)
number = partition.next_offset
for _ in range(400):
    events = [Event(f"k/{(number + i) % 7}", b"%d" % (number + i) + b"." * 50, 1) for i in range(3)]
    ticket = store.store_events(partition, events)
    assert not ticket.refusals
    number += 3
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    if number % 30 == 0:
        store.maintain(store.now_ms)
print("survived", flush=True)
"""


MANY = """
import sys
from pathlib import Path
from routing.event import Event
from routing.log.committing import journal
from routing.settings import StreamSettings
from tests.support.log import make_store
journal.WISHES_MIN = 1
store = make_store(Path(sys.argv[1]), inline=False, journal_bytes=20_000)
partitions = store.open_stream(StreamSettings("many", ("#",), partitions=6, segment_bytes=9_000))
number = max(partition.next_offset for partition in partitions)
for _ in range(400):
    tickets = [
        store.publish(partition, [Event("k/1", b"." * 50, 1) for _ in range(number + 1 - partition.next_offset)])
        for partition in partitions]
    store.commit()
    assert not any(ticket.refusals for ticket in tickets)
    number += 1
    print(number, flush=True)
"""


def run_child(root, kind, crash_at, program=CHILD):
    """Returns the end offset that the child acked last, None when it acked nothing."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), kind], cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
        env={**os.environ, "CRASH_AT": crash_at, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 137, f"{crash_at}: the child did not reach the point\n{done.stdout[-200:]}{done.stderr}"
    lines = done.stdout.split()
    return int(lines[-1]) if lines else None


POINTS = [("before_write", 7), ("after_write", 5), ("before_sync", 6), ("after_sync", 4), ("in_roll", 2),
          ("after_roll", 3), ("at_index_save", 1), ("at_index_save", 4)]


@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_acked_events_survive_a_kill_at(tmp_path, point, nth):
    acked = 0
    for _ in range(CRASH_ROUNDS):
        acked = run_child(tmp_path, "plain", f"{point}:{nth}") or acked
        store = make_store(tmp_path)
        partition = open_partition(store, segment_bytes=3_000)
        found = [(event.offset, int(event.payload.split(b".")[0])) for event in scan_all(partition)]
        assert found == [(offset, offset) for offset in range(len(found))]
        assert len(found) >= acked and not partition.damage
        store._lock.release()
        assert all(finding.level != "damage" for finding in verify(tmp_path))


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_kill_within_a_compaction_loses_no_last_value(tmp_path, nth):
    acked = 0
    for _ in range(CRASH_ROUNDS):
        acked = run_child(tmp_path, "compacted", f"in_compaction:{nth}") or acked
        store = make_store(tmp_path)
        partition = open_partition(store, segment_bytes=3_000, compact=True)
        last = {event.topic: event.offset for event in scan_all(partition)}
        assert partition.end_offset >= acked and not partition.damage
        assert last == {f"k/{offset % 7}": offset for offset in range(partition.end_offset - 7, partition.end_offset)}
        store._lock.release()
        assert not list(tmp_path.rglob("*.swap")) and not list(tmp_path.rglob("*.cleaned"))


@pytest.mark.parametrize(("point", "nth"), [
    ("before_journal", 5), ("after_journal", 5), ("before_journal", 60), ("before_write", 40), ("after_write", 45),
    ("after_roll", 2)])
def test_many_partitions_that_share_a_journal_survive_a_kill_at(tmp_path, point, nth):
    acked = 0
    for _ in range(CRASH_ROUNDS):
        acked = run_child(tmp_path, "many", f"{point}:{nth}", MANY) or acked
        store = make_store(tmp_path)
        for partition in store.open_stream(StreamSettings("many", ("#",), partitions=6, segment_bytes=9_000)):
            assert acked <= partition.next_offset <= acked + CRASH_ROUNDS and not partition.damage
            assert len(scan_all(partition)) == partition.next_offset
        store._lock.release()
        assert all(finding.level != "damage" for finding in verify(tmp_path))
