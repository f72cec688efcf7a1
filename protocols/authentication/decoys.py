"""What somebody is sent for whom there is no SCRAM password: a salt like those that there are, always the same one.

Clients make the salts, each tool in its own way, so a salt of one fixed kind would tell who has a password. A name gets
the kind of one of the passwords that are stored, each as often as it stands there; without any, that of Kafka's tools.

    text    130 random bits as a number of base 36, as Kafka's own tools write it
    bytes   random bytes, so many of them
"""
from __future__ import annotations

import bisect
import hashlib
import hmac
from collections import Counter
from itertools import accumulate
from typing import Final, NamedTuple

DIGITS: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"
TEXT_BITS: Final = 130
TEXT_BYTES: Final = range(20, 27)           # of all such numbers but one in 2**26
TEXT: Final = 0                             # in the place of a number of bytes


class Kind(NamedTuple):
    """size: bytes of the salt, TEXT: such a number."""

    size: int
    iterations: int


KAFKA: Final = Kind(TEXT, 4_096)


def kind_of(salt: bytes, iterations: int) -> Kind:
    text = len(salt) in TEXT_BYTES and frozenset(DIGITS).issuperset(salt)
    return Kind(TEXT if text else len(salt), iterations)


class Decoys:
    """Of one node. secret: kept with its state, so that a name has the same salt after a restart, as others have."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._kinds: dict[str, Counter[Kind]] = {}

    def add(self, mechanism: str, kind: Kind) -> None:
        self._kinds.setdefault(mechanism, Counter())[kind] += 1

    def remove(self, mechanism: str, kind: Kind) -> None:
        kinds = self._kinds[mechanism]
        kinds[kind] -= 1
        if not kinds[kind]:
            del kinds[kind]

    def of(self, user: str, mechanism: str) -> tuple[bytes, int]:
        """Salt and iterations."""
        bits = hashlib.shake_256(hmac.digest(self._secret, f"{mechanism}/{user}".encode(), "sha256"))
        kind = self._chosen(mechanism, int.from_bytes(bits.digest(8), "big") / 2**64)
        if kind.size != TEXT:
            return bits.digest(8 + kind.size)[8:], kind.iterations
        return _text(int.from_bytes(bits.digest(8 + 17)[8:], "big") >> 6), kind.iterations

    def _chosen(self, mechanism: str, fraction: float) -> Kind:
        kinds = sorted(self._kinds.get(mechanism, Counter()).items())
        if not kinds:
            return KAFKA
        sums = list(accumulate(count for _, count in kinds))
        return kinds[min(bisect.bisect_right(sums, fraction * sums[-1]), len(kinds) - 1)][0]


def _text(number: int) -> bytes:
    digits = bytearray()
    while number:
        number, digit = divmod(number, 36)
        digits.append(DIGITS[digit])
    return bytes(digits[::-1]) or b"0"
