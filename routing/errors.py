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


class Fault(enum.Enum):
    """What is wrong with a batch of records or with its producer, for protocols that tell more than a Reason does."""

    CHECKSUM = "checksum"                   # the frame or its CRC
    RECORD = "record"                       # what is inside; a record without key where a key is needed
    CODEC = "codec"                         # a compression that is not read here
    TOO_LARGE = "too large"                 # the batch, or what it expands to
    UNKNOWN_PRODUCER = "unknown producer"   # the producer id does not belong to the transactional id
    EPOCH = "epoch"                         # a producer with a newer epoch has taken over
    SEQUENCE = "sequence"                   # batches are missing before this one
    TRANSACTION = "transaction"             # not in a state that allows this
    BUSY = "busy"                           # the last transaction of this producer is still being ended: try again
    TIMEOUT = "timeout"                     # a transaction timeout that is not taken


class Refusal(msgspec.Struct, frozen=True):
    """An expected "no". text is safe to show to the client and says what to do."""

    reason: Reason
    text: str
    retry_after_s: int | None = None    # when trying again may help, where that is known
    fault: Fault | None = None


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
