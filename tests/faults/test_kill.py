"""kill -9 at random moments, under load from MQTT QoS 1, QoS 2 and REST, many times in one data directory.

Per commit: 5 rounds per cell. The long run: `python -m tests.faults --rounds 200`.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.support.checker_log import raw_records
from tests.support.node import Node
from tests.support.rawmqtt import (
    PUBCOMP,
    PUBREC,
    PUBREL,
    SESSION_EXPIRY,
    WILL_DELAY,
    Will,
    open_mqtt,
    publish_packet,
)

ROUNDS = int(os.environ.get("MESHGATE_FAULT_ROUNDS", "5"))
SEED = int(os.environ.get("MESHGATE_FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
STAY = ((SESSION_EXPIRY, 3600),)
WRITTEN = '[[streams]]\nname = "events"\ncapture = ["#"]\ndurability = "write"\n'
SMALL_SEGMENTS = '[[streams]]\nname = "events"\ncapture = ["#"]\npartitions = 3\nsegment_bytes = "256KiB"\n'


@pytest.mark.parametrize(("extra", "version"), [("", 4), (WRITTEN, 5), (SMALL_SEGMENTS, 5)],
                         ids=["synced-v3", "written-v5", "synced-v5-small-segments"])
def test_kill_9_loses_nothing_that_was_acked(tmp_path: Path, extra: str, version: int) -> None:
    """Every acked event is in the log, in order per key, at every durable consumer; QoS 2 exactly once."""
    rig = Rig(tmp_path, seed=SEED, extra=extra, version=version)
    with rig.running():
        figures = rig.kill_rounds(ROUNDS)
        assert rig.node.stop() == 0
        assert rig.verify_log() == ""
    assert figures.acked > 50 * ROUNDS
    # the promise is 2 s + 1 s per GiB; processor time does not grow with what else the machine has to do
    assert max(rig.recovery_cpu_s) < 4, (rig.recovery_cpu_s, figures.recovery_s)


def test_kill_9_loses_nothing_for_a_shared_subscription(tmp_path: Path) -> None:
    """Two members of one group: every acked event reaches one of them, a repeat is marked."""
    rig = Rig(tmp_path, seed=SEED, version=5, group=2, rate=200)
    with rig.running():
        rig.kill_rounds(ROUNDS)


def test_kill_9_loses_nothing_for_two_clients_that_pull_from_one_consumer(tmp_path: Path) -> None:
    """In the middle of pull and ack: every acked event reaches one of them, a repeat is marked, and what an answer
    said is acked never comes again.
    """
    rig = Rig(tmp_path, seed=SEED, producers=("one", "rest"), rest_group=2, rate=200)
    with rig.running():
        rig.kill_rounds(ROUNDS)


@pytest.mark.parametrize("extra", ["", SMALL_SEGMENTS], ids=["synced", "small-segments"])
def test_kill_9_loses_nothing_for_webhooks_and_websockets(tmp_path: Path, extra: str) -> None:
    """What a WebSocket was told is published is stored once. A webhook, a durable WebSocket consumer, and a live reader
    that comes back with its position get every acked event, in order per key, repeats marked.
    """
    rig = Rig(tmp_path, seed=SEED, extra=extra, producers=("one", "ws"), push=True, rate=100)
    with rig.running():
        figures = rig.kill_rounds(ROUNDS)
        assert rig.node.stop() == 0
    assert figures.acked > 20 * ROUNDS


@pytest.mark.parametrize("version", [4, 5])
def test_what_was_answered_just_before_a_kill_is_there_after_it(node: Node, version: int) -> None:
    """A session (CONNACK), a subscription (SUBACK), a retained event (PUBACK): killed at once, all of them are back."""
    for number in range(ROUNDS):
        topic, client_id = f"early/{number}", f"early-{number}"
        with open_mqtt(node.mqtt, client_id, version=version, clean=False, values=STAY) as client:
            assert client.connack is not None and not client.connack.session_present
            assert client.subscribe((f"{topic}/+", 1)).codes == [1]
            node.kill9()
        node.restart()
        with open_mqtt(node.mqtt, "writer", version=version) as writer:
            assert writer.publish_acked(f"{topic}/event", b"kept").code == 0
            assert writer.publish_acked(f"{topic}/retained", b"state", retain=True).code == 0
            node.kill9()
        node.restart()
        with open_mqtt(node.mqtt, client_id, version=version, clean=False, values=STAY) as client:
            assert client.connack is not None and client.connack.session_present
            assert {client.message().payload for _ in range(2)} == {b"kept", b"state"}
        with open_mqtt(node.mqtt, "other", version=version) as client:
            client.subscribe((f"{topic}/#", 1))
            found = client.message()
            assert (found.topic, found.payload, found.retain) == (f"{topic}/retained", b"state", True)


@pytest.mark.parametrize("version", [4, 5])
def test_a_packet_id_that_was_released_between_two_kills_is_free(node: Node, version: int) -> None:
    """Published, killed, repeated, released, killed: the next QoS 2 publish under the same ids is stored."""
    ids = range(1, 17)
    publish: Callable[..., bytes] = partial(publish_packet, qos=2, version=version)
    with open_mqtt(node.mqtt, "w", version=version, clean=False, values=STAY) as writer:
        writer.send(b"".join(publish(f"a/{number}", b"1", packet_id=number) for number in ids))
        assert {writer.expect(PUBREC).packet_id for _ in ids} == set(ids)
        node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "w", version=version, clean=False, values=STAY) as writer:
        for number in ids:
            writer.send(publish(f"a/{number}", b"1", packet_id=number, dup=True))
            writer.expect(PUBREC, packet_id=number)
            writer.ack(PUBREL, number)
            writer.expect(PUBCOMP, packet_id=number)
        node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "w", version=version, clean=False, values=STAY) as writer:
        for number in ids:
            writer.send(publish(f"a/{number}", b"1", packet_id=number))     # content alone would say: a repeat
            assert not writer.expect(PUBREC, packet_id=number).code
    topics = Counter(topic for _, topic, _ in raw_records(node.data, "events"))
    assert topics == {f"a/{number}": 2 for number in ids}


def test_a_will_is_there_after_a_kill_that_follows_the_connack(node: Node) -> None:
    """What CONNACK has promised is durable: the will of a client that nobody has heard of since is published."""
    with open_mqtt(node.mqtt, "watcher", clean=False, values=STAY) as watcher:
        watcher.subscribe(("gone/+", 1))
    for number in range(ROUNDS):
        will = Will(f"gone/{number}", b"lost", 1, properties=((WILL_DELAY, 1),))
        with open_mqtt(node.mqtt, f"c-{number}", clean=False, values=STAY, will=will):
            node.kill9()
        node.restart()
        with open_mqtt(node.mqtt, "watcher", clean=False, values=STAY) as watcher:
            while watcher.message().topic != f"gone/{number}":      # one that was acknowledged may come again
                pass
    topics = Counter(topic for _, topic, _ in raw_records(node.data, "events"))
    assert topics == {f"gone/{number}": 1 for number in range(ROUNDS)}


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM: what was acked is there, the clients carry on after the restart."""
    rig = Rig(tmp_path, seed=SEED)
    with rig.running():
        assert rig.node.stop() == 0, rig.node.process.log_tail()
        rig.restart()
        rig.check_clean()
