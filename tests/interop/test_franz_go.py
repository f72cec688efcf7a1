"""franz-go 1.22 (rpk, Redpanda Connect) against a node: what go/main.go does, in one program for all."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.go_peer import go_program
from tests.interop.kafka_node import bootstrap, kafka  # noqa: F401
from tests.interop.peer_process import PeerProcess
from tests.support.node import Node


@pytest.fixture(scope="module")
def franz(kafka: Node) -> Iterator[PeerProcess]:  # noqa: F811
    peer = PeerProcess([go_program("go", "franz-go"), bootstrap(kafka)])
    yield peer
    peer.kill()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_values_headers_and_nulls_come_back_as_they_were(franz, codec):
    franz.run("values", codec)


@pytest.mark.parametrize("scenario", ["group", "statics", "administration", "times", "recreated", "transactions"])
def test_groups_administration_times_topics_made_again_and_transactions(franz, scenario):
    franz.run(scenario)
