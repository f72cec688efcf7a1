"""Talk: messages between two nodes, in order, each once, over an overlay that loses, doubles and reorders them.

Each side numbers what it says, and says in every frame up to where it has heard the other. What was not heard is said
again from the oldest on. A side that has given the other up, or was started again, has a new run: then the other begins
anew, too, and both know that nothing from before counts.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from mesh.queues.messages import FRAME_BYTES_MAX, Frame, encode

AGAIN_S: Final = 1.0            # without an answer what was not heard is said again
UNHEARD_BYTES_MAX: Final = 64 * 1024 * 1024     # beyond it the other is given up
MESSAGES_MAX: Final = 500       # of one frame: some 5 ms of the other's turn

Send = Callable[[bytes], bool]


class Talk:
    """With one node. Loop thread only; the caller flushes at the end of its turn."""

    def __init__(self, run: int, send: Send, clock_s: Callable[[], float]) -> None:
        """run: drawn for this talk, at least 1."""
        self.run = run
        self.peer_run = 0                   # 0: not known yet
        self.is_lost = False                # too much was said that nobody heard
        self._send = send
        self._clock_s = clock_s
        self._unheard: deque[bytes] = deque()
        self._bytes = 0
        self._first = 1                     # number of the first unheard one
        self._told = 0                      # how many of the unheard ones were sent
        self._heard = 0
        self._owes = False                  # the other waits for what we have heard,
        self._greets = False                # or does not know who we are
        self._again_s = 0.0

    def say(self, message: bytes) -> None:
        """Goes out with the next flush()."""
        self._unheard.append(message)
        self._bytes += len(message)
        self.is_lost = self.is_lost or self._bytes > UNHEARD_BYTES_MAX

    def flush(self) -> None:
        while self._told < len(self._unheard):
            part: list[msgspec.Raw] = []
            size = 0
            first = self._first + self._told
            for index in range(self._told, len(self._unheard)):
                message = self._unheard[index]
                if part and (size + len(message) > FRAME_BYTES_MAX or len(part) >= MESSAGES_MAX):
                    break
                part.append(msgspec.Raw(message))
                size += len(message)
            self._told += len(part)
            self._frame(first, part)
            self._again_s = self._clock_s() + AGAIN_S
        if self._owes or self._greets:
            self._frame(self._first + self._told, [])

    def _frame(self, first: int, part: list[msgspec.Raw]) -> None:
        to_run = 0 if self._greets else self.peer_run
        self._owes = self._greets = False
        self._send(encode(Frame(self.run, to_run, first, self._heard, part)))

    def begins_anew(self, frame: Frame) -> bool:
        """Asked before hear(): has the other forgotten all that was said? So do we, but for what is said next."""
        if frame.to_run not in (0, self.run) or frame.run == self.peer_run:
            return False
        known, self.peer_run = self.peer_run, frame.run
        if not known:
            return False
        self._unheard.clear()
        self._bytes = self._told = self._heard = 0
        self._first = 1
        self._owes = True
        return True

    def hear(self, frame: Frame) -> list[msgspec.Raw]:
        """What is new of a frame."""
        if frame.to_run not in (0, self.run):
            if frame.run != self.peer_run:              # it speaks to who we were: let it know who we are
                self._greets = True
            return []
        self._forget(frame.heard)
        if not frame.messages:
            return []
        self._owes = True
        skip = self._heard + 1 - frame.first
        if skip < 0 or skip >= len(frame.messages):     # one is missing, or all of them are known
            return []
        self._heard = frame.first + len(frame.messages) - 1
        return frame.messages[skip:]

    def _forget(self, heard: int) -> None:
        while self._unheard and self._first <= heard and self._told:
            self._bytes -= len(self._unheard.popleft())
            self._first += 1
            self._told -= 1
            self._again_s = self._clock_s() + AGAIN_S

    def tick(self, now_s: float) -> None:
        """Say again what nobody seems to have heard."""
        if self._told and now_s >= self._again_s:
            self._told = 0
            self.flush()
