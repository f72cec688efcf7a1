"""The usage record, simulation and learning: what is foretold is what then happens."""
from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.administration.learn import learn, narrowed
from mesh.administration.usage_log import UsageLog
from routing.rights.policy import Action, Identity, Policy, Rule
from routing.rights.usage import USES_MAX, USES_OF_USER_MAX, Tally, Usage, Use
from routing.topic import filter_matches
from tests.support.admin import ROOT, Admin, basic
from tests.support.node import Node, meshgate
from tests.support.rawmqtt import PUBACK, SUBACK, RawMqtt, open_mqtt, publish_packet
from tests.support.routing import Desk

USERS = ("ana", "bob", "carl")
PASSWORD = "the same for all of them"
TOPICS = ("plant/oven", "plant/lamp", "till/1", "till/2", "secret/x")
DENIED_MQTT = 0x87


# -- the record -------------------------------------------------------------------------------------------------

def test_every_event_of_every_publisher_is_counted_once_by_the_rule_that_decided(tmp_path: Path) -> None:
    rules = [Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("a/#",), name="mine")]
    desk = Desk(tmp_path, rules=rules)
    publisher = desk.router.publisher(Identity("ana", ("r",), protocol="mqtt", client_id="c"))
    for number in range(30):
        desk.publish(*["a/1"] * 3, "a/2", "b", publisher=publisher)
        if number % 7 == 0:
            desk.tick(6.0)                              # the record asks in between, and may forget the publisher
            desk.tick(6.0)
    desk.router.usage.drain()
    found = {(use.topic, use.allowed, use.rule): tally.count for use, tally in desk.router.usage.take().items()
             if use.user == "ana"}
    assert found == {("a/1", True, "mine"): 90, ("a/2", True, "mine"): 30, ("b", False, "no rule allows it"): 30}
    assert desk.router.usage.uses == {}


def test_who_is_asked_before_the_event_has_come_whole_is_counted_once(tmp_path: Path) -> None:
    """A body over HTTP that comes later than its head: a no ends it, a yes is followed by publish()."""
    desk = Desk(tmp_path, rules=[Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("a/#",), name="mine")])
    router, publisher = desk.router, desk.router.publisher(Identity("ana"))
    for _ in range(3):
        assert router.refuse_publish("a/1", publisher) is None
        desk.publish("a/1", publisher=publisher)
        assert router.refuse_publish("b", publisher) is not None
    router.usage.drain()
    found = {use.topic: tally.count for use, tally in router.usage.uses.items() if use.user == "ana"}
    assert found == {"a/1": 3, "b": 3}


