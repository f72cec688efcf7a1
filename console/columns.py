"""The tables of the console: which columns of a resource are shown, and how. table.html draws them all."""
from __future__ import annotations

from typing import Any, NamedTuple


class Column(NamedTuple):
    """path: in the row, with dots.  kind: how it is shown (table.html).  link: the page that it leads to."""

    path: str
    title: str
    kind: str = "text"
    link: str = ""


class Table(NamedTuple):
    """key: what names a row.  acts: names of the macros in acts.html that a row may have.

    everywhere: the rows of all nodes are shown as one table.  right: what the acts need.
    """

    title: str
    key: str
    columns: tuple[Column, ...]
    about: str
    hint: str = ""
    acts: str = ""
    everywhere: bool = False
    right: str = "operate"


class Row(dict[str, Any]):
    """A row of a node that may be of another version, or of ill will: what it lacks is not known."""

    def __missing__(self, name: str) -> None:
        return None


def leg_of(values: dict[str, Any]) -> Row:
    """A node's part of a journey, with everything in the shape that the page draws."""
    leg = Row(values)
    for name in ("entry", "stored", "outcomes", "live"):
        leg[name] = Row(leg[name]) if isinstance(leg[name], dict) else None
    for name in ("destinations", "readers", "refused"):
        leg[name] = rows_of(leg[name])
    if leg["live"] is not None:
        leg["live"]["denied"] = rows_of(leg["live"]["denied"])
    return leg


def rows_of(value: Any) -> list[Row]:
    return [Row(one) for one in value if isinstance(one, dict)] if isinstance(value, list) else []


