"""Backup and restore as docs/operations.md says it: in a mesh, nobody takes new events for those that are gone."""
from __future__ import annotations

import subprocess
from pathlib import Path

from routing.log.inspect import ends
from routing.log.restored import SKIPPED
from tests.support.node import HOST, Node, meshgate, stop_all
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link")


def numbers(node: Node) -> list[str]:
    """Payloads under a/# in the log of a node."""
    return [event["payload"] for event in node.get(
        "/v1/streams/events/events?filter=a/%23&limit=1000", listener="http").json["events"]]


def test_a_node_that_was_put_back_goes_on_and_no_node_takes_its_events_for_old_ones(tmp_path: Path) -> None:
    keeper = Node(tmp_path / "keeper", name="keeper", listeners=LISTENERS,
                  extra='[[replicate]]\nfilter = "a/#"\nfrom = "earliest"')
    node = Node(tmp_path / "node", name="origin", listeners=LISTENERS,
                extra=f'[[links]]\nto = "ws://{HOST}:{keeper.ports["link"]}"')

    def publish(*payloads: str) -> None:
        for payload in payloads:
            assert node.publish("a/b", payload.encode()).status == 200

    def kept(*payloads: str) -> None:
        wait_until(lambda: numbers(keeper) == list(payloads), f"the other node has {payloads}",
                   also=lambda: str(numbers(keeper)))

    try:
        keeper.start()
        node.start()
        with open_mqtt(node.mqtt, "worker", clean=False, version=4) as client:
            client.subscribe(("a/#", 1))
            publish("1", "2", "3")
            assert [client.message().payload for _ in range(2)] == [b"1", b"2"]
        kept("1", "2", "3")

        assert node.stop() == 0
        tar = ["tar", "-C", str(node.data.parent), "-czf", str(tmp_path / "backup.tar.gz"), node.data.name]
        assert subprocess.run(tar, check=False).returncode == 0
        node.start()
        publish("4", "5", "6")
        kept("1", "2", "3", "4", "5", "6")

        busy = meshgate("log", "restored", str(node.data))
        assert busy.returncode == 1 and b"is in use by process" in busy.stderr
        node.kill9()
        node.data.rename(tmp_path / "old")
        tar = ["tar", "-C", str(node.data.parent), "-xzf", str(tmp_path / "backup.tar.gz")]
        assert subprocess.run(tar, check=False).returncode == 0
        assert meshgate("log", "verify", str(node.data)).returncode == 0
        before = dict(ends(node.data))
        for _ in range(2):                              # said twice is said once
            done = meshgate("log", "restored", str(node.data))
            assert done.stdout.startswith(b"%d partitions go on" % len(before)), done.stderr
        node.start()
        assert numbers(node) == ["1", "2", "3"]
        publish("7", "8")
        kept("1", "2", "3", "4", "5", "6", "7", "8")
        with open_mqtt(node.mqtt, "worker", clean=False, version=4) as client:
            assert [client.message().payload for _ in range(3)] == [b"3", b"7", b"8"], "the session is that of the copy"
        assert node.stop() == 0
        after = dict(ends(node.data))
        assert {path: after[path] - end >= SKIPPED for path, end in before.items()} == dict.fromkeys(before, True)
        assert meshgate("log", "verify", str(node.data)).returncode == 0
        node.start()
        publish("9")
        kept(*"123456789")
    finally:
        stop_all((node, keeper))
