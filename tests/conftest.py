"""Fixtures for black-box tests: `node` and `node_factory` (a real node), `broker` (whatever MQTT broker is tested).

--mqtt-broker=mosquitto (or MESHGATE_MQTT_BROKER) runs the MQTT sets against Mosquitto as the reference; where it
deviates from the specification, a test says so with the mark `mosquitto_deviates`.
The mark `measured` is for a test whose figure depends on what else the machine does: it fails when it misses thrice.
MESHGATE_REQUIRE_PEERS=1 turns a skip for a missing peer into a failure.
"""
from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tests.support import rawmqtt
from tests.support.certificates import Certificates, make_certificates
from tests.support.mosquitto import BINARY, Mosquitto
from tests.support.node import Node, stop_all
from tests.support.rawmqtt import RawMqtt, open_mqtt

MEASURES = 3        # times that a test with the mark `measured` may take its figure before it has failed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mqtt-broker", choices=("meshgate", "mosquitto"),
                     default=os.environ.get("MESHGATE_MQTT_BROKER", "meshgate"),
                     help="the broker that the MQTT interop and conformance tests talk to")


def pytest_configure(config: pytest.Config) -> None:
    # how long an example takes says more about the machine than about us
    hypothesis.settings.register_profile("shared", deadline=None,
                                         suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("shared")
    config.addinivalue_line("markers", "mosquitto_deviates(reason): Mosquitto does not do what this test asks")
    config.addinivalue_line("markers", "meshgate_only(reason): asks for more than the specification does")
    config.addinivalue_line("markers", "measured: compares a time, a share or a size of memory with a bound")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:      # what a shared machine measured is measured again; a real fault misses its bound each time
        if item.get_closest_marker("measured") is not None:
            item.add_marker(pytest.mark.flaky(reruns=MEASURES - 1))
    if config.getoption("--mqtt-broker") != "mosquitto":
        return
    rawmqtt.DEADLINE_S = 6.0        # the reference is fast; what it does not do should not be waited for so long
    for item in items:
        for mark in item.iter_markers("mosquitto_deviates"):
            item.add_marker(pytest.mark.xfail(reason=f"Mosquitto: {mark.args[0]}", strict=True))
        for mark in item.iter_markers("meshgate_only"):
            item.add_marker(pytest.mark.skip(reason=f"Meshgate only: {mark.args[0]}"))


def require_peer(present: object, what: str) -> None:
    """Skip when a peer is missing; fail instead when the environment says that peers are required."""
    if present:
        return
    if os.environ.get("MESHGATE_REQUIRE_PEERS") == "1":
        pytest.fail(f"{what} is not installed, and MESHGATE_REQUIRE_PEERS=1")
    pytest.skip(f"{what} is not installed")


@dataclass(frozen=True)
class Broker:
    """What an MQTT client has to know. ws and wss are URLs."""

    kind: str
    mqtt: tuple[str, int]
    mqtts: tuple[str, int]
    ws: str
    wss: str
    certificates: Certificates

    def connect(self, client_id: str = "", **options: object) -> RawMqtt:
        return open_mqtt(self.mqtt, client_id, **options)  # type: ignore[arg-type]

    def socket(self, version: int = 5) -> RawMqtt:
        """A TCP connection with nothing sent yet."""
        return RawMqtt(self.mqtt, version=version)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _meshgate(folder: Path, certificates: Certificates) -> Iterator[Broker]:
    node = Node(folder / "node", also_tls=("mqtt", "http"), certificates=certificates)
    try:
        node.start()
        yield Broker("meshgate", node.mqtt, node.address("mqtts"), f"ws://127.0.0.1:{node.ports['http']}/mqtt",
                     f"wss://localhost:{node.ports['https']}/mqtt", certificates)
        assert node.running, f"the node died:\n{node.process.log_tail()}"
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
    finally:
        stop_all((node,))


def _mosquitto(folder: Path, certificates: Certificates) -> Iterator[Broker]:
    require_peer(BINARY, "mosquitto")
    server = Mosquitto(folder, certificates)
    ports = server.ports
    try:
        server.start()
        yield Broker("mosquitto", ("127.0.0.1", ports["mqtt"]), ("127.0.0.1", ports["mqtts"]),
                     f"ws://127.0.0.1:{ports['ws']}/mqtt", f"wss://localhost:{ports['wss']}/mqtt", certificates)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
           certificates: Certificates) -> Iterator[Broker]:
    """One broker for the whole run: tests use their own client ids and topics (see `unique`)."""
    folder = tmp_path_factory.mktemp("broker")
    start = _mosquitto if request.config.getoption("--mqtt-broker") == "mosquitto" else _meshgate
    yield from start(folder, certificates)


_numbers = itertools.count(1)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """unique("x") is a name that no other test uses, the same for one argument within a test."""
    number = next(_numbers)
    return lambda label="": f"t{os.getpid()}-{number}{'-' if label else ''}{label}"


@pytest.fixture
def topic(unique: Callable[[str], str]) -> str:
    return f"{unique('topic')}/a"


@pytest.fixture
def node_factory(tmp_path: Path, certificates: Certificates) -> Iterator[Callable[..., Node]]:
    """node_factory(extra="…toml…", tls=("mqtt",), start=True) starts a node with its own data folder."""
    nodes: list[Node] = []

    def make(*, start: bool = True, **options: object) -> Node:
        node = Node(tmp_path / f"node-{len(nodes) + 1}", certificates=certificates,
                    **options)  # type: ignore[arg-type]
        nodes.append(node)
        return node.start() if start else node

    yield make
    stop_all(nodes)
    for node in nodes:
        assert "Traceback" not in node.process.log_text(), f"the node logged a traceback:\n{node.process.log_tail(80)}"


@pytest.fixture
def node(node_factory: Callable[..., Node]) -> Node:
    """A fresh node, anonymous on loopback, with MQTT, HTTP and console listeners."""
    return node_factory()
