"""Azure's go-amqp against a node: what go_amqp10/main.go does, in one program for all."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.go_peer import go_program
from tests.interop.peer_process import PeerProcess
from tests.support.node import Node


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[PeerProcess]:
    program = go_program("go_amqp10", "amqp10")
    node = Node(tmp_path_factory.mktemp("go-amqp"), listeners=("amqp", "console")).start()
    peer = PeerProcess([program, str(node.ports["amqp"])])
    yield peer
    peer.kill()
    node.kill9()


@pytest.mark.parametrize("scenario", ["values", "outcomes", "modes", "drain", "dynamic", "sessions"])
def test_go_amqp(client: PeerProcess, scenario: str) -> None:
    client.run(scenario)
