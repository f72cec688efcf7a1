"""What operators see of the clients of /v1/ws: one row per connection, as `meshgate clients` lists them."""
from __future__ import annotations

from protocols.websocket.json.session import JsonSession

NAME_PREFIX = "ws:"             # such a client has no id of its own: it is called after its address


def client_name(address: str) -> str:
    """address: "host:port" of the peer."""
    return NAME_PREFIX + address


def client_row(session: JsonSession, address: str, connected_ms: int,
               buffered_bytes: int) -> dict[str, str | int | bool | None]:
    """Plain values, named as those of MQTT clients where they mean the same. user: None before the login."""
    subscriptions = session.subscriptions.values()
    return {
        "client_id": client_name(address),
        "user": session.identity.user if session.is_open else None,
        "connected": True,
        "address": address,
        "protocol_version": "meshgate.v1",
        "connected_since_ms": connected_ms,
        "subscriptions": len(subscriptions),
        "in_flight": sum(subscription.unacked for subscription in subscriptions),
        "queued": sum(subscription.consumer.lag().events for subscription in subscriptions
                      if subscription.consumer is not None),
        "write_buffer_bytes": buffered_bytes,
    }
