"""Whatever a connection says, it is answered and stored the same with the express way and without it."""
from __future__ import annotations

import asyncio
import random
import re

import pytest

from routing.rights.policy import Action, Rule

from .express_stand import Client, counted, post
from .stand import DEADLINE_S, basic, read_to_end, stand

RULES = (Rule(allow=(Action.CONNECT,), to=("*",)), Rule(allow=(Action.PUBLISH,), to=("role:r",), topics=("a/#", "b")),
         Rule(allow=(Action.PUBLISH,), to=("user:ben",), topics=("b", "none/#")))
USERS = [("ana", "a", ("r",)), ("ben", "b", ())]
LOGINS = [f"Authorization: {basic(user, user[0])}" for user in ("ana", "ben")] + ["", "Authorization: Basic eA=="]
FIELDS = ["", "", "", "Content-Type: text/x", "Meshgate-Key: k", "Idempotency-Key: 7", "Meshgate-Retain: true",
          "Meshgate-Guaranteed: 0", "Meshgate-What: 1", "X-Other: 1", "Expect: 100-continue", "Prefer: respond-async",
          "Content-Encoding: zip", "Meshgate-Priority: 5", "Origin: https://evil.example",
          "Prefer: wait=1\r\nPrefer: respond-async", "Content-Encoding: identity\r\nContent-Encoding: identity",
          "tracestate: a=1\r\ntracestate: b=2", "Meshgate-Key: k\r\nMeshgate-Key: l",
          "Connection: te\r\nConnection: foo", "Origin: https://evil.example\r\nUpgrade: websocket",
          "X-API-Key: a\r\nX-API-Key: a", "Content-Type: application/x-www-form-urlencoded"]
TOPICS = ["a/1", "a/1", "a/2", "b", "c", "a/%2b", "none/1", "a/1?x=1", "a/1#f", "%61/1", ""]


def sequence(seed):
    """Requests of one connection; each is often the one before it again."""
    choose = random.Random(seed)
    chosen = (LOGINS[0], "", "a/1")
    requests = [post(b"x", LOGINS[0], "a/1")] * 4
    for _ in range(60):
        if choose.random() < 0.4:
            chosen = (choose.choice(LOGINS[:2]) if choose.random() < 0.8 else choose.choice(LOGINS),
                      choose.choice(FIELDS), choose.choice(TOPICS))
        login, field, topic = chosen
        lines = "\r\n".join(filter(None, (login, field)))
        requests.append(post(choose.choice((b"", b"x", b"x", b"a=1", b"x" * 30, b"x" * 1_500)), lines, topic))
    requests.append(post(b"end", "Connection: close\r\n" + LOGINS[0], "a/1"))
    return requests


async def told(path, requests, *, express, together):
    """All answers, and what was stored."""
    async with stand(path, users=USERS, rules=RULES) as it:
        taken = counted(it)
        if not express:
            it.rest._runner.server.express = None
        client = await Client.connect(it)
        answers = [await client.ask(requests[0])]
        if together:
            client.writer.write(b"".join(requests[1:]))
        else:
            answers += [await client.ask(request) for request in requests[1:-1]]
            client.writer.write(requests[-1])
        answers.append(await asyncio.wait_for(read_to_end(client.reader), DEADLINE_S))
        client.close()
        partition = it.router.streams.by_name["events"].partitions[0]
        events = [partition.event(offset) for offset in range(partition.end_offset)]
        stored = [(event.topic, event.payload, event.publisher, event.key, event.properties, event.retain)
                  for event in events]
        counters = {name: count for name, count in it.counters.snapshot().items() if count}
        assert any(taken) is express
    return re.sub(rb"Date: [^\r]+", b"", b"".join(answers)), stored, counters


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "pipelined"])
@pytest.mark.parametrize("seed", range(6))
async def test_with_and_without_are_the_same(tmp_path, seed, together):
    requests = sequence(seed)
    with_it = await told(tmp_path / "with", requests, express=True, together=together)
    without = await told(tmp_path / "without", requests, express=False, together=together)
    assert with_it == without
