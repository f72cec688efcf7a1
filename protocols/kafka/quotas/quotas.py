"""Quotas: the rates that users and client ids may have, as clients set them. Stored.      Sources: KIP-124, KIP-546

    producer_byte_rate, consumer_byte_rate      bytes a second of what is produced, and fetched
    request_percentage                          of the loop's time: 100 is all of it
    controller_mutation_rate                    topics and partitions that are made or deleted, a second

Of the entities that fit a client the most exact one counts, for each key on its own. None as a name: the default of
all that have no quota of their own.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from routing.router import Router
from routing.ticket import Ticket

PREFIX = "kafka-quota/"
USER, CLIENT_ID = "user", "client-id"
PRODUCE, FETCH, REQUEST, MUTATION = (
    "producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate")
KEYS = (PRODUCE, FETCH, REQUEST, MUTATION)
NAME_CHARACTERS_MAX = 249
RATE_MIN, RATE_MAX = 0.01, 1e15

Entity: TypeAlias = tuple[tuple[str, str | None], ...]          # types and names, by type
Values: TypeAlias = dict[str, float]


class QuotaError(ValueError):
    """An entity, key or value that is not taken; the text says why."""


class Quotas:
    """One per broker. Loop thread only."""

    def __init__(self, router: Router, entities_max: int) -> None:
        self._state = router.state
        self._entities_max = entities_max
        self._set: dict[Entity, Values] = {}
        for key, values in router.state.decoded(PREFIX, Values, "a quota of Kafka clients"):
            self._set[_entity(msgspec.json.decode(key, type=list[tuple[str, str | None]]))] = values

    def __bool__(self) -> bool:
        return bool(self._set)

    def entries(self) -> Iterator[tuple[Entity, Values]]:
        yield from list(self._set.items())

    def rate(self, key: str, user: str, client_id: str) -> tuple[Entity, float] | None:
        """The entity that counts for a client, and its rate."""
        for names in (((USER, user), (CLIENT_ID, client_id)), ((USER, user), (CLIENT_ID, None)), ((USER, user),),
                      ((USER, None), (CLIENT_ID, client_id)), ((USER, None), (CLIENT_ID, None)), ((USER, None),),
                      ((CLIENT_ID, client_id),), ((CLIENT_ID, None),)):
            entity = _entity(names)
            found = self._set.get(entity, {}).get(key)
            if found is not None:
                return entity, found
        return None

    def change(self, names: list[tuple[str, str | None]], changes: Mapping[str, float | None], *, validate_only: bool
               ) -> Ticket | None:
        """None as a value: no quota of this key. Returns when it is on disk. Raises QuotaError."""
        entity = _checked(names)
        for key, value in changes.items():
            if key not in KEYS:
                raise QuotaError(f"{key[:100]}: quotas are {', '.join(KEYS)}")
            if value is not None and not RATE_MIN <= value <= RATE_MAX:     # what is no number is not between them
                raise QuotaError(f"{key}: from {RATE_MIN} to {RATE_MAX:g}, got {value}")
        values = {key: value for key, value in {**self._set.get(entity, {}), **changes}.items() if value is not None}
        if values and entity not in self._set and len(self._set) >= self._entities_max:
            raise QuotaError(f"at most {self._entities_max} entities have quotas here")
        if validate_only:
            return None
        key = PREFIX + msgspec.json.encode(entity).decode()
        if values:
            self._set[entity] = values
            return self._state.put(key, msgspec.msgpack.encode(values))
        self._set.pop(entity, None)
        return self._state.delete(key)


def _entity(names: list[tuple[str, str | None]] | tuple[tuple[str, str | None], ...]) -> Entity:
    return tuple(sorted(names, key=lambda pair: pair[0]))


def _checked(names: list[tuple[str, str | None]]) -> Entity:
    types = [type for type, _ in names]
    if not names or len(set(types)) < len(types) or not {USER, CLIENT_ID} >= set(types):
        raise QuotaError("quotas are of a user, a client-id, or both")
    if any(name is not None and not 0 < len(name) <= NAME_CHARACTERS_MAX for _, name in names):
        raise QuotaError(f"a name has up to {NAME_CHARACTERS_MAX} characters, or is null for the default")
    return _entity(names)
