"""What asks before something happens: the menu of acts, the preview with its confirmation, the password."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui import show
from tui.acts import Act, Danger
from tui.text import clean, cut

PREVIEW_LINES_MAX = 12
HIDDEN = ("dry_run", "act", "target")


class Dialog(ModalScreen[Any]):
    """A box in the middle; esc leaves it with None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back", show=False)]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical { width: 72; max-width: 95%; height: auto; max-height: 90%; padding: 0 1;
                        border: round $accent; background: $surface; }
    Dialog OptionList { height: auto; max-height: 14; background: $surface; padding: 0; }
    Dialog OptionList, Dialog OptionList:focus { border: none; }
    Dialog Input, Dialog Input:focus { border: none; height: 1; padding: 0; background: $panel; margin: 0 0 1 0; }
    Dialog .problem { color: $error; height: auto; }
    Dialog .quiet { color: $foreground 70%; height: auto; }
    Dialog .head { text-style: bold; height: auto; }
    """

    def action_leave(self) -> None:
        self.dismiss(None)


class ActsMenu(Dialog):
    """Gives the act that was chosen."""

    def __init__(self, subject: str, acts: Sequence[Act]) -> None:
        super().__init__()
        self._subject = subject
        self._acts = acts

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(clean(self._subject), classes="head", markup=False)
            yield OptionList(*(Option(f"{number}  {act.label}  ({act.danger.value})")
                               for number, act in enumerate(self._acts, 1)), markup=False)
            yield Static("enter: preview   esc: leave", classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._acts[event.option_index])


class Asked(Dialog):
    """What an act has to know before it can say what it touches. Gives the text."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self._act = act

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._act.label, classes="head", markup=False)
            yield Static(self._act.asks[1], classes="quiet", markup=False)
            yield Input(id="asked", max_length=1_000)
            yield Static("enter: preview   esc: leave", classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.dismiss(event.value.strip())


class Confirm(Dialog):
    """What it would touch; a reason; for what loses data also the name. Gives the reason."""

    def __init__(self, act: Act, preview: Mapping[str, Any]) -> None:
        super().__init__()
        self._act = act
        self._preview = preview

    @property
    def _typed(self) -> bool:
        return self._act.danger is Danger.LOSES

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"{self._act.label}", classes="head", markup=False)
            yield Static("\n".join(self._lines()), markup=False)
            if self._typed:
                yield Static(f"This {self._act.danger.value}. Type the name to go on: {clean(self._act.target)}",
                             classes="problem", markup=False)
                yield Input(placeholder="name", id="name")
            yield Static("Reason" + ("" if self._typed else " (may be left out)"), classes="quiet", markup=False)
            yield Input(placeholder="for the audit trail", id="reason", max_length=500)
            yield Static("enter: do it   esc: leave", classes="quiet", id="hint", markup=False)

    def _lines(self) -> list[str]:
        found = [f"{clean(self._act.target)}: {self._act.danger.value}"]
        found += [f"  {clean(name):<26} {cut(clean(show.plain(name, value)), 40)}"
                  for name, value in show.flat(self._preview) if name not in HIDDEN]
        return found if len(found) <= PREVIEW_LINES_MAX else [*found[:PREVIEW_LINES_MAX - 1], "  …"]

    def on_mount(self) -> None:
        self.query_one("#name" if self._typed else "#reason", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        reason = self.query_one("#reason", Input).value.strip()
        hint = self.query_one("#hint", Static)
        if self._typed and self.query_one("#name", Input).value != self._act.target:
            hint.update("The name is another one. Nothing was done.")
        elif self._typed and not reason:
            self.query_one("#reason", Input).focus()
            hint.update("What loses data needs a reason.")
        else:
            self.dismiss(reason)


class Login(Dialog):
    """Gives (user, password)."""

    def __init__(self, where: str, user: str, problem: str) -> None:
        super().__init__()
        self._where = where
        self._user = user
        self._problem = problem

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"Log in to {clean(self._where)}", classes="head", markup=False)
            yield Static(clean(self._problem), classes="problem", markup=False)
            yield Static("User", classes="quiet", markup=False)
            yield Input(self._user, id="user")
            yield Static("Password", classes="quiet", markup=False)
            yield Input(password=True, id="password")
            yield Static("enter: log in   esc: leave", classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one("#password" if self._user else "#user", Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        user, password = self.query_one("#user", Input).value, self.query_one("#password", Input).value
        if event.input.id == "user" and not password:
            self.query_one("#password", Input).focus()
        elif user and password:
            self.dismiss((user, password))
