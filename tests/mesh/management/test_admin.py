"""The console listener of a real node: health, metrics, snapshots, actions, and who may use them."""
from __future__ import annotations

import base64
import json
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mesh.identity.users import hash_password
from mesh.management.admin import Probes
from tests.support.node import Node, http
from tests.support.rawmqtt import SESSION_EXPIRY, open_mqtt
from tests.support.wait import wait_until

USERS = f'''
[[users]]
name = "root"
password_hash = "{hash_password("the admin password")}"
roles = ["admin"]
[[users]]
name = "ana"
password_hash = "{hash_password("ana's password")}"
[[policies]]
allow = ["publish", "subscribe"]
to = ["user:ana"]
topics = ["plant/#"]
'''


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ROOT_LOGIN, ANA_LOGIN = basic("root", "the admin password"), basic("ana", "ana's password")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> object:
    node = Node(tmp_path_factory.mktemp("plain")).start()
    yield node
    node.kill9()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> object:
    node = Node(tmp_path_factory.mktemp("guarded"), extra=USERS).start()
    yield node
    node.kill9()


def durable_session(node: Node, name: str, pattern: str) -> None:
    """A durable MQTT session that is away."""
    with open_mqtt(node.mqtt, name, clean=False, values=[(SESSION_EXPIRY, 600)]) as client:
        client.subscribe((pattern, 1))


def test_a_node_that_is_well_says_so_to_everybody(plain: Node, guarded: Node) -> None:
    for node in (plain, guarded):
        assert (node.get("/healthz").status, node.get("/healthz").json["status"]) == (200, "ok")
        assert (node.get("/readyz").status, node.get("/readyz").json["state"]) == (200, "ready")


def test_every_snapshot_answers_json(plain: Node) -> None:
    plain.publish("plant/a", b"1")
    for name in ("status", "streams", "consumers", "clients", "denials", "ledger", "policies"):
        answer = plain.get(f"/api/v1/{name}")
        assert answer.status == 200 and isinstance(answer.json, dict), name
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
    stream, = plain.get("/api/v1/streams").json["streams"]
    assert (stream["name"], stream["capture"], stream["failed"]) == ("events", ["#"], None)
    assert stream["events"] >= 1


def test_metrics_count_what_came_in(plain: Node) -> None:
    before = plain.metrics()["meshgate_events_published_total"]
    for number in range(3):
        plain.publish("plant/b", str(number).encode())
    after = plain.metrics()
    assert after["meshgate_events_published_total"] == before + 3
    assert after['meshgate_partition_failed{partition="0",stream="events"}'] == 0
    assert after["meshgate_healthy"] == after["meshgate_ready"] == 1


def test_the_type_of_a_metric_is_told_and_totals_end_in_total(plain: Node) -> None:
    with open_mqtt(plain.mqtt, "metric") as client:
        client.publish_acked("plant/c", b"1")
        families = {family.name: family for family in text_string_to_metric_families(plain.get("/metrics").text)}
    for name, family in families.items():
        assert family.type in ("counter", "gauge", "histogram"), name
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples), name
    assert families["meshgate_mqtt_sessions"].type == families["meshgate_http_connections"].type == "gauge"
    assert {sample.labels["kind"] for sample in families["meshgate_mqtt_packets_in"].samples} >= {"connect", "publish"}


def test_a_consumer_shows_its_lag_and_can_be_sought_paused_and_deleted(plain: Node) -> None:
    durable_session(plain, "reader", "lag/#")
    for number in range(5):
        assert plain.publish("lag/x", str(number).encode()).status == 200

    def shown() -> dict[str, object]:
        return {row["name"]: row for row in plain.get("/api/v1/consumers").json["consumers"]}["mqtt/reader"]

    assert (shown()["lag_events"], shown()["paused"]) == (5, False)
    assert float(str(shown()["lag_seconds"])) > 0
    assert plain.metrics()['meshgate_consumer_lag_events{consumer="mqtt/reader"}'] == 5
    path = "/api/v1/consumers/mqtt%2Freader"
    assert plain.post(f"{path}/seek", b'{"to": "latest"}', listener="console").status == 200
    assert shown()["lag_events"] == 0
    assert plain.post(f"{path}/seek", b'{"to": "earliest"}', listener="console").status == 200
    assert shown()["lag_events"] == 5
    assert plain.post(f"{path}/pause", b"", listener="console").json["paused"] is True
    assert shown()["paused"] is True
    assert plain.post(f"{path}/resume", b"", listener="console").json["paused"] is False
    assert http("DELETE", plain.url("console", path)).status == 200
    assert "mqtt/reader" not in str(plain.get("/api/v1/consumers").json)
    assert "reader" not in [row["client_id"] for row in plain.get("/api/v1/clients").json["clients"]]
    with open_mqtt(plain.mqtt, "reader", clean=False, values=[(SESSION_EXPIRY, 60)]) as client:
        assert client.connack is not None and not client.connack.session_present


def test_the_consumer_of_a_connected_client_is_deleted_and_the_client_comes_back_to_a_fresh_one(plain: Node) -> None:
    with open_mqtt(plain.mqtt, "here", clean=False, values=[(SESSION_EXPIRY, 60)]) as client:
        client.subscribe(("here/#", 1))
        assert http("DELETE", plain.url("console", "/api/v1/consumers/mqtt%2Fhere")).status == 200
        client.expect_close()
    with open_mqtt(plain.mqtt, "here", clean=False, values=[(SESSION_EXPIRY, 60)]) as client:
        assert client.connack is not None and client.connack.session_present
        assert plain.publish("here/x", b"1").status == 200
        assert client.message().payload == b"1"


