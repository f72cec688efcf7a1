"""What a consumer must not be a way round: the rules for publishing, for reading, and for what others own."""
from __future__ import annotations

import asyncio

import pytest

from mesh.identity.users import User, hash_password
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.push import Push
from routing.rights.policy import INTERNAL, Action, Rule
from tests.protocols.rest.consumer_client import ConsumerClient
from tests.protocols.rest.stand import basic, stand

USERS = [("ana", "p", ()), ("bob", "p", ()), ("root", "p", ())]
RULES = [
    Rule(allow=(Action.CONNECT,), to=("*",)),
    Rule(allow=(Action.SUBSCRIBE,), to=("*",), topics=("#",)),
    Rule(deny=(Action.SUBSCRIBE,), to=("user:bob",), topics=("secret/#",)),
    Rule(allow=(Action.PUBLISH,), to=("user:ana",), topics=("a/#", "graves/#")),
    Rule(allow=(Action.MANAGE,), to=("user:root",)),
]
TO = {"url": "https://203.0.113.7/hook"}


def client(it, user, name="billing"):
    return ConsumerClient(it, name, headers={"Authorization": basic(user, "p")})


def rules_stand(path):
    return stand(path, rules=RULES, users=USERS)


async def test_a_dead_letter_topic_is_one_that_may_be_published_to(tmp_path):
    """Else who may only read could have the node publish what it gave back, wherever it likes."""
    async with rules_stand(tmp_path) as it:
        refused = await client(it, "bob").put(403, filters=["a/#"], max_deliveries=1, dead_letter_topic="plant/valve")
        assert refused["type"] == "/problems/not-authorized"
        await client(it, "ana").put(403, filters=["a/#"], max_deliveries=1, dead_letter_topic="plant/valve")
        await client(it, "ana").put(filters=["a/#"], max_deliveries=1, dead_letter_topic="graves/ana")
        await client(it, "bob", "own").put(filters=["a/#"], max_deliveries=1)      # dead-letter/own is the node's gift
        await client(it, "bob", "own").put(200, filters=["a/#"], dead_letter_topic="dead-letter/own")
        await client(it, "bob", "own").put(403, filters=["a/#"], dead_letter_topic="dead-letter/billing")


async def test_a_dead_letter_waits_while_its_topic_may_not_be_published_to(tmp_path):
    async with rules_stand(tmp_path) as it:
        ana = client(it, "ana")
        await ana.put(filters=["a/#"], max_deliveries=1, dead_letter_topic="graves/ana", backoff_initial_s=0,
                      backoff_max_s=0.1)
        await it.publish_as_node("a/1")
        events = await ana.pull(wait_s=5)
        it.router.apply_rules([*RULES, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("graves/#",))])
        await ana.answer("nack", events)
        for _ in range(5):
            await ana.pull(wait_s=0.1)
        assert "graves/ana" not in it.router.routes.known_topics()
        assert (await ana.get())["lag"]["events"] == 1         # not lost
        it.router.apply_rules(RULES)
        while (await ana.get())["lag"]["events"]:
            await ana.pull(wait_s=0.1)
        assert "graves/ana" in it.router.routes.known_topics()


async def test_dead_letters_of_what_one_may_not_read_are_not_listed(tmp_path):
    """A consumer made over another protocol, with the name of a former one."""
    async with rules_stand(tmp_path) as it:
        ana = client(it, "ana")
        await ana.put(filters=["secret/#", "a/#"], max_deliveries=1, backoff_initial_s=0)
        await it.publish_as_node("secret/1", "a/1")
        left = 2
        while left:
            events = await ana.pull(wait_s=5)
            await ana.answer("nack", events)
            left -= len(events)
        while (await ana.get())["lag"]["events"]:
            await ana.pull(wait_s=0.1)
        assert len((await ana.call("GET", "/dead-letters"))["dead_letters"]) == 2
        await ana.call("DELETE", status=204)
        await asyncio.sleep(0)
        bob = next(iter(it.router.consumers.values()), None)
        assert bob is None
        opened = it.router.open_consumer(ConsumerSpec("billing", ("a/#",)), await identity_of(it, "bob"))
        assert opened.name == "billing"
        letters = (await client(it, "bob").call("GET", "/dead-letters"))["dead_letters"]
        assert [dict(letter["headers"])["dead-letter-topic"] for letter in letters] == ["a/1"]


async def identity_of(it, user):
    done = asyncio.get_running_loop().create_future()
    it.authenticator.authenticate(user, b"p", "http", "", "127.0.0.1:1", done.set_result)
    return await done


async def test_nobody_widens_the_filters_of_somebody_elses_consumer_to_what_he_may_not_read(tmp_path):
    """With a push to his own URL he would get what its owner may read."""
    async with rules_stand(tmp_path) as it:
        it.router.registry.check_push = lambda spec: None
        ana, bob = client(it, "ana"), client(it, "bob")
        await ana.put(filters=["a/#"])
        assert (await bob.put(403, filters=["#"], push=TO))["type"] == "/problems/not-authorized"
        it.router.apply_rules([*RULES, Rule(allow=(Action.MANAGE,), to=("user:bob",))])
        assert (await bob.put(403, filters=["#"], push=TO))["type"] == "/problems/not-authorized"
        await bob.put(200, filters=["a/#", "b/#"])
        assert (await ana.get())["filters"] == ["a/#", "b/#"]


