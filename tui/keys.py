"""The keys: each does something to the view on top, or goes somewhere else."""
from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui.shell import Shell
from tui.text import clean
from tui.views.events.browse import Events
from tui.views.table import TableView
from tui.widgets.prompt import Prompt


def _binding(key: str, action: str) -> Binding:
    """With priority: the app handles it at once, so that what is typed fast behind a ":" goes to the prompt."""
    return Binding(key, action, show=False, priority=True)


OWN_ACTIONS = frozenset((
    "prompt", "command", "leave", "quit", "view", "tail", "sort", "sort_turn", "wide", "trouble", "hold", "again",
    "acts", "can_i", "copy", "copy_address", "page", "move", "sideways", "leaf", "edge", "journey"))


class Keys(Shell):
    BINDINGS: ClassVar[list[BindingType]] = [
        _binding("colon", "prompt(':')"), _binding("slash", "prompt('/')"),
        _binding("question_mark", "command('help')"),
        _binding("escape", "leave"), _binding("q", "quit"), _binding("enter", "view('enter')"),
        _binding("d", "view('describe')"), _binding("l", "tail"), _binding("s", "sort"), _binding("S", "sort_turn"),
        _binding("w", "wide"), _binding("z", "trouble"), _binding("p", "hold"), _binding("r", "again"),
        _binding("x", "acts"), _binding("c", "can_i"), _binding("y", "copy"), _binding("Y", "copy_address"),
        _binding("n", "page(True)"), _binding("b", "page(False)"),
        _binding("up", "move(-1)"), _binding("down", "move(1)"), _binding("j", "journey"),
        _binding("left", "sideways(-1)"), _binding("right", "sideways(1)"), _binding("pageup,ctrl+b", "leaf(-1)"),
        _binding("pagedown,ctrl+f,space", "leaf(1)"),
        _binding("home,g", "edge(False)"), _binding("end,G", "edge(True)"),
    ]

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

    def close_prompt(self) -> None:
        self.query_one(Prompt).close()
        self.query_one("#hints").display = True
        if self.view is not None:
            self.screen.set_focus(self.view)

    def action_command(self, text: str) -> None:
        self.command(text)

    def action_leave(self) -> None:
        """Out of the prompt; then the filter goes; then to the view before."""
        if self.query_one(Prompt).is_open:
            self.close_prompt()
            return
        view = self.view
        if isinstance(view, TableView) and not isinstance(view, Events) and (view.filter or view.trouble):
            view.ask(filter="", trouble=False)
            return
        if len(self.views) > 1:
            self.drop(self.views.pop())
            before = self.view
            assert before is not None
            self.show_view(before)

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
            self.follow()
        self.chrome()

    def action_again(self) -> None:
        self.follow()

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

    def action_journey(self) -> None:
        """Of the event that the cursor is on; else: of which one?"""
        event = self.view.event_id() if self.view is not None else ""
        if event:
            self.command(f"journey {event}")
        else:
            self.action_prompt(":")
            self.query_one(Prompt).open(":", "journey ")

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
