"""Nobody fills a node: beside each ceiling for all there is a share per user, on every protocol."""
from __future__ import annotations

import asyncio

import pytest

from protocols.mqtt.settings import MqttSettings
from protocols.rest.settings import RestSettings
from protocols.websocket.settings import WebSocketSettings
from routing.consumers.consumer import ConsumerSpec
from routing.direct.replies import Replies
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.rights.policy import ALLOW_ALL, ANONYMOUS, Identity
from routing.settings import Limits
from tests.protocols.mqtt.harness import Broker, Users
from tests.protocols.rest.consumer_client import ConsumerClient, topics
from tests.protocols.rest.sse_client import Sse
from tests.protocols.rest.stand import basic, eventually, stand
from tests.protocols.websocket.json_client import Client, ws_stand
from tests.support import rawmqtt
from tests.support.routing import Desk

PERSISTENT = {"clean": False, "values": [(rawmqtt.SESSION_EXPIRY, 1000)]}
USERS = [("ana", "p", ()), ("bob", "p", ())]
ANA, BOB = ({"Authorization": basic(name, "p")} for name in ("ana", "bob"))


def share(part=0.5):
    return Share("things", lambda: part)


def fill(share, user, ceiling):
    count = 0
    while share.take(user, ceiling) is None:
        count += 1
    return count


def test_a_user_gets_a_part_of_what_the_others_leave():
    one = share()
    assert [fill(one, user, 100) for user in ("ana", "bob", "eve")] == [50, 25, 12]
    assert one.total == 87
    one.give("ana")
    assert fill(one, "ana", 100) == 0                   # 49 + 1 is more than half of what the others leave
    assert fill(one, "bob", 100) == 0
    assert fill(one, "new", 100) > 0


def test_who_comes_last_still_gets_one_as_long_as_there_is_any():
    one = share()
    assert [fill(one, f"u{number}", 4) for number in range(5)] == [2, 1, 1, 0, 0]


def test_the_share_can_be_switched_off_and_does_not_bind_where_there_are_no_users():
    assert fill(share(1.0), "ana", 100) == 100
    assert fill(share(), ANONYMOUS, 100) == 100


@pytest.fixture
def users():
    users = Users()
    users.passwords = {"ana": b"p", "bob": b"p"}
    return users


def test_mqtt_sessions(tmp_path, users):
    broker = Broker(tmp_path, mqtt=MqttSettings(sessions_max=4), users=users)
    first = broker.client("a1", username="ana", password=b"p")
    broker.client("a2", username="ana", password=b"p")
    assert broker.client().connect("a3", username="ana", password=b"p").code == 0x97
    first.disconnect()
    broker.client("a4", username="ana", password=b"p")
    broker.client("b1", username="bob", password=b"p")
    broker.store.close()


def test_mqtt_sessions_count_after_a_restart(tmp_path, users):
    broker = Broker(tmp_path, mqtt=MqttSettings(sessions_max=4), users=users)
    for name in ("a1", "a2"):
        broker.client(name, username="ana", password=b"p", **PERSISTENT)
    broker.tick(1.0)
    reborn = broker.crash()
    assert reborn.router.shares.sessions.of("ana") == 2
    assert reborn.client().connect("a3", username="ana", password=b"p").code == 0x97
    reborn.store.close()


async def test_rest_consumers(tmp_path):
    async with stand(tmp_path, settings=RestSettings(consumers_max=4), users=USERS) as it:
        for name in ("a1", "a2"):
            await ConsumerClient(it, name, headers=ANA).put()
        refused = await ConsumerClient(it, "a3", headers=ANA).put(429)
        assert "share" in refused["detail"]
        await ConsumerClient(it, "b1", headers=BOB).put()
        await ConsumerClient(it, "a1", headers=ANA).call("DELETE", status=204)
        assert it.router.shares.consumers.of("ana") == 1


async def test_websocket_consumers(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(consumers_max=4), users=USERS, rules=(ALLOW_ALL,)) as it:
        ana = await Client.open(it, **ANA)
        for number in range(2):
            await ana.subscribe(f"s{number}", "#", consumer=f"a{number}")
        ana.say("subscribe", id=9, subscription="s9", filters=["#"], consumer="a9")
        assert (await ana.hear("refused", id=9))["problem"] == "/problems/quota-exceeded"
        bob = await Client.open(it, **BOB)
        await bob.subscribe("s", "#", consumer="b")
        ana.close()
        bob.close()


async def test_event_streams(tmp_path):
    async with stand(tmp_path, settings=RestSettings(sse_readers_max=2), users=USERS) as it:
        opened = [await Sse.open(it, "#", headers=f"Authorization: {who['Authorization']}\r\n")
                  for who in (ANA, ANA, BOB)]
        assert [one.status for one in opened] == [200, 503, 200]
        for one in opened:
            one.close()
        await eventually(lambda: it.router.shares.streams.total == 0, "both are gone")


async def test_pulls_that_wait(tmp_path):
    async with stand(tmp_path, settings=RestSettings(pulls_waiting_max=2), users=USERS) as it:
        mine, his = ConsumerClient(it, "a", headers=ANA), ConsumerClient(it, "b", headers=BOB)
        await mine.put()
        await his.put()
        waiting = asyncio.create_task(mine.pull(wait_s=30))
        await eventually(lambda: it.rest.pullers.waiting == 1, "a pull waits")
        assert (await mine.pull(status=503))["type"] == "/problems/overloaded"
        other = asyncio.create_task(his.pull(wait_s=30))
        await eventually(lambda: it.rest.pullers.waiting == 2, "two pulls wait")
        await it.publish("t")
        assert topics(await waiting) == topics(await other) == ["t"]
        assert it.rest.pullers.waiting == 0


def test_requests_that_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("routing.direct.replies.WAITING_MAX", 4)
    desk = Desk(tmp_path)
    replies = Replies(desk.router, "graz-1")
    waiting = [replies.expect("ana", lambda event: None) for _ in range(3)]
    assert isinstance(waiting[2], Refusal)
    replies.forget(waiting[0])
    assert isinstance(replies.expect("ana", lambda event: None), str)
    assert isinstance(replies.expect("bob", lambda event: None), str)
    desk.close()


def test_a_consumer_counts_to_its_owner_wherever_it_was_made_and_after_a_restart(tmp_path):
    desk = Desk(tmp_path)
    ana = Identity(user="ana", protocol="test", client_id="a")
    desk.router.open_consumer(ConsumerSpec("named", ("#",)), ana)
    desk.router.open_consumer(ConsumerSpec("mqtt/session", ("#",)), ana)
    desk.router.open_consumer(ConsumerSpec("live", ("#",), durable=False), ana)
    assert desk.router.shares.consumers.of("ana") == desk.router.shares.consumers.total == 1
    desk.tick(1.0)
    desk.close()
    desk = Desk(tmp_path, limits=Limits())
    assert desk.router.shares.consumers.of("ana") == desk.router.shares.consumers.total == 1
    desk.router.delete_consumer("named")
    assert desk.router.shares.consumers.total == 0
    desk.close()
