"""What a change would have done to what people did: rules against rules, over the usage record. Pure; takes a thread.

Both sides are asked by the function that decides on every protocol (Policy.decide). A user or key that is known is
taken with the roles that he has now, and would have; whoever else came (tokens, certificates) with those that he had.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from mesh.administration.effective import Rights
from mesh.administration.usage_log import Merged
from mesh.identity.users import AUTHENTICATED
from routing.rights.policy import Policy
from routing.rights.rules import ANONYMOUS, Action, Identity
from routing.rights.usage import Tally, Use

ROWS_MAX: Final = 200               # of each kind in the answer, those with most events first
PAUSE_EVERY: Final = 40             # uses; then the loop gets the interpreter
PAUSE_S: Final = 0.0005
NO_LOGIN: Final = "the login is gone"

Side = Callable[[Use], tuple[bool, str]]


class Differences:
    """Uses of which something has changed, and sums over all of them."""

    def __init__(self) -> None:
        self.uses = 0
        self.events = 0
        self.first_ms: int | None = None
        self._clients: set[tuple[str, str, str]] = set()
        self._users: set[str] = set()
        self._rows: list[tuple[int, Use, Tally, str]] = []

    def add(self, use: Use, tally: Tally, rule: str) -> None:
        self.uses += 1
        self.events += tally.count
        self.first_ms = tally.first_ms if self.first_ms is None else min(self.first_ms, tally.first_ms)
        self._clients.add((use.user, use.client_id, use.protocol))
        self._users.add(use.user)
        self._rows.append((tally.count, use, tally, rule))

    def shown(self) -> dict[str, Any]:
        rows = sorted(self._rows, key=lambda row: (-row[0], row[1].user, row[1].topic))[:ROWS_MAX]
        return {"uses": self.uses, "users": len(self._users), "clients": len(self._clients), "events": self.events,
                "first_ms": self.first_ms, "rows": [
                    {"user": use.user, "client_id": use.client_id, "protocol": use.protocol,
                     "action": use.action.value, "topic": use.topic, "count": count, "first_ms": tally.first_ms,
                     "last_ms": tally.last_ms, "rule": rule} for count, use, tally, rule in rows]}


def simulate(before: Rights, after: Rights, uses: Merged, *, pause: bool = True) -> dict[str, Any]:
    """newly_denied, newly_allowed, narrowed (a filter of which a part would be kept from its reader), rules."""
    old, new = _World(before, before), _World(before, after)
    denied, allowed, narrowed = Differences(), Differences(), Differences()
    decided: dict[str, int] = {}
    decided_before: set[str] = set()
    for number, (use, tally) in enumerate(uses.items(), 1):
        was, was_rule = old.decide(use)
        would, rule = new.decide(use)
        decided[rule] = decided.get(rule, 0) + 1
        decided_before.add(was_rule)
        if was and not would:
            denied.add(use, tally, rule)
        elif would and not was:
            allowed.add(use, tally, rule)
        elif would and use.action is Action.SUBSCRIBE and new.denies_part(use) and not old.denies_part(use):
            narrowed.add(use, tally, rule)
        if pause and number % PAUSE_EVERY == 0:
            time.sleep(PAUSE_S)
    names = [rule.name for rule in after.rules.rules]
    return {"uses": len(uses), "newly_denied": denied.shown(), "newly_allowed": allowed.shown(),
            "narrowed": narrowed.shown(),
            "dead_rules": [name for name in names if name in decided_before and name not in decided],
            "unused_rules": [name for name in names if name not in decided]}


class _World:
    """The rules of one side, with the roles that people have there."""

    def __init__(self, before: Rights, rights: Rights) -> None:
        self._policy = Policy(rights.rules)
        self._known_before = dict(_logins(before))
        self._known = dict(_logins(rights))
        self._places: dict[str, list[tuple[str, str]]] = {}
        for place in self._known_before:
            self._places.setdefault(place[2], []).append(place[:2])
        self._identities: dict[tuple[str, tuple[str, ...], str, str], Identity] = {}

    def decide(self, use: Use) -> tuple[bool, str]:
        identity = self.identity(use)
        if identity.revoked:
            return False, NO_LOGIN
        if use.action is not Action.CONNECT and use.protocol != "link":
            connect = self._policy.decide(identity, Action.CONNECT)
            if not connect.allowed:
                return False, connect.rule
        decision = self._policy.decide(identity, use.action, use.topic)
        return decision.allowed, decision.rule

    def denies_part(self, use: Use) -> bool:
        return self._policy.permissions(self.identity(use)).denies_part_of(use.topic)

    def identity(self, use: Use) -> Identity:
        key = use.user, use.roles, use.client_id, use.protocol
        found = self._identities.get(key)
        if found is None:
            roles = self._roles(use)
            found = self._identities[key] = Identity(
                use.user, use.roles if roles is None else roles, protocol=use.protocol, client_id=use.client_id,
                revoked=roles is None)
        return found

    def _roles(self, use: Use) -> tuple[str, ...] | None:
        """None: he could not log in any more."""
        places = self._places.get(use.user, [])
        if use.user == ANONYMOUS or use.protocol == "link" or not places:
            roles = next((roles for (_, _, user), roles in self._known.items() if user == use.user), None)
            return roles if roles is not None and use.user != ANONYMOUS else use.roles
        same = [place for place in places if self._known_before[(*place, use.user)] == use.roles]
        return self._known.get((*(same or places)[0], use.user))


def _logins(rights: Rights) -> Iterator[tuple[tuple[str, str, str], tuple[str, ...]]]:
    """(kind, name, user) → roles."""
    for user in rights.users:
        yield ("user", user.name, user.name), (*user.roles, AUTHENTICATED)
    for key in rights.keys.values():
        yield ("key", key.name, key.user), (*key.roles, AUTHENTICATED)
