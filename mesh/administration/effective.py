"""What is in force: the configuration file, and the managed documents that count here and now. Pure; may take a thread.

What the file says stands: a document with the name of something in the file is shown and does nothing.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from mesh.administration.check import mask_of, problems_of
from mesh.administration.documents import (
    KINDS,
    QUOTAS,
    Document,
    Key,
    KeyDocument,
    MaskDocument,
    PeerDocument,
    PolicyDocument,
    QuotaDocument,
    RoleDocument,
    Stored,
    UserDocument,
    document_of,
    ms_of,
)
from mesh.configuration.rules import rules_of
from mesh.configuration.settings import Config
from mesh.identity.apikeys import ApiKey
from mesh.identity.auth_settings import HASH_PREFIX
from mesh.identity.masks import MaskTable
from mesh.identity.users import User
from mesh.link.proof.credentials import PeerEntry
from mesh.link.proof.prepare import PreparedLinks
from mesh.link.settings import LinkPeerTable
from routing.rights.permissions import RuleSet
from routing.rights.rules import Rule


class Base(msgspec.Struct, frozen=True):
    """What the configuration file says, with its secrets read. users: the first admin, if there is one, included."""

    config: Config
    users: list[User]
    keys: Mapping[str, ApiKey]
    links: PreparedLinks

    def names(self, kind: str) -> set[str]:
        """Of this kind in the file."""
        if kind == "user":
            return {user.name for user in self.users}
        if kind == "key":
            return {key.name for key in self.keys.values()}
        if kind == "policy":
            return {rule.name for rule in rules_of(self.config) if rule.name}
        if kind == "mask":
            return {mask.name for mask in self.config.masks}
        return {table.node for table in self.config.link_peers} if kind == "peer" else set()


class Place(msgspec.Struct, frozen=True):
    node: str
    site: str


class Rights(msgspec.Struct, frozen=True):
    """Everything that decides who may do what on this node."""

    users: list[User]
    keys: dict[str, ApiKey]
    rules: RuleSet
    links: PreparedLinks
    masks: tuple[MaskTable, ...]
    quotas: dict[str, dict[str, int]]       # of what → user, "": whoever has none of his own → how many
    states: dict[Key, str]          # of each document: see state_of()
    until_ms: int | None            # the next moment at which the clock changes something


def combine(base: Base, documents: Iterable[Stored], place: Place, now_ms: int) -> Rights:
    """documents: those that are not deleted."""
    users, keys, rules, entries = list(base.users), dict(base.keys), rules_of(base.config), list(base.links.entries)
    taken = {kind: base.names(kind) for kind in KINDS}
    states: dict[Key, str] = {}
    moments: set[int] = set()
    counting: list[tuple[str, Document]] = []
    held_by: dict[str, tuple[str, ...]] = {}
    for stored in sorted(documents, key=lambda one: one.key):
        document, state = _state(stored, base, taken, place, now_ms)
        states[stored.key] = state
        if document is None:
            continue
        if state in ("in force", "not yet"):
            moments.update(moment for moment in document.moments_ms() if moment > now_ms)
        if state == "in force":
            if isinstance(document, RoleDocument):
                held_by[stored.name] = document.held_by
            counting.append((stored.name, document))
    managed: list[Rule] = []
    masks = list(base.config.masks)
    quotas: dict[str, dict[str, int]] = {}
    for name, document in counting:
        if isinstance(document, UserDocument):
            users.append(User(name, document.roles, document.password_hash))
        elif isinstance(document, KeyDocument):
            keys.update(_keys(name, document, now_ms))
        elif isinstance(document, PolicyDocument):
            managed.append(Rule(document.allow, document.deny, document.to, document.topics, name))
        elif isinstance(document, PeerDocument):
            entries.append(_entry(name, document))
        elif isinstance(document, MaskDocument):
            masks.append(mask_of(name, document))
        elif isinstance(document, QuotaDocument):
            _add_quota(quotas, document)
    holders = holders_of(held_by)
    ruleset = RuleSet(_widened(rule, holders) for rule in [*managed, *_named(rules)])
    links = msgspec.structs.replace(base.links, entries=entries)
    return Rights(users, keys, ruleset, links, tuple(masks), quotas, states, min(moments) if moments else None)


def _state(stored: Stored, base: Base, taken: Mapping[str, set[str]], place: Place,
           now_ms: int) -> tuple[Document | None, str]:
    """in force · not yet · over · switched off · elsewhere · in the file · nobody logs in here · not understood"""
    if stored.withheld:
        return None, "elsewhere"
    try:
        document = document_of(stored.kind, stored.body or {})
    except msgspec.ValidationError:
        return None, "not understood"
    if problems_of(stored.kind, stored.name, document):     # of another node: here it would not have been taken
        return None, "not understood"
    if stored.name in taken.get(stored.kind, ()):
        return document, "in the file"
    if not document.enabled:
        return document, "switched off"
    if not document.counts_at(place.node, place.site):
        return document, "elsewhere"
    if not base.config.authenticates:
        return document, "nobody logs in here"
    if document.counts_when(now_ms):
        return document, "in force"
    return document, "not yet" if document.from_ is not None and now_ms < ms_of(document.from_) else "over"


def _add_quota(quotas: dict[str, dict[str, int]], document: QuotaDocument) -> None:
    for what in QUOTAS:
        most = getattr(document, what)
        if most is not None:
            known = quotas.setdefault(what, {})
            known.update({user: min(most, known.get(user, most)) for user in document.users or ("",)})


def _keys(name: str, document: KeyDocument, now_ms: int) -> dict[str, ApiKey]:
    until_ms = ms_of(document.until) if document.until is not None else None
    found = {document.key_hash: ApiKey(name, document.user or name, document.roles, until_ms)}
    if document.old_hash and document.old_until is not None and now_ms < ms_of(document.old_until):
        ends_ms = ms_of(document.old_until)
        found.setdefault(document.old_hash, ApiKey(
            name, document.user or name, document.roles, ends_ms if until_ms is None else min(ends_ms, until_ms)))
    return found


def _entry(name: str, document: PeerDocument) -> PeerEntry:
    table = LinkPeerTable(
        name, exports=document.exports, imports=document.imports, prefix=document.prefix, console=document.console,
        rate_bytes=document.rate_bytes, priority=document.priority, paused=document.paused,
        administer=document.administer, entrust=document.entrust,
        node_key=document.node_key)
    digest = bytes.fromhex(document.token_hash.removeprefix(HASH_PREFIX)) if document.token_hash else None
    return PeerEntry(table, digest)


def holders_of(held_by: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Role → all roles that hold it, over others too. A circle ends where it began."""
    found: dict[str, tuple[str, ...]] = {}
    for role in held_by:
        reached: dict[str, None] = {}
        due = list(held_by[role])
        while due:
            one = due.pop()
            if one not in reached and one != role:
                reached[one] = None
                due += held_by.get(one, ())
        found[role] = tuple(reached)
    return found


def _widened(rule: Rule, holders: Mapping[str, tuple[str, ...]]) -> Rule:
    """A rule for a role is one for those that hold it."""
    more = [f"role:{one}" for subject in rule.to for one in holders.get(subject.removeprefix("role:"), ())
            if subject.startswith("role:")]
    return msgspec.structs.replace(rule, to=tuple(dict.fromkeys((*rule.to, *more)))) if more else rule


def _named(rules: list[Rule]) -> list[Rule]:
    """"policy 1" is the file's, whatever stands before it."""
    return [rule if rule.name else msgspec.structs.replace(rule, name=f"policy {number}")
            for number, rule in enumerate(rules, 1)]
