"""Mosquitto's own bridge to a node with default settings: its state is a retained event and its will, as between two
Mosquittos.
"""
from __future__ import annotations

import pytest

from tests.conftest import require_peer
from tests.support.mosquitto import BINARY, Mosquitto
from tests.support.rawmqtt import open_mqtt


@pytest.mark.parametrize("version", ["", "mqttv50"], ids=["default", "mqttv50"])
def test_a_bridge_with_default_settings_works_and_says_whether_it_is_up(
        broker, certificates, unique, tmp_path, version) -> None:
    require_peer(BINARY, "mosquitto")
    name, out, home = unique("bridge"), unique("out"), unique("in")
    state = f"$SYS/broker/connection/{name}/state"
    lines = [f"connection {name}", f"address {broker.mqtt[0]}:{broker.mqtt[1]}", f"remote_clientid {name}",
             f"topic {out}/# out 1", f"topic {home}/# in 1", "restart_timeout 1"]
    if version:
        lines.append(f"bridge_protocol_version {version}")
    mosquitto = Mosquitto(tmp_path / "mosquitto", certificates, tuple(lines))
    here = broker.connect(unique("here"))
    try:
        here.subscribe((state, 1), (f"{out}/#", 1))
        mosquitto.start()
        up = here.message()
        assert (up.topic, up.payload) == (state, b"1"), mosquitto.process.log_tail()
        there = open_mqtt(("127.0.0.1", mosquitto.ports["mqtt"]), unique("there"))
        there.subscribe((f"{home}/#", 1))
        there.publish(f"{out}/a", b"to the node", qos=1)
        assert here.message().payload == b"to the node"
        here.publish(f"{home}/a", b"to Mosquitto", qos=1)
        assert there.message().payload == b"to Mosquitto"
        late = broker.connect(unique("late"))
        late.subscribe((state, 1))
        kept = late.message()
        assert (kept.payload, kept.retain) == (b"1", True)
        there.drop()
        mosquitto.stop()                                # kill -9: the will says it
        down = here.message()
        assert (down.topic, down.payload) == (state, b"0")
        late.drop()
    finally:
        mosquitto.stop()
        here.drop()
