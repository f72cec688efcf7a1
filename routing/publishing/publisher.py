"""Publisher: one connection's right to publish, with what the router remembers for it."""
from __future__ import annotations

from routing.errors import Refusal
from routing.publishing.pacing import Pace
from routing.publishing.route import Route
from routing.rights.policy import Identity
from routing.rights.usage import Deeds

TOPICS_CACHED = 1_000       # routes kept per publisher; a publisher with more topics pays one more look-up


class Publisher:
    """Made by Router.publisher(), used for every publish of a connection or session."""

    __slots__ = ("advance", "deeds", "generation", "identity", "logins", "name", "pace", "paced_last", "routes",
                 "window")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.name = f"{identity.protocol}\0{identity.user}\0{identity.client_id}"     # nobody else's
        self.generation = -1
        self.logins = 0         # generation of routing/logins.py at which the identity was asked for
        self.window = -1        # of routing/log/committing/gather.py: when it was last counted
        self.routes: dict[str, Route | Refusal] = {}
        self.deeds = Deeds(identity)            # for the usage record
        self.pace: Pace | None = None           # as in pacing.py, and so are the next two
        self.paced_last = 0
        self.advance = 0
