"""What every screen is: an answer of the API, asked for again and again, as lines. The app knows only this."""
from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode

from textual.message import Message

from tui.widgets.lines import Lines

if TYPE_CHECKING:
    from tui.acts import Act
    from tui.api.client import Client
    from tui.widgets.line import Line


class View(Lines, can_focus=True):
    """NAME: for the command bar, and the path in the web console.  TOPIC: of the live stream, the beat of the screen.

    A view that is static (STILL) is loaded once, and again when something about it changes. One that is FED shows what
    its stream brings, and is loaded once more whenever that was opened anew.
    """

    NAME: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    TOPIC: ClassVar[str] = "overview"
    STILL: ClassVar[bool] = False
    FED: ClassVar[bool] = False
    ABOUT: ClassVar[str] = ""

    class Changed(Message):
        """The view wants other data: load it now."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    class Go(Message):
        """Show something else. command: as in the command bar."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class Say(Message):
        """A word for the user; severity: information, warning or error."""

        def __init__(self, text: str, severity: str = "information") -> None:
            super().__init__()
            self.text = text
            self.severity = severity

    def __init__(self) -> None:
        super().__init__()
        self.loaded = False
        self.clock = time.time          # the app's; tests fix it

    @property
    def title(self) -> str:
        return self.TITLE

    @property
    def topic(self) -> str:
        return self.TOPIC

    def stream(self) -> str:
        """The live stream that is the beat of the screen, as a path of the API."""
        return f"stream?topics={quote(self.topic)}"

    # -- what the app asks for --------------------------------------------------------------------------------

    async def load(self, client: Client) -> Any:
        """Ask the API. Runs while other things happen, so it changes nothing. Raises ApiError."""
        raise NotImplementedError

    def take(self, data: Any) -> None:
        """Show what load() brought; or, where it is FED, an event of its stream."""
        raise NotImplementedError

    def took(self, data: Any) -> None:
        self.take(data)
        self.loaded = True
        self.repaint(strict=True)

    def headline(self) -> list[tuple[str, str]]:
        """Beside the title: how many, which filter."""
        return []

    def params(self) -> dict[str, str]:
        """What of the view stands in its address."""
        return {}

    @property
    def path(self) -> str:
        return f"/{self.NAME}"

    def address(self) -> str:
        """Of the same view in the web console, without the node's own address."""
        given = {name: value for name, value in self.params().items() if value}
        return self.path + (f"?{urlencode(given)}" if given else "")

    @property
    def now_ms(self) -> float:
        return self.clock() * 1000

    # -- keys that not every view has ---------------------------------------------------------------------------

    def enter(self) -> None:
        """Into what the cursor is on."""

    def describe(self) -> None:
        """All that is known of it."""
        self.enter()

    def subject(self) -> str:
        """What `y` copies."""
        return ""

    def topics(self) -> str:
        """The filter of what the cursor is on, for `l` and `b`; "" when it has none."""
        return ""

    def event_id(self) -> str:
        """The id of the event that the cursor is on, for `j`; "" when there is none."""
        return ""

    def question(self) -> str:
        """The beginning of a :can-i about what the cursor is on."""
        return "can-i "

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        """What may be done to it."""
        return []

    def move(self, lines: int) -> None:
        self.top = max(self.top + lines, 0)
        self.repaint()

    def page(self, pages: int) -> None:
        self.move(pages * max(self.size.height - 2, 1))

    def edge(self, end: bool) -> None:
        self.move(self.count if end else -self.count)

    def sideways(self, cells: int) -> None: ...


def at(name: str, key: str, node: str = "") -> str:
    """The command that opens the details of a thing.  node: whose it is; "": of the node that is asked."""
    return f"{name}/{quote(key, safe='')}" + (f" node={node}" if node else "")


def message_lines(text: str, role: str) -> list[Line]:
    from tui.widgets.line import BLANK, Line

    return [BLANK, Line([("  ", role), (text, role)])]
