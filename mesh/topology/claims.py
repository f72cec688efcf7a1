"""Two live nodes with one name: how it is noticed, and which of them has to go. Sans-IO. Used by overlay.py.

A node that starts again has a new boot, and its past is silent. So a boot that comes back after another one of the same
name had taken its place is alive, and so is somebody who goes on to speak in our own name. The one that started later
has to go. Once is not enough: the past may still be on its way from a far corner.
"""
from __future__ import annotations

from mesh.topology.nodestate import NodeState

RETURNS_MIN = 3             # a boot came back so often …
WINDOW_S = 60.0             # … within this time
REMEMBERED_S = 30.0         # a duplicate is refused for so long after the last sign of it
CLAIMS_MAX = 1_000          # names
BOOTS_MAX = 8               # remembered per name
UNKNOWN_MS = 2**53          # it has not said when it started


class Claim:
    """What was seen of one name."""

    __slots__ = ("boots", "last_s", "returns", "since_s")

    def __init__(self, now_s: float) -> None:
        self.boots: dict[str, tuple[int, str]] = {}     # boot → started_ms, site
        self.returns = 0
        self.since_s = self.last_s = now_s

    def note(self, boot: str, started_ms: int, site: str) -> bool:
        """True when that boot was there before."""
        known = boot in self.boots
        if not known and len(self.boots) >= BOOTS_MAX:
            self.boots.pop(next(iter(self.boots)))
        self.boots[boot] = started_ms, site
        return known


class Claims:
    """Only names that more than one boot has claimed are kept."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def changed_boot(self, old: NodeState, new: NodeState, now_s: float) -> bool:
        """A name went from one boot to another. True when both are alive."""
        claim = self._of(old.name, now_s)
        claim.note(old.boot, old.started_ms, old.site)
        if claim.note(new.boot, new.started_ms, new.site):
            claim.returns += 1
            claim.last_s = now_s
        return claim.returns >= RETURNS_MIN

    def note(self, name: str, boot: str, started_ms: int, site: str, now_s: float) -> None:
        """That boot says of itself when it started."""
        self._of(name, now_s).note(boot, started_ms, site)

    def heard_of_us(self, name: str, our_boot: str, our_started_ms: int, our_site: str, boot: str,
                    now_s: float) -> None:
        """Another boot speaks in our name, and louder than we do."""
        claim = self._of(name, now_s)
        claim.note(our_boot, our_started_ms, our_site)
        if boot in claim.boots:
            claim.returns += 1
            claim.last_s = now_s
        claim.boots.setdefault(boot, (UNKNOWN_MS, "?"))

    def is_live(self, name: str, boot: str, site: str, now_s: float) -> None:
        """Another boot of that name stands at the other end of a link: no past does that."""
        claim = self._of(name, now_s)
        claim.boots.setdefault(boot, (UNKNOWN_MS, site))
        claim.returns = max(claim.returns, RETURNS_MIN)
        claim.last_s = now_s

    def _of(self, name: str, now_s: float) -> Claim:
        claim = self._claims.get(name)
        if claim is None and len(self._claims) >= CLAIMS_MAX:
            return Claim(now_s)                             # somebody invents names; not worth remembering
        if claim is None or (now_s - claim.since_s > WINDOW_S and claim.returns < RETURNS_MIN):
            claim = self._claims[name] = Claim(now_s)
        return claim

    def is_duplicate(self, name: str) -> bool:
        claim = self._claims.get(name)
        return claim is not None and claim.returns >= RETURNS_MIN

    def has_to_go(self, name: str, boot: str) -> bool:
        """True for every boot but the one that started first, as long as the name is a duplicate."""
        if not self.is_duplicate(name):
            return False
        boots = self._claims[name].boots
        return boot != min(boots, key=lambda one: (boots[one][0], one))

    def renew(self, name: str, now_s: float) -> None:
        """The one that has to go has come again, and the other one is still there."""
        self._claims[name].last_s = now_s

    def expire(self, now_s: float) -> None:
        for name, claim in list(self._claims.items()):
            kept_s = REMEMBERED_S if claim.returns >= RETURNS_MIN else WINDOW_S
            if now_s - claim.last_s > kept_s and now_s - claim.since_s > kept_s:
                del self._claims[name]

    def problems(self) -> list[str]:
        found = []
        for name, claim in sorted(self._claims.items()):
            if claim.returns >= RETURNS_MIN:
                sites = ", ".join(sorted({site for _, site in claim.boots.values()}))
                found.append(f"more than one node is called {name} (at {sites}): give each node a name of its own")
        return found
