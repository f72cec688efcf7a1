"""The node goes and comes, the network is silent, the login ends: it is said, old figures are grey, and it goes on."""
from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rich.color import Color

from tests.support.certificates import Certificates
from tests.tui.fake import FakeNode, Terminal, terminal
from tui import feed
from tui.api.target import Target
from tui.widgets.palette import GREY


@pytest_asyncio.fixture
async def node() -> AsyncIterator[FakeNode]:
    found = FakeNode()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(feed, "RETRY_MAX_S", 0.1)


def _server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    return context


def grey(at: Terminal) -> bool:
    """Every row of the view has the colour of old figures."""
    assert at.app.view is not None
    strips = [strip for strip in at.app.view._strips if strip.text.strip()]
    return all(segment.style is not None and (segment.style.dim or segment.style.color == Color.parse(GREY[True]))
               for strip in strips for segment in strip if segment.text.strip())


async def test_a_node_that_stops_and_starts_again(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("● live", "billing")
        assert not grey(at)
        at.clock.now_s += 42
        await node.stop()
        await at.until("○ 42 s old", "is the node up?", "again in")
        assert "billing" in at.text and grey(at), "the last figures stay, and are grey"
        node.tables["consumers"][0]["lag_events"] = 8_888
        await node.start()
        await at.until("● live 05:00:42", "8,888", without="is the node up?")
        assert not grey(at)


async def test_a_node_that_falls_silent(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SILENCE_MAX_S", 0.3)
    monkeypatch.setattr(feed, "RETRY_FIRST_S", 0.5)
    async with terminal(node, first="links") as at:
        await at.until("● live", "plant-graz")
        await at.until("no answer for 0 s", "○ 0 s old", "plant-graz")
        await at.until("● live")


async def test_a_node_that_says_bye(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_FIRST_S", 0.5)
    async with terminal(node, first="links") as at:
        await at.until("● live", "plant-graz")
        while not node.followers:
            await at.pilot.pause(0.02)
        node.beat(b'event: bye\ndata: {"why": "stopping"}\n\n')
        await at.until("the node is stopping")
        await at.until("● live")


async def test_a_login_that_ends_is_asked_for_and_the_token_kept(node: FakeNode) -> None:
    node.token = "mgs_old"
    target = Target(node.url, authorization="Bearer mgs_old", user="ana")
    async with terminal(node, target=target, first="consumers") as at:
        await at.until("● live", "billing")
        node.token = "mgs_other"
        node.beat()
        await at.until("the login has ended")
        assert grey(at) and "billing" in at.text
        await at.pilot.pause(0.2)
        await at.type("wrong")
        await at.press("enter")
        await at.pilot.pause(0.3)
        shown = "\n".join(str(widget.render()) for widget in at.app.screen.query("Static"))
        assert "user name or password is wrong" in shown
        await at.type("right")
        await at.press("enter")
        await at.until("● live", without="the login has ended")
        assert at.app.client.target.authorization == "Bearer mgs_new"


def _whole(answer: object) -> bool:
    """Its rows have names: it is shown, whatever the values are."""
    return isinstance(answer, dict) and isinstance(answer.get("consumers"), list) and "at" in answer["consumers"][0]


@pytest.mark.parametrize("answer", [
    [], {}, {"consumers": 1}, {"consumers": [{}], "total": "x", "matched": 0, "next": 0}, "text", 12,
    {"consumers": [{"name": None}], "total": 1, "matched": 1, "next": None, "nodes": []},
    {"consumers": [{"name": 1, "at": [], "lag_events": {}, "lag_seconds": "x", "trend": [], "state": 7}], "total": 1,
     "matched": 1, "next": None, "nodes": []}])
async def test_an_answer_of_another_version_is_one_line(node: FakeNode, answer: object) -> None:
    node._page = lambda name, params: answer        # type: ignore[assignment, method-assign, return-value]
    async with terminal(node, first="consumers") as at:
        await at.until("⊠", "again in") if not _whole(answer) else await at.until("● live")
        await at.press("down", "enter", "x", "z", "s", "escape", "escape")
        assert at.app.is_running


async def test_nobody_there_a_port_of_something_else_and_a_foreign_certificate(
        node: FakeNode, certificates: Certificates) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    other = await asyncio.start_server(chatter, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    secure = await asyncio.start_server(closes, "127.0.0.1", 0, ssl=_server_context(certificates))
    tls = secure.sockets[0].getsockname()[1]
    for url, wanted in ((f"http://127.0.0.1:{port}", "not an HTTP answer"),
                        (f"https://localhost:{tls}", "the node's certificate is not trusted"),
                        (f"https://127.0.0.1:{node.port}", "TLS failed")):
        async with terminal(node, size=(160, 30), target=Target(url)) as at:
            await at.until("⊠", wanted)
            assert "Traceback" not in at.text
    other.close()
    secure.close()
    await node.stop()
    async with terminal(node, size=(160, 30), target=Target(node.url)) as at:
        await at.until("nothing listens on", "○ no answer yet")


async def test_forty_by_twelve_is_too_small_and_says_so(node: FakeNode) -> None:
    async with terminal(node, size=(40, 12)) as at:
        await at.pilot.pause(0.3)
        small = at.app.query_one("#small")
        assert small.display and "40×12 is too small" in str(small.render())        # type: ignore[attr-defined]
        assert not at.app.query_one("#body").display
        await at.pilot.resize_terminal(100, 30)
        await at.until("● live", "2 things need attention")
        assert at.app.query_one("#body").display


async def test_names_with_escapes_stay_in_their_cells(node: FakeNode) -> None:
    names = ("\x1b[2J\x1b[Hboo\r\n", "שלום\u202e日本語" * 9, "👨\u200d👩\u200d👧🇦🇹 e" + "\u0301" * 30)
    for row, name in zip(node.tables["consumers"], names):
        row["name"] = name
    node.tables["consumers"][0]["forecast"] = "\x9b31m\u2028never"
    async with terminal(node, size=(80, 24), first="consumers") as at:
        await at.until("␛[2J␛[Hboo␍␊")
        strips = at.app.view._strips        # type: ignore[union-attr]
        assert all(strip.cell_length == 80 for strip in strips)
        assert not any(char in "\x1b\x9b\r\n\u202e\u2028\u200d" for strip in strips for char in strip.text)
        await at.press("enter")
        await at.until("consumers › ␛[2J")
