"""Tokens and keys in header fields: what is read of them, and that a kept connection is not confused by them."""
from __future__ import annotations

import asyncio

import aiohttp
import pytest

from mesh.identity.apikeys import ApiKey, hash_key, make_key
from routing.errors import Reason, Refusal
from routing.rights.policy import Action, Rule
from tests.support.wait import DEADLINE_S

from .stand import basic, stand

RULES = (Rule(allow=(Action.CONNECT,), to=("role:authenticated",)),
         Rule(allow=(Action.PUBLISH,), to=("role:authenticated",), topics=("of/%u",)))
USERS = [("ana", "correct horse", ())]
HEAD = "POST /v1/events/of/{user} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n"


def give(it, **users):
    """A key for each user: name → key; expires_ms by name."""
    keys = {name: make_key() for name in users}
    it.authenticator.tokens.replace(
        {hash_key(keys[name]): ApiKey(name, name, (), expires_ms) for name, expires_ms in users.items()}, ())
    return keys


async def ask(reader, writer, user, fields):
    writer.write(HEAD.format(user=user, fields=fields).encode("latin-1"))
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ")[1])


async def test_each_request_of_a_connection_is_whose_credentials_it_has(tmp_path):
    async with stand(tmp_path, users=USERS, rules=RULES) as it:
        keys = give(it, pos=None, bob=None)
        reader, writer = await it.connect()
        password = f"Authorization: {basic('ana', 'correct horse')}\r\n"
        for user, fields, status in (
            ("pos", f"X-API-Key: {keys['pos']}\r\n", 200), ("bob", f"X-API-Key: {keys['pos']}\r\n", 403),
            ("bob", f"X-API-Key: {keys['bob']}\r\n", 200), ("bob", f"authorization: bearer {keys['bob']}\r\n", 200),
            ("ana", password, 200), ("bob", password, 403), ("bob", "", 401),
            ("ana", f"{password}X-API-Key: {keys['bob']}\r\n", 401), ("bob", f"X-API-Key: {keys['bob']}\r\n", 200),
            ("bob", f"Authorization: {basic('bearer', keys['bob'])}\r\n", 200),
            ("bob", f"Authorization: {basic('ana', keys['bob'])}\r\n", 401),
        ):
            assert await ask(reader, writer, user, fields) == status, fields
        writer.close()


async def test_what_a_connection_has_proven_ends_with_the_key(tmp_path):
    async with stand(tmp_path, users=USERS, rules=RULES) as it:
        now_ms = it.clock_ms()
        it.router.clock_ms = it.clock_ms = it.authenticator.tokens._clock_ms = lambda: now_ms
        keys = give(it, pos=now_ms + 60_000)
        fields = f"X-API-Key: {keys['pos']}\r\n"
        reader, writer = await it.connect()
        assert await ask(reader, writer, "pos", fields) == 200
        now_ms += 60_000
        other, second = await it.connect()
        assert await ask(other, second, "pos", fields) == 401
        writer.close()
        second.close()


@pytest.mark.parametrize("fields", [
    "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", "Authorization: Bearer a b\r\n", "X-API-Key: \r\n",
    "Authorization: Bearer \xff\r\n", "Authorization: Digest username=ana\r\n", "Authorization: \r\n",
    "Authorization: Bearer mgk_\r\n", "X-API-Key: " + "k" * 8_000 + "\r\n", "Authorization: Bearer ey.ey.ey\r\n",
    "X-API-Key: mgk_" + "\xe9" * 40 + "\r\n", "Authorization: Bearer ../../etc/passwd\r\n",
])
async def test_credentials_that_are_none_are_401(tmp_path, fields):
    async with stand(tmp_path, users=USERS, rules=RULES) as it:
        give(it, pos=None)
        reader, writer = await it.connect()
        assert await ask(reader, writer, "pos", fields) == 401
        writer.close()


async def test_a_credential_too_long_for_a_field_is_431(tmp_path):
    async with stand(tmp_path, users=USERS) as it:
        for name in ("Authorization: Bearer ", "X-API-Key: ", "Cookie: ", "Origin: "):
            answer = await it.raw(HEAD.format(user="a", fields=f"{name}{'x' * 9_000}\r\n").encode())
            assert answer.startswith(b"HTTP/1.1 431")


async def test_a_login_that_was_not_decided_in_time_is_503_and_who_leaves_gives_up_the_place(tmp_path, monkeypatch):
    async with stand(tmp_path, users=[("ana", "p", ())]) as it:
        busy = Refusal(Reason.BUSY, "too many logins at once, try again in 7s", 7)
        monkeypatch.setattr(it.authenticator, "authenticate", lambda *rest: rest[5](busy))
        async with it.http.post("/v1/events/a", data=b"x", headers={"Authorization": basic("ana", "p")}) as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] == "7"
            assert (await answer.json(content_type=None))["type"] == "/problems/busy"
        gone = asyncio.Event()
        monkeypatch.setattr(it.authenticator, "authenticate", lambda *rest: gone.set)
        with pytest.raises(TimeoutError):
            await it.http.get("/v1/events?filter=a", headers={"Authorization": basic("ana", "p")},
                              timeout=aiohttp.ClientTimeout(total=0.2))
        await asyncio.wait_for(gone.wait(), DEADLINE_S)
