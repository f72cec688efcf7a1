"""Apache Kafka's Java client and Admin 4.4 against a node: what java/KafkaPeer.java does, in one program for all."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.interop.kafka_node import JARS, bootstrap, serve
from tests.interop.peer_process import PeerProcess
from tests.support.node import Node

SOURCE = Path(__file__).parent / "java" / "KafkaPeer.java"


QUICK = """
[kafka]
consumer_heartbeat_interval_ms = 300
consumer_session_timeout_ms = 6000
"""


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from serve(tmp_path_factory.mktemp("kafka"), QUICK)


@pytest.fixture(scope="module")
def java(kafka: Node) -> Iterator[PeerProcess]:
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(any(JARS.glob("kafka-clients-4*.jar")), "Apache Kafka's jars (make peers)")
    peer = PeerProcess(["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*", str(SOURCE), bootstrap(kafka)])
    yield peer
    peer.kill()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_values_headers_and_nulls_come_back_as_they_were(java, codec):
    java.run("values", codec)


@pytest.mark.parametrize("scenario", ["group", "statics", "pattern", "recreated", "transactions"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])          # the latter is KIP-848
def test_groups_static_members_patterns_topics_made_again_and_transactions(java, scenario, protocol):
    java.run(scenario, protocol)


def test_administration(java):
    java.run("administration")


def test_offsets_by_time(java):
    java.run("times")
