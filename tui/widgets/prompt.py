"""The line at the bottom into which commands and filters are typed, with completion."""
from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input, Static

HISTORY_MAX = 100
CHARACTERS_MAX = 2_000


class _First(Suggester):
    """The first completion, in grey behind the cursor."""

    def __init__(self, complete: Callable[[str], list[str]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        return next(iter(self._complete(value)), None) if value else None


class _Field(Input):
    """tab takes a completion, again the next one; up and down go through what was typed before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete(1)", show=False), Binding("shift+tab", "complete(-1)", show=False),
        Binding("up", "past(-1)", show=False), Binding("down", "past(1)", show=False),
    ]

    def __init__(self, complete: Callable[[str], list[str]], taken: Callable[[str], None]) -> None:
        super().__init__(id="field", suggester=_First(complete), max_length=CHARACTERS_MAX, select_on_focus=False)
        self._find = complete
        self._taken = taken
        self._offers: list[str] = []
        self._chosen = -1
        self.history: list[str] = []
        self._place = 0

    async def action_submit(self) -> None:
        """At once, not by a message: what is typed behind enter is for the screen that it leads to."""
        self._taken(self.value)

    def action_complete(self, step: int) -> None:
        if not self._offers or self.value != self._offers[self._chosen]:
            self._offers, self._chosen = self._find(self.value), -1 if step > 0 else 0
        if self._offers:
            self._chosen = (self._chosen + step) % len(self._offers)
            self.value = self._offers[self._chosen]
            self.cursor_position = len(self.value)

    def action_past(self, step: int) -> None:
        place = max(min(self._place + step, len(self.history)), 0)
        self._place = place
        self.value = self.history[place] if place < len(self.history) else ""
        self.cursor_position = len(self.value)

    def remember(self, text: str) -> None:
        if text and (not self.history or self.history[-1] != text):
            self.history = [*self.history, text][-HISTORY_MAX:]
        self._place = len(self.history)


class Prompt(Horizontal):
    """open(sign, text), and done(sign, text) when enter takes it."""

    DEFAULT_CSS = """
    Prompt { height: 1; display: none; background: $panel; }
    Prompt > #sign { width: 2; color: $accent; text-style: bold; background: $panel; }
    Prompt > #field { border: none; height: 1; padding: 0; background: $panel; width: 1fr; }
    """

    def __init__(self, complete: Callable[[str, str], list[str]], done: Callable[[str, str], None]) -> None:
        """complete: (sign, what was typed) → whole lines.  sign: ":" or "/"."""
        super().__init__(id="prompt")
        self.sign = ":"
        self._complete = complete
        self._done = done

    def compose(self) -> ComposeResult:
        yield Static(":", id="sign", markup=False)
        yield _Field(lambda text: self._complete(self.sign, text), self._taken)

    @property
    def field(self) -> _Field:
        return self.query_one("#field", _Field)

    @property
    def is_open(self) -> bool:
        return bool(self.display)

    def open(self, sign: str, text: str) -> None:
        self.sign = sign
        self.query_one("#sign", Static).update(sign)
        self.display = True
        self.field.value = text
        self.field.cursor_position = len(text)
        self.screen.set_focus(self.field)       # at once: the next key is its

    def close(self) -> None:
        self.display = False
        self.field.value = ""

    def _taken(self, text: str) -> None:
        if self.sign == ":":
            self.field.remember(text.strip())
        self._done(self.sign, text)
