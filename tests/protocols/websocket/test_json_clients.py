"""What operators see of WebSocket clients, and that they can send one away."""
from __future__ import annotations

import pytest

from tests.protocols.rest.stand import eventually

from .json_client import Client, ws_stand


async def test_a_client_is_listed_with_what_it_has_open(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.say("subscribe", id=1, subscription="s", filters=["a/#"])
        await client.hear("subscribed")
        (row,) = it.ws.clients_snapshot()
        assert row["client_id"] == f"ws:{row['address']}" and row["address"].startswith("127.0.0.1:")
        assert (row["user"], row["connected"], row["subscriptions"], row["in_flight"], row["queued"]) == (
            "anonymous", True, 1, 0, 0)
        assert row["connected_since_ms"] > 1_600_000_000_000
        client.ws.writer.close()
        await eventually(lambda: it.ws.clients_snapshot() == [], "the client is gone")


async def test_a_client_that_is_kicked_is_told_why(tmp_path):
    async with ws_stand(tmp_path) as it:
        client, other = await Client.open(it), await Client.open(it)
        name = next(row["client_id"] for row in it.ws.clients_snapshot()
                    if row["address"].endswith(f":{client.ws.writer.get_extra_info('sockname')[1]}"))
        assert it.ws.kick(name) and not it.ws.kick("ws:1.2.3.4:5")
        goodbye = await client.hear("goodbye")
        assert goodbye["problem"] == "/problems/kicked" and "operator" in goodbye["detail"]
        with pytest.raises(ConnectionError, match="1008"):
            await client.next()
        other.say("ping", id=2)
        await other.hear("pong")
        await eventually(lambda: len(it.ws.clients_snapshot()) == 1, "the other one stays")
        assert not it.ws.kick(name)
