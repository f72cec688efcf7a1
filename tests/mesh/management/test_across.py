"""The mesh from one node: three real nodes in a row, asked at one end. And what a hostile neighbour may not gain."""
from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from mesh.management.across import asking
from mesh.management.across.asking import Asking, NoAnswer, fitting
from mesh.management.across.collect import Said
from mesh.management.across.overview import items_of as overview_items
from mesh.management.acts.call import Call
from mesh.questions import ANSWER_BYTES_MAX, Answer, Ask, BadAsk, decode, encode
from protocols.rest.problems import Problem
from routing.rights.policy import Policy
from routing.rights.rules import Action, Identity, Rule
from tests.mesh.management.test_api import CONFIG, LOGINS
from tests.support.node import HOST, Node, http
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link")
TOKEN = "a token of the plants"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """cloud ◄── hub ◄── plant; operators may act from the hub on the cloud, and from the plant on nothing."""
    folder = tmp_path_factory.mktemp("chain")

    def peers(console: str) -> str:
        return f'[[link_peers]]\nnode = "*"\ntoken = "{TOKEN}"\nconsole = {console}\n'

    cloud = Node(folder / "cloud", name="cloud", listeners=LISTENERS, extra=CONFIG + peers('["view", "operate"]'))
    hub = Node(folder / "hub", name="hub", listeners=LISTENERS, extra=CONFIG + peers('["view"]') + _link(cloud))
    plant = Node(folder / "plant", name="plant", listeners=LISTENERS, extra=CONFIG + _link(hub))
    nodes = [plant, hub, cloud]
    for node in nodes:
        node.start()
    admin = LOGINS["admin"]
    wait_until(lambda: len(plant.get("/api/v1/nodes?filter=hops>=0", admin).json["nodes"]) == 3, "the nodes have met")
    yield nodes
    for node in nodes:
        node.kill9()


def _link(to: Node) -> str:
    return f'[[links]]\nto = "ws://{HOST}:{to.ports["link"]}"\ntoken = "{TOKEN}"\n'


def table(node: Node, name: str, query: str = "", who: str = "viewer") -> Any:
    answer = node.get(f"/api/v1/{name}?scope=mesh{query}", LOGINS[who])
    assert answer.status == 200, answer.text
    return answer.json


def consumer(node: Node, name: str) -> None:
    body = json.dumps({"filters": [f"plant/{name}"]}).encode()
    url = f"/v1/consumers/{name}"
    answer = http("PUT", node.url("http", url), body, {"Content-Type": "application/json", **LOGINS["reader"]})
    assert answer.status in (200, 201), answer.text


def test_any_node_shows_the_consumers_of_all_with_how_old_each_answer_is(chain: list[Node]) -> None:
    plant = chain[0]
    for node in chain:
        for number in range(3):
            consumer(node, f"{node.name}-{number}")
    found = table(plant, "consumers")
    names = [(row["name"], row["at"]) for row in found["consumers"]]
    assert len(names) == 9 and names == sorted(names)
    assert [row["at"] for row in table(plant, "streams")["streams"]] == ["cloud", "hub", "plant"], "three logs"
    assert {one["node"]: one["state"] for one in found["nodes"]} == dict.fromkeys(("plant", "hub", "cloud"), "answered")
    assert all(one["age_s"] < 5 for one in found["nodes"]) and found["total"] == 9
    for sort in ("", "&sort=-name", "&sort=lag_events,-name"):
        seen: list[tuple[str, str]] = []
        after = ""
        while True:
            page = table(plant, "consumers", f"&limit=5{sort}&after={quote(after)}")
            seen += [(row["name"], row["at"]) for row in page["consumers"]]
            if not page["next"]:
                break
            after = page["next"]
        assert sorted(seen) == sorted(names) and len(set(seen)) == 9, sort
    some = table(plant, "consumers", "&filter=" + quote('at!=hub at~"l" name~"-1"'))
    assert [(row["name"], row["at"]) for row in some["consumers"]] == [("cloud-1", "cloud"), ("plant-1", "plant")]
    assert {row["node"] for row in some["nodes"]} == {"cloud", "plant"}
    one = plant.get("/api/v1/consumers?node=cloud&filter=name~cloud", LOGINS["viewer"]).json
    assert [row["at"] for row in one["consumers"]] == ["cloud"] * 3
    csv = plant.get("/api/v1/consumers?scope=mesh&fields=name&format=csv", LOGINS["viewer"]).text.splitlines()
    assert csv[0] == "name,at" and len(csv) == 10
    assert plant.get("/api/v1/consumers?node=nowhere", LOGINS["viewer"]).status == 404
    assert plant.get("/api/v1/consumers?scope=mesh&after=x", LOGINS["viewer"]).status == 400


