"""The management API of a real node: rights by role, dry runs, idempotency, tables, browsing, live stream."""
from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, cast
from unittest.mock import MagicMock
from urllib.parse import quote

import pytest

from mesh.commands.status.get import TEXT_FIELDS
from mesh.identity.users import hash_password
from mesh.management.admin import Management
from tests.mesh.management.test_admin import basic, durable_session
from tests.support.node import HOST, Answer, Node
from tests.support.node import http as request
from tests.support.wait import wait_until

PEOPLE = ("viewer", "reader", "operator", "auditor", "admin", "guest")
PASSWORDS = {name: f"{name} has a password" for name in PEOPLE}
LOGINS = {name: basic(name, password) for name, password in PASSWORDS.items()}
CONFIG = "\n".join(
    f'[[users]]\nname = "{name}"\npassword_hash = "{hash_password(password)}"\nroles = ["{name}"]'
    for name, password in PASSWORDS.items()
) + '''
[[policies]]
allow = ["view"]
to = ["role:viewer", "role:reader"]
[[policies]]
allow = ["subscribe"]
to = ["role:reader"]
topics = ["plant/#"]
[[policies]]
allow = ["operate"]
to = ["role:operator"]
[[policies]]
allow = ["audit"]
to = ["role:auditor"]
[[policies]]
name = "tills"
allow = ["publish"]
to = ["user:guest"]
topics = ["orders/%u/#"]
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("plain")).start()
    yield started
    started.kill9()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("guarded"), extra=CONFIG).start()
    yield started
    started.kill9()


def act(node: Node, path: str, body: object = None, **headers: str) -> Answer:
    raw = b"" if body is None else json.dumps(body).encode()
    return node.post(f"/api/v1/{path}", raw, {name.replace("_", "-"): text for name, text in headers.items()},
                     listener="console")


@pytest.mark.parametrize(("who", "reads", "acts", "audit"), [
    ("viewer", 200, 403, 403), ("reader", 200, 403, 403), ("operator", 200, 404, 403), ("auditor", 403, 403, 200),
    ("admin", 200, 404, 200), ("guest", 403, 403, 403),
])
def test_each_role_may_what_its_rules_say(guarded: Node, who: str, reads: int, acts: int, audit: int) -> None:
    login = LOGINS[who]
    for name in ("status", "overview", "consumers", "links", "nodes", "policies", "denials", "listeners"):
        assert guarded.get(f"/api/v1/{name}", login).status == reads, name
    assert guarded.post("/api/v1/consumers/none/pause", b"", login, listener="console").status == acts
    assert guarded.get("/api/v1/audit", login).status == audit


def test_a_refused_act_is_in_the_audit_trail(guarded: Node) -> None:
    guarded.post("/api/v1/consumers/none/pause", b"", LOGINS["viewer"], listener="console")
    rows = guarded.get("/api/v1/audit?filter=outcome=denied+user=viewer", LOGINS["admin"]).json["audit"]
    assert rows and rows[0]["act"] == "POST /api/v1/consumers/none/pause"


def test_who_may_not_subscribe_sees_that_an_event_is_there_and_no_byte_of_it(guarded: Node) -> None:
    admin = LOGINS["admin"]
    policy = guarded.get("/api/v1/can-i", admin)
    assert policy.status == 405
    assert guarded.post("/v1/events/orders/guest/1", b"a secret order", LOGINS["guest"]).status == 200
    for who, visible in (("viewer", False), ("reader", False)):
        answer = guarded.get("/api/v1/browse?filter=orders/%23", LOGINS[who])
        event, = answer.json["events"]
        assert event["topic"] == "orders/guest/1" and event["readable"] is visible
        assert b"a secret order" not in answer.body


def test_can_i_names_the_rule(guarded: Node) -> None:
    def asked(**body: object) -> dict[str, object]:
        answer = guarded.post("/api/v1/can-i", json.dumps(body).encode(), LOGINS["viewer"], listener="console")
        assert answer.status == 200, answer.text
        return dict(answer.json)

    yes = asked(user="guest", action="publish", topic="orders/guest/7")
    no = asked(user="guest", action="publish", topic="orders/ana/7")
    assert (yes["allowed"], yes["rule"]) == (True, "tills")
    assert (no["allowed"], no["rule"]) == (False, "no rule allows it")
    bad = guarded.post("/api/v1/can-i", b'{"action": "fly"}', LOGINS["viewer"], listener="console")
    assert bad.status == 400 and "publish" in bad.text


def test_a_dry_run_says_what_it_would_touch_and_does_nothing(node: Node) -> None:
    durable_session(node, "dry", "dry/#")
    for number in range(4):
        assert node.publish("dry/x", str(number).encode()).status == 200
    path = "consumers/mqtt%2Fdry"
    before = node.get("/api/v1/audit").json["total"]
    wait_until(lambda: act(node, f"{path}/pause?dry_run=1").json["lag_events"] == 4, "the lag is known")
    moved = act(node, f"{path}/seek", {"to": "latest", "dry_run": True}).json
    assert moved["dry_run"] is True and sum(one["moves"] for one in moved["positions"]) >= 4
    row, = node.get("/api/v1/consumers?filter=name=mqtt/dry").json["consumers"]
    assert (row["paused"], row["lag_events"]) == (False, 4)
    assert node.get("/api/v1/audit").json["total"] == before
    assert act(node, f"{path}/pause", {"dry_run": "perhaps"}).status == 400
    assert act(node, f"{path}/pause", [1]).status == 400


def test_the_same_key_acts_once(node: Node) -> None:
    durable_session(node, "once", "once/#")
    first = act(node, "consumers/mqtt%2Fonce/pause", {"reason": "service"}, Idempotency_Key="k1").json
    again = act(node, "consumers/mqtt%2Fonce/pause", {"reason": "service"}, Idempotency_Key="k1").json
    other = act(node, "consumers/mqtt%2Fonce/pause", {"reason": "service"}, Idempotency_Key="k2").json
    assert first == again and other["audit"] != first["audit"]
    assert act(node, "consumers/mqtt%2Fonce/pause", None, Idempotency_Key="k" * 201).status == 400


def test_a_table_is_filtered_sorted_paged_and_exported(node: Node) -> None:
    for number in range(7):
        durable_session(node, f"page-{number}", f"page/{number}")
    url = "/api/v1/consumers?filter=name~page-&sort=-name&limit=3&fields=name,lag_events"
    page = node.get(url).json
    assert [row["name"] for row in page["consumers"]] == ["mqtt/page-6", "mqtt/page-5", "mqtt/page-4"]
    assert page["matched"] == 7 and page["total"] >= 7
    rest = node.get(f"{url}&after={quote(page['next'])}").json
    assert [row["name"] for row in rest["consumers"]] == ["mqtt/page-3", "mqtt/page-2", "mqtt/page-1"]
    exported = node.get(url, {"Accept": "text/csv"})
    assert exported.headers["Content-Type"].startswith("text/csv")
    assert exported.text.splitlines() == ["name,lag_events", *(f"mqtt/page-{number},0" for number in (6, 5, 4))]
    assert exported.headers["X-Next"] == page["next"]
    assert len(node.get(url + "&format=ndjson").text.splitlines()) == 3
    for bad in ("filter=%22", "sort=" + "x," * 70, "after=.x", "format=xml", "filter=lag_events%3Ex"):
        assert node.get(f"/api/v1/consumers?{bad}").status == 400, bad


def test_browsing_goes_on_by_its_cursor_and_says_how_far_it_is(node: Node) -> None:
    for number in range(25):
        assert node.publish(f"browse/{number % 5}", f'{{"n": {number}}}'.encode()).status == 200
    found, cursor, pages = [], "", 0
    while True:
        page = node.get(f"/api/v1/browse?filter=browse/%2B&limit=10&cursor={cursor}").json
        found += [json.loads(event["payload"])["n"] for event in page["events"]]
        pages += 1
        if page["done"]:
            break
        cursor = page["cursor"]
        assert page["remaining"] > 0
    assert found == list(range(25)) and pages >= 3
    one = node.get("/api/v1/browse?filter=browse/%23&match=%7B%22n%22%3A+17%7D").json
    assert [event["topic"] for event in one["events"]] == ["browse/2"] and one["done"]
    assert node.get("/api/v1/browse?from=2999-01-01T00:00:00Z").json["events"] == []
    for bad in ("filter=a%23", "from=yesterday", "limit=0", "cursor=AAAA", "match=" + "x" * 201):
        assert node.get(f"/api/v1/browse?{bad}").status == 400, bad


def test_binary_and_big_payloads_are_shown_cut_and_as_text(node: Node) -> None:
    """hostile.md row 84."""
    assert node.publish("shown/script", b"<script>alert(1)</script>").status == 200
    assert node.publish("shown/big", bytes(range(256)) * 200).status == 200
    events = {event["topic"]: event for event in node.get("/api/v1/browse?filter=shown/%23").json["events"]}
    assert events["shown/script"]["payload"] == "<script>alert(1)</script>"
    big = events["shown/big"]
    assert big["cut"] and big["size_bytes"] == 51_200 and len(big["payload_base64"]) < 22_000


def test_histories_are_kept_and_what_has_none_is_404(node: Node) -> None:
    def values() -> list[float]:
        answer = node.get("/api/v1/history?series=events_in_s")
        return [value for value in answer.json["values"] if value is not None] if answer.status == 200 else []

    wait_until(lambda: len(values()) >= 2, "two samples")
    assert "memory_bytes" in node.get("/api/v1/history").json["series"]
    assert node.get("/api/v1/history?kind=link&id=none").status == 404
    assert node.get("/api/v1/history?series=none").status == 404
    assert node.get("/api/v1/history?series=events_in_s&from=then").status == 400


def test_the_overview_is_one_sentence_and_a_list(node: Node) -> None:
    found = node.get("/api/v1/overview").json
    assert found["healthy"] is True and found["verdict"].startswith("All is well: 1 node")
    assert found["attention"] == []


def test_the_stream_begins_with_the_whole_state_and_goes_on_with_figures(node: Node) -> None:
    client = http.client.HTTPConnection(HOST, node.ports["console"], timeout=30)
    client.request("GET", "/api/v1/stream?topics=overview,topology,consumers")
    answer = client.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    events = []
    while len(events) < 3:
        line = answer.readline().decode().strip()
        if line.startswith("event: "):
            events.append((line[7:], json.loads(answer.readline().decode()[6:])))
    client.close()
    assert events[0][0] == "state" and set(events[0][1]) == {"overview", "topology", "consumers"}
    assert [row["name"] for row in events[0][1]["topology"]["nodes"]] == [node.name]
    assert {name for name, _ in events[1:]} <= {"rates", "state", "skipped"}
    assert node.get("/api/v1/stream?topics=nothing").status == 400


def test_a_page_of_another_site_is_refused_by_what_its_browser_says(node: Node) -> None:
    """hostile.md row 83; Fetch Metadata: the browser says it, the page cannot."""
    url = node.url("console", "/api/v1/consumers/none/pause")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}):
        assert request("POST", url, b"", headers).status == 403, headers
    assert request("POST", url, b"", {"Sec-Fetch-Site": "same-origin"}).status == 404



def test_every_route_that_changes_something_refuses_what_another_site_sends(guarded: Node) -> None:
    """console.md §6; whatever the rights: a browser sends them along by itself."""
    document = guarded.get("/api/v1/openapi.json", LOGINS["admin"]).json
    routes = [(method.upper(), path.replace("{", "").replace("}", "")) for path, methods in document["paths"].items()
              for method in methods if method != "get"]
    routes += [("POST", "/login"), ("POST", "/logout"), ("POST", "/settings"), ("POST", "/api/v1/login"),
               ("POST", "/api/v1/logout")]
    assert len(routes) > 15
    for method, path in routes:
        address = path if path.startswith("/api") or path.count("/") == 1 else f"/api/v1{path}"
        for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
                        {"Origin": "https://evil.example"}, {"Origin": "null"}):
            answer = request(method, guarded.url("console", address), b"", {**LOGINS["admin"], **foreign})
            assert answer.status == 403 and "foreign-origin" in answer.text, (method, path, foreign, answer.text[:200])


@pytest.mark.parametrize("base_path", ["", "/mesh/graz"])
def test_no_route_is_without_a_right_of_its_own(base_path: str) -> None:
    """Everything that the console listener serves has its line in the table of rights."""
    node = cast(Any, MagicMock())
    node.config.oidc = None
    node.config.console.base_path = base_path
    node.router.streams.open_internal.return_value.end_offset = 0
    node.router.streams.open_internal.return_value.start_offset = 0
    management = Management(node)
    routes = [(route.method, route.resource.canonical) for route in management.make_app().router.routes()
              if route.resource is not None and route.method != "HEAD"]
    assert len(routes) > 50
    assert [route for route in routes if not management.rights.known(*route)] == []
    assert set(management.api.tables.resources) <= set(TEXT_FIELDS), "meshgate get has every list"


def test_a_queue_is_looked_into_and_purged(node: Node) -> None:
    body = json.dumps({"filters": ["heap/#"], "queue": {}}).encode()
    made = request("PUT", node.url("http", "/v1/consumers/heap"), body, {"Content-Type": "application/json"})
    assert made.status == 201, made.text
    for number in range(5):
        assert node.publish("heap/x", str(number).encode()).status == 200
    page = node.get("/api/v1/consumers/heap/events?limit=2").json
    assert [event["payload"] for event in page["events"]] == ["0", "1"] and page["next"]
    rest = node.get(f"/api/v1/consumers/heap/events?after={page['next']}").json
    assert [event["payload"] for event in rest["events"]] == ["2", "3", "4"] and rest["next"] is None
    assert node.get("/api/v1/consumers/heap/events?after=nowhere").status == 400
    assert act(node, "consumers/heap/purge", {"dry_run": True}).json["ready"] == 5
    assert act(node, "consumers/heap/purge", {"reason": "test"}).json["purged"] == 5
    row, = node.get("/api/v1/consumers?filter=name=heap").json["consumers"]
    assert (row["kind"], row["ready"]) == ("queue", 0)
    assert node.get("/api/v1/audit?filter=act=consumer.purge").json["audit"][0]["target"] == "heap"
