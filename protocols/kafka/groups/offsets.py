"""Offsets: how far groups have read, durable before it is acked. By group, topic and partition."""
from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from routing.router import Router
from routing.ticket import Ticket

OFFSET_PREFIX = "kafka-offset/"


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """metadata comes back to the client as it was."""

    offset: int
    epoch: int
    metadata: str | None
    at_ms: int


class Offsets:
    """One per coordinator. Loop thread only."""

    def __init__(self, router: Router) -> None:
        self._state = router.state
        self._groups: dict[str, dict[tuple[str, int], Committed]] = {}
        for key, committed in router.state.decoded(OFFSET_PREFIX, Committed, "an offset of a Kafka group"):
            group_id, topic, partition = _place(key)
            self._groups.setdefault(group_id, {})[topic, partition] = committed

    def groups(self) -> list[str]:
        """Those that have committed."""
        return list(self._groups)

    def commit(self, group_id: str, topic: str, partition: int, committed: Committed) -> Ticket:
        self._groups.setdefault(group_id, {})[topic, partition] = committed
        return self._state.put(_key(group_id, topic, partition), msgspec.msgpack.encode(committed))

    def record(self, group_id: str, topic: str, partition: int, committed: Committed) -> dict[str, bytes]:
        """What is stored of an offset, for a transaction to store when it commits: then take() hears of it."""
        return {_key(group_id, topic, partition): msgspec.msgpack.encode(committed)}

    def take(self, records: Mapping[str, bytes]) -> set[str]:
        """A transaction has stored these records, of whatever kind. Returns the groups whose offsets are among them."""
        groups = set()
        for key, value in records.items():
            if key.startswith(OFFSET_PREFIX):
                group_id, topic, partition = _place(key)
                self._groups.setdefault(group_id, {})[topic, partition] = msgspec.msgpack.decode(value, type=Committed)
                groups.add(group_id)
        return groups

    def get(self, group_id: str, topic: str, partition: int) -> Committed | None:
        return self._groups.get(group_id, {}).get((topic, partition))

    def of(self, group_id: str) -> Iterator[tuple[str, int, Committed]]:
        for (topic, partition), committed in sorted(self._groups.get(group_id, {}).items()):
            yield topic, partition, committed

    def topics(self, group_id: str) -> set[str]:
        return {topic for topic, _ in self._groups.get(group_id, {})}

    def delete(self, group_id: str, topic: str, partition: int) -> Ticket | None:
        """None: there was none."""
        found = self._groups.get(group_id, {}).pop((topic, partition), None)
        return None if found is None else self._state.delete(_key(group_id, topic, partition))

    def delete_group(self, group_id: str) -> None:
        for topic, partition in self._groups.pop(group_id, {}):
            self._state.delete(_key(group_id, topic, partition))


def _place(key: str) -> tuple[str, str, int]:
    """Group, topic and partition of a key, with or without its prefix: only a group may have a slash in it."""
    place, _, partition = key.removeprefix(OFFSET_PREFIX).rpartition("/")
    group_id, _, topic = place.rpartition("/")
    return group_id, topic, int(partition)


def _key(group_id: str, topic: str, partition: int) -> str:
    return f"{OFFSET_PREFIX}{group_id}/{topic}/{partition}"
