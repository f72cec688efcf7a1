"""UnsettledMap: what a link that may be resumed knows of deliveries that came and are not settled. AMQP 1.0 §2.6.13.

    transfer ──► tag: None ── answer ──► tag: outcome ── the sender settles ──► gone
                                  └── first settle mode: settled with the answer ──► gone

It outlives its link: the next one of that name takes it over, and outcomes that are known later are written here.
"""
from __future__ import annotations

from typing import Any

from protocols.amqp.codec.composite import Composite, composed, plain
from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.performatives import Error, Rejected

Tags = dict[bytes, Composite | None]                    # tag → outcome, None: there is none yet

TAG_BYTES = 300             # of one tag, beside itself


class UnsettledMap:
    """At most count_max tags: the oldest outcome is forgotten first."""

    __slots__ = ("_count_max", "_resumed", "states")

    def __init__(self, count_max: int) -> None:
        self.states: Tags = {}
        self._count_max = count_max
        self._resumed: dict[bytes, Any] = {}            # deliveries that came again before there was an outcome

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.states)) + TAG_BYTES * len(self.states)

    def came(self, tag: bytes) -> None:
        """A new delivery, whatever this tag was before."""
        states = self.states
        states.pop(tag, None)
        if len(states) >= self._count_max:
            oldest = next(iter(states))
            if states[oldest] is None:                  # it is under way: nothing can be forgotten
                return
            del states[oldest]
        states[tag] = None

    def resumed(self, delivery: Any) -> None:
        """One came again that has no outcome yet: it gets the same."""
        self._resumed[delivery.tag] = delivery

    def decided(self, tag: bytes, outcome: Composite, *, settled: bool) -> Any:
        """settled: it is so with this. Returns the delivery that came again, if one did."""
        if tag in self.states:
            if settled:
                del self.states[tag]
            else:
                self.states[tag] = _short(outcome)
        return self._resumed.pop(tag, None)

    def settled(self, tag: bytes) -> None:
        """By the sender."""
        self.states.pop(tag, None)
        self._resumed.pop(tag, None)

    def compare(self, theirs: Tags, *, is_complete: bool) -> None:
        """With what the sender says is unsettled: what it does not know any more is settled."""
        if is_complete:
            self.states = {tag: state for tag, state in self.states.items() if tag in theirs}


def tags_of(unsettled: dict[Any, Any] | None) -> Tags:
    """What an attach says of it. Raises DecodeFault."""
    if not unsettled:
        return {}
    found: Tags = {}
    for tag, value in unsettled.items():
        if not isinstance(tag, bytes):
            raise DecodeFault("a delivery-tag is binary")
        state = composed(value)
        found[bytes(tag)] = state if isinstance(state, Composite) else None
    return found


def _short(outcome: Composite) -> Composite:
    """As it is kept: an error without what it tells people."""
    if type(outcome) is Rejected and type(outcome.error) is Error:
        return Rejected(Error(outcome.error.condition))
    return outcome


def fitting(states: Tags, size_max: int) -> tuple[Tags, bool]:
    """As many of them as an attach has room for, and whether some are left out."""
    told: Tags = {}
    for tag, state in states.items():
        size_max -= len(tag) + 5 + (len(encode(plain(state))) if state is not None else 1)
        if size_max < 0:
            return told, True
        told[tag] = state
    return told, False