def test_many_topics_of_one_publisher_are_counted_and_the_record_is_bounded(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for number in range(3_000):
        desk.publish(f"t/{number}")
    desk.router.usage.drain()
    assert sum(tally.count for tally in desk.router.usage.uses.values()) == 3_000
    usage = Usage(Policy().decide, lambda: 0)
    decision = Policy().decide(Identity("a"), Action.VIEW)
    for number in range(USES_OF_USER_MAX + 10):
        usage.note(Identity("a"), Action.SUBSCRIBE, f"t/{number}", decision, 1)
    assert len(usage.uses) == USES_OF_USER_MAX and usage.left_out == 10
    for number in range(USES_MAX + 10):                 # there is room for others
        usage.note(Identity(f"u{number}"), Action.SUBSCRIBE, "t", decision, 1)
    assert len(usage.uses) == USES_MAX and usage.left_out == 10 + USES_OF_USER_MAX + 10
    usage.take()
    usage.note(Identity("a"), Action.SUBSCRIBE, "t", decision, 1)
    assert len(usage.uses) == 1


def test_what_the_node_does_itself_is_not_in_the_record(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.publish("a", publisher=desk.router.internal)
    desk.router.usage.drain()
    assert desk.router.usage.uses == {}


# -- learning ---------------------------------------------------------------------------------------------------

def test_the_learnt_rules_allow_what_was_done_and_little_else() -> None:
    uses = {Use("ana", (), "c", "mqtt", action, topic, allowed, "r"): Tally(0) for action, topic, allowed in (
        (Action.PUBLISH, "pos/ana/1", True), (Action.PUBLISH, "secret", False), (Action.SUBSCRIBE, "news/#", True),
        (Action.SUBSCRIBE, "news/local", True), (Action.CONNECT, "", True))}
    assert learn(uses, "ana") == [
        {"allow": ["publish"], "to": ["user:ana"], "topics": ["pos/%u/1"]},
        {"allow": ["subscribe"], "to": ["user:ana"], "topics": ["news/#"]}]
    assert learn(uses, "bob") == []


@pytest.mark.parametrize("seed", range(20))
def test_narrowed_filters_cover_every_topic(seed: int) -> None:
    dice = random.Random(seed)
    topics = sorted({"/".join(str(dice.randrange(12)) for _ in range(dice.randrange(1, 4))) for _ in range(200)})
    filters = narrowed(topics)
    assert all(any(filter_matches(one, topic) for one in filters) for topic in topics)
    assert not any("#" in one for one in filters)
    assert narrowed(["a/1", "a/2", "b"]) == ["a/1", "a/2", "b"]
    assert narrowed([f"a/{n}" for n in range(9)]) == ["a/+"]


def test_learning_from_many_topics_has_an_end() -> None:
    """Each was compared with each: 32,768 topics that stay as they are took a quarter of an hour."""
    topics = ["/".join(levels) for levels in itertools.product("01234567", repeat=5)]
    assert narrowed(topics) == topics


def test_what_is_written_to_disk_while_the_record_is_read_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        usage = desk.router.usage
        record = UsageLog(desk.router.streams.open_internal("$usage", compact=False), usage, lambda: desk.now_ms,
                          desk.router.request_turn)
        decision = Policy().decide(Identity("a"), Action.VIEW)
        for number in range(5_000):
            usage.note(Identity(f"u{number}"), Action.SUBSCRIBE, "t", decision, 1)
        record.close_bucket()
        reading = asyncio.ensure_future(record.merged(0))
        while not reading.done():
            await asyncio.sleep(0)
            record.tick()
            desk.run()
        for found, cut in (reading.result(), await record.merged(0)):
            assert len(found) == 5_000 and not cut and {tally.count for tally in found.values()} == {1}
    asyncio.run(scenario())


def test_what_was_handed_to_the_disk_and_is_not_there_yet_is_in_the_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        record = UsageLog(desk.router.streams.open_internal("$usage", compact=False), desk.router.usage,
                          lambda: desk.now_ms, desk.router.request_turn)
        desk.router.usage.note(Identity("a"), Action.SUBSCRIBE, "t", Policy().decide(Identity("a"), Action.VIEW), 1)
        record.close_bucket()
        record.tick()                               # to the disk, which has not answered
        reading = asyncio.ensure_future(record.merged(0))
        await asyncio.sleep(0.02)
        assert not reading.done()
        desk.run()
        found, _ = await reading
        assert [tally.count for tally in found.values()] == [1]
    asyncio.run(scenario())


# -- on a real node ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    node = Node(tmp_path_factory.mktemp("simulation"), extra=ROOT).start()
    found = Admin(node)
    for user in USERS:
        found.must_put(f"users/{user}", password=PASSWORD, roles=["worker"] if user != "carl" else ["worker", "chief"])
    found.must_put("policies/workers", allow=["publish", "subscribe"], to=["role:worker"],
                   topics=["plant/#", "till/#"])
    found.must_put("policies/chiefs", allow=["publish"], to=["role:chief"], topics=["secret/#"])
    yield found
    node.kill9()


def traffic(admin: Admin, dice: random.Random) -> Counter[tuple[str, str, str]]:
    """(user, topic, protocol) → events that were refused."""
    refused: Counter[tuple[str, str, str]] = Counter()
    for user in USERS:
        with open_mqtt(admin.node.mqtt, f"c-{user}", username=user, password=PASSWORD.encode()) as client:
            for _ in range(60):
                topic = dice.choice(TOPICS)
                if publish(client, topic):
                    refused[user, topic, "mqtt"] += 1
        for _ in range(20):
            topic = dice.choice(TOPICS)
            if admin.node.publish(topic, b"x", basic(user, PASSWORD)).status == 403:
                refused[user, topic, "http"] += 1
    return refused


def publish(client: RawMqtt, topic: str) -> bool:
    number = client.next_id()
    client.send(publish_packet(topic, b"x", qos=1, packet_id=number))
    return client.expect(PUBACK, packet_id=number).code == DENIED_MQTT


DRAFT = [{"kind": "policy", "name": "not the oven", "document": {
             "deny": ["publish"], "to": ["user:ana", "user:carl"], "topics": ["plant/oven"]}},
         {"kind": "policy", "name": "workers", "document": {
             "allow": ["publish", "subscribe"], "to": ["role:worker"], "topics": ["plant/#", "till/1"]}},
         {"kind": "policy", "name": "bob too", "document": {
             "allow": ["publish"], "to": ["user:bob"], "topics": ["secret/x"]}}]


def test_a_simulation_gives_exactly_the_denials_that_the_same_traffic_meets_afterwards(admin: Admin) -> None:
    before = traffic(admin, random.Random(7))
    assert admin.ask("PUT", "drafts/spring", {"changes": DRAFT}).status == 200
    found = admin.ask("POST", "drafts/spring/simulate", {"hours": 1})
    assert found.status == 200, found.text
    denied, allowed = found.json["newly_denied"], found.json["newly_allowed"]
    said = Counter({(row["user"], row["topic"], row["protocol"]): row["count"] for row in denied["rows"]})
    granted = Counter({(row["user"], row["topic"], row["protocol"]): row["count"] for row in allowed["rows"]})
    assert denied["events"] == sum(said.values()) > 50 and set(granted) <= {
        ("bob", "secret/x", "mqtt"), ("bob", "secret/x", "http")} and granted
    assert admin.ask("GET", "drafts/spring").json["simulated_ms"] is not None
    ask = {"user": "ana", "action": "publish", "topic": "plant/oven"}
    assert admin.ask("POST", "can-i", ask).json["allowed"]
    assert admin.ask("POST", "can-i", {**ask, "draft": "spring"}).json["rule"] == "not the oven"

    assert admin.ask("POST", "drafts/spring/apply", {}).status == 200
    after = traffic(admin, random.Random(7))
    assert after - before == said and before - after == granted


HOUR = 7_200                # rounds of the demo (examples/demo/traffic.py), which makes two a second


def an_hour_of_the_demo(admin: Admin) -> Counter[tuple[str, str]]:
    """What its two plants publish in an hour, without the waiting. (user, topic) → events that were refused."""
    refused: Counter[tuple[str, str]] = Counter()
    for plant in ("graz", "lyon"):
        topics = [f"plant/{plant}/press-{press}/temperature" for press in range(10)]
        for start in range(0, HOUR, 600):
            lines = [json.dumps({"topic": topic, "payload": json.dumps({"celsius": 70 + number % 5})})
                     for number in range(start, start + 600) for topic in topics]
            told = admin.node.post("/v1/events", "\n".join(lines).encode(), {
                **basic(plant, PASSWORD), "Content-Type": "application/x-ndjson"})
            answers = [json.loads(line) for line in told.body.splitlines()]
            assert told.status == 200 and len(answers) == len(lines)
            refused.update((plant, topics[at % 10]) for at, answer in enumerate(answers) if answer.get("status") == 403)
    return refused


def test_an_hour_of_the_demo_meets_exactly_the_denials_that_were_foretold(admin: Admin) -> None:
    for plant in ("graz", "lyon"):
        admin.must_put(f"users/{plant}", password=PASSWORD, roles=["plant"])
    version = admin.must_put("policies/plants", allow=["publish"], to=["role:plant"], topics=["plant/#"])["version"]
    assert not an_hour_of_the_demo(admin)
    changes = [{"kind": "policy", "name": "plants", "version": version, "document": {
                    "allow": ["publish"], "to": ["role:plant"], "topics": ["plant/%u/#"]}},
               {"kind": "policy", "name": "no press 3", "document": {
                   "deny": ["publish"], "to": ["role:plant"], "topics": ["plant/+/press-3/#"]}},
               {"kind": "policy", "name": "lyon is closed", "document": {
                   "deny": ["publish"], "to": ["user:lyon"], "topics": ["plant/lyon/press-7/+"]}}]
    assert admin.ask("PUT", "drafts/hour", {"changes": changes}).status == 200
    found = admin.ask("POST", "drafts/hour/simulate", {"hours": 1}).json
    said = {(row["user"], row["topic"]): row["count"] for row in found["newly_denied"]["rows"]
            if row["user"] in ("graz", "lyon")}
    assert sum(said.values()) == 3 * HOUR and len(said) == 3
    assert admin.ask("POST", "drafts/hour/apply", {}).status == 200
    assert an_hour_of_the_demo(admin) == said


def test_what_would_be_narrowed_and_whose_login_would_be_gone_is_said(admin: Admin) -> None:
    with open_mqtt(admin.node.mqtt, "c-bob", username="bob", password=PASSWORD.encode()) as client:
        client.subscribe(("plant/#", 1))
        version = admin.ask("GET", "users/carl").json["version"]
        changes = [{"kind": "user", "name": "carl", "document": None, "version": version},
                   {"kind": "policy", "name": "n", "document": {"deny": ["subscribe"], "to": ["*"],
                                                               "topics": ["plant/secret/#"]}}]
        assert admin.ask("PUT", "drafts/two", {"changes": changes, "shadow": True}).status == 200
        found = admin.ask("POST", "drafts/two/simulate", {"hours": 1}).json
        assert [row["topic"] for row in found["narrowed"]["rows"]] == ["plant/#"]
        gone = [row for row in found["newly_denied"]["rows"] if row["user"] == "carl"]
        assert gone and {row["rule"] for row in gone} == {"the login is gone"}
        shadow = admin.ask("POST", "drafts/two/simulate", {}).json      # since the draft was made
        assert shadow["newly_denied"]["events"] == 0
        assert admin.node.publish("plant/1", b"x", basic("carl", PASSWORD)).status == 200
        shadow = admin.ask("POST", "drafts/two/simulate", {}).json
        assert [row["topic"] for row in shadow["newly_denied"]["rows"] if row["action"] == "publish"] == ["plant/1"]
        client.subscribe(("till/1", 1))
        assert client.subscribe(("secret/x", 1)).kind == SUBACK


def test_rules_that_nobody_needs_are_named_and_what_somebody_did_is_learnt(admin: Admin) -> None:
    admin.must_put("policies/never used", allow=["publish"], to=["user:nobody"], topics=["x"])
    found = admin.ask("GET", "usage?hours=1").json
    assert "never used" in found["unused"] and "workers" in {row["rule"] for row in found["rules"]}
    learnt = admin.ask("POST", "learn", {"user": "bob"}).json["documents"]
    assert {topic for rule in learnt for topic in rule["topics"]} >= {"plant/oven", "till/1"}
    for body, status in (({"user": ""}, 400), ({"user": "bob", "hours": 0}, 400), ({"user": "bob", "hours": 1e9}, 400)):
        assert admin.ask("POST", "learn", body).status == status
    assert admin.ask("POST", "drafts/none/simulate", {}).status == 404
    assert admin.ask("GET", "usage?hours=x").status == 400


def test_the_record_outlives_a_stop_and_the_commands_show_it(admin: Admin) -> None:
    before = {row["rule"]: row["events"] for row in admin.ask("GET", "usage?hours=1").json["rules"]}
    admin.node.stop()
    admin.node.restart()
    after = {row["rule"]: row["events"] for row in admin.ask("GET", "usage?hours=1").json["rules"]}
    assert all(after[rule] >= events for rule, events in before.items())
    environment = {"MESHGATE_USER": "root", "MESHGATE_PASSWORD": "the admin password",
                   "MESHGATE_CONSOLE": admin.node.url("console")}
    done = meshgate("policy", "simulate", "two", "--hours", "1", environment=environment)
    assert done.returncode == 1 and b"carl publish" in done.stdout, done.stderr
    assert b"never used" in meshgate("policy", "usage", environment=environment).stdout
