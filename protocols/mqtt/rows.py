"""One row per session, connected or not, for the console."""
from __future__ import annotations

from protocols.mqtt.sessions.session import Session


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
        "subscriptions": len(session.subscriptions),
        "in_flight": len(outbound.in_flight) if outbound is not None else len(session.unacked) + len(session.released),
        "qos2_open": len(session.open_ids),
        "queued": session.consumer.lag().events if session.consumer is not None else 0,
        "write_buffer_bytes": connection.channel.buffered_bytes() if connection is not None else 0,
    }
