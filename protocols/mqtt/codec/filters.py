"""Topic filters as clients write them."""
from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from routing.errors import TopicError
from routing.queues.options import QUEUE_TOPICS


class Share(NamedTuple):
    """Of "$share/group/filter"; or "$queue/name", whose members share the queue of that name: filter is that topic."""

    group: str
    filter: str
    is_queue: bool = False


def parse_share(pattern: str) -> Share | None:
    """None for a filter that is not shared. Raises TopicError.

    Sources: [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    """
    if pattern != "$share" and not pattern.startswith("$share/"):
        is_queue = pattern.startswith(QUEUE_TOPICS) and "+" not in pattern and "#" not in pattern
        return Share(unquote(pattern.removeprefix(QUEUE_TOPICS)), pattern, True) if is_queue else None
    parts = pattern.split("/", 2)
    if len(parts) < 3 or not parts[1] or not parts[2]:
        raise TopicError("a shared subscription is $share/<group>/<filter>")
    if "+" in parts[1] or "#" in parts[1]:
        raise TopicError("the name of a share group must not contain + or #")
    return Share(parts[1], parts[2])


def text_bytes(pattern: str) -> int:
    return len(pattern) if pattern.isascii() else len(pattern.encode())
