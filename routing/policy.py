"""Identity and policy: who may do what on which topics. One decision function for every protocol, link and console.

An Identity asks for an action on a topic or topic filter. Deny beats allow; nothing is allowed that no rule allows.
A wildcard filter that is wider than a deny rule may be subscribed; the events that the rule denies are then left
out at delivery, because the router asks again for each concrete topic (the answer is kept in the route).
"""
from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import msgspec

from routing.errors import Reason, Refusal
from routing.topic import filter_covers, filters_intersect

DENIALS_KEPT = 1_000            # the denial log is a window for operators, the counters are for ever
PERMISSIONS_CACHED = 20_000     # compiled rule sets; beyond it the cache starts afresh


class Action(enum.Enum):
    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    MANAGE = "manage"               # all of the following, and whatever a later version adds
    VIEW = "view"                   # see the node and the mesh: everything but payloads
    OPERATE = "operate"             # and act: pause, kick, seek, redrive
    AUDIT = "audit"                 # read who did what
    ADMINISTER = "administer"       # users, keys, policies


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who is at the other end of a connection."""

    user: str                       # "anonymous" when nobody logged in
    roles: tuple[str, ...] = ()
    tenant: str = "default"
    protocol: str = ""              # "mqtt", "http", …
    client_id: str = ""
    address: str = ""               # "host:port", for the denial log only
    expires_ms: int | None = None   # wall clock: the login ends then (a token has its time); None: it does not


ANONYMOUS = "anonymous"
_PARTS = (Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER)
GRANTS = {Action.MANAGE: (Action.MANAGE, *_PARTS), Action.OPERATE: (Action.OPERATE, Action.VIEW)}
DENIES = {Action.MANAGE: (Action.MANAGE, *_PARTS), Action.VIEW: (Action.MANAGE, *_PARTS)}   # no act without seeing
INTERNAL = Identity(user="$node", roles=("$node",), protocol="internal")
REPLY_PREFIX = "$reply/"        # topics on which requests wait for their answers; see replies.py


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy of the configuration: either allow or deny names the actions."""

    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()
    to: tuple[str, ...] = ()        # "role:x", "user:x" (with %c), "anonymous", "*"
    topics: tuple[str, ...] = ()    # topic filters with %u and %c; empty means every topic
    name: str = ""                  # shown in decisions; "policy N" when empty

    def applies_to(self, identity: Identity) -> bool:
        return any(_names(subject, identity) for subject in self.to)

    def filters_for(self, identity: Identity) -> tuple[str, ...]:
        """Topic filters with user and client id put in.

        One that cannot be put in safely is left out where it would allow; where it denies, it denies the more.
        """
        if not self.topics:
            return ("#", "$SYS/#")
        if self.deny:
            return tuple(filled for pattern in self.topics for filled in _fill_wide(pattern, identity))
        filled = (_fill(pattern, identity) for pattern in self.topics)
        return tuple(pattern for pattern in filled if pattern is not None)


class Decision(msgspec.Struct, frozen=True):
    """allowed, and the name of the rule that made it so."""

    allowed: bool
    rule: str


def _names(subject: str, identity: Identity) -> bool:
    if subject == "*":
        return True
    if subject == ANONYMOUS:
        return identity.user == ANONYMOUS
    kind, _, name = subject.partition(":")
    if kind == "role":
        return name in identity.roles
    if kind == "user":
        return name.replace("%c", identity.client_id) == identity.user
    return False


def _fill(pattern: str, identity: Identity) -> str | None:
    """Put user and client id into a pattern. A value that would widen the pattern makes it match nothing."""
    for mark, value in (("%u", identity.user), ("%c", identity.client_id)):
        if mark in pattern:
            if not value or any(char in value for char in "+#/"):
                return None
            pattern = pattern.replace(mark, value)
    return pattern


def _fill_wide(pattern: str, identity: Identity) -> tuple[str, ...]:
    """For a rule that denies: the pattern with the values as they are and, if they are odd, for any value."""
    filled = _fill(pattern, identity)
    if filled is not None:
        return (filled,)
    literal = pattern.replace("%u", identity.user).replace("%c", identity.client_id)
    levels = ("+" if "%u" in level or "%c" in level else level for level in pattern.split("/"))
    return (literal, "/".join(levels)) if literal else ("/".join(levels),)


