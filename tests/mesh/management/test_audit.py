"""The chain of audit records: every change of it is found, offline, in a copy."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from mesh.management.acts.chain import digest, verify
from tests.support.node import Node, meshgate


def chain(count: int, first: int = 0, previous: str = "") -> list[tuple[int, bytes]]:
    found = []
    for number in range(first, first + count):
        payload = msgspec.json.encode({"act": f"act {number}", "previous": previous}, order="sorted")
        found.append((number, payload))
        previous = digest(payload)
    return found


def test_a_whole_chain_holds_also_when_retention_took_its_begin() -> None:
    assert verify(iter(chain(5))) == (5, None)
    assert verify(iter(chain(5)[2:])) == (3, None)
    assert verify(iter([])) == (0, None)


@pytest.mark.parametrize(("harm", "place"), [
    (lambda one: [*one[:2], (2, one[2][1].replace(b"act 2", b"act X")), *one[3:]], 3),             # changed
    (lambda one: one[:2] + one[3:], 3),                                                            # dropped
    (lambda one: [*one[:2], (2, one[3][1]), (3, one[2][1]), *one[4:]], 2),                         # swapped
    (lambda one: [*one[:2], (2, b'{"act":"new","previous":"00"}'), *one[3:]], 2),                  # replaced
    (lambda one: one[:3] + [(3, one[2][1])] + [(number + 1, value) for number, value in one[3:]], 3),       # added
    (lambda one: [*one[:2], (2, b"no record"), *one[3:]], 2),
    (lambda one: [(0, one[1][1]), *one[2:]], 0),                                                   # a new begin
])
def test_every_change_is_found_at_its_place(harm: object, place: int) -> None:
    count, broken = verify(iter(harm(chain(6))))  # type: ignore[operator]
    assert broken is not None and broken.offset == place and count <= place


def test_acts_are_on_record_before_they_are_done_and_the_chain_outlives_a_kill(tmp_path: Path) -> None:
    node = Node(tmp_path / "node").start()
    try:
        path = "/api/v1/consumers/none/pause"
        assert node.post(path, b'{"reason": "x"}', listener="console").status == 404
        assert node.get("/api/v1/audit").json["audit"] == []            # nothing was done
        with_reader(node)
        for act in ("pause", "resume"):
            body = json.dumps({"reason": f"to {act}"}).encode()
            answer = node.post(f"/api/v1/consumers/mqtt%2Fr/{act}", body, listener="console")
            assert answer.status == 200, answer.text
        records = node.get("/api/v1/audit").json["audit"]
        assert [(row["id"], row["act"], row["target"], row["reason"]) for row in records] == [
            (1, "consumer.resume", "mqtt/r", "to resume"), (0, "consumer.pause", "mqtt/r", "to pause")]
        assert records[1]["before"] == {"paused": False} and records[1]["after"] == {"paused": True}
        node.kill9()
        node.restart()
        with_reader(node)
        assert node.post("/api/v1/consumers/mqtt%2Fr/pause", b"", listener="console").json["audit"] == 2
        assert "consumer.pause" in meshgate("audit", "show", "--url", node.url("console")).stdout.decode()
    finally:
        node.kill9()
    copy = tmp_path / "copy"
    shutil.copytree(node.data, copy, ignore=shutil.ignore_patterns("*.sock"))
    done = meshgate("audit", "verify", str(copy))
    assert (done.returncode, done.stdout.decode().split(":")[0]) == (0, "3 records hold"), done.stdout
    log, = (copy / "streams" / "%24audit" / "0").glob("*.log")
    raw = log.read_bytes()
    assert raw.count(b"to resume") == 1
    log.write_bytes(raw.replace(b"to resume", b"to forget"))
    assert meshgate("audit", "verify", str(copy)).returncode == 1       # the checksum of the batch, at the least


def with_reader(node: Node) -> None:
    from tests.mesh.management.test_admin import durable_session
    durable_session(node, "r", "plant/#")
