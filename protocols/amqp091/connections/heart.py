"""Heartbeats and timeouts of one connection: what is due when it is looked at. Source: AMQP 0-9-1 §4.2.7, RabbitMQ"""
from __future__ import annotations

import enum

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec import frames


class Due(enum.Enum):
    NOTHING = "nothing"
    DEADLINE = "the client has not done what is expected of it"
    SILENCE = "the client has sent nothing for more than two intervals"
    TOKEN = "the token of the client has expired"


class Heart:
    """interval_s: of heartbeats, as agreed; 0: none."""

    __slots__ = ("_last_out_s", "_peer", "deadline_s", "interval_s", "last_in_s")

    def __init__(self, peer: Peer, now_s: float) -> None:
        self._peer = peer
        self.interval_s = 0
        self.deadline_s: float | None = now_s + peer.broker.settings.connect_timeout_s     # for the current state
        self.last_in_s = self._last_out_s = now_s

    def look(self, now_s: float, *, is_open: bool) -> Due:
        """Called every half second or so; writes a heartbeat when one is due."""
        peer = self._peer
        if peer.wrote:
            peer.wrote = False
            self._last_out_s = now_s
        if self.deadline_s is not None and now_s >= self.deadline_s:
            return Due.DEADLINE
        if not is_open:
            return Due.NOTHING
        expires_ms = peer.identity.expires_ms
        if expires_ms is not None and expires_ms <= peer.broker.router.clock_ms():
            return Due.TOKEN
        if self.interval_s:
            if now_s - self.last_in_s > 2 * self.interval_s + 1 and not peer.held:
                return Due.SILENCE
            if now_s - self._last_out_s >= max(self.interval_s / 2 - 1, 0.4 * self.interval_s):
                peer.write(frames.HEARTBEAT_FRAME)
        return Due.NOTHING
