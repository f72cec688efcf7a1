"""Refusals (an expected "no", a value) and errors of the world (exceptions). One vocabulary for all protocols.

Each protocol keeps one table that maps a Reason to its own wire code.
"""
from __future__ import annotations

import enum

import msgspec


class Reason(enum.Enum):
    """Why something was refused."""

    NOT_AUTHORIZED = "not authorized"
    BAD_CREDENTIALS = "bad credentials"
    LOCKED_OUT = "locked out"
    BUSY = "busy"                           # not decided in time: neither right nor wrong, try again
    TOPIC_INVALID = "topic invalid"
    FILTER_INVALID = "filter invalid"
    PAYLOAD_TOO_LARGE = "payload too large"
    PAYLOAD_INVALID = "payload invalid"
    QUOTA_EXCEEDED = "quota exceeded"
    STORAGE_FULL = "storage full"
    STORAGE_FAILED = "storage failed"
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    SHUTTING_DOWN = "shutting down"
    TARGET_REFUSED = "target refused"       # a URL that this node will not call


class Refusal(msgspec.Struct, frozen=True):
    """An expected "no". text is safe to show to the client and says what to do."""

    reason: Reason
    text: str
    retry_after_s: int | None = None    # when trying again may help, where that is known


class MeshgateError(Exception):
    """Base of the exceptions that we raise on purpose."""


class ConfigError(MeshgateError):
    """The configuration is wrong; the text names the path of the setting."""


class StorageError(MeshgateError):
    """The disk or the log on it failed; the text names file and offset."""


class TopicError(MeshgateError, ValueError):
    """A topic or topic filter breaks the grammar."""


class TopicLimitError(TopicError):
    """The grammar allows it, but it has more levels than are taken here."""
