"""Tables of what is administered: users, keys, roles, link peers, policies, drafts, revisions, conflicts."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.administration.documents import without_secrets
from mesh.management.security.drafts_api import draft_row, revision_row
from mesh.management.tables.resources import Resource
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.management.paging.table import Row
    from mesh.node import Node

FILE = "file"
ADMIN = Action.ADMINISTER


def security_resources(node: Node) -> list[Resource]:
    return [
        Resource("users", "name", "Users, of the configuration file and managed ones.", lambda: _users(node), ADMIN),
        Resource("keys", "name", "API keys, of the configuration file and managed ones.", lambda: _keys(node), ADMIN),
        Resource("roles", "name", "Roles that are held by other roles.", lambda: _documents(node, "role")),
        Resource("peers", "name", "Nodes that may link, of the file and managed ones.", lambda: _peers(node), ADMIN),
        Resource("quotas", "name", "How much of something users may have.", lambda: _documents(node, "quota"), ADMIN),
        Resource("masks", "name", "Parts of payloads that are not shown to everybody, of the file and managed ones.",
                 lambda: _masks(node), ADMIN),
        Resource("policies", "name", "The rules, in force or not.", lambda: _policies(node),
                 extra=lambda: {"revision": node.administration.book.revision,
                                "problem": node.administration.problem}),
        Resource("drafts", "name", "Changes that nobody has applied yet.",
                 lambda: map(draft_row, list(node.administration.book.drafts.values())), ADMIN),
        Resource("revisions", "revision", "What was changed, newest first.",
                 lambda: map(revision_row, node.administration.book.revisions.heads()), ADMIN,
                 order="-revision"),
        Resource("conflicts", "name", "Changes made at two nodes at the same time: one gave way.",
                 lambda: _conflicts(node), ADMIN),
    ]


def _documents(node: Node, kind: str, more: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Iterator[Row]:
    """Managed ones, each with its state."""
    administration = node.administration
    for stored in administration.book.alive(kind):
        assert stored.body is not None
        yield {"name": stored.name, "source": "managed", "state": administration.state_of(stored.key),
               "version": stored.version, "by": stored.author, "time_ms": stored.time_ms,
               **(without_secrets(stored.body) or {}), **more(stored.body)}


def _users(node: Node) -> Iterator[Row]:
    for user in node.administration.base.users:
        yield {"name": user.name, "source": FILE, "state": "in force", "roles": list(user.roles),
               "password": user.password_hash is not None}
    yield from _documents(node, "user", lambda body: {
        "roles": body.get("roles", []), "password": body.get("password_hash") is not None})


def _keys(node: Node) -> Iterator[Row]:
    for key in node.administration.base.keys.values():
        yield {"name": key.name, "source": FILE, "state": "in force", "user": key.user, "roles": list(key.roles),
               "expires_ms": key.expires_ms}
    yield from _documents(node, "key", lambda body: {"roles": body.get("roles", [])})


def _peers(node: Node) -> Iterator[Row]:
    for table in node.administration.base.config.link_peers:
        yield {"name": table.node, "source": FILE, "state": "in force", "export": list(table.exports),
               "import": list(table.imports), "console": list(table.console), "administer": table.administer,
               "entrust": table.entrust}
    yield from _documents(node, "peer")


def _masks(node: Node) -> Iterator[Row]:
    for mask in node.administration.base.config.masks:
        yield {"source": FILE, "state": "in force", **msgspec.to_builtins(mask)}
    yield from _documents(node, "mask")


def _policies(node: Node) -> Iterator[Row]:
    """Managed ones, then those of the file and those that are built in."""
    managed = {stored.name for stored in node.administration.book.alive("policy")
               if node.administration.state_of(stored.key) != "in the file"}
    rule_of = {rule.name: rule for rule in node.router.policy.rules}
    for row in _documents(node, "policy"):
        assert row is not None
        rule = rule_of.get(str(row["name"])) if row["state"] == "in force" else None
        yield {"allow": [], "deny": [], "to": [], "topics": [], **row,
               **({"to": list(rule.to)} if rule is not None else {})}
    for rule in node.router.policy.rules:
        if rule.name not in managed:
            built_in = rule.name.startswith(("built in", "no users are"))
            yield {"name": rule.name, "allow": [action.value for action in rule.allow],
                   "deny": [action.value for action in rule.deny], "to": list(rule.to), "topics": list(rule.topics),
                   "source": "built in" if built_in else FILE, "state": "in force"}


def _conflicts(node: Node) -> Iterator[Row]:
    for conflict in list(node.administration.book.conflicts.values()):
        kept, lost = conflict.kept, conflict.gave_way
        yield {"name": f"{kept.kind}/{kept.name}", "time_ms": conflict.time_ms,
               "kept": without_secrets(kept.body), "kept_version": kept.version, "kept_by": kept.author,
               "gave_way": without_secrets(lost.body), "gave_way_version": lost.version, "gave_way_by": lost.author}
