"""What every screen looks like at three sizes, as text: snapshots/*.txt. MESHGATE_UPDATE_SNAPSHOTS=1 writes them anew.

The clock, the answers and the sizes stand still. Colours are tested apart: they are a function of the roles.
"""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.color import Color
from rich.style import Style

from tests.tui.fake import FakeNode, Terminal, event, terminal
from tui.widgets.line import ROLES
from tui.widgets.palette import THEMES, palette

FOLDER = Path(__file__).with_name("snapshots")
SIZES = ((80, 24), (120, 40), (160, 50))
SCREENS = {                                     # command → what is there once it has loaded
    "pulse": "88,140 published", "map": "sender ↓", "nodes": "plant-lyon", "links": "plant-lyon", "streams": "events",
    "topics": "plant", "consumers": "wall-display", "deadletters": "waiting", "deadletters/billing": "rejected",
    "clients": "press-1", "webhooks": "orders-hook", "policies": "tills", "denials": "eve", "audit": "consumer.pause",
    "listeners": "127.0.0.1:1883", "browse plant/# from=1h": "that is all", "tail plant/#": "04:59:02",
    "journey events:0:2": "at 2 of 3 nodes",
    "queues": "△ unread", "exchanges": "topic", "bindings": "eu.#", "groups": "sales-etl", "transactions": "till-7",
    "logins": "browser", "can-i ana publish pos/1": "allowed",
    "links/plant-lyon%3A7420": "no acknowledgement", "help": "Look",
}
MARK = "═══ "


async def taken(size: tuple[int, int]) -> dict[str, str]:
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
                await at.pilot.pause(0.05)
                found[command] = picture(at)
    finally:
        await node.stop()
    return found


def picture(at: Terminal) -> str:
    """All lines of the screen without the blanks at their ends; empty lines at the end of the body left out."""
    body = "\n".join(at.body).rstrip("\n")
    return "\n".join([*at.header, body, *at.app.query_one("#hints").text])      # type: ignore[attr-defined]


def read(file: Path) -> dict[str, str]:
    parts = file.read_text().split(MARK)[1:]
    return {head: body.rstrip("\n") for head, _, body in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_screen_looks_as_it_did(size: tuple[int, int]) -> None:
    file = FOLDER / f"{size[0]}x{size[1]}.txt"
    found = await taken(size)
    if os.environ.get("MESHGATE_UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text("".join(f"{MARK}{name}\n{text}\n" for name, text in found.items()))
    known = read(file)
    assert list(known) == list(found)
    for name, text in found.items():
        assert text == known[name], name
        assert all(len(line) <= size[0] for line in text.splitlines())


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
