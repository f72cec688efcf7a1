"""Policy: who may do what on which topics. One decision function for every protocol, link and console.

An Identity asks for an action on a topic or topic filter. Deny beats allow; nothing is allowed that no rule allows.
A wildcard filter that is wider than a deny rule may be subscribed; the events that the rule denies are then left
out at delivery, because the router asks again for each concrete topic (the answer is kept in the route).
"""
from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from routing.errors import Reason, Refusal
from routing.rights.can_i import Answer, can_i
from routing.rights.permissions import NO_RULE, Permissions, RuleSet
from routing.rights.rules import ALL_TOPICS
from routing.rights.rules import ANONYMOUS as ANONYMOUS
from routing.rights.rules import INTERNAL as INTERNAL
from routing.rights.rules import NEIGHBOURS as NEIGHBOURS
from routing.rights.rules import REPLY_PREFIX as REPLY_PREFIX
from routing.rights.rules import Action as Action
from routing.rights.rules import Decision as Decision
from routing.rights.rules import Identity as Identity
from routing.rights.rules import Rule as Rule
from routing.rights.usage import Usage
from routing.steps import dissolved

DENIALS_KEPT = 1_000            # the denial log is a window for operators, the counters are for ever
DENIAL_TEXT_MAX = 512           # characters of each text in it: 2 MiB at most, beside …
DENIAL_ROLES_MAX = 20           # … roles
CACHE_BYTES = 16 * 1024 * 1024  # until the limits say otherwise, see Limits.policy_cache_bytes
_ENTRY_BYTES = 300              # of a decision or of an identity's permissions, besides its texts


class Policy:
    """The rule set of a tenant, with its denial log."""

    def __init__(self, rules: Iterable[Rule] | RuleSet = ()) -> None:
        self.denials: deque[dict[str, Any]] = deque(maxlen=DENIALS_KEPT)
        self.denied: Counter[tuple[str, str]] = Counter()       # (protocol, action) → count
        self._denials_listed = 0                                # the number of the next one
        self.misfits: Counter[str] = Counter()                  # %u or %c → denials of names that fit no rule with it
        self.cache_bytes_max = CACHE_BYTES
        self.usage: Usage | None = None                         # set by the router: who used which right
        self._set = RuleSet(())
        self._permissions: dict[tuple[str, tuple[str, ...], str], Permissions] = {}
        self._decisions: dict[tuple[Permissions, Action, str], Decision] = {}
        self._cached_bytes = 0
        self.replace(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self._set.rules

    def replace(self, rules: Iterable[Rule] | RuleSet) -> None:
        """Take a new rule set. The router must drop its routes after it."""
        self._set = rules if isinstance(rules, RuleSet) else RuleSet(rules)
        self._forget()

    def permissions(self, identity: Identity) -> Permissions:
        if identity is INTERNAL or identity is NEIGHBOURS:      # not by a name, which a client could take
            return _NODE_PERMISSIONS
        if identity.revoked:
            return _NO_PERMISSIONS
        key = (identity.user, identity.roles, identity.client_id if self._set.per_client else "")
        found = self._permissions.get(key)
        if found is None:
            self._make_room(sum(map(sys.getsizeof, (identity.user, identity.client_id, *identity.roles))))
            found = self._permissions[key] = Permissions(self._set, identity)
        return found

    def decide(self, identity: Identity, action: Action, topic: str = "") -> Decision:
        if action is Action.PUBLISH and topic.startswith(REPLY_PREFIX) and not identity.revoked:
            return _ANSWER
        permissions = self.permissions(identity)
        key = (permissions, action, topic)
        found = self._decisions.get(key)
        if found is None:
            self._make_room(sys.getsizeof(topic))
            found = self._decisions[key] = permissions.decide(action, topic)
        return found

    def can_i(self, identity: Identity, action: Action, topic: str = "") -> Answer:
        """The decision with its reasons; see can_i.py."""
        if action is Action.PUBLISH and topic.startswith(REPLY_PREFIX):
            return Answer(self.decide(identity, action, topic), "", None)
        return can_i(self._set, self.permissions(identity), identity, action, topic)

    def _make_room(self, text_bytes: int) -> None:
        """Count another entry of the caches; when they are full they start afresh."""
        size = _ENTRY_BYTES + text_bytes
        if self._cached_bytes + size > self.cache_bytes_max:
            self._forget()
        self._cached_bytes += size

    def forget(self) -> Iterator[None]:
        """Decide again what was decided. Work in pieces."""
        decisions = self._decisions
        self._forget()
        yield from dissolved(decisions)

    def _forget(self) -> None:
        self._permissions = {}
        self._decisions = {}
        self._cached_bytes = 0

    def refuse(self, identity: Identity, action: Action, topic: str, now_ms: int) -> Refusal | None:
        """Decide; on a denial count and log it and return the Refusal for the client."""
        decision = self.decide(identity, action, topic)
        if self.usage is not None:
            self.usage.note(identity, action, topic, decision, int(action is not Action.PUBLISH))
        if decision.allowed:
            return None
        rule = self._explained(identity, decision.rule)
        number = self.record_denial(identity, action, topic, rule, now_ms)
        what = f"{action.value} {topic}" if topic else action.value
        return Refusal(Reason.NOT_AUTHORIZED, f"user {identity.user} may not {what}: {rule} (denial {number})")

    def _explained(self, identity: Identity, rule: str) -> str:
        """Say it when rules are there that would have been meant for this client, had it a better name."""
        if rule != NO_RULE:
            return rule
        marks = self.permissions(identity).misfits()
        self.misfits.update(marks)
        names = " and ".join({"%u": "the user name", "%c": "the client id"}[mark] for mark in marks)
        return f"{rule}; rules with {' and '.join(marks)} do not take {names}: it has one of % + # / in it, or " \
               "begins with $" if marks else rule

    def record_denial(self, identity: Identity, action: Action, topic: str, rule: str, now_ms: int) -> int:
        """Returns its number, by which people can ask why."""
        self.count_denial(identity, action)
        self._denials_listed += 1
        self.denials.append({
            "id": self._denials_listed, "time_ms": now_ms, "user": identity.user[:DENIAL_TEXT_MAX],
            "client_id": identity.client_id[:DENIAL_TEXT_MAX], "protocol": identity.protocol,
            "address": identity.address, "action": action.value, "topic": topic[:DENIAL_TEXT_MAX], "rule": rule,
            "roles": [role[:DENIAL_TEXT_MAX] for role in identity.roles[:DENIAL_ROLES_MAX]],
        })
        return self._denials_listed

    def count_denial(self, identity: Identity, action: Action, count: int = 1) -> None:
        self.denied[(identity.protocol, action.value)] += count


_ANSWER = Decision(True, "who knows the topic of a request may answer it")
_NODE_PERMISSIONS = Permissions(RuleSet((
    Rule(allow=tuple(Action), to=("*",), name="the node itself"),
    Rule(allow=(Action.SUBSCRIBE,), to=("*",), topics=(f"{REPLY_PREFIX}#",), name="the node itself"),
)), INTERNAL)
_NO_PERMISSIONS = Permissions(RuleSet((
    Rule(deny=tuple(Action), to=("*",), topics=(*ALL_TOPICS, f"{REPLY_PREFIX}#"), name="the login counts no more"),
)), Identity(""))
ALLOW_ALL = Rule(allow=tuple(Action), to=("*",), name="no users are configured")
