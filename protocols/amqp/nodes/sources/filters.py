"""Filters of a source: which of them are understood, and what they ask. AMQP 1.0 §3.5.8; apache.org's registry.

They are told by their descriptor, not by the key, which every client writes its own way. What is not understood is left
out of the answer: that is how a receiver learns of it.
"""
from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from protocols.amqp.codec.conditions import INVALID_FIELD, LinkFault
from protocols.amqp.codec.types import Described, Value
from protocols.amqp.nodes.sources.offsets import azure_offset
from routing.queues.predicates import Predicate, SelectorMatch
from routing.queues.selecting.selector import SelectorError, check

OFFSET = frozenset(("rabbitmq:stream-offset-spec",))
SELECTOR = frozenset((0x0000468C00000004, "apache.org:selector-filter:string"))


class Filters(NamedTuple):
    """applied: as the client wrote them. predicate: what a binding asks.

    start: where to begin, for offsets.start_of(), None: nothing is said. placing: that filter as the client wrote it,
    which applies to streams only.
    """

    applied: dict[Any, Any]
    predicate: Predicate | None = None
    start: Value = None
    placing: Mapping[Any, Any] = MappingProxyType({})

    def of_stream(self) -> Filters:
        """As they apply to one."""
        return self._replace(applied={**self.applied, **self.placing})


def filters_of(asked: dict[Any, Any] | None) -> Filters:
    """Raises LinkFault: a filter that is understood and wrong."""
    applied: dict[Any, Any] = {}
    placing: dict[Any, Any] = {}
    selector = start = None
    for key, value in (asked or {}).items():
        if not isinstance(value, Described):
            continue
        if value.descriptor in OFFSET:
            start, placing[key] = value.value, value
        elif value.descriptor in SELECTOR:
            if not isinstance(value.value, str):
                raise LinkFault(INVALID_FIELD, "a selector is a string")
            place = azure_offset(value.value)
            if place is not None:
                start, placing[key] = place, value
                continue
            try:
                check(value.value)
            except SelectorError as error:
                raise LinkFault(INVALID_FIELD, f"the selector is wrong: {error}") from None
            selector = value.value
            applied[key] = value
    return Filters(applied, SelectorMatch(selector) if selector else None, start, placing)