def test_an_act_on_another_node_is_decided_and_written_down_there(chain: list[Node]) -> None:
    plant, hub, cloud = chain
    consumer(cloud, "to-pause")

    def pause(node: Node, who: str, query: str = "") -> Any:
        return node.post(f"/api/v1/consumers/to-pause/pause?node=cloud{query}", b'{"reason": "service"}', LOGINS[who],
                         listener="console")

    assert pause(hub, "viewer").status == 403, "our own rules count, too"
    assert pause(hub, "operator", "&dry_run=1").json["dry_run"] is True
    assert pause(hub, "operator").json["paused"] is True
    row, = cloud.get("/api/v1/consumers?id=to-pause", LOGINS["admin"]).json["consumers"]
    assert row["paused"] is True
    record = cloud.get("/api/v1/audit", LOGINS["admin"]).json["audit"][0]
    assert (record["act"], record["user"], record["via"], record["reason"]) == (
        "consumer.pause", "operator@hub", "link", "service")
    record = hub.get("/api/v1/audit", LOGINS["admin"]).json["audit"][0]
    assert (record["outcome"], record["target"], record["user"]) == ("asked", "cloud: to-pause", "operator")
    consumer(hub, "hub-only")
    refused = plant.post("/api/v1/consumers/hub-only/pause?node=hub", b"{}", LOGINS["operator"], listener="console")
    assert refused.status == 403 and "takes no operate over this link" in refused.text


def test_payloads_and_the_audit_trail_do_not_cross_a_link(chain: list[Node]) -> None:
    plant = chain[0]
    admin = LOGINS["admin"]
    for path in ("browse?node=hub", "whoami?node=hub"):
        assert plant.get(f"/api/v1/{path}", admin).status == 404, path
    assert "at" not in plant.get("/api/v1/audit?node=hub", admin).json["audit"][0], "asked here, answered here"


def test_a_node_that_does_not_answer_holds_up_nothing(chain: list[Node]) -> None:
    plant, _, cloud = chain
    before = table(plant, "streams")
    assert len(before["streams"]) == 3
    cloud.process.signal(signal.SIGSTOP)
    try:
        time.sleep(1.1)                 # what it said is not fresh any more
        begun_s = time.monotonic()
        found = table(plant, "streams")
        took_s = time.monotonic() - begun_s
        states = {one["node"]: one for one in found["nodes"]}
        assert (states["hub"]["state"], states["cloud"]["state"]) == ("answered", "no answer")
        assert states["cloud"]["age_s"] >= 1 and len(found["streams"]) == 3, "its rows of before, with their age"
        assert took_s < 4
        never = table(plant, "clients")
        assert {one["node"]: (one["state"], one["age_s"]) for one in never["nodes"]}["cloud"] == ("no answer", None)
    finally:
        cloud.process.signal(signal.SIGCONT)

    def answers() -> bool:
        return {one["node"]: one["state"] for one in table(plant, "streams")["nodes"]}["cloud"] == "answered"
    wait_until(answers, "it answers again")


def test_pages_show_all_nodes_and_lead_to_the_right_one(chain: list[Node]) -> None:
    plant, _, cloud = chain
    consumer(cloud, "far-away")
    html = {"Accept": "text/html", **LOGINS["operator"]}
    text = plant.get("/consumers", html).text
    assert 'href="/consumers/far-away?node=cloud"' in text and "POST consumers/far-away/pause?node=cloud" in text
    detail = plant.get("/consumers/far-away?node=cloud", html)
    assert detail.status == 200 and "/nodes/cloud" in detail.text
    assert plant.get("/consumers/far-away", html).status == 404


def test_the_overview_says_what_needs_attention_on_any_node(chain: list[Node]) -> None:
    plant, hub, _ = chain
    link = next(row["id"] for row in hub.get("/api/v1/links", LOGINS["admin"]).json["links"] if row["node"] == "cloud")

    def act(what: str) -> None:
        assert hub.post(f"/api/v1/links/{quote(link, safe='')}/{what}", b"{}", LOGINS["admin"],
                        listener="console").status == 200

    def items() -> list[Any]:
        found = plant.get("/api/v1/overview?scope=mesh", LOGINS["viewer"]).json["attention"]
        return [item for item in found if item.get("at") == "hub" and item["kind"] == "link"]
    assert items() == []
    act("pause")
    try:
        wait_until(items, "the paused link of the hub is seen from the plant")
        item, = items()
        assert item["what"] == "the link to cloud is paused"
        assert item["url"] == f"/links/{quote(link, safe='')}?node=hub"
        page = plant.get("/", {"Accept": "text/html", **LOGINS["viewer"]}).text
        assert "at <strong>hub</strong>" in page
        assert plant.get(item["url"], {"Accept": "text/html", **LOGINS["viewer"]}).status == 200
    finally:
        act("resume")
    wait_until(lambda: not items() and plant.get("/api/v1/nodes?filter=hops>=0", LOGINS["admin"]).json["matched"] == 3,
               "and all is well")


def test_what_other_nodes_say_of_themselves_is_bounded_and_cannot_lead_elsewhere() -> None:
    good = {"severity": "broken", "kind": "link", "subject": "x", "what": "w" * 9_000, "affects": "", "do": "",
            "url": "//evil.example/x", "since_ms": "then"}
    bad: list[Any] = [1, {}, {**good, "severity": "fatal"}, {**good, "what": 5}, {**good, "kind": "node"}]
    said = Said("mallory", "answered", {"attention": [*bad, *[good] * 500]}, 0.0)
    items = overview_items(said)
    assert 0 < len(items) <= 50 and {item["url"] for item in items} == {"/nodes?node=mallory"}
    assert all(len(item["what"]) == 500 and item["since_ms"] is None for item in items)
    assert overview_items(Said("mallory", "answered", {"attention": {"a": 1}}, 0.0)) == []


# -- a hostile neighbour --------------------------------------------------------------------------------------------


class Desk:
    """An Asking with rules of its own; what it sends is kept."""

    def __init__(self, console: tuple[str, ...] = ("view",)) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.served: list[tuple[str, str, Call]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        neighbour = SimpleNamespace(node="mallory", console=console)
        overlay = SimpleNamespace(came_by=neighbour, send=self._send)
        policy = Policy([Rule(allow=(Action.MANAGE, Action.SUBSCRIBE), to=("role:admin",), name="admins"),
                         Rule(allow=(Action.MANAGE,), to=("user:ana",), name="ana")])
        router = SimpleNamespace(clock_s=lambda: 0.0, policy=policy)
        node = SimpleNamespace(name="here", mesh=SimpleNamespace(overlay=overlay, on_asking=None), router=router,
                               authenticator=SimpleNamespace(open=False), clock_ms=lambda: 0)
        self.policy = policy
        actions = {"view": Action.VIEW, "operate": Action.OPERATE, "audit": Action.AUDIT}
        self.asking = Asking(node, lambda method, path: actions.get(path), self._serve)     # type: ignore[arg-type]

    def _send(self, to: str, body: bytes, priority: int) -> bool:
        self.sent.append((to, decode(body)))
        return True

    async def _serve(self, method: str, path: str, call: Call) -> dict[str, Any]:
        self.served.append((method, path, call))
        await self.hold.wait()
        return {"rows": [{"name": "x"}]}

    async def asked(self, **ask: Any) -> Answer:
        self.asking.on_message("mallory", encode(Ask(**{"id": 1, "method": "GET", "path": "view", **ask})))
        for _ in range(10):
            await asyncio.sleep(0)
        return self.sent[-1][1]


async def test_hearsay_gains_no_rights() -> None:
    desk = Desk()
    assert (await desk.asked(user="root", roles=("admin",))).status == 200, "what the link grants"
    for path in ("operate", "audit"):
        assert (await desk.asked(user="root", roles=("admin",), path=path)).status == 403, path
    assert (await desk.asked(user="ana")).status == 403, "our ana is not theirs"
    assert (await desk.asked(user="nobody")).status == 403
    assert (await desk.asked(user="root", roles=("admin",), path="nothing")).status == 404
    _, _, call = desk.served[-1]
    assert call.identity.user == "root@mallory"
    assert not desk.policy.decide(call.identity, Action.SUBSCRIBE, "a").allowed, "no payload, whatever the roles"
    assert (await Desk(()).asked(user="root", roles=("admin",))).status == 403
    assert (await Desk(("view", "operate")).asked(user="root", roles=("admin",), path="operate")).status == 200
    assert (await Desk(("view", "operate")).asked(user="root", roles=("admin",), path="audit")).status == 403


async def test_a_flood_of_questions_is_bounded() -> None:
    desk = Desk()
    desk.hold.clear()
    for number in range(50):
        desk.asking.on_message("mallory", encode(Ask(number, "GET", "view", user="root", roles=("admin",))))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(desk.served) == asking.SERVED_MAX
    assert [answer.status for _, answer in desk.sent] == [503] * (50 - asking.SERVED_MAX)
    desk.hold.set()
    await asyncio.sleep(0.01)
    for number in range(500):
        desk.asking.on_message("mallory", encode(Ask(number, "GET", "view", user="root", roles=("admin",))))
        for _ in range(5):
            await asyncio.sleep(0)
    assert asking.SERVED_MAX < len(desk.served) <= asking.ASKS_BURST + 1


async def test_an_answer_counts_only_from_who_was_asked() -> None:
    desk = Desk()
    call = Call(Identity("ana"))
    task = asyncio.ensure_future(desk.asking.ask("lyon", "GET", "view", call))
    await asyncio.sleep(0)
    _, question = desk.sent[-1]
    desk.asking.on_message("mallory", encode(Answer(question.id, 200, b'{"rows": ["forged"]}')))
    desk.asking.on_message("lyon", encode(Answer(question.id ^ 1, 200, b'{"rows": ["guessed"]}')))
    for junk in (b"", b"\x92\x21", b"\x93\x22\x01\xff", b"\x93\x21" + b"\x91" * 5_000, b"\x93\x22" + bytes(300_000)):
        desk.asking.on_message("lyon", junk)
    desk.asking.on_message("lyon", encode(Answer(question.id, 200, b'{"rows": []}')))
    assert await task == {"rows": []}
    task = asyncio.ensure_future(desk.asking.ask("lyon", "GET", "view", call))
    await asyncio.sleep(0)
    desk.asking.on_message("lyon", encode(Answer(desk.sent[-1][1].id, 200, b"[" * 10_000)))
    with pytest.raises(NoAnswer):
        await task
    task = asyncio.ensure_future(desk.asking.ask("lyon", "GET", "view", call))
    await asyncio.sleep(0)
    desk.asking.on_message("lyon", encode(Answer(desk.sent[-1][1].id, 403, b'{"detail": "no"}')))
    with pytest.raises(Problem, match="lyon: no"):
        await task


def test_an_answer_is_cut_to_its_bound() -> None:
    rows = [{"name": f"{number}" * 50} for number in range(10_000)]
    body = fitting({"rows": rows, "total": 10_000})
    values = msgspec.json.decode(body)
    assert len(body) <= ANSWER_BYTES_MAX and values["cut"] is True and 100 < len(values["rows"]) < 10_000
    assert values["rows"] == rows[:len(values["rows"])]
    with pytest.raises(BadAsk):
        decode(encode(Answer(1, 200, bytes(2 * ANSWER_BYTES_MAX))))
    assert Counter(msgspec.json.decode(fitting({"text": "x" * ANSWER_BYTES_MAX}))).keys() == {"detail", "cut", "rows"}
