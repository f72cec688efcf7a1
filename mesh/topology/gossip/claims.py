"""Two live nodes with one name: how it is noticed, and which of them counts. Sans-IO. Used by gossip.py and overlay.py.

A node that starts again has a new boot, and its past is silent. So a boot that comes back after another one of the same
name had taken its place is alive, and so is somebody who goes on to speak in our own name. Once is not enough: the past
may still be on its way from a far corner.

What is said here is hearsay, so it ends no link: who stands at the other end of one has proven his name. Where nobody
has, the boot that was known first stays, and what comes of another one is not taken as long as there are signs of it.
"""
from __future__ import annotations

RETURNS_MIN = 3             # a boot came back so often …
WINDOW_S = 60.0             # … within this time
REMEMBERED_S = 30.0         # a duplicate is known for so long after the last sign of it
CLAIMS_MAX = 1_000          # names
BOOTS_MAX = 8               # remembered per name


class Claim:
    """What was seen of one name."""

    __slots__ = ("boots", "last_s", "returns", "since_s")

    def __init__(self, now_s: float) -> None:
        self.boots: dict[str, str] = {}         # boot → site, the one that was known first stands first
        self.returns = 0
        self.since_s = self.last_s = now_s

    def note(self, boot: str, site: str) -> bool:
        """True when that boot was there before."""
        known = boot in self.boots
        if not known and len(self.boots) >= BOOTS_MAX:
            del self.boots[list(self.boots)[1]]
        self.boots[boot] = site
        return known

    @property
    def first(self) -> str:
        return next(iter(self.boots))


class Claims:
    """Only names that more than one boot has claimed are kept."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def changed_boot(self, name: str, old: str, old_site: str, new: str, new_site: str, now_s: float) -> bool:
        """Another boot than the one that we know speaks in a name. True when both are alive."""
        claim = self._of(name, now_s)
        claim.note(old, old_site)
        if claim.note(new, new_site):
            claim.returns += 1
            claim.last_s = now_s
        return claim.returns >= RETURNS_MIN

    def heard_of_us(self, name: str, our_boot: str, our_site: str, boot: str, now_s: float) -> None:
        """Another boot speaks in our name, and louder than we do."""
        self.changed_boot(name, our_boot, our_site, boot, "?", now_s)

    def is_live(self, name: str, our_boot: str, our_site: str, boot: str, site: str, now_s: float) -> None:
        """Another boot of our name stands at the other end of a link: no past does that."""
        claim = self._of(name, now_s)
        claim.note(our_boot, our_site)
        claim.note(boot, site)
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

    def is_second(self, name: str, boot: str, now_s: float) -> bool:
        """A boot of a duplicate name that was not known first. Asking is a sign of it."""
        claim = self._claims.get(name)
        if claim is None or claim.returns < RETURNS_MIN or boot == claim.first:
            return False
        claim.last_s = now_s
        return True

    def expire(self, now_s: float) -> None:
        for name, claim in list(self._claims.items()):
            kept_s = REMEMBERED_S if claim.returns >= RETURNS_MIN else WINDOW_S
            if now_s - claim.last_s > kept_s and now_s - claim.since_s > kept_s:
                del self._claims[name]

    def problems(self) -> list[str]:
        found = []
        for name, claim in sorted(self._claims.items()):
            if claim.returns >= RETURNS_MIN:
                sites = ", ".join(sorted(set(claim.boots.values())))
                found.append(f"more than one node is called {name} (at {sites}): give each node a name of its own")
        return found
