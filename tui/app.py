"""The dashboard: commands, what views ask for, the palette. What it stands on is shell.py, keys.py and doing.py."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.app import SystemCommand
from textual.screen import Screen

from tui import contexts
from tui.api.errors import ApiError
from tui.commands import SCREENS, CommandError, complete_filter, completions, parse
from tui.doing import Doing
from tui.views.catalogue import view_for
from tui.views.events.browse import Events
from tui.views.events.event import Event
from tui.views.table import TableView
from tui.views.view import View
from tui.widgets.chrome import Bar
from tui.widgets.palette import THEMES


class Dashboard(Doing):
    """One terminal."""

    # -- commands ---------------------------------------------------------------------------------------------

    def command(self, text: str) -> None:
        try:
            command = parse(text, str(self.node.get("base_path") or ""))
            if command.name == "quit":
                self.exit()
            elif command.name == "sort":
                self._sort_by(command.rest)
            elif command.name == "context":
                self.use_context(command.rest)
            elif command.name == "login":
                self.asking = True
                self.ask_login("")
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

    def complete(self, sign: str, text: str) -> list[str]:
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

    # -- messages ---------------------------------------------------------------------------------------------

    def on_view_go(self, message: View.Go) -> None:
        if message.command:
            self.command(message.command)

    def on_events_open(self, message: Events.Open) -> None:
        self.go(Event(message.event))

    def on_view_changed(self, message: View.Changed) -> None:
        if message.view is self.view:
            self.follow()

    def on_view_say(self, message: View.Say) -> None:
        self.say(message.text, message.severity)

    def prompt_done(self, sign: str, text: str) -> None:
        self.close_prompt()
        if sign == ":":
            if text.strip():
                self.command(text)
        elif isinstance(self.view, TableView):
            self.view.ask(filter=text.strip())

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
