"""Reason → the problem type that /v1/ws tells, the same words as over HTTP (docs/rest.md), and close codes."""
from __future__ import annotations

from routing.errors import Reason, Refusal

POLICY_VIOLATION = 1008         # RFC 6455 §7.4.1
TRY_AGAIN_LATER = 1013          # IANA registry of WebSocket close codes

PROBLEMS: dict[Reason, str] = {
    Reason.NOT_AUTHORIZED: "not-authorized",
    Reason.BAD_CREDENTIALS: "bad-credentials",
    Reason.LOCKED_OUT: "locked-out",
    Reason.BUSY: "busy",
    Reason.TOPIC_INVALID: "topic-invalid",
    Reason.FILTER_INVALID: "filter-invalid",
    Reason.PAYLOAD_TOO_LARGE: "payload-too-large",
    Reason.PAYLOAD_INVALID: "payload-invalid",
    Reason.QUOTA_EXCEEDED: "quota-exceeded",
    Reason.STORAGE_FULL: "storage-full",
    Reason.STORAGE_FAILED: "storage-failed",
    Reason.NOT_FOUND: "not-found",
    Reason.CONFLICT: "conflict",
    Reason.SHUTTING_DOWN: "shutting-down",
    Reason.TARGET_REFUSED: "target-refused",
}


def problem_of(refusal: Refusal) -> str:
    """The last segment of the problem type."""
    return PROBLEMS.get(refusal.reason, "refused")
