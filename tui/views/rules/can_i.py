"""May they? Asked of the node's own rules, answered with the one that decides: can-i ana publish orders/1 roles=till"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.text import clean, fit
from tui.views.view import View
from tui.widgets.line import BAD, BLANK, DIM, GOOD, KEY, TEXT, TITLE, Line, wrapped

if TYPE_CHECKING:
    from tui.api.client import Client

USAGE = "can-i USER ACTION [TOPIC] [roles=A,B] [client_id=ID]"
NAME_WIDTH = 16


class CanI(View):
    NAME = "can-i"
    TITLE = "Can I?"
    STILL = True
    ABOUT = "A question to the rules in force, answered with the rule that decides."

    def __init__(self, question: str) -> None:
        super().__init__()
        words = question.split()
        named = {name: value for word in words for name, eq, value in [word.partition("=")]
                 if eq and name in ("roles", "client_id")}
        plain = [word for word in words if word.partition("=")[0] not in named]
        self.user, self.action, self.about = [*plain, "", "", ""][:3]
        self.roles = [role for role in named.get("roles", "").split(",") if role]
        self.client_id = named.get("client_id", "")
        self.answer: dict[str, Any] | None = None

    async def load(self, client: Client) -> Any:
        if not self.action:
            return None
        return await client.post("can-i", {
            "user": self.user, "action": self.action, "topic": self.about, "roles": self.roles,
            "client_id": self.client_id})

    def take(self, data: Any) -> None:
        self.answer = data

    def params(self) -> dict[str, str]:
        return {"user": self.user, "roles": ",".join(self.roles), "client_id": self.client_id, "action": self.action,
                "topic": self.about}

    def lines(self, width: int, height: int) -> list[Line]:
        if self.answer is None:
            return [BLANK, *wrapped("Ask with the command bar:", DIM, width, "  "), BLANK,
                    Line([(f"  :{USAGE}", KEY)]), BLANK,
                    *wrapped("Actions: connect, publish, subscribe, browse, view, operate, audit, administer, manage. "
                             "Without roles the user counts as one who has none.", DIM, width, "  ")]
        answer = self.answer
        verdict = ("○ allowed", GOOD) if answer["allowed"] else ("⊠ denied", BAD)
        asked = f"{answer['user']} {answer['action']} {answer['topic']}".rstrip()
        found = [BLANK, Line([("  ", TEXT), (clean(asked), TITLE), ("  ", TEXT), verdict]), BLANK]
        for title, value in (("decided by", answer["rule"]), ("else", answer["runner_up"]),
                             ("would change it", answer["change"]), ("roles", ", ".join(answer["roles"]))):
            if value:
                head, *rest = wrapped(clean(str(value)), TEXT, width - 1, " " * (NAME_WIDTH + 2))
                found += [Line([(f"  {fit(title, NAME_WIDTH)}", DIM), *head.pieces[1:]]), *rest]
        return found

    def question(self) -> str:
        return " ".join(word for word in ("can-i", self.user, self.action, self.about) if word)
