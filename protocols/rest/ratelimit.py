"""Rate limits of the HTTP listener: a token bucket per policy and client. Sans-IO: the clock is an argument.

per = "address": asked before anybody logs in; per = "user": once it is known who it is (anonymous ones by address).
Every answer says where the client stands: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10);
a refusal is 429 with Retry-After. Without policies nothing is counted and nothing is said.
"""
from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

CLIENTS_MAX = 65_536        # buckets per policy; the one that was used longest ago is forgotten, that is: full again


class Per(enum.Enum):
    ADDRESS = "address"
    USER = "user"


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[http.rate_limits]] table."""

    name: str                   # told to clients
    requests: int               # so many at once, and so many per window in the long run
    window_s: float = 60.0
    per: Per = Per.USER


def check_rate_limits(limits: tuple[RateLimit, ...]) -> Iterator[str]:
    """Problems, each one line that begins with the path of the setting."""
    names: set[str] = set()
    for index, limit in enumerate(limits):
        path = f"http.rate_limits[{index}]"
        if not limit.name or len(limit.name) > 64 or not all(
                char.isascii() and (char.isalnum() or char in "-_.") for char in limit.name):
            yield f"{path}.name: 1 to 64 letters, digits, dashes, dots and underscores, got {limit.name!r}"
        if limit.name in names:
            yield f"{path}.name: {limit.name} is there twice"
        names.add(limit.name)
        if not 1 <= limit.requests <= 10**9:
            yield f"{path}.requests: expected 1 to 1000000000"
        if not 0.1 <= limit.window_s <= 86_400:
            yield f"{path}.window_s: expected 0.1 to 86400 seconds"


class Standing(msgspec.Struct, frozen=True):
    """What a client is told after one request was counted."""

    limit: RateLimit
    allowed: bool
    remaining: int
    full_in_s: int              # until nothing of the allowance is missing
    retry_after_s: int          # 0 when allowed

    @property
    def policy_text(self) -> str:
        return f'"{self.limit.name}";q={self.limit.requests};w={math.ceil(self.limit.window_s)}'

    @property
    def text(self) -> str:
        return f'"{self.limit.name}";r={self.remaining};t={self.full_in_s}'


class Buckets:
    """The buckets of one policy."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._rate = limit.requests / limit.window_s
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()   # client → (used at that time, time in s)

    def take(self, client: str, now_s: float) -> Standing:
        """Count one request."""
        limit = self.limit
        used, since_s = self._used.pop(client, (0.0, now_s))
        used = max(used - (now_s - since_s) * self._rate, 0.0)
        allowed = used + 1 <= limit.requests + 1e-9
        if allowed:
            used += 1
        self._used[client] = (used, now_s)
        if len(self._used) > CLIENTS_MAX:
            self._used.popitem(last=False)
        retry_after_s = 0 if allowed else max(math.ceil((used + 1 - limit.requests) / self._rate - 1e-6), 1)
        return Standing(limit, allowed, int(limit.requests - used + 1e-9), math.ceil(used / self._rate), retry_after_s)


class RateLimits:
    """All policies of a listener."""

    def __init__(self, limits: tuple[RateLimit, ...]) -> None:
        self._buckets = {per: [Buckets(limit) for limit in limits if limit.per is per] for per in Per}
        self.configured = bool(limits)

    def take(self, per: Per, client: str, now_s: float) -> list[Standing]:
        """Count one request against every policy of this kind."""
        return [buckets.take(client, now_s) for buckets in self._buckets[per]]


def fields_of(standings: list[Standing]) -> dict[str, str]:
    """Header fields of an answer; {} without standings."""
    if not standings:
        return {}
    return {"RateLimit-Policy": ", ".join(standing.policy_text for standing in standings),
            "RateLimit": ", ".join(standing.text for standing in standings)}
