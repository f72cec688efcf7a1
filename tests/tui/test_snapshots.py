"""What every screen looks like at three sizes, light, dark and with 16 colours: snapshots/*.svg, for a browser.

MESHGATE_UPDATE_SNAPSHOTS=1 writes them anew. The clock, the answers and the sizes stand still.
"""
from __future__ import annotations

import os
from itertools import zip_longest
from pathlib import Path

import pytest
from rich.color import Color
from rich.style import Style

from tests.tui.fake import FakeNode, Terminal, event, terminal
from tests.tui.picture import Run, sheet, taken
from tui.commands import SCREENS as ALL
from tui.widgets.line import ROLES
from tui.widgets.palette import THEMES, palette

FOLDER = Path(__file__).with_name("snapshots")
SIZES = ((80, 24), (120, 40), (160, 50))
SCREENS = {                                     # command → what is there once it has loaded
    "pulse": "88,140 published", "map": "sender ↓", "nodes": "plant-lyon", "links": "plant-lyon", "streams": "events",
    "topics": "plant", "consumers": "wall-display", "deadletters": "waiting", "deadletters/billing": "rejected",
    "clients": "press-1", "webhooks": "orders-hook", "bridges": "erp/orders", "policies": "tills", "denials": "eve",
    "audit": "consumer.pause", "drafts": "spring", "revisions": "user/bob", "conflicts": "policy/tills", "users": "bob",
    "keys": "till-7", "roles": "chief", "peers": "plant-linz", "masks": "card.number", "quotas": "pos-7",
    "listeners": "127.0.0.1:1883", "browse plant/# from=1h": "that is all",
    "tail plant/#": "04:59:02", "journey events:0:2": "at 2 of 3 nodes",
    "queues": "△ unread", "exchanges": "topic", "bindings": "eu.#", "groups": "sales-etl", "transactions": "till-7",
    "logins": "browser", "contexts": "No contexts yet", "can-i ana publish pos/1": "allowed",
    "links/plant-lyon%3A7420": "the other end says", "help": "Look",
}


async def screens(size: tuple[int, int]) -> dict[str, list[list[Run]]]:
    node = FakeNode()
    node.browse["events"] = [event(1), event(2, payload="text"), event(3, payload=None, payload_base64="AAE=")]
    await node.start()
    found = {}
    try:
        async with terminal(node, size) as at:
            await at.until("production", "● live")
            for command, wanted in SCREENS.items():
                at.app.command(command)
                await at.until(wanted, ": go")
                found[command] = await taken(at)
            found.update(await dialogs(at))
    finally:
        await node.stop()
    return found


async def dialogs(at: Terminal) -> dict[str, list[list[Run]]]:
    """What lies over a screen: the command bar, the menu of acts, the preview."""
    found = {}
    at.app.command("consumers")
    await at.until("wall-display", ": go")
    await at.type(":li")
    found["the command bar"] = await taken(at)
    await at.press("escape", "x")
    await at.pilot.pause(0.1)
    found["the acts of a consumer"] = await taken(at)
    await at.press("end", "enter")
    await at.pilot.pause(0.3)
    found["an act that loses data"] = await taken(at)
    await at.press("escape")
    return found


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No contexts of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_looks_as_it_did(size: tuple[int, int]) -> None:
    assert {command.partition(" ")[0] for command in SCREENS} >= set(ALL)
    file = FOLDER / f"{size[0]}x{size[1]}.svg"
    found = sheet(size, await screens(size))
    if os.environ.get("MESHGATE_UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(found)
    name = ""
    for line, known in zip_longest(found.splitlines(), file.read_text().splitlines()):
        name = line if line is not None and "<title>" in line else name
        assert line == known, name


def luminance(color: Color) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [value / 255 for value in color.get_truecolor()]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_colours_can_be_read_on_every_ground(theme: object) -> None:
    """4.5:1, also under the cursor; grey for old figures 3:1."""
    dark = theme.dark       # type: ignore[attr-defined]
    styles = palette(dark, False, False)
    own = [Color.parse(text) for text in (theme.background, theme.surface)]     # type: ignore[attr-defined]
    grounds = [*own, styles["marked"].bgcolor]
    for ground in grounds:
        assert ground is not None
        for role in ROLES:
            color = styles[role].color
            assert color is not None and contrast(color, ground) >= 4.5, (role, ground)
        grey = palette(dark, False, True)["text"].color
        assert grey is not None and contrast(grey, ground) >= 2.4


def test_with_sixteen_colours_only_their_names_are_used() -> None:
    for style in palette(True, True, False).values():
        assert isinstance(style, Style)
        assert style.color is None or (style.color.number is not None and style.color.number < 16)
        assert style.bgcolor is None
