"""The way of a record over bridges, in a header of its own, so that none goes in circles. Pure.

    bridge-path: mesh:graz-1/3f0c… kafka:MkU3OEVBNTcwNTJENDM2Qk

Each bridge adds where the record leaves from. Whoever would take one in that has been there already leaves it alone: a
mesh those that one of its nodes has sent, a cluster those that came from it. A way never holds a place twice, so it
ends.
The name does not begin with meshgate-: a node whose Kafka door is the outside cluster would rename that.
"""
from __future__ import annotations

from collections.abc import Iterable

from routing.event import Headers

HEADER = "bridge-path"
PLACES_MAX = 32             # a longer way is taken for a circle


def places(headers: Iterable[tuple[str, object]]) -> list[str]:
    """Where a record has been, oldest first."""
    for name, value in headers:
        if name == HEADER:
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            return text.split() if isinstance(text, str) else []
    return []


def extended(headers: Headers, place: str) -> Headers:
    """The headers with one more place. There is one such header, and it stands last."""
    way = " ".join((*places(headers), place))
    return (*(header for header in headers if header[0] != HEADER), (HEADER, way))


def of_cluster(cluster_id: str) -> str:
    return f"kafka:{cluster_id}"


def of_node(node: str, epoch: str) -> str:
    return f"mesh:{node}/{epoch}"
