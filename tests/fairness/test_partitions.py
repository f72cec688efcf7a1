"""50 partitions that are written at once: a PUBACK waits for its own partition, not for the syncs of all the others.

The same batches of QoS 1 go to a stream of one partition and to one of 50, in turn, and what counts is when the last
PUBACK of each batch has come. Before partitions committed independently that was 123 ms against 3.
"""
from __future__ import annotations

import time

import pytest

from tests.fairness.harness import SOAK
from tests.support.node import Node
from tests.support.rawmqtt import RawMqtt, open_mqtt, publish_packet

pytestmark = pytest.mark.measured

PARTITIONS = 50
BATCH = 250                     # topics: with so many, next to every partition of the 50 has some
BATCHES = 400 if SOAK else 100
# 2 is the goal, and 1.45 was measured (docs/benchmarks.md): 50 commits share one sync. Before, it was 1.7 to 4,
# and 40 before partitions committed independently.
TIMES_MAX = 2.0 if SOAK else 4.0
STREAMS = "".join(
    f'[[streams]]\nname = "{name}"\ncapture = ["{name}/#"]\npartitions = {count}\n'
    for name, count in (("one", 1), ("many", PARTITIONS)))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(tmp_path_factory.mktemp("partitions"), extra=STREAMS).start()
    yield made
    made.process.kill9()


def batch_of(name: str) -> bytes:
    return b"".join(publish_packet(f"{name}/{number}", b"x" * 100, qos=1, packet_id=number + 1)
                    for number in range(BATCH))


def acked_s(client: RawMqtt, batch: bytes) -> float:
    """From the write of a batch to its last PUBACK."""
    began_s = time.monotonic()
    client.send(batch)
    for _ in range(BATCH):
        client.next()
    return time.monotonic() - began_s


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99) - 1]


def test_50_partitions_written_at_once_are_acked_as_one_is(node):
    batches = {name: batch_of(name) for name in ("one", "many")}
    took: dict[str, list[float]] = {name: [] for name in batches}
    with open_mqtt(node.mqtt, "writer") as client:
        for batch in batches.values():
            for _ in range(5):
                acked_s(client, batch)          # files are there, topics are known
        for _ in range(BATCHES):
            for name, batch in batches.items():
                took[name].append(acked_s(client, batch))
    logs = (node.data / "streams" / "many").glob("*/*.log")
    touched = len({file.parent for file in logs if file.stat().st_size})
    assert touched > PARTITIONS * 0.9
    one_s, many_s = p99(took["one"]), p99(took["many"])
    print(f"p99 of {BATCH} PUBACKs: {one_s * 1000:.1f} ms from one partition, {many_s * 1000:.1f} ms from {touched}; "
          f"medians {sorted(took['one'])[BATCHES // 2] * 1000:.1f} and {sorted(took['many'])[BATCHES // 2] * 1000:.1f}")
    assert many_s <= TIMES_MAX * one_s
