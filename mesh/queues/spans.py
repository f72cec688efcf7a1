"""Spans: which events of other nodes' logs a part of a queue takes. Each event has one part that takes it:

    its own node's, if there is one          (from where on that one takes them, it says when it joins)
    else that of the part that collects      one of them; when it is lost, another one goes on from where it had come to

A span is a half-open range of offsets of an origin partition. It is what was decided for that partition by name; what
was not is this part's if it collects, and the origin's node has no part.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from routing.event import Event, OriginPartition

OPEN: Final = 2**53             # of a span that has no end yet
SPANS_MAX: Final = 64           # of one partition; beyond it the oldest are joined
ORIGINS_MAX: Final = 10_000     # partitions that something was decided for; beyond it the others are as by default


class SpanRow(msgspec.Struct, array_like=True):
    """As it is stored."""

    node: str
    epoch: str
    stream: str
    index: int
    spans: list[tuple[int, int]]


class Spans:
    """Of one part."""

    __slots__ = ("_spans", "collects", "members")

    def __init__(self) -> None:
        self.collects = True
        self.members: dict[str, None] = {}              # the other nodes that have a part
        self._spans: dict[OriginPartition, list[tuple[int, int]]] = {}

    def takes(self, event: Event) -> bool:
        origin = event.origin
        if origin is None:
            return True
        spans = self._spans.get(origin)
        if spans is None:
            return self.collects and origin.node not in self.members
        offset = event.origin_offset
        return any(since <= offset < until for since, until in spans)

    def end_at(self, origin: OriginPartition, offset: int) -> None:
        """From there on its events are not ours."""
        spans = self._spans.get(origin)
        if spans is None:
            if len(self._spans) >= ORIGINS_MAX:             # whoever joins and leaves says what he likes
                return
            spans = [(0, OPEN)] if self.collects and origin.node not in self.members else []
        self._spans[origin] = [(since, min(until, offset)) for since, until in spans if since < offset]

    def begin_at(self, origin: OriginPartition, offset: int) -> int:
        """From there on its events are ours, but for what was so before. Returns from where on that is."""
        known = self._spans.get(origin)
        if known:
            offset = max(offset, known[-1][1]) if known[-1][1] != OPEN else offset
        self.end_at(origin, offset)
        spans = self._spans.get(origin)
        if spans is None:
            return offset
        if spans and spans[-1][1] == offset:
            spans[-1] = (spans[-1][0], OPEN)
        else:
            spans.append((offset, OPEN))
        if len(spans) > SPANS_MAX:
            spans[:2] = [(spans[0][0], spans[1][1])]
        return offset

    def origins(self) -> Iterable[OriginPartition]:
        return list(self._spans)

    def rows(self) -> list[SpanRow]:
        return [SpanRow(origin.node, origin.epoch, origin.stream, origin.index, spans)
                for origin, spans in self._spans.items()]

    def put(self, origin: OriginPartition, spans: list[tuple[int, int]]) -> None:
        self._spans[origin] = spans
