"""/v1/ws: who somebody is, in the handshake or in the first message; and hostile.md row 75, foreign pages."""
from __future__ import annotations

import pytest

from protocols.websocket.settings import WebSocketSettings
from routing.rights.policy import Action, Rule
from tests.protocols.rest.stand import basic, eventually

from .json_client import Client, ws_stand
from .ws_client import masked

USERS = (("ana", "right", ("operator",)),)
RULES = (Rule(allow=tuple(Action), to=("role:operator",)),)


async def test_basic_credentials_in_the_handshake(tmp_path):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, Authorization=basic("ana", "right"))
        assert client.welcome["user"] == "ana"
        await client.publish("a")
        client.close()


async def test_credentials_in_the_first_message(tmp_path):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False)
        client.say("auth", user="ana", password="right")
        client.say("publish", id=1, topic="a", payload="sent without waiting for the welcome")
        assert (await client.hear("welcome"))["user"] == "ana"
        await client.hear("published", id=1)
        client.close()


@pytest.mark.parametrize("auth", [{"user": "ana", "password": "wrong"}, {"user": "bob", "password": "x"},
                                  {"token": "forged.token.here"}, {"api_key": "nobody's"}, {}])
async def test_wrong_credentials_end_the_connection_with_one_text(tmp_path, auth):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False)
        client.say("auth", **auth)
        client.say("publish", topic="a")
        assert (await client.hear("goodbye"))["problem"] == "/problems/bad-credentials"
        with pytest.raises(ConnectionError, match="1008: bad-credentials"):
            await client.next()
        assert it.router.published == 0
        client.close()


async def test_who_says_something_else_first_is_nobody(tmp_path):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False)
        client.say("subscribe", subscription="s", filters=["#"])
        assert (await client.hear("goodbye"))["problem"] == "/problems/bad-credentials"
        client.close()


async def test_wrong_credentials_in_the_handshake(tmp_path):
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False, Authorization=basic("ana", "wrong"))
        assert (await client.hear("goodbye"))["problem"] == "/problems/bad-credentials"
        client.close()


async def test_who_says_nothing_is_told_to_go(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(login_timeout_s=0.3), users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False)
        assert (await client.hear("goodbye"))["problem"] == "/problems/request-timeout"
        client.close()


async def test_before_the_login_a_message_is_small(tmp_path):
    """hostile.md row 74: what a declared length can make the node keep."""
    async with ws_stand(tmp_path, users=USERS, rules=RULES) as it:
        client = await Client.open(it, welcome=False)
        client.ws.writer.write(masked(1, length=65 * 1024))
        assert await client.ws.close_code() == 1009
        client.close()


@pytest.mark.parametrize(("origin", "status"), [
    ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1", 403), ("https://app.example", 101), (None, 101)])
async def test_pages_from_elsewhere_are_refused(tmp_path, origin, status):
    async with ws_stand(tmp_path, WebSocketSettings(allowed_origins=("https://app.example",))) as it:
        client = await Client.open(it, welcome=False, Origin=origin)
        assert client.status == status
        client.close()


async def test_a_page_of_the_node_itself_is_let_in(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it, Origin=f"http://127.0.0.1:{it.port}")
        assert client.status == 101
        client.close()


async def test_a_host_that_is_not_this_machine_is_refused_without_users(tmp_path):
    """DNS rebinding: the page's own name resolves to us, so the origin is that of the host."""
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it, welcome=False, Host="evil.example", Origin="http://evil.example")
        assert client.status == 403
        client.close()


@pytest.mark.parametrize(("offered", "chosen"), [("meshgate.v1", b"meshgate.v1"), ("x, meshgate.v1", b"meshgate.v1")])
async def test_the_subprotocol_may_be_offered(tmp_path, offered, chosen):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it, Sec_WebSocket_Protocol=offered)
        assert b"Sec-WebSocket-Protocol: " + chosen in client.ws.head
        client.close()


async def test_a_client_that_wants_another_subprotocol_is_refused(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it, welcome=False, Sec_WebSocket_Protocol="mqtt")
        assert client.status == 400
        client.close()


async def test_a_plain_get_is_told_to_upgrade(tmp_path):
    async with ws_stand(tmp_path) as it, it.http.get("/v1/ws") as answer:
        assert answer.status == 426 and (await answer.json())["type"] == "/problems/upgrade-required"


async def test_too_many_clients_are_told_so(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(clients_max=1)) as it:
        one = await Client.open(it)
        two = await Client.open(it, welcome=False)
        assert two.status == 503
        one.close()
        two.close()
        await eventually(lambda: not it.ws._channels, "the first is gone")


async def test_the_example_page_runs_only_its_own_script(tmp_path):
    async with ws_stand(tmp_path) as it, it.http.get("/v1/ws/example") as answer:
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'sha256-" in policy and "unsafe-inline" not in policy
        assert b"<script src" not in await answer.read()
