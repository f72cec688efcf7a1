"""What may be done, and how dangerous it is. The node says what an act would touch (dry_run) before it is done.

    reversible       pause, resume, drain                       preview, enter
    touches readers  seek back, kick, connect anew, move        preview, enter
    loses data       skip to the end, delete                    preview, the typed name, a reason
"""
from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote


class Danger(enum.Enum):
    """The rungs of the ladder."""

    REVERSIBLE = "can be undone"
    TOUCHES = "touches readers"
    LOSES = "loses data"


@dataclass(frozen=True)
class Act:
    """label: in the menu.  target: what has to be typed when it loses data.  path: below /api/v1/.

    asks: a field of the body that who acts has to say first, and what it is.
    """

    label: str
    target: str
    method: str
    path: str
    danger: Danger = Danger.REVERSIBLE
    body: Mapping[str, Any] = field(default_factory=dict)
    asks: tuple[str, str] = ("", "")

    def told(self, value: str) -> Act:
        """With what it asks for."""
        return replace(self, body={**self.body, self.asks[0]: value})


WHERE_TO = ("to", "To which topic? $queue/NAME is a queue")


def _paths(kind: str, name: str, node: str) -> tuple[str, str]:
    """What stands before and behind the name of an act.  node: where it is done; "": at the node that is asked."""
    return f"{kind}/{quote(name, safe='')}", f"?node={quote(node, safe='')}" if node else ""


def consumer_acts(name: str, *, paused: bool, node: str = "") -> list[Act]:
    path, where = _paths("consumers", name, node)
    first = Act("resume", name, "POST", f"{path}/resume{where}") if paused else Act(
        "pause", name, "POST", f"{path}/pause{where}")
    return [
        first,
        Act("read all again, from the earliest", name, "POST", f"{path}/seek{where}", Danger.TOUCHES,
            {"to": "earliest"}),
        Act("move what waits to another topic or queue", name, "POST", f"{path}/move{where}", Danger.TOUCHES,
            asks=WHERE_TO),
        Act("skip to the end: what waits is not read", name, "POST", f"{path}/seek{where}", Danger.LOSES,
            {"to": "latest"}),
        Act("delete, with its place in the log", name, "DELETE", f"{path}{where}", Danger.LOSES),
    ]


def bridge_acts(name: str, *, paused: bool, node: str = "") -> list[Act]:
    path, where = _paths("bridges", name, node)
    return [Act("resume", name, "POST", f"{path}/resume{where}") if paused else Act(
        "pause", name, "POST", f"{path}/pause{where}")]


def queue_acts(name: str, *, paused: bool, node: str = "") -> list[Act]:
    path, where = _paths("consumers", name, node)
    first = Act("resume", name, "POST", f"{path}/resume{where}") if paused else Act(
        "pause", name, "POST", f"{path}/pause{where}")
    return [
        first,
        Act("move what is ready to another queue or topic", name, "POST", f"{path}/move{where}", Danger.TOUCHES,
            asks=WHERE_TO),
        Act("purge: forget what is ready", name, "POST", f"{path}/purge{where}", Danger.LOSES),
        Act("delete, with all that is in it", name, "DELETE", f"{path}{where}", Danger.LOSES),
    ]


def link_acts(identifier: str, state: str, node: str = "") -> list[Act]:
    path, where = _paths("links", identifier, node)
    first = (Act("resume", identifier, "POST", f"{path}/resume{where}") if state == "paused"
             else Act("pause", identifier, "POST", f"{path}/pause{where}"))
    return [
        first,
        Act("drain: pause once what is queued has been sent", identifier, "POST", f"{path}/drain{where}"),
        Act("connect anew", identifier, "POST", f"{path}/kick{where}", Danger.TOUCHES),
    ]


def client_acts(client_id: str, node: str = "") -> list[Act]:
    path, where = _paths("clients", client_id, node)
    return [Act("kick: close its connection", client_id, "POST", f"{path}/kick{where}", Danger.TOUCHES)]


def login_acts(identifier: str, user: str) -> list[Act]:
    return [
        Act("end this login", user, "DELETE", f"logins/{quote(identifier, safe='')}"),
        Act(f"end all logins of {user}", user, "POST", "logins/end", Danger.TOUCHES, {"user": user}),
    ]


def managed_acts(plural: str, name: str, version: str) -> list[Act]:
    path, _ = _paths(plural, name, "")
    return [Act("delete: what lives by it ends", name, "DELETE", path, Danger.TOUCHES, {"version": version})]


def draft_acts(name: str) -> list[Act]:
    path, _ = _paths("drafts", name, "")
    return [Act("apply all of its changes", name, "POST", f"{path}/apply", Danger.TOUCHES),
            Act("forget it", name, "DELETE", path)]


def revision_acts(number: str) -> list[Act]:
    return [Act("everything as it was after it", number, "POST", f"revisions/{number}/rollback", Danger.TOUCHES)]


def conflict_acts(name: str) -> list[Act]:
    path, _ = _paths("conflicts", name, "")
    return [Act("it is well as it is: forget the conflict", name, "DELETE", path)]


def letter_acts(consumer: str, *, running: bool, ids: Sequence[str] = (), node: str = "") -> list[Act]:
    """ids: of these dead letters only."""
    path, where = _paths("deadletters", consumer, node)
    which = "this one" if ids else "all"
    body = {"ids": list(ids)} if ids else {}
    found = [
        Act(f"redrive {which}: hand to the consumer once more", consumer, "POST", f"{path}/redrive{where}",
            Danger.TOUCHES, body),
        Act(f"move {which} to another topic or queue", consumer, "POST", f"{path}/redrive{where}", Danger.TOUCHES, body,
            WHERE_TO),
        Act(f"discard {which}", consumer, "POST", f"{path}/discard{where}", Danger.LOSES, body),
    ]
    if not ids:
        found.insert(1, Act("redrive all, ten a second", consumer, "POST", f"{path}/redrive{where}", Danger.TOUCHES,
                            {"rate": 10}))
    if running:
        found.append(Act("stop what goes on", consumer, "DELETE", f"{path}/redrive{where}"))
    return found
