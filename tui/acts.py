"""What may be done, and how dangerous it is. The node says what an act would touch (dry_run) before it is done.

    reversible       pause, resume, drain               preview, enter
    touches readers  seek back, kick, connect anew      preview, enter
    loses data       skip to the end, delete            preview, the typed name, a reason
"""
from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote


class Danger(enum.Enum):
    """The rungs of the ladder."""

    REVERSIBLE = "can be undone"
    TOUCHES = "touches readers"
    LOSES = "loses data"


@dataclass(frozen=True)
class Act:
    """label: in the menu.  target: what has to be typed when it loses data.  path: below /api/v1/."""

    label: str
    target: str
    method: str
    path: str
    danger: Danger = Danger.REVERSIBLE
    body: Mapping[str, Any] = field(default_factory=dict)


def consumer_acts(name: str, *, paused: bool) -> list[Act]:
    path = f"consumers/{quote(name, safe='')}"
    first = Act("resume", name, "POST", f"{path}/resume") if paused else Act("pause", name, "POST", f"{path}/pause")
    return [
        first,
        Act("read all again, from the earliest", name, "POST", f"{path}/seek", Danger.TOUCHES, {"to": "earliest"}),
        Act("skip to the end: what waits is not read", name, "POST", f"{path}/seek", Danger.LOSES, {"to": "latest"}),
        Act("delete, with its place in the log", name, "DELETE", path, Danger.LOSES),
    ]


def link_acts(identifier: str, state: str) -> list[Act]:
    path = f"links/{quote(identifier, safe='')}"
    first = (Act("resume", identifier, "POST", f"{path}/resume") if state == "paused"
             else Act("pause", identifier, "POST", f"{path}/pause"))
    return [
        first,
        Act("drain: pause once what is queued has been sent", identifier, "POST", f"{path}/drain"),
        Act("connect anew", identifier, "POST", f"{path}/kick", Danger.TOUCHES),
    ]


def client_acts(client_id: str) -> list[Act]:
    return [Act("kick: close its connection", client_id, "POST", f"clients/{quote(client_id, safe='')}/kick",
                Danger.TOUCHES)]
