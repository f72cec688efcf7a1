"""Names that nobody answers for keep no other use waiting, and are asked less and less often."""
from __future__ import annotations

import asyncio
import itertools
import socket
import threading

import pytest

from mesh.system.names import names
from mesh.system.names.names import Names

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]


class Server:
    """A name server: names that begin with "silent" get no answer before the test ends, "no" none at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()

    def __call__(self, host, family, flags):
        self.asked.append(host)
        if host.startswith("silent"):
            self.end.wait(60)
        if host.startswith("no"):
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")
        return FOUND


@pytest.fixture
def server():
    server = Server()
    yield server
    server.end.set()


async def test_names_without_an_answer_do_not_keep_another_use_waiting(server):
    webhooks, links = (Names(2, lambda: 0.0, look_up=server) for _ in range(2))
    waiting = [asyncio.create_task(webhooks.resolve(f"silent-{number}", 80)) for number in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        assert await links.resolve("hub.example", 7420) == [(*FOUND[0][:4], ("192.0.2.7", 7420))]
    server.end.set()
    await asyncio.gather(*waiting)


async def test_a_name_is_asked_once_at_a_time_and_its_answer_serves_a_while(server):
    now_s = 0.0
    it = Names(4, lambda: now_s, look_up=server)
    await asyncio.gather(*(it.resolve("a.example", port) for port in range(50)))
    assert server.asked == ["a.example"]
    now_s = names.FRESH_S + 0.1
    await it.resolve("a.example", 1)
    assert server.asked == ["a.example"] * 2


async def test_a_name_that_nobody_knows_is_asked_less_and_less_often(server):
    now_s = 0.0
    it = Names(4, lambda: now_s, failed_max_s=8.0, look_up=server)
    asked_s = []
    while now_s < 40:
        before = len(server.asked)
        with pytest.raises(OSError, match="nobody knows it"):
            await it.resolve("no.example", 1)
        if len(server.asked) > before:
            asked_s.append(now_s)
        now_s += 0.25
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_s)]
    assert gaps == sorted(gaps) and gaps[0] <= 1 and gaps[-1] == 8.0


async def test_who_gives_up_does_not_spoil_the_answer_for_others_and_what_waits_is_bounded(server, monkeypatch):
    monkeypatch.setattr(names, "WAITING_MAX", 2)
    it = Names(2, lambda: 0.0, look_up=server)
    first, second = (asyncio.create_task(it.resolve("silent", 1)) for _ in range(2))
    other = asyncio.create_task(it.resolve("silent-2", 1))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="other names wait"):
        await it.resolve("late.example", 1)
    assert (await it.resolve("127.0.0.1", 5))[0][4] == ("127.0.0.1", 5), "what is an address needs no answer"
    first.cancel()
    server.end.set()
    assert (await second)[0][4][0] == "192.0.2.7"
    await other
