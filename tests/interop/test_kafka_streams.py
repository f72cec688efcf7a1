"""Kafka Streams 4.4 with exactly_once_v2: a word count and a windowed one, while the node is killed; then on an empty
disk, where the state comes back from the changelogs. Counts are right, and nothing is counted twice.
"""
from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import require_peer
from tests.interop.kafka_node import DEADLINE_S, JARS, bootstrap, start
from tests.support.wait import wait_until

SOURCE = Path(__file__).parent / "java" / "WordCount.java"
WORDS = ("order", "paid", "sent", "lost", "found")
LINES = 300
MINUTE_MS = 60_000
FIRST_MS = 1_700_000_040_000                # the begin of a minute
STREAMS_DEADLINE_S = 120.0                  # a rebalance, transactions that end by their timeout, a cold JVM


class App:
    """One run of the program."""

    def __init__(self, node, name, state, log):
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*", str(SOURCE), bootstrap(node), name,
                 str(state)],
                stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)

    def said(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        self.process.communicate(b"\n", timeout=DEADLINE_S)
        assert "closed\n" in self.said() and self.process.returncode == 0, self.said()[-3_000:]


def lines(seed, first):
    """LINES of three words, two seconds of event time apart."""
    rng = random.Random(seed)
    return [(first + number, " ".join(rng.choices(WORDS, k=3))) for number in range(LINES)]


def write(producer, name, some):
    for number, line in some:
        producer.produce(f"{name}.lines", line, key=str(number), timestamp=FIRST_MS + number * 2_000)
        producer.poll(0)
    assert producer.flush(DEADLINE_S) == 0


def expected(some):
    totals, minutes = Counter(), Counter()
    for number, line in some:
        for word in line.split():
            totals[word] += 1
            minutes[f"{word}@{(FIRST_MS + number * 2_000) // MINUTE_MS * MINUTE_MS}"] += 1
    return totals, minutes


class Table:
    """The last value by key of a topic, as who reads committed records sees it; every value is one more than before."""

    def __init__(self, node, topic):
        self.values = {}
        self.wrong = []
        self.reader = Consumer({"bootstrap.servers": bootstrap(node), "group.id": topic,
                                "isolation.level": "read_committed", "enable.auto.commit": False})
        self.reader.assign([TopicPartition(topic, partition, 0) for partition in (0, 1)])

    def read(self):
        for message in self.reader.consume(1_000, 0.2):
            if message.error() is None:
                key, count = message.key().decode(), struct.unpack(">q", message.value())[0]
                if count <= self.values.get(key, 0):
                    self.wrong.append((key, self.values[key], count))
                self.values[key] = count
        return self.values


def test_counts_are_right_through_kills_of_the_node_and_the_state_comes_back_from_the_changelogs(tmp_path):
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(any(JARS.glob("kafka-streams-4*.jar")), "Kafka Streams (make peers)")
    node, name = start(tmp_path / "node"), "words"
    app = None
    try:
        admin = AdminClient({"bootstrap.servers": bootstrap(node)})
        topics = [NewTopic(f"{name}.{kind}", 2, 1) for kind in ("lines", "counts", "windows")]
        for future in admin.create_topics(topics).values():
            future.result(DEADLINE_S)
        producer = Producer({"bootstrap.servers": bootstrap(node), "enable.idempotence": True, "linger.ms": 5})
        app = App(node, name, tmp_path / "state", tmp_path / "app.log")
        counts, windows = (Table(node, f"{name}.{kind}") for kind in ("counts", "windows"))
        sent = lines("first", 0)
        write(producer, name, sent[:LINES // 2])
        wait_until(lambda: sum(counts.read().values()) > 0, "the first counts", deadline_s=STREAMS_DEADLINE_S,
                   also=app.said)
        node.kill9()
        node.start()
        write(producer, name, sent[LINES // 2:])
        time.sleep(0.5)
        node.kill9()                                    # once more, while it counts
        node.start()
        totals, minutes = expected(sent)
        wait_until(lambda: counts.read() == totals, "the right counts", deadline_s=STREAMS_DEADLINE_S,
                   also=lambda: f"{counts.values} instead of {totals}\n{app.said()[-3_000:]}")
        app.stop()
        shutil.rmtree(tmp_path / "state")
        app = App(node, name, tmp_path / "state", tmp_path / "app2.log")
        sent += lines("second", LINES)
        write(producer, name, sent[LINES:])
        totals, minutes = expected(sent)
        wait_until(lambda: counts.read() == totals, "the right counts once more", deadline_s=STREAMS_DEADLINE_S,
                   also=lambda: f"{counts.values} instead of {totals}\n{app.said()[-3_000:]}")
        wait_until(lambda: windows.read() == minutes, "the right windows", deadline_s=STREAMS_DEADLINE_S,
                   also=lambda: f"{windows.values} instead of {minutes}")
        assert not counts.wrong and not windows.wrong, "something was counted twice"
        app.stop()
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
    finally:
        if app is not None:
            app.process.kill()
        node.process.kill9()
