"""Identities, rules and decisions: the values that policies are made of. No state; policy.py decides.

    to       "*" · "anonymous" · "user:NAME" (with %c) · "role:NAME"
    topics   topic filters, in which %u stands for the user and %c for the client id

A user and a client id are what somebody wrote, so they never say more than a name: one with % + # / or NUL in it, or
that begins with $ (topics of the node), fits no rule with a mark. Where the rule allows, it allows nothing; where it
denies, it denies the more: any name. See fill().
"""
from __future__ import annotations

import enum

import msgspec


class Action(enum.Enum):
    CONNECT = "connect"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    BROWSE = "browse"               # look at stored events in the console; who may subscribe may do that, too
    MANAGE = "manage"               # all of the following, and whatever a later version adds
    VIEW = "view"                   # see the node and the mesh: everything but payloads
    OPERATE = "operate"             # and act: pause, kick, seek, redrive
    AUDIT = "audit"                 # read who did what
    ADMINISTER = "administer"       # users, keys, policies


class Identity(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who is at the other end of a connection."""

    user: str                       # "anonymous" when nobody logged in
    roles: tuple[str, ...] = ()
    tenant: str = "default"
    protocol: str = ""              # "mqtt", "http", …
    client_id: str = ""
    address: str = ""               # "host:port", for the denial log only
    expires_ms: int | None = None   # wall clock: the login ends then (a token has its time); None: it does not
    proof: str = ""                 # by what it was proven, so that it can be asked again: see mesh/identity/renewal.py
    revoked: bool = False           # that counts no more: it may do nothing, whatever rules name its user


ANONYMOUS = "anonymous"
_PARTS = (Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER)
GRANTS = {Action.MANAGE: (Action.MANAGE, *_PARTS), Action.OPERATE: (Action.OPERATE, Action.VIEW),
          Action.SUBSCRIBE: (Action.SUBSCRIBE, Action.BROWSE)}
DENIES = {Action.MANAGE: (Action.MANAGE, *_PARTS), Action.VIEW: (Action.MANAGE, *_PARTS),      # no act without seeing
          Action.SUBSCRIBE: (Action.SUBSCRIBE, Action.BROWSE)}
INTERNAL = Identity(user="$node", roles=("$node",), protocol="internal")    # the very object, never its name
# By which other nodes publish here: the rules were asked where their events came in. The very object, too.
NEIGHBOURS = Identity(user="$node", roles=("$node",), protocol="link", client_id="$link")
ALL_TOPICS = ("#", "$SYS/#", "$queue/#", "$temporary/#")
REPLY_PREFIX = "$reply/"        # topics on which requests wait for their answers; see replies.py
USER, CLIENT = "%u", "%c"
NOT_IN_NAMES = frozenset("%+#/\0")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy of the configuration: either allow or deny names the actions."""

    allow: tuple[Action, ...] = ()
    deny: tuple[Action, ...] = ()
    to: tuple[str, ...] = ()        # "role:x", "user:x" (with %c), "anonymous", "*"
    topics: tuple[str, ...] = ()    # topic filters with %u and %c; empty means every topic
    name: str = ""                  # shown in decisions; "policy N" when empty

    @property
    def filters(self) -> tuple[str, ...]:
        return self.topics or ALL_TOPICS


class Decision(msgspec.Struct, frozen=True):
    """allowed, and the name of the rule that made it so."""

    allowed: bool
    rule: str


def fits(name: str) -> bool:
    """May this user or client id stand in for a mark?"""
    return bool(name) and name[0] != "$" and NOT_IN_NAMES.isdisjoint(name)


class Names:
    """What the marks stand for, for one identity."""

    __slots__ = ("client", "client_fits", "user", "user_fits")

    def __init__(self, identity: Identity) -> None:
        self.user = identity.user
        self.client = identity.client_id
        self.user_fits = fits(self.user)
        self.client_fits = fits(self.client)

    def fit(self, marks: frozenset[str]) -> bool:
        return (USER not in marks or self.user_fits) and (CLIENT not in marks or self.client_fits)

    def fill(self, parts: tuple[str, ...]) -> str:
        """The text of a level or subject. What is put in is not looked at again: a name %c stays a name."""
        return "".join([self.user if part == USER else self.client if part == CLIENT else part for part in parts])


def split_marks(text: str) -> tuple[str, ...]:
    """"pos-%c" → ("pos-", "%c")."""
    parts: list[str] = []
    start = index = 0
    while index < len(text):
        if text[index:index + 2] in (USER, CLIENT):
            parts += (text[start:index], text[index:index + 2])
            start = index = index + 2
        else:
            index += 1
    return tuple(part for part in (*parts, text[start:]) if part)


def marks_of(text: str) -> frozenset[str]:
    return frozenset(mark for mark in (USER, CLIENT) if mark in text)
