"""What is administered: users, keys, roles, link peers, masks, quotas; drafts, changes, conflicts.

Drafts are applied, changes brought back. Simulating a draft, and writing one, is for `meshgate policy` and the
web console.
"""
from __future__ import annotations

from collections.abc import Mapping

from tui.acts import Act, conflict_acts, draft_acts, managed_acts, revision_acts
from tui.views.table import TableView
from tui.widgets.columns import Column


class Managed(TableView):
    """One that the configuration file says has no acts: it is changed in the file."""

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        if not self.row or not may.get("administer") or self.value("source") != "managed":
            return []
        return managed_acts(self.NAME, self.subject(), str(self.value("version")))


class Users(Managed):
    NAME = "users"
    TITLE = "Users"
    ABOUT = "Users of the configuration file, and managed ones."
    COLUMNS = (
        Column("name", "User", "key", 0), Column("source", "Says", "text", 0), Column("state", "State", "state", 0),
        Column("roles", "Roles", "list", 0), Column("password", "Password", "yes", 1),
        Column("until", "Until", "text", 1), Column("by", "Changed by", "text", 2),
    )


class Keys(Managed):
    NAME = "keys"
    TITLE = "API keys"
    ABOUT = "API keys of the configuration file, and managed ones."
    EMPTY = "There are no API keys."
    COLUMNS = (
        Column("name", "Key", "key", 0), Column("source", "Says", "text", 0), Column("state", "State", "state", 0),
        Column("user", "User", "text", 0), Column("roles", "Roles", "list", 1), Column("until", "Expires", "text", 1),
        Column("by", "Changed by", "text", 2),
    )


class Roles(Managed):
    NAME = "roles"
    TITLE = "Roles"
    ABOUT = "Roles that whoever has one of others has, too."
    EMPTY = "There are no managed roles."
    COLUMNS = (
        Column("name", "Role", "key", 0), Column("state", "State", "state", 0),
        Column("held_by", "Held by", "list", 0), Column("until", "Until", "text", 1),
        Column("by", "Changed by", "text", 2),
    )


class Peers(Managed):
    NAME = "peers"
    TITLE = "Link peers"
    ABOUT = "Nodes that may dial this one, of the configuration file and managed ones."
    EMPTY = "There are no link peers."
    COLUMNS = (
        Column("name", "Node", "key", 0), Column("source", "Says", "text", 0), Column("state", "State", "state", 0),
        Column("export", "Gets", "list", 0), Column("import", "Sends", "list", 1),
        Column("console", "Console", "list", 2), Column("administer", "Administers", "yes", 1),
        Column("entrust", "Entrusted", "yes", 2),
    )


class Masks(Managed):
    NAME = "masks"
    TITLE = "Masks"
    ABOUT = "Parts of payloads that who may browse is not shown, of the configuration file and managed ones."
    EMPTY = "There are no masks."
    COLUMNS = (
        Column("name", "Mask", "key", 0), Column("source", "Says", "text", 1), Column("state", "State", "state", 0),
        Column("topics", "Topics", "list", 0), Column("fields", "Hides fields", "list", 0),
        Column("headers", "Headers", "list", 2), Column("key", "Key", "yes", 2), Column("payload", "All", "yes", 1),
        Column("shown_to", "Shown to", "list", 1),
    )


class Quotas(Managed):
    NAME = "quotas"
    TITLE = "Quotas"
    ABOUT = "How much of something users may have. Nobody named: all who have no quota of their own."
    EMPTY = "There are no quotas."
    COLUMNS = (
        Column("name", "Quota", "key", 0), Column("state", "State", "state", 0), Column("users", "Users", "list", 0),
        Column("connections", "Connections", "number", 0), Column("consumers", "Consumers", "number", 0),
        Column("queues", "Queues", "number", 0), Column("until", "Until", "text", 1),
        Column("by", "Changed by", "text", 2),
    )


class Drafts(TableView):
    NAME = "drafts"
    TITLE = "Drafts"
    ABOUT = "Changes that nobody has applied yet. meshgate policy simulate says what one would have done."
    EMPTY = "There are no drafts."
    COLUMNS = (
        Column("name", "Draft", "key", 0), Column("documents", "Changes", "list", 0), Column("by", "By", "text", 0),
        Column("time_ms", "Since", "since", 1), Column("simulated_ms", "Simulated", "since", 1),
        Column("reason", "Reason", "text", 2),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return draft_acts(self.subject()) if self.row and may.get("administer") else []


class Revisions(TableView):
    NAME = "revisions"
    TITLE = "Changes of rules"
    KEY = "revision"
    ABOUT = "Every change of managed documents. Each can be brought back."
    EMPTY = "Nothing was changed yet."
    COLUMNS = (
        Column("revision", "No.", "key", 0), Column("time_ms", "When", "since", 0), Column("by", "By", "text", 0),
        Column("documents", "Documents", "list", 0), Column("reason", "Reason", "text", 1),
        Column("source", "Came from", "text", 1),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return revision_acts(self.subject()) if self.row and may.get("administer") else []


class Conflicts(TableView):
    NAME = "conflicts"
    TITLE = "Conflicts"
    ABOUT = "Documents that were changed at two nodes at the same time; one change gave way."
    EMPTY = "There are no conflicts."
    COLUMNS = (
        Column("name", "Document", "key", 0), Column("kept_by", "Kept: by", "text", 0),
        Column("gave_way_by", "Gave way: by", "text", 0), Column("time_ms", "Noticed", "since", 1),
    )

    def acts(self, may: Mapping[str, bool]) -> list[Act]:
        return conflict_acts(self.subject()) if self.row and may.get("administer") else []
