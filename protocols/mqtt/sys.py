"""$SYS topics: the server's figures as retained events, under the names that Mosquitto made customary.

No stream captures $-topics, so they live in memory only. MqttServer publishes those that have changed, every
sys_interval_s. "$SYS/broker/load/…" averages are left out: the metrics listener has rates.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.event import Event

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker

PREFIX = "$SYS/broker/"


def figures(broker: Broker, version: str, uptime_s: float) -> dict[str, str]:
    """Topic below $SYS/broker/ → value."""
    counters = broker.counters
    router = broker.router
    sessions = broker.sessions.values()
    connected = sum(session.connection is not None for session in sessions)
    return {
        "version": f"Meshgate {version}".strip(),
        "uptime": f"{int(uptime_s)} seconds",
        "clients/connected": str(connected),
        "clients/disconnected": str(len(broker.sessions) - connected),
        "clients/total": str(len(broker.sessions)),
        "clients/maximum": str(broker.clients_maximum),
        "clients/expired": str(broker.sessions_expired),
        "messages/received": str(sum(counters.packets_in)),
        "messages/sent": str(sum(counters.packets_out)),
        "publish/messages/received": str(counters.publishes_in),
        "publish/messages/sent": str(counters.publishes_out),
        "publish/messages/dropped": str(counters.dropped.total()),
        "bytes/received": str(counters.bytes_in),
        "bytes/sent": str(counters.bytes_out),
        "subscriptions/count": str(sum(session.subscription_count for session in sessions)),
        "shared_subscriptions/count": str(broker.groups.count),
        "retained messages/count": str(router.retained.tree.count),
    }


class SysTopics:
    """Remembers what was published, so that only changes go out."""

    __slots__ = ("_last", "_next_s", "_started_s", "_version")

    def __init__(self, version: str, now_s: float) -> None:
        self._version = version
        self._started_s = now_s
        self._next_s = now_s
        self._last: dict[str, str] = {}

    def due(self, broker: Broker, now_s: float) -> list[Event]:
        """Events to publish now; mostly none."""
        interval_s = broker.settings.sys_interval_s
        if interval_s <= 0 or now_s < self._next_s:
            return []
        self._next_s = now_s + interval_s
        values = figures(broker, self._version, now_s - self._started_s)
        changed = [(name, value) for name, value in values.items() if self._last.get(name) != value]
        self._last = values
        return [Event(PREFIX + name, value.encode(), 0, retain=True) for name, value in changed]