class Permissions:
    """The rules that apply to one identity, compiled: per action the denied and the allowed topic filters."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, rules: Sequence[Rule], identity: Identity) -> None:
        self._allow: dict[Action, list[tuple[str, str]]] = {action: [] for action in Action}
        self._deny: dict[Action, list[tuple[str, str]]] = {action: [] for action in Action}
        for rule in rules:
            if not rule.applies_to(identity):
                continue
            patterns = rule.filters_for(identity)
            for granted in {part for action in rule.allow for part in GRANTS.get(action, (action,))}:
                self._allow[granted].extend((pattern, rule.name) for pattern in patterns)
            for denied in {part for action in rule.deny for part in DENIES.get(action, (action,))}:
                self._deny[denied].extend((pattern, rule.name) for pattern in patterns)

    def decide(self, action: Action, topic: str) -> Decision:
        """topic: a topic or topic filter; only publish and subscribe look at it."""
        by_topic = action in (Action.PUBLISH, Action.SUBSCRIBE)
        for pattern, name in self._deny[action]:
            if not by_topic or filter_covers(pattern, topic):
                return Decision(False, name)
        for pattern, name in self._allow[action]:
            if not by_topic or filter_covers(pattern, topic):
                return Decision(True, name)
        return Decision(False, "no rule allows it")

    def allows_part_of(self, pattern: str, action: Action = Action.SUBSCRIBE) -> bool:
        """True when some topic that the filter matches may be received (or published)."""
        return any(filters_intersect(allowed, pattern) for allowed, _ in self._allow[action])

    def allows_some(self, action: Action) -> bool:
        """True when a rule allows it for any topic at all."""
        return bool(self._allow[action])

    def denies_part_of(self, pattern: str) -> bool:
        """True when some topic that the filter matches may not be received."""
        return any(filters_intersect(denied, pattern) for denied, _ in self._deny[Action.SUBSCRIBE])


class Policy:
    """The rule set of a tenant, with its denial log."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.denials: deque[dict[str, str | int]] = deque(maxlen=DENIALS_KEPT)
        self.denied: Counter[tuple[str, str]] = Counter()       # (protocol, action) → count
        self._denials_listed = 0                                # the number of the next one
        self._permissions: dict[tuple[str, tuple[str, ...], str], Permissions] = {}
        self._per_client = False
        self.rules: tuple[Rule, ...] = ()
        self.replace(rules)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Take a new rule set. The router must drop its routes after it."""
        named = [
            rule if rule.name else msgspec.structs.replace(rule, name=f"policy {number}")
            for number, rule in enumerate(rules, 1)
        ]
        self.rules = tuple(named)
        self._per_client = any("%c" in text for rule in named for text in (*rule.to, *rule.topics))
        self._permissions.clear()

    def permissions(self, identity: Identity) -> Permissions:
        if identity is INTERNAL:                # by being that very object, not by a name that a client could take
            return _NODE_PERMISSIONS
        key = (identity.user, identity.roles, identity.client_id if self._per_client else "")
        found = self._permissions.get(key)
        if found is None:
            found = Permissions(self.rules, identity)
            if len(self._permissions) >= PERMISSIONS_CACHED:
                self._permissions.clear()
            self._permissions[key] = found
        return found

    def decide(self, identity: Identity, action: Action, topic: str = "") -> Decision:
        if action is Action.PUBLISH and topic.startswith(REPLY_PREFIX):
            return _ANSWER
        return self.permissions(identity).decide(action, topic)

    def refuse(self, identity: Identity, action: Action, topic: str, now_ms: int) -> Refusal | None:
        """Decide; on a denial count and log it and return the Refusal for the client."""
        decision = self.decide(identity, action, topic)
        if decision.allowed:
            return None
        self.record_denial(identity, action, topic, decision.rule, now_ms)
        what = f"{action.value} {topic}" if topic else action.value
        return Refusal(Reason.NOT_AUTHORIZED, f"user {identity.user} may not {what}: {decision.rule}")

    def record_denial(self, identity: Identity, action: Action, topic: str, rule: str, now_ms: int) -> None:
        self.count_denial(identity, action)
        self._denials_listed += 1
        self.denials.append({
            "id": self._denials_listed, "time_ms": now_ms, "user": identity.user, "client_id": identity.client_id,
            "protocol": identity.protocol, "address": identity.address, "action": action.value, "topic": topic,
            "rule": rule,
        })

    def count_denial(self, identity: Identity, action: Action, count: int = 1) -> None:
        self.denied[(identity.protocol, action.value)] += count


_ANSWER = Decision(True, "who knows the topic of a request may answer it")
_NODE_PERMISSIONS = Permissions((
    Rule(allow=tuple(Action), to=("*",), name="the node itself"),
    Rule(allow=(Action.SUBSCRIBE,), to=("*",), topics=(f"{REPLY_PREFIX}#",), name="the node itself"),
), INTERNAL)
ALLOW_ALL = Rule(allow=tuple(Action), to=("*",), name="no users are configured")
