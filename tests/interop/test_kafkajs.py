"""kafkajs 2.2 (NestJS; it asks ApiVersions 2 first and sends what the broker's highest versions allow) against a node:
what node/kafka_peer.js does, in one program for all.
"""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.interop.kafka_node import NODE_MODULES, bootstrap, kafka  # noqa: F401
from tests.interop.peer_process import PeerProcess
from tests.support.node import Node

SOURCE = Path(__file__).parent / "node" / "kafka_peer.js"


@pytest.fixture(scope="module")
def kafkajs(kafka: Node) -> Iterator[PeerProcess]:  # noqa: F811
    require_peer(shutil.which("node"), "Node.js")
    require_peer((NODE_MODULES / "kafkajs").is_dir(), "kafkajs (make peers)")
    environment = {**os.environ, "NODE_PATH": str(NODE_MODULES), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    peer = PeerProcess(["node", str(SOURCE), bootstrap(kafka)], environment)
    yield peer
    peer.kill()


@pytest.mark.parametrize("codec", ["none", "gzip"])             # it brings no other codec
def test_keys_values_headers_and_nulls_come_back_as_they_were(kafkajs, codec):
    kafkajs.run("values", codec)


@pytest.mark.parametrize("scenario", ["group", "administration", "times", "transactions"])
def test_groups_administration_times_and_transactions(kafkajs, scenario):
    kafkajs.run(scenario)
