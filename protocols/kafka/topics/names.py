"""Names of Kafka topics and the mesh topics behind them: orders.eu ↔ orders/eu.

A dot is a level's end, and a Kafka name has no slash: so no two names meet.               Source: Kafka, Topic.validate
"""
from __future__ import annotations

import re

from routing.retained.retained import RETAINED_STREAM
from routing.state import STATE_STREAM

NAME_MAX = 249              # Kafka's own bound: the longest that fits in the name of a directory
INTERNAL = frozenset((STATE_STREAM, RETAINED_STREAM))
_NAME = re.compile(r"[a-zA-Z0-9._-]+")


def name_problem(name: str) -> str | None:
    """Why this is no name of a Kafka topic; None when it is one."""
    if not name or name in (".", ".."):
        return "a topic name must not be empty, . or .."
    if len(name) > NAME_MAX:
        return f"a topic name has at most {NAME_MAX} characters"
    if name in INTERNAL:
        return "the name is that of a stream of the node itself"
    if not _NAME.fullmatch(name):
        return "a topic name has letters, digits, dots, dashes and underscores only"
    return None


def mesh_topic(name: str) -> str:
    """The topic of records that come without one of their own."""
    return name.replace(".", "/")


def captures(name: str) -> tuple[str, ...]:
    """What the stream of a Kafka topic captures: its topic and all below it."""
    return (f"{mesh_topic(name)}/#",)