@pytest.mark.parametrize("body", [
    b"", b"{}", b'{"to": -1}', b'{"to": 99999999999999999999}', b'{"to": "yesterday"}', b'{"to": "2026-01-01"}',
    b'{"to": "latest", "x": 1}', b"[" * 10_000,
])
def test_a_bad_seek_is_400_and_changes_nothing(plain: Node, body: bytes) -> None:
    durable_session(plain, "bad-seek", "nothing/#")
    answer = plain.post("/api/v1/consumers/mqtt%2Fbad-seek/seek", body, listener="console")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=99999999999999999999", "limit=x", "limit=%D9%A3"])
def test_a_bad_page_is_400(plain: Node, query: str) -> None:
    """hostile.md row 81."""
    assert plain.get(f"/api/v1/consumers?{query}").status == 400


def test_a_search_is_literal_and_quick(plain: Node) -> None:
    """hostile.md row 82: what looks like a catastrophic regular expression is a piece of a name."""
    durable_session(plain, "find-me", "nothing/#")
    start = time.perf_counter()
    assert plain.get("/api/v1/consumers?name=(a%2B)%2B%24").json["consumers"] == []
    assert time.perf_counter() - start < 10                     # some ms on an idle machine
    assert [row["name"] for row in plain.get("/api/v1/consumers?name=ind-m").json["consumers"]] == ["mqtt/find-me"]
    assert [row["client_id"] for row in plain.get("/api/v1/clients?name=ind-m").json["clients"]] == ["find-me"]


@pytest.mark.parametrize("path", ["/..%2f..%2fetc/passwd", "/api/v1/nothing", "/api/v1/consumers/none/pause", "/%00"])
def test_what_is_not_there_is_404(plain: Node, path: str) -> None:
    method = "POST" if path.endswith("pause") else "GET"
    assert http(method, plain.url("console", path)).status == 404


def test_a_client_can_be_kicked(plain: Node) -> None:
    with open_mqtt(plain.mqtt, "kick-me"):
        rows = {row["client_id"]: row for row in plain.get("/api/v1/clients").json["clients"]}
        assert rows["kick-me"]["connected"] is True
        assert plain.post("/api/v1/clients/kick-me/kick", b"", listener="console").status == 200
        wait_until(lambda: "kick-me" not in str(plain.get("/api/v1/clients").json), "the client is gone")
    assert plain.post("/api/v1/clients/kick-me/kick", b"", listener="console").status == 404


def test_a_page_of_another_site_cannot_act_or_read(plain: Node) -> None:
    """hostile.md row 83: foreign Origin; and DNS rebinding, where the browser sends the foreign name as Host."""
    url = plain.url("console", "/api/v1/consumers/x/pause")
    assert http("POST", url, b"", {"Origin": "https://evil.example"}).json["type"] == "/problems/foreign-origin"
    assert http("POST", url, b"", {"Origin": "null"}).status == 403
    assert http("GET", plain.url("console", "/api/v1/status"), None, {"Host": "evil.example"}).status == 403
    assert http("GET", plain.url("console", "/api/v1/status"), None, {"Host": "localhost"}).status == 200


def test_with_users_everything_but_the_probes_needs_manage(guarded: Node) -> None:
    """architecture.md §7: the action manage."""
    for path in ("/metrics", "/api/v1/status", "/api/v1/consumers", "/api/v1/policies"):
        assert guarded.get(path).status == 401
        assert guarded.get(path, basic("root", "wrong")).status == 401
        assert guarded.get(path, ANA_LOGIN).status == 403
        assert guarded.get(path, ROOT_LOGIN).status == 200
    assert guarded.post("/api/v1/consumers/x/pause", b"", ANA_LOGIN, listener="console").status == 403


def test_a_denial_is_counted_and_names_its_rule(guarded: Node) -> None:
    assert guarded.publish("hr/salaries", b"1", ANA_LOGIN).status == 403
    denials = guarded.get("/api/v1/denials", ROOT_LOGIN).json
    newest = next(row for row in denials["denials"] if row["action"] == "publish")
    assert (newest["user"], newest["topic"], newest["rule"]) == ("ana", "hr/salaries", "no rule allows it")
    assert {"protocol": "http", "action": "publish", "count": 1} in denials["counts"]


def test_no_answer_and_no_log_line_has_a_secret(guarded: Node) -> None:
    guarded.get("/api/v1/status", basic("root", "a mistyped secret"))
    texts = [guarded.get(f"/api/v1/{name}", ROOT_LOGIN).text for name in ("status", "denials", "policies", "clients")]
    texts.append(guarded.process.log_text())
    for text in texts:
        assert "argon2" not in text and "a mistyped secret" not in text


def test_a_script_in_a_client_id_stays_text(plain: Node) -> None:
    """hostile.md row 84."""
    with open_mqtt(plain.mqtt, "<script>alert(1)</script>"):
        answer = plain.get("/api/v1/clients")
        assert answer.headers["Content-Type"].startswith("application/json")
        assert "<script>alert(1)</script>" in [row["client_id"] for row in answer.json["clients"]]


async def test_health_turns_red_when_a_partition_has_failed() -> None:
    """tests/faults/test_disk.py does it with a failing disk; this is what the probe says then."""
    probes = Probes(SimpleNamespace(problems=lambda: ["orders/0: the log could not be written"]))  # type: ignore[arg-type]
    answer = await probes.healthz(None)  # type: ignore[arg-type]
    assert answer.status == 503
    assert json.loads(answer.text or "")["problems"] == ["orders/0: the log could not be written"]


def test_the_data_directory_tells_where_the_node_listens(plain: Node) -> None:
    note = json.loads((plain.data / "listening.json").read_text())
    assert note["listeners"]["mqtt"] == [f"127.0.0.1:{plain.ports['mqtt']}"]
