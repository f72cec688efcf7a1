"""Why a link was refused or ended: the codes of Refuse and Goodbye."""
from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Numbers are part of the protocol: never change one, never use one again."""

    STOPPING = 1            # the node stops; dial again
    PROTOCOL_VERSION = 2    # no version that both speak
    BAD_CREDENTIALS = 3     # token, JWT or certificate; also for a node that may not link, so nothing is given away
    DUPLICATE_NAME = 4      # another live node has that name
    SELF = 5                # the node dialled itself
    BAD_FRAME = 6           # bytes that are no frame, or too large
    UNEXPECTED_FRAME = 7    # a frame that has no place here, such as one before Hello
    TIMEOUT = 8             # handshake too slow, or silence
    REPLACED = 9            # a newer connection of the same node and link has taken over
    PAUSED = 10             # an operator paused the link
    KICKED = 11             # an operator closed the connection; dial again
    FLOOD = 12              # more gossip than is reasonable, again and again
    REMOVED = 13            # the link is no longer in the configuration
    LIMIT = 14              # this node has all the links that it may have
    REFUSED = 15            # the overlay's no, the text says why
    LIED = 16               # frames that the overlay caught in a lie


TEXTS = {
    Code.STOPPING: "the node stops", Code.PROTOCOL_VERSION: "no common protocol version",
    Code.BAD_CREDENTIALS: "not allowed to link",
    Code.DUPLICATE_NAME: "duplicate node name: give one of the two another node.name",
    Code.SELF: "the node dialled itself", Code.BAD_FRAME: "bad frame", Code.UNEXPECTED_FRAME: "unexpected frame",
    Code.TIMEOUT: "timeout", Code.REPLACED: "replaced by a newer connection", Code.PAUSED: "paused",
    Code.KICKED: "closed by an operator", Code.FLOOD: "too much gossip", Code.REMOVED: "removed",
    Code.LIMIT: "too many links", Code.REFUSED: "refused", Code.LIED: "frames that cannot be true",
}


def code_name(code: int) -> str:
    """A word for metrics and logs; "other" for codes of newer versions."""
    try:
        return Code(code).name.lower()
    except ValueError:
        return "other"
