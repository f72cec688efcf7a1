"""Arguments of queues: what they mean, which are refused, and when two declarations are the same.

Texts are RabbitMQ's. Integers of any width are equal, x-queue-type classic is the same as none.
"""
from __future__ import annotations

import msgspec

from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError
from protocols.amqp091.codec.tables import Table, Timestamp, Value
from protocols.streamstart import age_s

EXPIRES_MAX_MS = 0xFFFFFFFF * 1000      # beyond any use, and far from where sums of milliseconds overflow
PRIORITY_MAX = 255
CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"
QUEUE_DECLARE = (50, 10)
_COMPARED = (       # RabbitMQ's own list: others may differ
    "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
    "x-max-length-bytes", "x-single-active-consumer", "x-max-priority", "x-overflow", "x-queue-type",
    "x-delivery-limit", "x-dead-letter-strategy", "x-max-age",
)
_NUMBERS = {        # name → the least that is taken
    "x-expires": 1, "x-message-ttl": 0, "x-max-length": 0, "x-max-length-bytes": 0, "x-max-priority": 0,
    "x-stream-max-segment-size-bytes": 0, "x-initial-cluster-size": 1,
    "x-delivery-limit": -1, "x-max-in-memory-length": 0, "x-max-in-memory-bytes": 0, "x-quorum-initial-group-size": 1,
}
_TEXTS = {
    "x-dead-letter-exchange": None, "x-dead-letter-routing-key": None,
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx"),
    "x-queue-type": (CLASSIC, QUORUM, STREAM), "x-max-age": None,
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
    "x-queue-mode": ("default", "lazy"), "x-queue-leader-locator": None, "x-queue-master-locator": None,
}

_NOT_OF_STREAMS = ("x-message-ttl", "x-expires", "x-max-length", "x-overflow", "x-dead-letter-exchange",
                   "x-max-priority", "x-single-active-consumer", "x-delivery-limit")


class QueueOptions(msgspec.Struct, frozen=True):
    """What the arguments say."""

    type: str = CLASSIC
    message_ttl_ms: int | None = None
    expires_ms: int | None = None
    length_max: int | None = None
    length_bytes_max: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    single_active: bool = False
    priority_max: int | None = None
    delivery_limit: int | None = None
    max_age_s: int | None = None            # of a stream: what is older is not given to its readers


def options_of(arguments: Table, queue: str, vhost: str) -> QueueOptions:
    """Raises SoftError 406 for what makes no sense."""
    for name, least in _NUMBERS.items():
        if name in arguments:
            _check_number(name, arguments[name], least, queue, vhost)
    for name, choices in _TEXTS.items():
        if name in arguments:
            value = arguments[name]
            if not isinstance(value, str) or (choices is not None and value not in choices):
                raise _invalid(name, value, queue, vhost)
    single = arguments.get("x-single-active-consumer", False)
    if not isinstance(single, bool):
        raise _invalid("x-single-active-consumer", single, queue, vhost)
    priority = _number(arguments, "x-max-priority")
    if priority is not None and priority > PRIORITY_MAX:
        raise _invalid("x-max-priority", priority, queue, vhost)
    exchange = _text(arguments, "x-dead-letter-exchange")
    key = _text(arguments, "x-dead-letter-routing-key")
    if key is not None and exchange is None:
        raise SoftError(
            PRECONDITION_FAILED, f"invalid arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '{vhost}': "
            "routing_key_but_no_dlx_defined", QUEUE_DECLARE)
    max_age = _text(arguments, "x-max-age")
    if max_age is not None and age_s(max_age) is None:
        raise _invalid("x-max-age", max_age, queue, vhost)
    if arguments.get("x-queue-type") == STREAM:
        for name in _NOT_OF_STREAMS:
            if name in arguments:
                raise _invalid(name, arguments[name], queue, vhost)
    return QueueOptions(
        max_age_s=age_s(max_age) if max_age is not None else None,
        type=_text(arguments, "x-queue-type") or CLASSIC,
        message_ttl_ms=_number(arguments, "x-message-ttl"), expires_ms=_number(arguments, "x-expires"),
        length_max=_number(arguments, "x-max-length"), length_bytes_max=_number(arguments, "x-max-length-bytes"),
        overflow=_text(arguments, "x-overflow") or "drop-head", dead_letter_exchange=exchange, dead_letter_key=key,
        single_active=single, priority_max=priority, delivery_limit=_number(arguments, "x-delivery-limit"))


def _check_number(name: str, value: Value, least: int, queue: str, vhost: str) -> None:
    if isinstance(value, (bool, Timestamp)) or not isinstance(value, int):
        raise _invalid(name, value, queue, vhost)
    if value < least:
        raise _invalid(name, value, queue, vhost)
    if name in ("x-expires", "x-message-ttl") and value > EXPIRES_MAX_MS:
        raise _invalid(name, value, queue, vhost)


def _invalid(name: str, value: Value, queue: str, vhost: str) -> SoftError:
    return SoftError(
        PRECONDITION_FAILED, f"invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {_shown(value)}",
        QUEUE_DECLARE)


def _number(arguments: Table, name: str) -> int | None:
    value = arguments.get(name)
    return value if isinstance(value, int) else None


def _text(arguments: Table, name: str) -> str | None:
    value = arguments.get(name)
    return value if isinstance(value, str) else None


def check_same(what: str, name: str, vhost: str, received: dict[str, Value], current: dict[str, Value],
               method: tuple[int, int]) -> None:
    """Raises SoftError 406 for the first option that is not what it was. what: "queue" or "exchange"."""
    for option, value in received.items():
        known = current[option]
        if value != known:
            raise SoftError(
                PRECONDITION_FAILED, f"inequivalent arg '{option}' for {what} '{name}' in vhost '{vhost}': "
                f"received {_compared(value, known)} but current is {_compared(known, value)}", method)


def compared_arguments(arguments: Table) -> dict[str, Value]:
    found: dict[str, Value] = {name: arguments.get(name) for name in _COMPARED}
    if found["x-queue-type"] == CLASSIC:
        found["x-queue-type"] = None
    return found


def _compared(value: Value, other: Value) -> str:
    """Beside nothing a value is shown with its type, as RabbitMQ does it."""
    if value is None:
        return "none"
    if other is not None:
        return f"'{_shown(value)}'"
    kind = ("bool" if isinstance(value, bool) else "longstr" if isinstance(value, str) else
            "signedint" if isinstance(value, int) and -(1 << 31) <= value < 1 << 31 else "long")
    return f"the value '{_shown(value)}' of type '{kind}'"


def _shown(value: Value) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)[:100]
