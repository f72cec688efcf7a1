"""The pictures of docs/tui.md, made anew: `make screenshots`. Answers and clock are those of the tests.

    python -m tests.tui.screenshots docs/images
"""
from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from rich.console import Console

from tests.tui.fake import FakeNode, terminal

PICTURES = (                                    # file, command, what is there once it has loaded, theme
    ("tui-pulse", "pulse", "88,140 published", "dark"),
    ("tui-map", "map", "sender ↓", "dark"),
    ("tui-consumers", "consumers", "wall-display", "light"),
)
SIZE = (110, 30)
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)     # they would be fetched from elsewhere


async def main(folder: Path) -> None:
    for name, command, wanted, theme in PICTURES:
        node = FakeNode()
        await node.start()
        async with terminal(node, SIZE, first=command, theme=theme) as at:
            at.app.console = Console(file=at.app.console.file, color_system="truecolor", force_terminal=True)
            await at.until(wanted, "production", "● live")
            for widget in (*at.app.views, *at.app.query("Bar")):
                widget.repaint(whole=True)      # type: ignore[attr-defined]
            await at.pilot.pause(0.3)
            picture = FONTS.sub("", at.app.export_screenshot(title="meshgate tui", simplify=True))
            (folder / f"{name}.svg").write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
            print(folder / f"{name}.svg")
        await node.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
