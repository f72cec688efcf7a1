"""Owed: what queues have not settled of the older part of a partition, as the keeper thread asks it.

Made on the loop by whoever knows the queues (routing/queues/owed/owing.py), then asked on another thread. It may say
more than is owed: that costs some disk. It never says less.
"""
from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from routing.event import Event


class Owed(Protocol):
    @property
    def below(self) -> int:
        """Offsets from there on are not asked for."""
        ...

    @property
    def patterns(self) -> Collection[str]:
        """Filters of which one matches whatever may_want()."""
        ...

    @property
    def is_empty(self) -> bool: ...

    def may_want(self, topic: str) -> bool: ...

    def takes(self, event: Event) -> bool:
        """Some queue still wants this event of a topic that may be wanted."""
        ...

    def between(self, start: int, end: int) -> list[int]:
        """The offsets in [start, end) that are owed whatever they are, in order."""
        ...
