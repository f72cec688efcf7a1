"""Every key, driven against a node whose answers stand still."""
from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.tui.fake import FakeNode, consumer, event, terminal
from tui.commands import TABLES


@pytest_asyncio.fixture
async def node() -> AsyncIterator[FakeNode]:
    found = FakeNode()
    await found.start()
    yield found
    await found.stop()


async def test_the_first_screen_says_what_is_wrong_since_when_and_what_to_do(node: FakeNode) -> None:
    async with terminal(node) as at:
        await at.until("● live 05:00:00", "ana", "production")
        assert "⊠ 2 things need attention" in at.text
        assert "▸ ⊠ broken   for 2 m 10 s: the link to plant-lyon is blocked" in at.text
        assert "events to plant-lyon wait in the log · look at the receiver" in at.text
        assert "88,140 published" in at.text and "1,284.5" in at.text
        await at.press("down", "enter")
        await at.until("consumers › billing", "lag_events", "6,000")
        await at.press("escape")
        await at.until("Pulse")
        assert at.app.view is not None and at.app.view.subject() == "billing", "the cursor stands where it stood"


@pytest.mark.parametrize("name", TABLES)
async def test_every_table_has_its_screen_and_its_details(node: FakeNode, name: str) -> None:
    async with terminal(node, first=name) as at:
        rows = node.tables[name]
        view = at.app.view
        assert view is not None
        await at.until(f"{len(rows)}", "▸")
        subject = view.subject()
        # A denial has no name, and a binding is named by what its columns show.
        assert subject and (name in ("denials", "bindings") or any(subject in line for line in at.body))
        await at.press("enter")
        if name == "listeners":
            assert at.app.view is view
        elif name == "deadletters":
            await at.until("Dead letters › billing at cloud-eu", "bad order", "rejected")
        elif name == "topics":
            await at.until("Topics › plant")
            assert node.seen[-1][2]["under"] == "plant"
        else:
            await at.until(subject if name != "webhooks" else "orders-hook")


async def test_the_map_shows_sites_links_and_the_matrix(node: FakeNode) -> None:
    async with terminal(node, first="map") as at:
        await at.until("◌ plant-lyon", "⊠ blocked", "sender ↓")
        assert "△ 1 cannot be reached" in at.header[1]
        await at.press("down", "enter")
        await at.until("nodes › plant-graz")


