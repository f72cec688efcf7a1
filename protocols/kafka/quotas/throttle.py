"""Throttle: how long a client that is above its quotas is held. Sans-IO.                     Sources: KIP-13, KIP-219

For each quota that counts for a client a bucket: what it does goes in, its rate runs out. While there is more in it
than BURST_S of the rate, its answers say for how long, and its connection is not read meanwhile.
"""
from __future__ import annotations

from collections import OrderedDict

from protocols.kafka.quotas.quotas import NAME_CHARACTERS_MAX, Entity, Quotas

BURST_S = 1.0               # of the rate, at once
HELD_MAX_S = 30.0           # one answer holds a client no longer than this, and what is above it is forgiven
BUCKETS_MAX = 10_000        # clients that have done something lately; whoever makes up client ids forgets others early


class _Bucket:
    __slots__ = ("at_s", "level")

    def __init__(self, now_s: float) -> None:
        self.at_s = now_s
        self.level = 0.0

    def add(self, amount: float, rate: float, now_s: float) -> float:
        """Returns seconds until it is below its brim."""
        self.level = max(self.level - (now_s - self.at_s) * rate, 0.0)
        self.at_s = now_s
        self.level = min(self.level + amount, rate * (HELD_MAX_S + BURST_S))
        return max(self.level - rate * BURST_S, 0.0) / rate


class Throttle:
    """One per broker. Loop thread only."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._buckets: OrderedDict[tuple[str, str, str, Entity], _Bucket] = OrderedDict()

    def add(self, key: str, amount: float, user: str, client_id: str, now_s: float) -> float:
        """A client has done so much; seconds for which it is to be held. amount: as the rate of the key, by second."""
        found = self._quotas.rate(key, user, client_id)
        if found is None:
            return 0.0
        entity, rate = found
        client_id = client_id[:NAME_CHARACTERS_MAX + 1]         # a longer one has no quota of its own anyway
        types = {type for type, _ in entity}
        # each user and each client id has a bucket of its own, also when the default is what counts for them
        place = key, user if "user" in types else "", client_id if "client-id" in types else "", entity
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = _Bucket(now_s)
            if len(self._buckets) > BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(place)
        return bucket.add(amount, rate, now_s)

