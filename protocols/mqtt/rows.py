"""One row per session, connected or not, for the console."""
from __future__ import annotations

from protocols.mqtt.sessions.session import Session
from routing.consumers.consumer import Consumer
from routing.consumers.registry.asleep import Asleep


def client_row(session: Session) -> dict[str, str | int | bool | None]:
    connection = session.connection
    outbound = connection.outbound if connection is not None else None
    return {
        "client_id": session.client_id,
        "user": session.identity.user,
        "connected": connection is not None,
        "address": connection.address if connection is not None else None,
        "protocol_version": ("5.0" if connection.version == 5 else "3.1.1") if connection is not None else None,
        "connected_since_ms": connection.connected_ms if connection is not None else None,
        "session_since_ms": session.since_ms,
        "session_expiry_s": session.expiry_s,
        "keep_alive_s": connection.terms.keep_alive_s if connection is not None and connection.terms else None,
        "subscriptions": session.subscription_count,
        "in_flight": len(outbound.in_flight) if outbound is not None else _open_outbound(session),
        "qos2_open": len(session.open_ids) if not session.sleep else 0,
        "queued": _queued(session.consumer),
        "write_buffer_bytes": connection.channel.buffered_bytes() if connection is not None else 0,
    }


def _open_outbound(session: Session) -> int:
    """Who sleeps has none, see restore.py."""
    return len(session.unacked) + len(session.released) if not session.sleep else 0


def _queued(consumer: Consumer | None) -> int | None:
    """None: it sleeps, and to count would wake it. A list of 50,000 must not."""
    if consumer is None:
        return 0
    return consumer.lag().events if not isinstance(consumer, Asleep) else None
