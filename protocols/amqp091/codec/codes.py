"""Reply codes of AMQP 0-9-1 and the two kinds of errors: soft ones close the channel, hard ones the connection.

Texts have RabbitMQ's form, "NAME - what is wrong", because clients show and some of them parse it.
Source: AMQP 0-9-1 §1.2 (constants), §4.8.2 (errors).
"""
from __future__ import annotations

from protocols.errors import ProtocolViolation
from routing.errors import Reason, Refusal

REPLY_SUCCESS = 200
CONTENT_TOO_LARGE = 311
NO_ROUTE = 312
CONNECTION_FORCED = 320
ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
FRAME_ERROR = 501
SYNTAX_ERROR = 502
COMMAND_INVALID = 503
CHANNEL_ERROR = 504
UNEXPECTED_FRAME = 505
RESOURCE_ERROR = 506
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
INTERNAL_ERROR = 541

NAMES = {
    CONTENT_TOO_LARGE: "CONTENT_TOO_LARGE", NO_ROUTE: "NO_ROUTE", CONNECTION_FORCED: "CONNECTION_FORCED",
    ACCESS_REFUSED: "ACCESS_REFUSED", NOT_FOUND: "NOT_FOUND", RESOURCE_LOCKED: "RESOURCE_LOCKED",
    PRECONDITION_FAILED: "PRECONDITION_FAILED", FRAME_ERROR: "FRAME_ERROR", SYNTAX_ERROR: "SYNTAX_ERROR",
    COMMAND_INVALID: "COMMAND_INVALID", CHANNEL_ERROR: "CHANNEL_ERROR", UNEXPECTED_FRAME: "UNEXPECTED_FRAME",
    RESOURCE_ERROR: "RESOURCE_ERROR", NOT_ALLOWED: "NOT_ALLOWED", NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    INTERNAL_ERROR: "INTERNAL_ERROR",
}
SHORT_TEXT_MAX = 255        # bytes of a reply text


class AmqpError(ProtocolViolation):
    """wire_code is a reply code; text is "NAME - …", short enough for a short string.

    method: (class, method) that caused it, (0, 0) when unknown.
    """

    def __init__(self, wire_code: int, text: str, method: tuple[int, int] = (0, 0)) -> None:
        super().__init__(wire_code, short_text(f"{NAMES.get(wire_code, 'ERROR')} - {text}"))
        self.method = method
        self.channel = 0            # number of the channel, where it was found outside of a read


class SoftError(AmqpError):
    """Closes the channel."""


class HardError(AmqpError):
    """Closes the connection."""


def short_text(text: str) -> str:
    """Cut to what a short string holds."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= SHORT_TEXT_MAX else raw[:SHORT_TEXT_MAX - 3].decode("utf-8", "ignore") + "..."


CODE_OF_REASON = {
    Reason.NOT_AUTHORIZED: ACCESS_REFUSED, Reason.BAD_CREDENTIALS: ACCESS_REFUSED, Reason.LOCKED_OUT: ACCESS_REFUSED,
    Reason.BUSY: RESOURCE_ERROR, Reason.TOPIC_INVALID: PRECONDITION_FAILED, Reason.FILTER_INVALID: PRECONDITION_FAILED,
    Reason.PAYLOAD_TOO_LARGE: CONTENT_TOO_LARGE, Reason.PAYLOAD_INVALID: PRECONDITION_FAILED,
    Reason.QUOTA_EXCEEDED: RESOURCE_ERROR, Reason.STORAGE_FULL: RESOURCE_ERROR, Reason.STORAGE_FAILED: INTERNAL_ERROR,
    Reason.NOT_FOUND: NOT_FOUND, Reason.CONFLICT: PRECONDITION_FAILED, Reason.SHUTTING_DOWN: CONNECTION_FORCED,
    Reason.TARGET_REFUSED: ACCESS_REFUSED,
}
_SOFT = {CONTENT_TOO_LARGE, ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED, NO_ROUTE}


def refused(refusal: Refusal, method: tuple[int, int] = (0, 0)) -> AmqpError:
    """A refusal of the core as an error of the protocol."""
    code = CODE_OF_REASON[refusal.reason]
    return (SoftError if code in _SOFT else HardError)(code, refusal.text, method)