CHANGES = [
    ("PUT", "", {"filters": ["a/#", "b/#"], "start": "earliest"}, 200),
    ("PUT", "", {"filters": ["a/#"], "start": "earliest", "max_in_flight": 1}, 200),
    ("PUT", "", {"filters": ["a/#"], "push": TO}, 200),
    ("POST", "/pause", None, 200),
    ("POST", "/resume", None, 200),
    ("POST", "/seek", {"to": "latest"}, 200),
    ("POST", "/seek", {"to": "latest", "dry_run": True}, 200),
    ("POST", "/redrive", {}, 202),
    ("POST", "/redrive", {"dry_run": True}, 200),
    ("DELETE", "/redrive", None, 200),
    ("DELETE", "", None, 204),
]


@pytest.mark.parametrize(("method", "path", "body", "done"), CHANGES)
async def test_a_consumer_is_changed_by_its_owner_and_who_may_manage(tmp_path, method, path, body, done):
    """Who may only read what it reads shares its work, and no more."""
    async with rules_stand(tmp_path) as it:
        it.router.registry.check_push = lambda spec: None
        ana, bob, root = (client(it, user) for user in ("ana", "bob", "root"))
        await ana.put(filters=["a/#"])
        await ana.call("POST", "/redrive", {}, 202)
        before = state_of(it.router.consumers["billing"])
        assert (await bob.call(method, path, body, 403))["type"] == "/problems/not-authorized"
        assert state_of(it.router.consumers["billing"]) == before
        await root.call(method, path, body, done)
        assert it.router.policy.denied["http", "manage"] == 1


def state_of(consumer):
    positions = [(cursor.position, cursor.state()) for cursor in consumer.cursors.values()]
    return consumer.spec, list(consumer.filters), consumer.paused, consumer.generation, positions, consumer.identity


async def test_who_may_read_what_it_reads_shares_its_work(tmp_path):
    async with rules_stand(tmp_path) as it:
        ana, bob = client(it, "ana"), client(it, "bob")
        await ana.put(filters=["a/#"])
        assert (await bob.put(200, filters=["a/#"]))["user"] == "ana"      # as every replica does when it starts
        await it.publish_as_node("a/1", "a/2", "a/3")
        one, two, three = [await bob.pull(1, wait_s=5) for _ in range(3)]
        await bob.ack(one)
        await bob.answer("nack", two, delay_s=0)
        await bob.answer("extend", three, seconds=5)
        assert [event["topic"] for event in await ana.pull(wait_s=5)] == ["a/2"]


async def test_who_may_manage_changes_what_he_may_not_read(tmp_path):
    """And reads no more of it than before. For others it is not there."""
    rules = [*RULES, Rule(deny=(Action.SUBSCRIBE,), to=("user:root",), topics=("secret/#",))]
    async with stand(tmp_path, rules=rules, users=USERS) as it:
        ana, bob, root = (client(it, user) for user in ("ana", "bob", "root"))
        await ana.put(filters=["secret/#"])
        await bob.call("POST", "/pause", status=404)
        assert (await root.call("POST", "/pause"))["paused"]
        assert (await root.get())["user"] == "ana"
        await root.pull(status=403)
        await root.put(403, filters=["secret/#"])
        await root.call("DELETE", status=204)


async def test_nobody_changes_a_consumer_of_which_he_may_not_read_a_part(tmp_path):
    """At the registry, which every protocol asks."""
    async with rules_stand(tmp_path) as it:
        await client(it, "ana").put(filters=["#"])
        bob = await identity_of(it, "bob")
        it.router.open_consumer(ConsumerSpec("billing", ("b",), it.router.consumers["billing"].spec.mode), bob)
        assert (await client(it, "ana").get())["filters"] == ["#"]


@pytest.mark.parametrize(("method", "path", "body"), [
    ("DELETE", "", None), ("POST", "/pause", None), ("POST", "/seek", {"to": "latest"}), ("POST", "/redrive", {}),
    ("POST", "/ack", {"tokens": ["x"]}), ("POST", "/nack", {"tokens": ["x"]}),
])
async def test_a_consumer_of_the_configuration_is_for_managers(tmp_path, method, path, body):
    """Who may read what a webhook carries may not delete, stop, or answer for it."""
    async with rules_stand(tmp_path) as it:
        it.router.registry.check_push = lambda spec: None
        it.router.open_consumer(ConsumerSpec("billing", ("a/#",), push=Push(url=TO["url"])), INTERNAL)
        assert (await client(it, "ana").get())["user"] == "$node"
        told = await client(it, "ana").call(method, path, body, 409 if body and "tokens" in body else 403)
        assert told["type"] in ("/problems/not-authorized", "/problems/conflict")
        if method == "DELETE":
            await client(it, "root").call("DELETE", status=204)


async def test_a_role_that_is_gone_reads_no_more(tmp_path):
    """Neither what waits, nor after the consumer is put again."""
    rules = [RULES[0], Rule(allow=(Action.SUBSCRIBE,), to=("role:boss",), topics=("secret/#",)),
             Rule(allow=(Action.SUBSCRIBE,), to=("*",), topics=("a/#",))]
    async with stand(tmp_path, rules=rules, users=[("ana", "p", ("boss",))]) as it:
        ana = client(it, "ana")
        await ana.put(filters=["secret/#", "a/#"])
        await it.publish_as_node("secret/1", "a/1")
        assert len(await ana.pull(1, wait_s=5)) == 1        # she is here now
        await it.publish_as_node("secret/2", "a/2")
        it.authenticator.replace([User("ana", (), hash_password("q"))])
        ana.headers = {"Authorization": basic("ana", "q")}
        assert (await ana.pull(status=403))["type"] == "/problems/not-authorized"
        assert (await ana.put(403, filters=["secret/#"]))["type"] == "/problems/not-authorized"
        await ana.put(200, filters=["a/#"])
        assert [event["topic"] for event in await ana.pull(wait_s=5)] == ["a/1", "a/2"]
