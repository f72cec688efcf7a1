"""What changes something: only in the menu, with a preview, a reason, and the name where data is lost."""
from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.tui.fake import FakeNode, terminal


@pytest_asyncio.fixture
async def node() -> AsyncIterator[FakeNode]:
    found = FakeNode()
    await found.start()
    yield found
    await found.stop()


async def test_pausing_a_consumer_shows_what_it_touches_and_takes_a_reason(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("x acts")
        await at.press("x")
        await at.press("enter")
        await at.pilot.pause(0.2)
        assert node.acts == [("POST", "consumers/billing/pause", {"dry_run": True})], "only asked so far"
        shown = "\n".join(str(widget.render()) for widget in at.app.screen.query("Static"))
        assert "lag_events" in shown and "6,000" in shown
        await at.type("night")
        await at.press("enter")
        await at.pilot.pause(0.2)
        assert node.acts[-1] == ("POST", "consumers/billing/pause", {"reason": "night"})
        assert any("audit record 13" in text for text in at.toasts())
        asked = [params for method, path, params in node.seen if path == "consumers/billing/pause"]
        assert all(params == {"node": "cloud-eu"} for params in asked), "it is done at the node whose row it is"


async def test_what_loses_data_wants_the_name_and_a_reason(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("x acts")
        await at.press("x", "end", "enter")
        await at.pilot.pause(0.2)
        await at.press("enter")
        await at.type("bill")
        await at.press("enter")
        assert len(node.acts) == 1, "a wrong name does nothing"
        await at.type("ing")
        await at.press("enter")
        assert len(node.acts) == 1, "without a reason nothing is done"
        await at.type("gone")
        await at.press("enter")
        await at.pilot.pause(0.2)
        assert node.acts[-1] == ("DELETE", "consumers/billing", {"reason": "gone"})


async def test_a_dead_letter_is_redriven_alone_or_with_all(node: FakeNode) -> None:
    async with terminal(node, first="deadletters/billing") as at:
        await at.until("bad order", "x acts")
        await at.press("x", "enter")
        await at.pilot.pause(0.2)
        await at.press("enter")
        await at.pilot.pause(0.2)
        assert node.acts[-1] == ("POST", "deadletters/billing/redrive", {"ids": ["dead:0:7"], "reason": ""})


async def test_esc_leaves_every_dialog_and_nothing_happens(node: FakeNode) -> None:
    async with terminal(node, first="links") as at:
        await at.until("x acts")
        await at.press("x", "escape")
        await at.press("x", "enter")
        await at.pilot.pause(0.2)
        await at.press("escape")
        assert [body for _, _, body in node.acts] == [{"dry_run": True}]
        await at.until("Links")


async def test_who_may_only_look_gets_no_menu(node: FakeNode) -> None:
    node.whoami["may"] = {"view": True, "operate": False}
    async with terminal(node, first="consumers") as at:
        await at.until("(looks only)", without="x acts")
        await at.press("x")
        assert any("You may look, not act" in text for text in at.toasts())
    node.whoami["may"] = {"view": True, "operate": True}
    async with terminal(node, first="consumers", readonly=True) as at:
        await at.until("(looks only)", without="x acts")
        await at.press("x")
        assert any("--readonly" in text for text in at.toasts())
    assert not node.acts


async def test_no_two_keys_change_anything(node: FakeNode) -> None:
    """Whatever is pressed twice on any screen, nothing but a question is sent."""
    keys = ["x", "d", "l", "s", "S", "w", "z", "p", "r", "c", "y", "Y", "n", "b", "enter", "space", "delete",
            "backspace", "ctrl+d", "ctrl+k", "ctrl+x"]
    for first in ("consumers", "links", "deadletters"):
        async with terminal(node, first=first) as at:
            await at.until("x acts")
            for key in keys:
                await at.press(key, "enter" if key == "x" else key)
                await at.press("escape", "escape")
    assert all(body.get("dry_run") for _, _, body in node.acts), node.acts


async def test_a_refusal_is_one_line(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("x acts")
        await at.press("x")
        node.refuse = (403, "user ana may not operate: no rule allows it")
        await at.press("enter")
        await at.pilot.pause(0.2)
        assert any(text == "user ana may not operate: no rule allows it" for text in at.toasts())
