"""The node ends itself at named points of the log (CRASH_AT=point:n), under load, and comes back with everything."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.test_kill import SEED
from tests.support.checker_log import raw_records
from tests.support.node import Node
from tests.support.wait import wait_until

# many rolls in a second of load, so that the points in a roll are passed
SMALL = '[[streams]]\nname = "events"\ncapture = ["#"]\nsegment_bytes = "64KiB"\n'
COMPACTED = '[[streams]]\nname = "latest"\ncapture = ["latest/#"]\ncompact = true\nsegment_bytes = "64KiB"\n'
POINTS = ("before_write:40", "after_write:40", "before_sync:40", "after_sync:40", "in_roll:3", "after_roll:3",
          "at_index_save:1", "at_index_save:2")
CRASHED = 137
CRASH_S = 60.0


def crash(node: Node, point: str, *, start: Callable[[], object]) -> None:
    """Run the node until it ends itself at the point, then make it a normal node again."""
    node.process.environment["CRASH_AT"] = point
    try:
        start()
        wait_until(lambda: not node.running, f"the node comes to {point}", deadline_s=CRASH_S,
                   also=node.process.log_tail)
    finally:
        del node.process.environment["CRASH_AT"]
    assert node.process.wait() == CRASHED, node.process.log_tail()


@pytest.mark.timeout(600)          # 20 s on two cores that are idle, 130 s on two that are busy
def test_a_crash_at_every_point_of_a_commit_loses_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, seed=SEED, extra=SMALL)
    with rig.running():
        for point in POINTS:
            rig.kill()
            crash(rig.node, point, start=lambda: rig.node.start(ready=False))
            rig.restart()
            rig.wait_for_load()
            figures = rig.check(resume=True)
            assert figures.clean, f"{point}: {rig.summary()}\n{figures}"
        rig.quiesce()
        assert rig.node.stop() == 0
        assert rig.verify_log() == ""


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_crash_in_compaction_keeps_the_last_record_of_every_key(tmp_path: Path, number: int) -> None:
    """Events of 20 topics, 64 KiB segments, one node that ends itself at the n-th step of a compaction."""
    node = Node(tmp_path / "node", extra=COMPACTED)
    acked: dict[str, int] = {}
    try:
        node.process.environment["CRASH_AT"] = f"in_compaction:{number}"
        node.start()
        _publish_until_it_ends(node, acked)
        del node.process.environment["CRASH_AT"]
        assert node.process.wait() == CRASHED, node.process.log_tail()
        for _ in range(2):                                      # recovery itself must be repeatable
            node.start()
            assert _last_of_each_key(node.data, acked), node.process.log_tail()
            assert node.stop() == 0
    finally:
        node.process.kill9()


def _publish_until_it_ends(node: Node, acked: dict[str, int]) -> None:
    number = 0

    def step() -> bool:
        nonlocal number
        for _ in range(50):
            number += 1
            topic = f"latest/{number % 20}"
            try:
                answer = node.publish(topic, json.dumps({"number": number, "filler": "." * 1000}).encode())
            except OSError:
                return not node.running
            assert answer.status == 200, answer.text
            acked[topic] = number
        return False

    wait_until(step, "the node comes to its compaction", deadline_s=CRASH_S, also=node.process.log_tail)


def _last_of_each_key(data: Path, acked: dict[str, int]) -> bool:
    """The log's last record of each topic is the last acked one, or one later publish that was not answered."""
    last = {topic: json.loads(value)["number"] for _, topic, value in raw_records(data, "latest")}
    return all(acked[topic] <= last.get(topic, -1) <= acked[topic] + 20 for topic in acked)
