"""Predicates: what a binding asks of an event beside its topic. Plain values, so that they can be stored and compared.

Each costs a bounded number of comparisons: its own size times, at most, the headers of the event.
"""
from __future__ import annotations

from typing import Any, Literal, TypeAlias
from zlib import crc32

import msgspec

from routing.event import Event, HeaderValue
from routing.queues.selecting.selector import matches
from routing.topic import filter_matches

PAIRS_MAX = 128             # of one header predicate
FILTERS_MAX = 32            # of one topic predicate


class HeadersMatch(msgspec.Struct, frozen=True, tag="headers", array_like=True):
    """A headers exchange's binding: all or any of these pairs. A value of None asks only that the header is there.

    Numbers are equal by value, whatever their width; true is not 1.         Source: RabbitMQ, headers exchange
    """

    match: Literal["all", "any"]
    pairs: tuple[tuple[str, Any], ...] = ()     # each value a HeaderValue

    def matches(self, event: Event) -> bool:
        headers = dict(event.headers)
        found = (name in headers and (wanted is None or _same(headers[name], wanted)) for name, wanted in self.pairs)
        return all(found) if self.match == "all" else any(found)


class TopicsMatch(msgspec.Struct, frozen=True, tag="topics", array_like=True):
    """All of these filters match the topic, too: for bindings from exchange to exchange."""

    filters: tuple[str, ...]

    def matches(self, event: Event) -> bool:
        return all(filter_matches(pattern, event.topic) for pattern in self.filters)


class HashMatch(msgspec.Struct, frozen=True, tag="hash", array_like=True):
    """A share of a consistent hash: of what, and the half-open range of 0..65535 that is this binding's.

    what: "topic", "message_id", "correlation", or "header:<name>". What an event lacks counts as empty text.
    """

    what: str
    ranges: tuple[tuple[int, int], ...]

    def matches(self, event: Event) -> bool:
        bucket = hash_of(self.what, event)
        return any(start <= bucket < end for start, end in self.ranges)


class SelectorMatch(msgspec.Struct, frozen=True, tag="selector", array_like=True):
    """A condition in the SQL-92 of JMS, see selecting/selector.py. Its text has been checked."""

    text: str

    def matches(self, event: Event) -> bool:
        return matches(self.text, event)


class AllMatch(msgspec.Struct, frozen=True, tag="every", array_like=True):
    """Several predicates at once."""

    predicates: tuple[HeadersMatch | TopicsMatch | HashMatch | SelectorMatch, ...]

    def matches(self, event: Event) -> bool:
        return all(predicate.matches(event) for predicate in self.predicates)


Predicate: TypeAlias = HeadersMatch | TopicsMatch | HashMatch | SelectorMatch | AllMatch


def hash_of(what: str, event: Event) -> int:
    """0..65535, the same on every node and after every start: CRC-32 folded."""
    properties = event.properties
    if what == "topic":
        value: HeaderValue = event.topic
    elif what == "message_id":
        value = properties.message_id if properties is not None else None
    elif what == "correlation":
        value = properties.correlation if properties is not None else None
    else:
        value = dict(event.headers).get(what.removeprefix("header:"))
    data = value if isinstance(value, bytes) else b"" if value is None else str(value).encode("utf-8", "replace")
    digest = crc32(data)
    return (digest >> 16) ^ (digest & 0xFFFF)


def _same(value: HeaderValue, wanted: HeaderValue) -> bool:
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted
