"""A Quix Streams app with state and transactions through a `kill -9` of the node, and of itself: every record is
counted once, and its count comes out once. The state is restored from its changelog topic.
"""
from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import require_peer
from tests.interop.kafka_node import DEADLINE_S, bootstrap, serve, unique
from tests.support.node import ROOT
from tests.support.wait import wait_until

PYTHON = ROOT / ".peers" / "quix" / "bin" / "python"
WORDS = [f"word{number}" for number in range(7)]
ROUND = 140                                 # records: each word 20 times


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    yield from serve(tmp_path_factory.mktemp("kafka"), "[kafka]\nsession_timeout_min_ms = 1000\n")


def test_every_record_is_counted_once_through_kills_of_the_node_and_of_the_app(kafka, tmp_path):
    require_peer(PYTHON.exists(), "Quix Streams (make peers)")
    source, target, group = unique("words"), unique("counts"), unique("quix")
    admin = AdminClient({"bootstrap.servers": bootstrap(kafka)})
    for result in admin.create_topics([NewTopic(source, 2, 1), NewTopic(target, 2, 1)]).values():
        result.result(DEADLINE_S)
    log = (tmp_path / "app.log").open("ab")

    def start(folder):
        return subprocess.Popen([str(PYTHON), str(Path(__file__).with_name("quix_app.py")), bootstrap(kafka), group,
                                 source, target, str(tmp_path / folder)], stdout=log, stderr=log)

    sent = 0

    def produce():
        nonlocal sent
        producer = Producer({"bootstrap.servers": bootstrap(kafka), "enable.idempotence": True})
        for number in range(ROUND):
            producer.produce(source, b"x", key=WORDS[number % len(WORDS)])
        assert producer.flush(DEADLINE_S) == 0
        sent += ROUND

    reader = Consumer({"bootstrap.servers": bootstrap(kafka), "group.id": unique("reader"),
                       "auto.offset.reset": "earliest", "isolation.level": "read_committed", "log_level": 0})
    reader.subscribe([target])
    found = defaultdict(list)

    def counted():
        for message in reader.consume(200, 0.2):
            if message.error() is None:
                found[message.key().decode()].append(int(message.value()))
        return sum(map(len, found.values()))

    app = start("first")
    try:
        produce()
        wait_until(lambda: counted() >= ROUND // 2, "it counts", deadline_s=DEADLINE_S, also=lambda: tail(log))
        kafka.kill9()
        kafka.restart()
        produce()
        wait_until(lambda: counted() >= sent - ROUND // 2, "it goes on after the node", deadline_s=DEADLINE_S,
                   also=lambda: tail(log))
        app.kill()
        app.wait()
        app = start("second")               # without its state: that is in the changelog
        produce()
        wait_until(lambda: counted() >= sent, "all is counted", deadline_s=2 * DEADLINE_S, also=lambda: tail(log))
    finally:
        app.kill()
        app.wait()
        reader.close()
    assert {word: sorted(counts) for word, counts in found.items()} == {
        word: list(range(1, sent // len(WORDS) + 1)) for word in WORDS}


def tail(log):
    log.flush()
    return Path(log.name).read_text(errors="replace")[-3_000:]
