"""The mesh of two real nodes from the outside: API, command line, metrics, status."""
from __future__ import annotations

import json

import pytest

from tests.support.node import Node, meshgate, stop_all
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """graz dials vienna."""
    folder = tmp_path_factory.mktemp("pair")
    vienna = Node(folder / "vienna", name="vienna", listeners=LISTENERS, extra='[[replicate]]\nfilter = "plant/#"\n')
    graz = Node(folder / "graz", name="graz", listeners=LISTENERS,
                extra=f'[[links]]\nto = "ws://127.0.0.1:{vienna.ports["link"]}"\n')
    try:
        vienna.start(), graz.start()
        wait_until(lambda: len(api(graz, "routes")["routes"]) == 1 and len(api(vienna, "routes")["routes"]) == 1,
                   "the two know each other")
        yield graz, vienna
    finally:
        stop_all([graz, vienna])


def api(node: Node, path: str):
    answer = node.get(f"/api/v1/{path}")
    assert answer.status == 200, answer.text
    return answer.json


def skew_ms(node: Node) -> float:
    """What it makes of the other one's clock; far out while there is nothing. One slow round trip makes it coarse."""
    found = api(node, "nodes")["nodes"][1]["skew_ms"]
    return 1e9 if found is None else found


def command(node: Node, *arguments: str) -> str:
    done = meshgate(*arguments, "--url", node.url("console"))
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_nodes_and_routes(pair):
    graz, _ = pair
    found = api(graz, "nodes")
    assert [node["name"] for node in found["nodes"]] == ["graz", "vienna"]
    assert found["nodes"][1] | {"hops": 1, "next_hop": "vienna", "protocol": 1} == found["nodes"][1]
    assert found["nodes"][1]["streams"] == [{"name": "events", "partitions": 1, "captures": ["#"]}]
    assert api(graz, "routes")["routes"] == [{"to": "vienna", "next_hop": "vienna", "hops": 1, "cost": 1}]
    wait_until(lambda: -1_000 < skew_ms(graz) < 1_000, "the skew is measured")


def test_interest_and_who_wants_a_topic(pair):
    graz, _ = pair
    wait_until(lambda: {"node": "vienna", "filters": ["plant/#"]} in api(graz, "interest")["interest"], "interest")
    assert api(graz, "interest?topic=plant/1") == {"topic": "plant/1", "here": False, "nodes": ["vienna"]}
    assert api(graz, "interest?topic=$reply/vienna/x")["nodes"] == ["vienna"]
    assert graz.get("/api/v1/interest?topic=a/%2B").status == 400


def test_lag_of_replication_is_told_by_both_ends(pair):
    graz, vienna = pair
    assert graz.publish("plant/1", b"x").status in (200, 201, 202)
    wait_until(lambda: [row["floor"] for row in api(vienna, "mesh/lag")["origins"]] == [1], "the event is there")
    wait_until(lambda: [(row["node"], row["confirmed"], row["lag_events"])
                        for row in api(graz, "mesh/lag")["destinations"]] == [("vienna", 1, 0)], "it is confirmed")
    metrics = graz.metrics()
    place = '{flow="0",node="vienna",partition="0",stream="events"}'
    assert metrics[f"meshgate_replication_destination_lag_events{place}"] == 0
    assert metrics[f"meshgate_replication_sent_events_total{place}"] == 1
    assert vienna.metrics()[f"meshgate_replication_received_events_total{place.replace('vienna', 'graz')}"] == 1


def test_gossip_and_metrics(pair):
    graz, _ = pair
    assert api(graz, "mesh/gossip")["gossip"][0]["node"] == "vienna"
    metrics = graz.metrics()
    assert metrics["meshgate_mesh_nodes"] == 2
    assert metrics['meshgate_mesh_hops{node="vienna"}'] == 1
    assert any(name.startswith("meshgate_mesh_gossip_bytes_total") and value > 0 for name, value in metrics.items())
    assert metrics["meshgate_mesh_problems"] == 0


def test_status_names_the_mesh(pair):
    graz, _ = pair
    status = api(graz, "status")
    assert (status["mesh_nodes"], status["links_up"], status["links"], status["mesh_problems"]) == (2, 1, 1, [])
    assert "mesh nodes       2" in command(graz, "status")


def test_topology_on_the_command_line(pair):
    graz, _ = pair
    text = command(graz, "topology")
    assert "vienna" in text and "graz ─ vienna" in text
    assert command(graz, "topology", "routes").splitlines()[1].split() == ["vienna", "vienna", "1", "1"]
    assert "plant/#" in command(graz, "topology", "interest")
    assert command(graz, "topology", "interest", "plant/1") == "plant/1: vienna\n"
    assert command(graz, "topology", "interest", "x/1") == "x/1: nobody wants it\n"
    assert "Others pull from this node" in command(graz, "topology", "lag")
    assert json.loads(command(graz, "topology", "--json"))["node"] == "graz"
    refused = meshgate("topology", "routes", "x", "--url", graz.url("console"))
    assert refused.returncode == 1 and b"a topic goes with interest" in refused.stderr
