"""Shortage: what a partition does while it cannot write: a full disk, a machine without descriptors or memory.

A commit that failed for want of descriptors is kept and tried again, and for so long nobody hears of it. A full disk is
told at once, and asked again once a second.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from routing.errors import Reason, Refusal

log = logging.getLogger(__name__)

FULL_RETRY_S = 1.0                      # a full disk is tried again once a second
SHORTAGE_RETRY_S = (0.05, 0.5)          # a machine that is short of descriptors is asked again so soon, and so late,
SHORTAGE_MAX_S = 5.0                    # and after so long publishers are told, as with a full disk

C = TypeVar("C")


class Owner(Protocol):
    """What it needs of the store."""

    clock_s: Callable[[], float]
    is_closing: bool


class Shortage(Generic[C]):
    """Of one partition. C: a commit."""

    __slots__ = ("_again_at_s", "_full_until_s", "_name", "_owner", "_since_s", "full", "kept")

    def __init__(self, name: str, owner: Owner) -> None:
        """name: of the partition, for the log."""
        self._name = name
        self._owner = owner
        self.kept: C | None = None                      # a commit that is to be tried again,
        self._again_at_s = 0.0                          # when,
        self._since_s = 0.0                             # and since when it is tried
        self.full: Refusal | None = None                # what publishers are told
        self._full_until_s = 0.0

    def refusal(self) -> Refusal | None:
        """Why nothing can be appended now."""
        if self.full is not None and self._owner.clock_s() >= self._full_until_s:
            self.full = None
        return self.full

    def filled(self, refusal: Refusal) -> None:
        """The disk is full, or as good as that."""
        self.full, self._full_until_s = refusal, self._owner.clock_s() + FULL_RETRY_S

    def is_due(self, now_s: float) -> bool:
        """May there be a commit? False: the one that failed is not to be tried again yet."""
        return self.kept is None or now_s >= self._again_at_s

    def take(self) -> C | None:
        kept, self.kept = self.kept, None
        return kept

    def keep(self, commit: C, what: str) -> Refusal | None:
        """Keep a commit for later. A refusal: that was for too long; what waits is to be refused."""
        now_s = self._owner.clock_s()
        if not self._since_s:
            self._since_s = self._again_at_s = now_s
            log.error("%s: cannot commit now: %s; trying again", self._name, what)
        waited_s = now_s - self._since_s
        if waited_s >= SHORTAGE_MAX_S or self._owner.is_closing:
            return Refusal(Reason.STORAGE_FULL, f"the node cannot write now ({what}); try again", 1)
        self.kept = commit
        self._again_at_s = now_s + min(max(waited_s, SHORTAGE_RETRY_S[0]), SHORTAGE_RETRY_S[1])
        return None

    def over(self) -> None:
        """A commit was not short of anything."""
        if self._since_s:
            self._since_s = 0.0
            log.info("%s: commits go on", self._name)
