"""The dashboard: keys, the views behind each other, the header, what is said when something goes wrong.

    header   who, where, live or not · the title        view   the lines of one screen        hints / prompt
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from textual import events, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Input, Static

from tui import contexts, show
from tui.api.client import Client
from tui.api.errors import ApiError, Fault
from tui.api.target import Target
from tui.commands import SCREENS, CommandError, complete_filter, completions, parse
from tui.feed import Feed
from tui.text import clean
from tui.views.browse import Events
from tui.views.catalogue import view_for
from tui.views.event import Event
from tui.views.table import TableView
from tui.views.view import View
from tui.widgets.chrome import Bar, key_pieces
from tui.widgets.dialogs import ActsMenu, Confirm, Login
from tui.widgets.line import ACCENT, BAD, DIM, GOOD, KEY, NOTE, TITLE, WARN, Piece
from tui.widgets.lines import UNEXPECTED
from tui.widgets.palette import THEMES
from tui.widgets.prompt import Prompt

WIDTH_MIN, HEIGHT_MIN = 60, 16
VIEWS_MAX = 30                  # behind each other; then the oldest goes
STALE_AFTER_S = 6.0             # … or three periods: figures that are older are grey


def _binding(key: str, action: str) -> Binding:
    """With priority: the app handles it at once, so that what is typed fast behind a ":" goes to the prompt."""
    return Binding(key, action, show=False, priority=True)


OWN_ACTIONS = frozenset((
    "prompt", "command", "leave", "quit", "view", "tail", "sort", "sort_turn", "wide", "trouble", "hold", "again",
    "acts", "can_i", "copy", "copy_address", "page", "move", "sideways", "leaf", "edge"))


class Dashboard(App[None]):
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
    BINDINGS: ClassVar[list[BindingType]] = [
        _binding("colon", "prompt(':')"), _binding("slash", "prompt('/')"),
        _binding("question_mark", "command('help')"),
        _binding("escape", "leave"), _binding("q", "quit"), _binding("enter", "view('enter')"),
        _binding("d", "view('describe')"), _binding("l", "tail"), _binding("s", "sort"), _binding("S", "sort_turn"),
        _binding("w", "wide"), _binding("z", "trouble"), _binding("p", "hold"), _binding("r", "again"),
        _binding("x", "acts"), _binding("c", "can_i"), _binding("y", "copy"), _binding("Y", "copy_address"),
        _binding("n", "page(True)"), _binding("b", "page(False)"),
        _binding("up,k", "move(-1)"), _binding("down,j", "move(1)"), _binding("left", "sideways(-1)"),
        _binding("right", "sideways(1)"), _binding("pageup,ctrl+b", "leaf(-1)"),
        _binding("pagedown,ctrl+f,space", "leaf(1)"),
        _binding("home,g", "edge(False)"), _binding("end,G", "edge(True)"),
    ]

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
        self._introducing = False
        self._asking = False                # a login dialog is open
        self.animation_level = "none"

    # -- life -------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Bar(self._header_rows, "header")
        yield Container(id="body")
        yield Bar(self._hint_rows, "hints")
        yield Prompt(self._complete)
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
            self.views.pop(0).remove()
        self.query_one("#body").mount(view)
        self._show(view)

    def _show(self, view: View) -> None:
        view.display = True
        self.screen_stack[0].set_focus(view)
        self._follow()

    def _follow(self) -> None:
        """Ask for the data of the view on top, from now on."""
        if self._feeding is not None:
            self._feeding.cancel()
        view = self.view
        assert view is not None
        self._feeding = asyncio.get_running_loop().create_task(self.feed.run(view, view.topic))
        self._feeding.add_done_callback(_consume)
        self._chrome()

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
        self._chrome()

    def _health_changed(self) -> None:
        self._age()
        problem = self.feed.health.problem
        if problem is not None and problem.fault is Fault.LOGIN and not self._asking:
            self._asking = True
            self._ask_login(problem.text)

    def _second(self) -> None:
        if self.stale or self.feed.health.problem is not None:
            self._age()

    def _age(self) -> None:
        if self.view is not None:
            self.view.set_stale(self.stale)
        self._chrome()

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

    def _chrome(self) -> None:
        header = self.query_one("#header", Bar)
        header.set_class(self.feed.health.problem is not None, "trouble")
        header.repaint()
        self.query_one("#hints", Bar).repaint()

    def _header_rows(self) -> Sequence[tuple[Sequence[Piece], Sequence[Piece]]]:
        view = self.view
        where: list[Piece] = [(" meshgate ", ACCENT)]
        environment = str(self.node.get("environment") or "")
        if environment:
            where.append((f" {clean(environment)} ", KEY))
        if self.node:
            where += [(f" {clean(str(self.node['name']))}", TITLE), (f" {clean(str(self.node['site']))}", DIM)]
        else:
            where.append((f" {clean(self.client.target.shown)}", DIM))
        who: list[Piece] = []
        if self.me:
            who.append((f"{clean(str(self.me['user']))}{' (looks only)' if not self._may_act else ''}  ", DIM))
        who.append(self._live_piece())
        title: list[Piece] = [(f" {view.title if view is not None else ''}  ", TITLE)]
        if view is not None:
            title += view.headline()
        rows: list[tuple[Sequence[Piece], Sequence[Piece]]] = [(where, who), (title, [])]
        problem = self.feed.health.problem
        if problem is not None:
            again = f"; again in {self.feed.health.retry_in_s:.0f} s" if self.feed.health.retry_s is not None else ""
            rows.append(([(f" ⊠ {clean(problem.text)}{again}", BAD)], []))
        return rows

    def _live_piece(self) -> Piece:
        health = self.feed.health
        at = "" if health.fresh_s is None else f" {time.strftime('%H:%M:%S', time.gmtime(health.fresh_s))}"
        if self.stale:
            return (f"○ {show.duration(health.age_s)} old " if health.age_s is not None else "○ no answer yet ", BAD)
        if health.age_s is None:
            return ("◌ connecting ", WARN)
        if self.feed.paused:
            return (f"‖ held, as at{at} ", NOTE)
        if self.view is not None and self.view.STILL:
            return (f"◦ as at{at} ", DIM)
        return (f"● live{at} ", GOOD)

    def _hint_rows(self) -> Sequence[tuple[Sequence[Piece], Sequence[Piece]]]:
        view = self.view
        keys = [(":", "go"), ("?", "keys")]
        if isinstance(view, TableView):
            keys += [("/", "find" if isinstance(view, Events) else "filter")]
            keys += [("z", "problems")] if view.TROUBLE else []
            keys += [] if isinstance(view, Events) else [("s", "sort")]
        if view is not None and view.topics():
            keys.append(("l", "tail"))
        if view is not None and self._may_act and view.acts(self._may):
            keys.append(("x", "acts"))
        keys += [("p", "go on" if self.feed.paused else "hold"), ("esc", "back"), ("q", "quit")]
        return [(key_pieces(keys), [])]

    @property
    def _may(self) -> dict[str, bool]:
        return self.me.get("may", {})       # type: ignore[no-any-return]

    @property
    def _may_act(self) -> bool:
        return not self.readonly and bool(self._may.get("operate"))

    # -- commands ---------------------------------------------------------------------------------------------

    def command(self, text: str) -> None:
        try:
            command = parse(text, str(self.node.get("base_path") or ""))
            if command.name == "quit":
                self.exit()
            elif command.name == "sort":
                self._sort_by(command.rest)
            elif command.name == "context":
                self._use_context(command.rest)
            elif command.name == "login":
                self._asking = True
                self._ask_login("")
            elif command.name == "help" and self.view is not None and self.view.NAME == "help":
                return
            else:
                self.go(view_for(command))
        except (CommandError, ApiError) as error:
            self.say(str(error), "warning")

    def _sort_by(self, text: str) -> None:
        if not isinstance(self.view, TableView) or isinstance(self.view, Events):
            raise CommandError("this screen has no order to choose")
        if not text:
            raise CommandError("sort by what? sort -lag_events")
        self.view.ask(sort=text)

    def _complete(self, sign: str, text: str) -> list[str]:
        view = self.view
        fields = view.fields() if isinstance(view, TableView) else []
        if sign == "/":
            return complete_filter(text, fields)
        head = text.partition(" ")[0].partition("/")[0]
        if isinstance(view, TableView) and head != view.NAME:
            fields = fields if head == "sort" else []
        names = [str(row[view.KEY]) for row in view.rows] if isinstance(view, TableView) and head == view.NAME else []
        known: Iterable[str] = ()
        if head == "context":
            try:
                known = contexts.load().contexts
            except ApiError:
                known = ()
        return completions(text, fields=fields, contexts=known, names=names)

    def say(self, text: str, severity: str = "information") -> None:
        self.notify(clean(text), severity=severity, markup=False, timeout=6)     # type: ignore[arg-type]

    # -- messages ---------------------------------------------------------------------------------------------

    def on_view_go(self, message: View.Go) -> None:
        if message.command:
            self.command(message.command)

    def on_events_open(self, message: Events.Open) -> None:
        self.go(Event(message.event))

    def on_view_changed(self, message: View.Changed) -> None:
        if message.view is self.view:
            self._follow()

    def on_view_say(self, message: View.Say) -> None:
        self.say(message.text, message.severity)

    def on_prompt_done(self, message: Prompt.Done) -> None:
        self._close_prompt()
        if message.sign == ":":
            if message.text.strip():
                self.command(message.text)
        elif isinstance(self.view, TableView):
            self.view.ask(filter=message.text.strip())

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        small = width < WIDTH_MIN or height < HEIGHT_MIN
        self.screen_stack[0].set_class(small, "small")
        self.query_one("#small", Static).update(
            f"{width}×{height} is too small:\nthis needs {WIDTH_MIN}×{HEIGHT_MIN}.\nq quits")

    # -- keys -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Our keys are letters: none of them counts while somebody types, or in a dialog."""
        if action not in OWN_ACTIONS:
            return True
        if len(self.screen_stack) > 1:
            return False
        return action == "leave" or not isinstance(self.focused, Input)

    def action_prompt(self, sign: str) -> None:
        if sign == "/" and not isinstance(self.view, TableView):
            return
        text = ""
        if sign == "/" and isinstance(self.view, TableView):
            text = self.view.search.get("match", "") if isinstance(self.view, Events) else self.view.filter
        self.query_one("#hints").display = False
        self.query_one(Prompt).open(sign, text)

    def _close_prompt(self) -> None:
        self.query_one(Prompt).close()
        self.query_one("#hints").display = True
        if self.view is not None:
            self.screen.set_focus(self.view)

    def action_command(self, text: str) -> None:
        self.command(text)

    def action_leave(self) -> None:
        """Out of the prompt; then the filter goes; then to the view before."""
        if self.query_one(Prompt).is_open:
            self._close_prompt()
            return
        view = self.view
        if isinstance(view, TableView) and not isinstance(view, Events) and (view.filter or view.trouble):
            view.ask(filter="", trouble=False)
            return
        if len(self.views) > 1:
            self.views.pop().remove()
            before = self.view
            assert before is not None
            self._show(before)

    def action_view(self, name: str) -> None:
        if self.view is not None:
            getattr(self.view, name)()

    def action_move(self, lines: int) -> None:
        if self.view is not None:
            self.view.move(lines)

    def action_leaf(self, pages: int) -> None:
        if self.view is not None:
            self.view.page(pages)

    def action_edge(self, end: bool) -> None:
        if self.view is not None:
            self.view.edge(end)

    def action_sideways(self, cells: int) -> None:
        if self.view is not None:
            self.view.sideways(cells)

    def action_sort(self) -> None:
        if isinstance(self.view, TableView):
            self.view.sort_next()

    def action_sort_turn(self) -> None:
        if isinstance(self.view, TableView):
            self.view.sort_turn()

    def action_wide(self) -> None:
        if isinstance(self.view, TableView):
            self.view.toggle_wide()

    def action_trouble(self) -> None:
        if not isinstance(self.view, TableView) or not self.view.toggle_trouble():
            self.say("This screen has no problems to pick out.")

    def action_page(self, forward: bool) -> None:
        if isinstance(self.view, TableView):
            self.view.turn_page(forward)

    def action_hold(self) -> None:
        self.feed.paused = not self.feed.paused
        if not self.feed.paused:
            self._follow()
        self._chrome()

    def action_again(self) -> None:
        self._follow()

    def action_tail(self) -> None:
        topics = self.view.topics() if self.view is not None else ""
        if topics:
            self.command(f"tail {topics}")
        else:
            self.action_prompt(":")
            self.query_one(Prompt).open(":", "tail ")

    def action_can_i(self) -> None:
        if self.view is not None:
            self.action_prompt(":")
            self.query_one(Prompt).open(":", self.view.question())

    def action_copy(self) -> None:
        subject = self.view.subject() if self.view is not None else ""
        if subject:
            self.copy_to_clipboard(subject)
            self.say(f"copied {clean(subject)[:60]}")

    def action_copy_address(self) -> None:
        if self.view is not None:
            address = self.base_url() + self.view.address()
            self.copy_to_clipboard(address)
            self.say(f"copied {address}")

    def base_url(self) -> str:
        """Of the web console of the node that is asked."""
        if self.client.target.socket is None:
            return self.client.target.url
        for listener in self.node.get("listeners", ()):
            if listener["protocol"] == "console" and listener["addresses"]:
                base_path = self.node.get("base_path") or ""
                return f"http{'s' if listener['tls'] else ''}://{listener['addresses'][0]}{base_path}"
        return self.client.target.url

    # -- acts -------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="acts", exit_on_error=False)
    async def action_acts(self) -> None:
        view = self.view
        if view is None or not self._may_act:
            self.say("Started with --readonly." if self.readonly else "You may look, not act: that needs the right to "
                     "operate.", "warning")
            return
        acts = view.acts(self._may)
        if not acts:
            self.say("Nothing can be done here.")
            return
        act = await self.push_screen_wait(ActsMenu(view.subject(), acts))
        if act is None:
            return
        try:
            preview = await self.client.act(act.method, act.path, {**act.body, "dry_run": True})
            reason = await self.push_screen_wait(Confirm(act, preview))
            if reason is None:
                return
            done = await self.client.act(act.method, act.path, {**act.body, "reason": reason})
        except ApiError as error:
            self.say(error.text, "error")
            return
        self.say(f"done: {act.label}; audit record {done.get('audit')}")
        self._follow()

    # -- logins and other nodes -------------------------------------------------------------------------------

    @work(exclusive=True, group="login", exit_on_error=False)
    async def _ask_login(self, problem: str) -> None:
        try:
            while True:
                target = self.client.target
                answer = await self.push_screen_wait(Login(target.shown, target.user, problem))
                if answer is None:
                    return
                try:
                    found = await self._login(*answer)
                except ApiError as error:
                    problem = error.text
                    continue
                await self.client.use(target.with_token(found["token"], found["user"]))
                self.me = {}
                self._remember(found["token"])
                self._follow()
                return
        finally:
            self._asking = False

    async def _login(self, user: str, password: str) -> dict[str, Any]:
        target = self.client.target
        client = Client(Target(target.url, target.socket, "", user, target.ca))
        try:
            return await client.post("login", {"user": user, "password": password})
        finally:
            await client.close()

    def _remember(self, token: str) -> None:
        """The token goes where the context has its old one."""
        name = self.client.target.context
        if not name:
            return
        try:
            known = contexts.load()
            before = known.find(name)
            known.contexts[name] = contexts.Context(before.url, self.client.target.user, token, before.ca)
            contexts.save(known)
        except ApiError as error:
            self.say(error.text, "warning")

    @work(exclusive=True, group="context", exit_on_error=False)
    async def _use_context(self, name: str) -> None:
        try:
            target = contexts.load().find(name).target(name)
        except ApiError as error:
            self.say(error.text, "warning")
            return
        if self._feeding is not None:
            self._feeding.cancel()
        await self.client.use(target)
        self.me, self.node = {}, {}
        self.feed.health = type(self.feed.health)(self._clock)
        for view in self.views:
            view.remove()
        self.views = []
        self.command("pulse")

    # -- the palette ------------------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        for name in SCREENS:
            yield SystemCommand(name, "Go there", lambda name=name: self.command(name))
        for theme in THEMES:
            yield SystemCommand(theme.name, "Colours", lambda theme=theme: self._use_theme(theme.name))
        yield SystemCommand("quit", "Leave", self.exit)

    def _use_theme(self, name: str) -> None:
        self.theme = name
        for widget in (*self.views, *self.query(Bar)):
            widget.repaint(whole=True)


def _consume(task: asyncio.Task[None]) -> None:
    """An error of ours in the feed is not lost in silence: the figures get old, and the header says so."""
    if not task.cancelled():
        task.exception()

