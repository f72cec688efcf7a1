"""Names of the consumers behind subscriptions. Those of sessions: session.py."""
from __future__ import annotations

from protocols.mqtt.codec.filters import Share

SHARE_PREFIX = "mqtt-share/"        # never the consumer of a client id, which begins with "mqtt/"


def group_name(share: Share) -> str:
    """Name of the group's consumer, or the queue."""
    return share.group if share.is_queue else f"{SHARE_PREFIX}{share.group}/{share.filter}"
