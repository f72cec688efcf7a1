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
        await at.until_dialog("ActsMenu")
        await at.press("enter")
        await at.until_dialog("Confirm", "lag_events", "6,000")
        assert node.acts == [("POST", "consumers/billing/pause", {"dry_run": True})], "only asked so far"
        await at.type("night")
        await at.press("enter")
        await at.until_it(lambda: len(node.acts) == 2 and at.toasts())
        assert node.acts[-1] == ("POST", "consumers/billing/pause", {"reason": "night"})
        assert any("audit record 13" in text for text in at.toasts())
        asked = [params for method, path, params in node.seen if path == "consumers/billing/pause"]
        assert all(params == {"node": "cloud-eu"} for params in asked), "it is done at the node whose row it is"


async def test_what_loses_data_wants_the_name_and_a_reason(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("x acts")
        await at.press("x")
        await at.until_dialog("ActsMenu")
        await at.press("end", "enter")
        await at.until_dialog("Confirm", "Type the name")
        await at.press("enter")
        await at.type("bill")
        await at.press("enter")
        assert len(node.acts) == 1, "a wrong name does nothing"
        await at.type("ing")
        await at.press("enter")
        assert len(node.acts) == 1, "without a reason nothing is done"
        await at.type("gone")
        await at.press("enter")
        await at.until_it(lambda: len(node.acts) == 2)
        assert node.acts[-1] == ("DELETE", "consumers/billing", {"reason": "gone"})


async def test_a_dead_letter_is_redriven_alone_or_with_all(node: FakeNode) -> None:
    async with terminal(node, first="deadletters/billing") as at:
        await at.until("bad order", "x acts")
        await at.press("x")
        await at.until_dialog("ActsMenu")
        await at.press("enter")
        await at.until_dialog("Confirm")
        await at.press("enter")
        await at.until_it(lambda: len(node.acts) == 2)
        assert node.acts[-1] == ("POST", "deadletters/billing/redrive", {"ids": ["dead:0:7"], "reason": ""})


async def test_what_waits_is_moved_to_where_one_says(node: FakeNode) -> None:
    async with terminal(node, first="queues") as at:
        await at.until("jobs", "x acts")
        await at.press("x")
        await at.until_dialog("ActsMenu")
        await at.press("down", "enter")
        await at.until_dialog("Asked", "$queue/NAME")
        await at.press("enter")
        assert not node.acts, "it has to be said where to"
        await at.type("$queue/later")
        await at.press("enter")
        await at.until_dialog("Confirm")
        assert node.acts == [("POST", "consumers/jobs/move", {"to": "$queue/later", "dry_run": True})]
        await at.press("enter")
        await at.until_it(lambda: len(node.acts) == 2)
        assert node.acts[-1] == ("POST", "consumers/jobs/move", {"to": "$queue/later", "reason": ""})


async def test_x_before_the_node_has_said_who_we_are_waits_for_it(node: FakeNode) -> None:
    node.held.add("whoami")
    async with terminal(node, first="consumers") as at:
        await at.until("billing", without="x acts")
        await at.press("x")
        await at.until_it(lambda: any("Asking the node" in text for text in at.toasts()))
        node.held.clear()
        await at.until_dialog("ActsMenu", "billing")


async def test_esc_leaves_every_dialog_and_nothing_happens(node: FakeNode) -> None:
    async with terminal(node, first="links") as at:
        await at.until("x acts")
        for name, key in (("ActsMenu", "escape"), ("ActsMenu", "enter"), ("Confirm", "escape")):
            if name == "ActsMenu":
                await at.press("x")
            await at.until_dialog(name)
            await at.press(key)
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
        await at.until_dialog("ActsMenu")
        node.refuse = (403, "user ana may not operate: no rule allows it")
        await at.press("enter")
        await at.until_it(at.toasts)
        assert any(text == "user ana may not operate: no rule allows it" for text in at.toasts())