TABLES = {
    "nodes": Table("Nodes", "name", (
        Column("name", "Node", "key", "nodes"), Column("site", "Site"), Column("hops", "Reached by", "hops"),
        Column("version", "Version"), Column("skew_ms", "Clock", "skew"), Column("age_s", "Heard", "ago"),
        Column("interest", "Filters wanted", "number"), Column("started_ms", "Up since", "time")),
        "Every node of the mesh, as this one knows it.", "hops>1 · site=plant-graz"),
    "links": Table("Links", "id", (
        Column("id", "Link", "key", "links"), Column("node", "To"), Column("state", "State", "state"),
        Column("state_since_ms", "Since", "since"), Column("rtt_ms", "Round trip", "ms"),
        Column("sent.bytes_s", "Out/s", "size"), Column("received.bytes_s", "In/s", "size"),
        Column("backlog.seconds", "Delay", "duration"), Column("lag_events", "Behind", "lag"),
        Column("lag_seconds", "By time", "duration"), Column("forecast", "Forecast"),
        Column("last_error", "Last trouble")),
        "Connections between neighbours. State is measured: what got through, not what a socket says.",
        "state=blocked · lag_seconds>10s", "link", everywhere=True),
    "streams": Table("Streams", "name", (
        Column("name", "Stream", "key", "streams"), Column("capture", "Captures", "list"),
        Column("partitions", "Partitions", "number"), Column("events", "Events", "number"),
        Column("size_bytes", "Size", "size"), Column("retention_ms", "Kept for", "retention"),
        Column("durability", "Acked when"), Column("failed", "State", "failed")),
        "Durable logs; every event belongs to the one whose filter fits its topic best.",
        "size_bytes>1GiB", everywhere=True),
    "consumers": Table("Consumers", "name", (
        Column("name", "Consumer", "key", "consumers"), Column("state", "State", "state"),
        Column("lag_events", "Behind", "lag"), Column("lag_seconds", "By time", "duration"),
        Column("trend", "Trend", "trend"), Column("forecast", "Forecast"), Column("members", "Members", "number"),
        Column("in_flight", "In flight", "number"), Column("redelivered", "Again", "number")),
        "Everybody who reads: MQTT sessions, shared groups, REST and WebSocket consumers, webhooks.",
        "lag_seconds>1m · state=paused · name~billing", "consumer", everywhere=True),
    "queues": Table("Queues", "name", (
        Column("name", "Queue", "key", "consumers"), Column("state", "State", "state"),
        Column("ready", "Ready", "number"), Column("unacked", "Unacked", "number"),
        Column("members", "Readers", "number"), Column("lag_seconds", "Oldest", "duration"),
        Column("trend", "Trend", "trend"), Column("redelivered", "Again", "number"),
        Column("dead_lettered", "Given up", "number"), Column("bound_to", "Bound to", "list"),
        Column("limits", "Limits", "options")),
        "What waits for its readers, whichever protocol made it: AMQP, HTTP.",
        "state=unread · ready>1000 · lag_seconds>1m", "queue", everywhere=True),
    "exchanges": Table("Exchanges", "name", (
        Column("name", "Exchange", "key"), Column("type", "Type"), Column("bindings", "Bindings", "number", "bindings"),
        Column("durable", "Durable", "yes"), Column("auto_delete", "Goes when unused", "yes"),
        Column("internal", "Internal", "yes"), Column("alternate", "Alternate"), Column("user", "Declared by"),
        Column("arguments", "Arguments")),
        "Exchanges of AMQP 0-9-1. What is published to them stands in the log under a topic of its own.",
        "type=topic · bindings>0", everywhere=True),
    "bindings": Table("Bindings", "id", (
        Column("source", "From", "key"), Column("destination", "To"), Column("to", "Which is a"),
        Column("key", "Routing key"), Column("arguments", "Arguments")),
        "Which exchange leads where. Every queue is also bound to the default exchange under its own name.",
        "source=orders · key~eu", everywhere=True),
    "groups": Table("Kafka groups", "group", (
        Column("group", "Group", "key", "consumers"), Column("state", "State", "state"),
        Column("lag_events", "Behind", "lag"), Column("lag_seconds", "By time", "duration"),
        Column("members", "Members", "number"), Column("topics", "Topics", "list"),
        Column("assignor", "Assignor"), Column("generation", "Generation", "number"), Column("user", "User")),
        "Groups of Kafka clients. Their lag is that of the consumer of the same name. A Kafka topic is a stream.",
        "state!=Stable · lag_events>1000", everywhere=True),
    "transactions": Table("Transactions", "transactional_id", (
        Column("transactional_id", "Transactional id", "key"), Column("state", "State", "state"),
        Column("age_s", "Open for", "duration"), Column("timeout_s", "At most", "duration"),
        Column("places", "Partitions", "list"), Column("producer_id", "Producer", "text"),
        Column("epoch", "Epoch", "text"), Column("user", "User")),
        "Transactions of Kafka producers. An open one holds up whoever reads what is committed only.",
        "state=ongoing · age_s>1m", everywhere=True),
    "deadletters": Table("Dead letters", "consumer", (
        Column("consumer", "Consumer", "key", "deadletters"), Column("state", "State", "state"),
        Column("waiting", "Waiting", "number"), Column("given_up", "Given up since the start", "number"),
        Column("max_deliveries", "After deliveries", "number"), Column("topic", "Kept under"),
        Column("redrive.redriven", "Redriven", "number"), Column("redrive.gone", "Gone", "number")),
        "What consumers gave up on. A row leads to the events, with why, and to what may be done.",
        "waiting>0", "letters", everywhere=True),
    "clients": Table("Clients", "client_id", (
        Column("client_id", "Client", "key"), Column("protocol", "Protocol"), Column("user", "User"),
        Column("address", "From"), Column("connected", "Connected", "yes")),
        "Who is connected, and MQTT sessions that are away.", "protocol=mqtt connected=yes", "client", everywhere=True),
    "webhooks": Table("Webhooks", "consumer", (
        Column("consumer", "Consumer", "key", "consumers"), Column("url", "To"), Column("state", "Breaker", "state"),
        Column("lag_events", "Behind", "number"), Column("delivered", "Delivered", "number"),
        Column("failed", "Failed", "number"), Column("dead_lettered", "Given up", "number"),
        Column("last_problem", "Last trouble")),
        "Consumers that push to a URL.", "state=open", everywhere=True),
    "bridges": Table("Bridges", "name", (
        Column("name", "Route", "key"), Column("direction", "Way"), Column("from", "From"), Column("to", "To"),
        Column("state", "State", "state"), Column("lag_events", "Behind", "number"),
        Column("moved", "Moved", "number"), Column("looped", "Left in circles", "number"),
        Column("refused", "Refused", "number"), Column("faults", "Faults", "number"),
        Column("last_problem", "Last trouble")),
        "Routes from and to Kafka clusters outside.", "state=waiting", "bridge", everywhere=True),
    "policies": Table("Policies", "name", (
        Column("name", "Rule", "key"), Column("source", "Says"), Column("state", "State", "state"),
        Column("allow", "Allows", "list"), Column("deny", "Denies", "list"), Column("to", "To", "list"),
        Column("topics", "Topics", "topics"), Column("until", "Until", "time")),
        "Order never matters: deny beats allow, and nothing is allowed that no rule allows. What the file says is "
        "changed in the file; managed rules by drafts.",
        "to=role:operator · source=managed", "policy", everywhere=True, right="administer"),
    "users": Table("Users", "name", (
        Column("name", "User", "key"), Column("source", "Says"), Column("state", "State", "state"),
        Column("roles", "Roles", "list"), Column("password", "Password", "yes"), Column("until", "Until", "time"),
        Column("by", "Changed by"), Column("time_ms", "Changed", "time")),
        "Users of the configuration file, and managed ones.", "roles=operator", "user", right="administer"),
    "keys": Table("API keys", "name", (
        Column("name", "Key", "key"), Column("source", "Says"), Column("state", "State", "state"),
        Column("user", "Is the user"), Column("roles", "Roles", "list"), Column("until", "Expires", "time"),
        Column("by", "Changed by"), Column("time_ms", "Changed", "time")),
        "API keys of the configuration file, and managed ones. meshgate key new makes one.", "roles=cashier", "key",
        right="administer"),
    "roles": Table("Roles", "name", (
        Column("name", "Role", "key"), Column("state", "State", "state"), Column("held_by", "Held by", "list"),
        Column("until", "Until", "time"), Column("by", "Changed by"), Column("time_ms", "Changed", "time")),
        "Roles that whoever has one of others has, too.", "held_by=office", "role", right="administer"),
    "peers": Table("Link peers", "name", (
        Column("name", "Node", "key"), Column("source", "Says"), Column("state", "State", "state"),
        Column("export", "Gets", "topics"), Column("import", "Sends", "topics"), Column("console", "Console", "list"),
        Column("administer", "Administers", "yes"), Column("entrust", "Is entrusted", "yes"),
        Column("until", "Until", "time")),
        "Nodes that may dial this one, of the configuration file and managed ones.", "source=managed", "peer",
        right="administer"),
    "masks": Table("Masks", "name", (
        Column("name", "Mask", "key"), Column("source", "Says"), Column("state", "State", "state"),
        Column("topics", "Topics", "topics"), Column("fields", "Hides fields", "list"),
        Column("headers", "Headers", "list"), Column("key", "Key", "yes"), Column("payload", "All of it", "yes"),
        Column("shown_to", "Shown to", "list"), Column("until", "Until", "time")),
        "Parts of payloads that who may browse is not shown. Who may subscribe to a topic reads all of it.",
        "topics~orders", "mask", right="administer"),
    "quotas": Table("Quotas", "name", (
        Column("name", "Quota", "key"), Column("state", "State", "state"), Column("users", "Users", "list"),
        Column("connections", "Connections", "number"), Column("consumers", "Consumers", "number"),
        Column("queues", "Queues", "number"), Column("until", "Until", "time"), Column("by", "Changed by"),
        Column("time_ms", "Changed", "time")),
        "How much of something users may have. Nobody named: all who have no quota of their own. The lowest counts.",
        "users=ana", "quota", right="administer"),
    "drafts": Table("Drafts", "name", (
        Column("name", "Draft", "key", "drafts"), Column("documents", "Changes", "list"), Column("by", "By"),
        Column("time_ms", "Since", "time"), Column("reason", "Reason"), Column("simulated_ms", "Simulated", "time"),
        Column("shadow", "Shadow", "yes")),
        "Changes that nobody has applied yet. Open one to simulate it over what people did, and to apply it.",
        "by=ana", "draft", right="administer"),
    "revisions": Table("Changes of rules", "revision", (
        Column("revision", "No.", "number"), Column("time_ms", "Time", "time"), Column("by", "By"),
        Column("source", "Came from"), Column("documents", "Documents", "list"), Column("reason", "Reason")),
        "Every change of managed documents; each can be brought back.",
        "by=ana · documents~policy", "revision", right="administer"),
    "conflicts": Table("Conflicts", "name", (
        Column("name", "Document", "key"), Column("kept_by", "Kept: by"), Column("kept", "What"),
        Column("gave_way_by", "Gave way: by"), Column("gave_way", "What"), Column("time_ms", "Noticed", "time")),
        "Documents that were changed at two nodes at the same time. Set one as it should be, or say that it is well.",
        "kept_by=ana", "conflict", right="administer"),
    "denials": Table("Denials", "id", (
        Column("time", "Time", "time"), Column("user", "User"), Column("client_id", "Client"),
        Column("protocol", "Protocol"), Column("action", "Wanted to"), Column("topic", "Topic"),
        Column("rule", "Denied by", "key")),
        "The latest denials, newest first. A draft allows what was denied, and nothing else.",
        "user=ana · action=publish", "denial", everywhere=True, right="administer"),
    "audit": Table("Audit", "id", (
        Column("id", "No.", "number"), Column("time_ms", "Time", "time"), Column("user", "Who"),
        Column("address", "From"), Column("act", "Did", "key"), Column("target", "To"),
        Column("outcome", "Outcome", "state"), Column("reason", "Reason")),
        "Who did what, and who was refused. Each record is chained to the one before; "
        "meshgate audit verify proves it.",
        "outcome=denied · act~consumer"),
    "logins": Table("Logins", "id", (
        Column("user", "User", "key"), Column("kind", "In a"), Column("address", "From"),
        Column("since_ms", "Since", "time"), Column("idle_s", "Last request", "ago"), Column("roles", "Roles", "list")),
        "Who is logged in to the console of this node.", "user=ana · idle_s>10m", "login", right="administer"),
    "listeners": Table("Listeners", "address", (
        Column("address", "Address", "key"), Column("protocol", "Protocol"), Column("tls", "TLS", "yes")),
        "Where nodes listen.", everywhere=True),
}
