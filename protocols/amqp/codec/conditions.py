"""Error conditions, and faults of a peer by what they end: a connection, a session or a link. AMQP 1.0 §2.8.15-18."""
from __future__ import annotations

from typing import Any

from routing.errors import MeshgateError, Reason, Refusal

INTERNAL_ERROR = "amqp:internal-error"
NOT_FOUND = "amqp:not-found"
UNAUTHORIZED = "amqp:unauthorized-access"
DECODE_ERROR = "amqp:decode-error"
RESOURCE_LIMIT = "amqp:resource-limit-exceeded"
NOT_ALLOWED = "amqp:not-allowed"
INVALID_FIELD = "amqp:invalid-field"
NOT_IMPLEMENTED = "amqp:not-implemented"
RESOURCE_LOCKED = "amqp:resource-locked"
PRECONDITION_FAILED = "amqp:precondition-failed"
RESOURCE_DELETED = "amqp:resource-deleted"
ILLEGAL_STATE = "amqp:illegal-state"
FRAME_SIZE_TOO_SMALL = "amqp:frame-size-too-small"
CONNECTION_FORCED = "amqp:connection:forced"
FRAMING_ERROR = "amqp:connection:framing-error"
WINDOW_VIOLATION = "amqp:session:window-violation"
ERRANT_LINK = "amqp:session:errant-link"
HANDLE_IN_USE = "amqp:session:handle-in-use"
UNATTACHED_HANDLE = "amqp:session:unattached-handle"
DETACH_FORCED = "amqp:link:detach-forced"
TRANSFER_LIMIT = "amqp:link:transfer-limit-exceeded"
MESSAGE_SIZE = "amqp:link:message-size-exceeded"
STOLEN = "amqp:link:stolen"
UNKNOWN_TRANSACTION = "amqp:transaction:unknown-id"
ROLLED_BACK = "amqp:transaction:rollback"

CONDITION_OF_REASON: dict[Reason, str] = {
    Reason.NOT_AUTHORIZED: UNAUTHORIZED,
    Reason.BAD_CREDENTIALS: UNAUTHORIZED,
    Reason.LOCKED_OUT: UNAUTHORIZED,
    Reason.BUSY: RESOURCE_LIMIT,
    Reason.TOPIC_INVALID: INVALID_FIELD,
    Reason.FILTER_INVALID: INVALID_FIELD,
    Reason.PAYLOAD_TOO_LARGE: MESSAGE_SIZE,
    Reason.PAYLOAD_INVALID: DECODE_ERROR,
    Reason.QUOTA_EXCEEDED: RESOURCE_LIMIT,
    Reason.STORAGE_FULL: RESOURCE_LIMIT,
    Reason.STORAGE_FAILED: INTERNAL_ERROR,
    Reason.NOT_FOUND: NOT_FOUND,
    Reason.CONFLICT: PRECONDITION_FAILED,
    Reason.SHUTTING_DOWN: CONNECTION_FORCED,
    Reason.TARGET_REFUSED: NOT_ALLOWED,
}


class AmqpFault(MeshgateError):
    """The peer broke the protocol, or asks for what there is not. text is safe to send to it."""

    def __init__(self, condition: str, text: str, info: dict[Any, Any] | None = None) -> None:
        super().__init__(text)
        self.condition = condition
        self.text = text
        self.info = info


class ConnectionFault(AmqpFault):
    """Ends the connection."""


class SessionFault(AmqpFault):
    """Ends the session."""


class LinkFault(AmqpFault):
    """Ends the link."""


class DecodeFault(ConnectionFault):
    """Bytes that are none of what they should be."""

    def __init__(self, text: str) -> None:
        super().__init__(DECODE_ERROR, text)


def refused(refusal: Refusal) -> LinkFault:
    """A Refusal of the core in terms of AMQP."""
    return LinkFault(CONDITION_OF_REASON[refusal.reason], refusal.text)
