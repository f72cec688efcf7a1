"""MQTT.js (Node.js) against the broker: both versions over TCP, TLS, ws:// and wss://. The scenarios are node/peer.js.

MQTT.js is pinned by node/package.json and installed into .peers/node, by `make peers` or here on demand.
"""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.support.node import ROOT

HERE = Path(__file__).parent / "node"
PEERS = ROOT / ".peers" / "node"
MODULES = PEERS / "node_modules"
DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def mqttjs() -> None:
    require_peer(shutil.which("node"), "Node.js")
    if not (MODULES / "mqtt").is_dir() and shutil.which("npm"):
        PEERS.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, PEERS / name)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--prefix", str(PEERS)], capture_output=True,
                       timeout=300, check=False)
    require_peer((MODULES / "mqtt").is_dir(), "MQTT.js")


def run(broker, scenario: str, version: str, transport: str, prefix: str) -> None:
    urls = {"tcp": f"mqtt://127.0.0.1:{broker.mqtt[1]}", "tls": f"mqtts://localhost:{broker.mqtts[1]}",
            "ws": broker.ws, "wss": broker.wss}
    command = ["node", str(HERE / "peer.js"), scenario, urls[transport], version, prefix]
    if transport in ("tls", "wss"):
        command.append(str(broker.certificates.ca))
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False, text=True,
                          env={**os.environ, "NODE_PATH": str(MODULES)})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"])
@pytest.mark.parametrize("version", ["4", "5"])
def test_publish_and_subscribe(broker, unique, version, transport):
    run(broker, "pubsub", version, transport, unique())


@pytest.mark.parametrize("scenario", ["pipelined", "retained", "will", "session", "share"])
@pytest.mark.parametrize("transport", ["tcp", "ws"])
@pytest.mark.parametrize("version", ["4", "5"])
def test_scenario(broker, unique, scenario, version, transport):
    run(broker, scenario, version, transport, unique())


@pytest.mark.parametrize("transport", ["tcp", "ws"])
@pytest.mark.parametrize("version", ["4", "5"])
def test_thousands_of_qos_2_publishes_at_once(broker, unique, version, transport):
    """3,000 in MQTT 3.1.1, which has no Receive Maximum; in MQTT 5 as many as one connection may have under way."""
    run(broker, "flood", version, transport, unique())


@pytest.mark.parametrize("scenario", ["properties", "alias", "large"])
def test_version_5(broker, unique, scenario):
    run(broker, scenario, "5", "tcp", unique())


def test_a_large_message_over_a_websocket(broker, unique):
    run(broker, "large", "5", "ws", unique())
