"""What selectors are compiled to: functions of an event's names, in three-valued logic. None is unknown. SQL-92 §8."""
from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from routing.event import Event, HeaderValue

Value: TypeAlias = HeaderValue


class Names:
    """What names stand for in one event."""

    __slots__ = ("_event", "_headers", "steps")

    def __init__(self, event: Event) -> None:
        self.steps = 0                      # that LIKEs have cost
        self._event = event
        self._headers = dict(event.headers)

    def value(self, name: str) -> Value:
        if name in self._headers:
            return self._headers[name]
        known = _FIELDS.get(name)
        return known(self._event) if known is not None else None


_FIELDS: dict[str, Callable[[Event], Value]] = {
    "JMSMessageID": lambda event: event.properties.message_id if event.properties is not None else None,
    "JMSCorrelationID": lambda event: event.properties.correlation if event.properties is not None else None,
    "JMSPriority": lambda event: (
        event.properties.priority if event.properties is not None and event.properties.priority is not None else 4),
    "JMSTimestamp": lambda event: event.timestamp_ms,
    "JMSExpiration": lambda event: (
        event.properties.expires_at_ms if event.properties is not None else None) or 0,
    "JMSDeliveryMode": lambda event: "PERSISTENT" if event.guaranteed else "NON_PERSISTENT",
}


Compiled: TypeAlias = Callable[[Names], Value]


def truth(value: Value) -> bool | None:
    return value if isinstance(value, bool) else None


def either(parts: list[Compiled]) -> Compiled:
    def test(names: Names) -> Value:
        unknown = False
        for part in parts:
            value = truth(part(names))
            if value:
                return True
            unknown |= value is None
        return None if unknown else False

    return test


def both(parts: list[Compiled]) -> Compiled:
    def test(names: Names) -> Value:
        unknown = False
        for part in parts:
            value = truth(part(names))
            if value is False:
                return False
            unknown |= value is None
        return None if unknown else True

    return test


def negated(part: Compiled) -> Compiled:
    return lambda names: None if (value := truth(part(names))) is None else not value


def is_null(part: Compiled, but_not: bool) -> Compiled:
    return lambda names: (part(names) is None) is not but_not


def is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Value) -> Value:
    """True is not 1, and must not be found among numbers."""
    return "\0" if isinstance(value, bool) else value


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right, ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right, ">=": lambda left, right: left >= right,
}


def compared(operator: str, left: Compiled, right: Compiled) -> Compiled:
    if operator in ("=", "<>", "!="):
        wanted = operator == "="

        def equal(names: Names) -> Value:
            one, other = left(names), right(names)
            if one is None or other is None or (is_number(one) != is_number(other) or (
                    not is_number(one) and type(one) is not type(other))):
                return None
            return (one == other) is wanted

        return equal
    compare = _COMPARISONS[operator]

    def test(names: Names) -> Value:
        one, other = left(names), right(names)
        if not is_number(one) or not is_number(other):
            return None
        return compare(one, other)                      # type: ignore[arg-type]  # both are numbers

    return test


def arithmetic(operator: str, left: Compiled, right: Compiled) -> Compiled:
    def value(names: Names) -> Value:
        one, other = left(names), right(names)
        if not (isinstance(one, (int, float)) and isinstance(other, (int, float))) or (
                isinstance(one, bool) or isinstance(other, bool)):
            return None
        try:
            if operator == "+":
                return one + other
            if operator == "-":
                return one - other
            if operator == "*":
                return one * other if abs(one) < 1e100 and abs(other) < 1e100 else None
            if operator == "%":
                return one % other
            return one // other if isinstance(one, int) and isinstance(other, int) else one / other
        except (ZeroDivisionError, OverflowError):
            return None

    return value