async def test_filter_sort_problems_wide_and_pages(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("3", "billing")
        assert node.seen[0][2]["sort"] == "-lag_events"
        await at.press("slash")
        await at.type("name~arch")
        await at.press("enter")
        await at.until("/ name~arch", "archive", without="billing")
        await at.press("escape")
        await at.until("billing")
        await at.press("z")
        await at.until("△ only problems", without="archive")
        await at.press("escape")
        await at.until("archive")
        await at.press("s")
        await at.until("By time▼")
        await at.press("S")
        await at.until("By time▲")
        await at.press("w")
        assert "Filters" in at.body[0] or at.app.view.wide      # type: ignore[union-attr]
        await at.press("right", "right", "right")
        assert at.body[0].split()[0] == "Behind"
        await at.press("w")
        await at.type(":sort -name")
        await at.press("enter")
        await at.until("Consumer▼")
        assert at.body[1].split()[1] == "wall-display"


async def test_ten_thousand_consumers_are_paged_on_the_server(node: FakeNode) -> None:
    node.tables["consumers"] = [consumer(f"c-{number:05}") for number in range(10_000)]
    async with terminal(node, first="consumers") as at:
        at.app.view.ask(sort="name")        # type: ignore[union-attr]
        await at.until("1–1,000 of 10,000", "c-00000")
        await at.press("n")
        await at.until("1,001–2,000 of 10,000", "c-01000")
        await at.press("end")
        assert "▸ c-01999" in "\n".join(at.body)
        await at.press("b")
        await at.until("1–1,000 of 10,000", "c-00000")
        limits = {params["limit"] for method, path, params in node.seen if path == "consumers"}
        assert limits == {"1000"} and all("fields" in params for _, path, params in node.seen if path == "consumers")


async def test_the_cursor_stays_on_its_row_when_the_order_changes(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("billing")
        await at.press("down")
        assert at.app.view is not None and at.app.view.subject() == "archive"
        node.tables["consumers"][1] = consumer("archive", 9_000)
        node.beat()
        await at.until("9,000")
        assert at.body[1].startswith("▸ archive")


async def test_browse_says_how_far_it_looked_and_goes_on(node: FakeNode) -> None:
    node.browse = {"events": [event(1)], "scanned": 500, "remaining": 1_500, "done": False, "cursor": "abc"}
    async with terminal(node, first="browse plant/# from=2026-01-01T00:00:00Z match=on") as at:
        await at.until("1 of 500 looked at", "1,500 left to look at", "plant/#", "match on", '{"on": true}')
        node.browse = {"events": [], "scanned": 1_500, "remaining": 0, "done": True, "cursor": None}
        await at.press("n")
        await at.until("that is all", "No event fits.")
        assert node.seen[-1][2]["cursor"] == "abc"
        await at.press("b")
        await at.until("that is all")
        assert "cursor" not in node.seen[-1][2]


async def test_an_event_is_shown_as_json_as_bytes_and_not_without_the_right(node: FakeNode) -> None:
    node.browse["events"] = [event(1, payload='{"a": {"b": 1}}'), event(2, payload=None, payload_base64="AAFB/w=="),
                             event(3, readable=False, payload=None), event(4, payload="\x1b[2Jescape\x07")]
    async with terminal(node, first="browse #") as at:
        await at.until("(binary)", "(may not be read)", "␛[2Jescape␇")
        await at.press("enter")
        await at.until('    "b": 1', "publisher")
        await at.press("escape", "down", "enter")
        await at.until("00000000  00 01 41 ff", "··A·")
        await at.press("escape", "down", "enter")
        await at.until("You may not read this topic")


async def test_tail_adds_what_comes_and_keeps_the_cursor_at_the_end(node: FakeNode) -> None:
    """What was just before is looked for once; the rest the node tells by itself, and what passed by unseen."""
    async with terminal(node, first="tail plant/# match=lamp") as at:
        await at.until("Tail", "04:59:02", "● live")
        assert at.app.view is not None and at.app.view.address() == "/tail?filter=plant%2F%23&match=lamp"
        asked = len([one for one in node.seen if one[1] == "browse"])
        node.stored(event(2), event(3), event(4))
        await at.until("04:59:04")
        assert len(at.app.view.rows) == 4, "no event twice"       # type: ignore[attr-defined]
        assert at.body[-1].startswith("▸") or any(line.startswith("▸ 04:59:04") for line in at.body)
        await at.press("up")
        node.stored(event(5), skipped=1_200)
        await at.until("04:59:05", "1,200 passed by unseen")
        assert any(line.startswith("▸ 04:59:03") for line in at.body), "who has gone up stays there"
        assert len([one for one in node.seen if one[1] == "browse"]) == asked, "it asks no more"
        assert [one[2] for one in node.seen if one[1] == "tail"] == [{"filter": "plant/#", "match": "lamp"}]


async def test_a_tail_that_broke_has_no_gap(node: FakeNode) -> None:
    async with terminal(node, first="tail plant/#") as at:
        await at.until("04:59:02", "● live")
        node.browse["events"] = [event(2), event(3)]
        node.beat(b"")                                          # the connection ends
        await at.until("04:59:03", "● live")
        node.stored(event(4))
        await at.until("04:59:04")
        found = [one[2]["from"] for one in node.seen if one[1] == "browse"]
        assert found[-1] == "2026-11-30T04:59:01.000Z", "from a second before the newest that it had"


async def test_can_i_from_a_denial_and_by_hand(node: FakeNode) -> None:
    async with terminal(node, first="denials") as at:
        await at.until("eve")
        await at.press("c")
        assert at.app.query_one("#field").value == "can-i eve publish orders/1"      # type: ignore[attr-defined]
        await at.press("enter")
        await at.until("eve publish orders/1", "⊠ denied", "tills", "a rule that allows it")
        await at.type(":can-i ana publish a roles=till")
        await at.press("enter")
        await at.until("○ allowed")


async def test_completion_in_the_command_bar(node: FakeNode) -> None:
    async with terminal(node, first="links") as at:
        await at.until("plant-graz")
        await at.press("colon")
        await at.type("den")
        await at.press("tab", "enter")
        await at.until("Denials")
        await at.press("colon", "up")
        assert at.app.query_one("#field").value == "denials"        # type: ignore[attr-defined]
        await at.press("escape")
        await at.type(":fly")
        await at.press("enter")
        assert any("there is no fly" in text for text in at.toasts())


async def test_copies(node: FakeNode) -> None:
    async with terminal(node, first="links state!=up") as at:
        await at.until("plant-lyon")
        await at.press("y")
        assert at.app.clipboard == "plant-lyon:7420"
        await at.press("Y")
        assert at.app.clipboard == f"{node.url}/links?filter=state%21%3Dup"
        address = at.app.clipboard
        await at.press("escape", "colon")
        at.app.query_one("#field").value = f"open {address}"        # type: ignore[attr-defined]
        await at.press("enter")
        await at.until("/ state!=up")


async def test_hold_help_again_and_quit(node: FakeNode) -> None:
    async with terminal(node, first="consumers") as at:
        await at.until("● live")
        await at.press("p")
        await at.until("‖ held, as at 05:00:00")
        node.tables["consumers"][0]["lag_events"] = 7_777
        node.beat()
        await at.pilot.pause(0.2)
        assert "7,777" not in at.text
        await at.press("p")
        await at.until("● live", "7,777")
        loads = at.app.feed.loads
        await at.press("r")
        await at.until("● live")
        assert at.app.feed.loads > loads
        await at.press("question_mark")
        await at.until("only problems")
        await at.press("G")
        await at.until(":users", "name~billing")
        await at.press("escape")
        await at.until("Consumers")
        await at.press("q")
    assert not at.app.is_running


async def test_the_journey_of_an_event_names_who_got_it_and_who_did_not_and_why(node: FakeNode) -> None:
    async with terminal(node, size=(120, 40), first="browse plant/#") as at:
        await at.until("plant/graz/lamp", "j journey")
        await at.press("down", "j")
        await at.until("Journey › events:0:2", "at 2 of 3 nodes", "△ plant-lyon: no answer")
        assert ("GET", "journey", {"id": "events:0:2"}) in node.seen
        for line in ("over mqtt from press, client press-1; let in by rule presses", "○ acked", "⊠ denied",
                     "rule no-displays", "waiting",
                     "by 3 records; plant-lyon cannot be reached", "at subscribing to plant/#", "2 more want other"):
            assert line in at.text, line
        await at.press("Y")
        assert at.app.clipboard == f"{node.url}/journey?id=events%3A0%3A2"
        await at.press("escape")
        await at.until("Browse")
        await at.press("enter", "j")
        await at.until("Journey › events:0:2")


async def test_j_asks_for_an_event_where_there_is_none_and_looks_for_one_by_topic(node: FakeNode) -> None:
    async with terminal(node, first="pulse") as at:
        await at.until("● live")
        await at.press("j")
        await at.type("plant/# match=on")
        await at.press("enter")
        await at.until("Browse", "match on")
        at.app.command("deadletters/billing")
        await at.until("rejected")
        await at.press("j")
        await at.until("Journey › events:0:3")


async def test_a_journey_that_is_not_what_it_should_be_is_said(node: FakeNode) -> None:
    node.journey["legs"] = "none"
    async with terminal(node, first="journey events:0:2") as at:
        await at.until("not what this version expects")
