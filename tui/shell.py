"""What every part of the dashboard stands on: the node that is asked, the views behind each other, what is live.

    header   who, where, live or not · the title        view   the lines of one screen        hints / prompt

    Shell ◂ Keys ◂ Doing ◂ Dashboard (app.py)       each knows only what stands before it
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual import events, work
from textual._styles_cache import StylesCache
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.widgets import Static

from tui.api.client import Client
from tui.api.errors import ApiError, Fault
from tui.api.target import Target
from tui.feed import Feed
from tui.header import Rows, header_rows, hint_rows, live_piece
from tui.text import clean
from tui.views.view import View
from tui.widgets.chrome import Bar
from tui.widgets.lines import UNEXPECTED
from tui.widgets.palette import THEMES
from tui.widgets.prompt import Prompt

WIDTH_MIN, HEIGHT_MIN = 60, 16
VIEWS_MAX = 30                  # behind each other; then the oldest goes
STALE_AFTER_S = 6.0             # … or three periods: figures that are older are grey


class Shell(App[None]):
    """One terminal."""

    TITLE = "meshgate"
    ENABLE_COMMAND_PALETTE = True
    CSS = """
    Screen { layout: vertical; background: $background; }
    #header { height: 2; background: $surface; }
    #header.trouble { height: 3; }
    #body { height: 1fr; }
    #hints { height: 1; background: $surface; }
    #small { display: none; content-align: center middle; height: 1fr; }
    .small #header, .small #body, .small #hints, .small Prompt { display: none; }
    .small #small { display: block; }
    Toast { max-width: 90%; }
    """

    def __init__(self, target: Target, *, period_s: float = 1.0, readonly: bool = False, theme: str = "dark",
                 first: str = "pulse", clock: Callable[[], float] = time.time) -> None:
        """period_s: between two looks at the node, at the least.  first: a command."""
        super().__init__()
        self.client = Client(target)
        self.feed = Feed(self.client, period_s, clock, self._took, self._health_changed)
        self.readonly = readonly
        self.views: list[View] = []
        self.me: dict[str, Any] = {}        # whoami
        self.node: dict[str, Any] = {}      # status
        self._clock = clock
        self._first = first
        self._theme = theme
        self._feeding: asyncio.Task[None] | None = None
        self._header = Bar(self._header_rows, "header")
        self._hints = Bar(self._hint_rows, "hints")
        self._introducing = False
        self.asking = False                # a login dialog is open
        self.animation_level = "none"

    def command(self, text: str) -> None:
        """As in the command bar."""
        raise NotImplementedError

    def complete(self, sign: str, text: str) -> list[str]:
        """How what was typed in the prompt could go on."""
        raise NotImplementedError

    def prompt_done(self, sign: str, text: str) -> None:
        """What was typed behind ":" or "/", once enter has taken it."""
        raise NotImplementedError

    def ask_login(self, problem: str) -> object:
        """Who are you? problem: why we ask."""
        raise NotImplementedError

    # -- life -------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield self._header
        yield Container(id="body")
        yield self._hints
        yield Prompt(self.complete, self.prompt_done)
        yield Static(id="small", markup=False)

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = f"meshgate-{self._theme}"
        if self._driver is not None:
            self._driver.write("\x1b[8l")       # BDSM: names that run from right to left do not turn our lines round
        self.set_interval(1.0, self._second)
        self.command(self._first)

    async def on_unmount(self) -> None:
        if self._feeding is not None:
            self._feeding.cancel()
        await self.client.close()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        small = width < WIDTH_MIN or height < HEIGHT_MIN
        self.screen_stack[0].set_class(small, "small")
        self.query_one("#small", Static).update(
            f"{width}×{height} is too small:\nthis needs {WIDTH_MIN}×{HEIGHT_MIN}.\nq quits")

    # -- views ------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View | None:
        return self.views[-1] if self.views else None

    def go(self, view: View) -> None:
        """Show a view on top of what there is."""
        view.clock = self._clock
        if self.views:
            self.views[-1].display = False
        self.views.append(view)
        if len(self.views) > VIEWS_MAX:
            self.drop(self.views.pop(0))
        self.query_one("#body").mount(view)
        self.show_view(view)

    def show_view(self, view: View) -> None:
        view.display = True
        self.screen_stack[0].set_focus(view)
        self.follow()

    def drop(self, view: View) -> None:
        """It is shown no more. Textual would keep what it drew of the last thousand views (a cache with self in it)."""
        view.remove()
        StylesCache.get_inner_outer.cache_clear()

    def follow(self) -> None:
        """Ask for the data of the view on top, from now on."""
        if self._feeding is not None:
            self._feeding.cancel()
        view = self.view
        assert view is not None
        self._feeding = asyncio.get_running_loop().create_task(self.feed.run(view))
        self._feeding.add_done_callback(_consume)
        self.chrome()

    def say(self, text: str, severity: str = "information") -> None:
        self.notify(clean(text), severity=severity, markup=False, timeout=6)     # type: ignore[arg-type]

    # -- what comes -------------------------------------------------------------------------------------------

    def _took(self, view: View, data: Any) -> None:
        try:
            view.took(data)
        except UNEXPECTED as error:
            raise ApiError(Fault.SETUP, "the node's answer is not what this version expects") from error
        view.set_stale(False)
        if not self.me and not self._introducing:
            self._introducing = True
            self._introduce()

    @work(exit_on_error=False)
    async def _introduce(self) -> None:
        """Who we are, and which node this is."""
        try:
            self.me, self.node = await asyncio.gather(self.client.get("whoami"), self.client.get("status"))
        except ApiError:
            return                              # the next answer tries again
        finally:
            self._introducing = False
        self.chrome()

    def _health_changed(self) -> None:
        self._age()
        problem = self.feed.health.problem
        if problem is not None and problem.fault is Fault.LOGIN and not self.asking:
            self.asking = True
            self.ask_login(problem.text)

    def _second(self) -> None:
        if self.stale or self.feed.health.problem is not None:
            self._age()

    def _age(self) -> None:
        if self.view is not None:
            self.view.set_stale(self.stale)
        self.chrome()

    @property
    def stale(self) -> bool:
        """Is what stands on the screen old?"""
        health = self.feed.health
        if health.problem is not None:
            return True
        if health.age_s is None or self.feed.paused or (self.view is not None and self.view.STILL):
            return False
        return health.age_s > max(STALE_AFTER_S, 3 * self.feed.period_s)

    # -- header and hints -------------------------------------------------------------------------------------

    def chrome(self) -> None:
        self._header.set_class(self.feed.health.problem is not None, "trouble")
        self._header.repaint()
        self._hints.repaint()

    def _header_rows(self) -> Rows:
        who = f"{self.me['user']}{'' if self.may_act else ' (looks only)'}" if self.me else ""
        live = live_piece(self.view, self.feed.health, stale=self.stale, paused=self.feed.paused)
        return header_rows(self.view, self.feed.health, self.node, self.client.target.shown, who, live)

    def _hint_rows(self) -> Rows:
        view = self.view
        acts = view is not None and self.may_act and bool(view.acts(self.may))
        return hint_rows(view, acts=acts, paused=self.feed.paused)

    @property
    def may(self) -> dict[str, bool]:
        return self.me.get("may", {})       # type: ignore[no-any-return]

    @property
    def may_act(self) -> bool:
        return not self.readonly and bool(self.may.get("operate"))


def _consume(task: asyncio.Task[None]) -> None:
    """An error of ours in the feed is not lost in silence: the figures get old, and the header says so."""
    if not task.cancelled():
        task.exception()
