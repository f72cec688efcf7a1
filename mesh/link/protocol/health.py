"""What a connection carries, by measurement: round trip, clock skew, confirmed throughput, state. No clock of its own.

A Pong confirms everything that was sent before its Ping, because a connection keeps its order. So progress is what
arrived at the other end, not what a socket took.
"""
from __future__ import annotations

import enum

from mesh.link.protocol.frames import Ping, Pong
from mesh.link.protocol.meter import Meter
from mesh.link.protocol.roundtrip import RoundTrip
from mesh.link.settings import LinkLimits

BUSY_PING_S = 0.25          # while something is under way: how fresh our idea of its progress is
PINGS_MAX = 8               # unanswered ones that we remember
THROTTLED_AFTER_S = 0.5     # a queue that is not empty for so long is held back, by us or by the network


class LinkState(enum.Enum):
    """What an operator is told."""

    UP = "up"
    THROTTLED = "throttled"     # more to send than gets through, but it moves
    BLOCKED = "blocked"         # connected, and nothing gets through
    DOWN = "down"
    PAUSED = "paused"


class Health:
    """Of one connection that is up. `sent` counts bytes of payload: frames of the overlay."""

    def __init__(self, limits: LinkLimits, now_s: float) -> None:
        self.round_trip = RoundTrip()
        self.confirmed = Meter()
        self.answered = 0                   # highest Ping that was answered
        self.last_ping = 0                  # number of the latest Ping
        self._limits = limits
        self._pings: dict[int, tuple[float, int, int]] = {}     # id → made s, made ms, payload sent by then; -1: queued
        self._pinged_s = now_s
        self._progress_s = now_s            # when something was confirmed, or nothing was under way
        self._waiting_since_s: float | None = None

    def restart(self, now_s: float) -> None:
        """The link came up: measure from here."""
        self._progress_s = now_s

    def forgive(self, late_s: float, now_s: float) -> None:
        """This process stood still for so long; the peer could not make progress meanwhile."""
        self._progress_s = min(now_s, self._progress_s + late_s)

    def ping(self, now_s: float, now_ms: int) -> Ping:
        """The next Ping, to be queued now."""
        while len(self._pings) >= PINGS_MAX:
            del self._pings[next(iter(self._pings))]
        self.last_ping += 1
        self._pings[self.last_ping] = (now_s, now_ms, -1)
        self._pinged_s = now_s
        return Ping(self.last_ping, now_ms)

    def ping_due(self, now_s: float, *, idle: bool) -> bool:
        quiet_s = now_s - self._pinged_s
        return quiet_s >= self._limits.heartbeat_s or (not idle and not self._pings and quiet_s >= BUSY_PING_S)

    def message_sent(self, sent: int, *, emptied: bool) -> None:
        """A message left. sent: payload bytes so far, with those of this message.  emptied: nothing waits any more."""
        for number, ping in self._pings.items():
            if ping[2] < 0:
                self._pings[number] = (ping[0], ping[1], sent)
        if emptied:
            self._waiting_since_s = None

    def pong(self, pong: Pong, now_s: float) -> None:
        ping = self._pings.pop(pong.id, None)
        if ping is None:                    # not asked for, or long ago
            return
        made_s, made_ms, sent = ping
        self.answered = max(self.answered, pong.id)
        self.round_trip.sample(now_s - made_s, made_ms, pong.time_ms)
        if sent > self.confirmed.total:
            self.confirmed.add(sent - self.confirmed.total, now_s)
        self._progress_s = now_s

    def note(self, now_s: float, *, waiting: bool, idle: bool) -> None:
        """Called with every tick. waiting: frames are queued.  idle: none are, and all that was sent is confirmed."""
        if not waiting:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if idle and not self._pings:
            self._progress_s = now_s

    def state(self, now_s: float, *, idle: bool) -> LinkState:
        if now_s - self._progress_s > self._limits.blocked_after_s and (self._pings or not idle):
            return LinkState.BLOCKED
        if self._waiting_since_s is not None and now_s - self._waiting_since_s >= THROTTLED_AFTER_S:
            return LinkState.THROTTLED
        return LinkState.UP
