"""Circuit breaker: a receiver that fails again and again is left alone for a while. Time is an argument.

    closed ── failures in a row ──► open ── the time is over ──► half-open ── one request ──► closed
                                     ▲                                └── it failed: twice the time ──┐
                                     └────────────────────────────────────────────────────────────────┘

A receiver that says when to come back (Retry-After) is held: open, but not for a fault.
"""
from __future__ import annotations

import enum


class State(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Of one webhook."""

    def __init__(self, failures_max: int, open_s: float, open_max_s: float) -> None:
        self.state = State.CLOSED
        self.until_s = 0.0                  # open until then
        self.failures = 0                   # in a row
        self.opened = 0
        self._failures_max = failures_max
        self._first_s = open_s
        self._max_s = open_max_s
        self._open_s = open_s
        self._probing = False

    def may_send(self, now_s: float) -> bool:
        """True when a request may go out. In half-open the first caller has the only one."""
        if self.state is State.OPEN:
            if now_s < self.until_s:
                return False
            self.state = State.HALF_OPEN
            self._probing = False
        return self.state is State.CLOSED or not self._probing

    def sent(self) -> bool:
        """A request goes out. True when it is a probe, whose failure is not held against its event."""
        if self.state is State.HALF_OPEN:
            self._probing = True
            return True
        return False

    def succeeded(self) -> None:
        """The receiver took something."""
        if self.state is not State.OPEN:
            self.state = State.CLOSED
            self._open_s = self._first_s
        self.failures = 0
        self._probing = False

    def answered(self) -> None:
        """The receiver is well, but does not want this event."""
        self.succeeded()

    def failed(self, now_s: float) -> None:
        """No answer, or one that speaks of the receiver."""
        self.failures += 1
        if self.state is State.HALF_OPEN or (self.state is State.CLOSED and self.failures >= self._failures_max):
            self._open(now_s, self._open_s)
            self._open_s = min(self._open_s * 2, self._max_s)

    def gone(self, now_s: float) -> None:
        """410: nobody wants anything there. Asked again at the longest interval."""
        self._open_s = self._max_s
        self._open(now_s, self._max_s)

    def hold(self, now_s: float, seconds: float) -> None:
        """The receiver asks for a pause."""
        if self.state is not State.OPEN or self.until_s < now_s + seconds:
            self._open(now_s, seconds)

    def give_back(self) -> None:
        """The probe was given up without an answer."""
        self._probing = False

    def _open(self, now_s: float, seconds: float) -> None:
        self.state = State.OPEN
        self.until_s = now_s + seconds
        self.opened += 1
        self._probing = False
