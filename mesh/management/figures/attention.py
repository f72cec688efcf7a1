"""What needs an operator, the worst first: what is broken, since when, for whom, and what to do about it.

Read from what the node knows already; nothing here counts or waits. Every item has the address of the page that says
more. The verdict is one sentence.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from mesh.management.figures.link_lag import foretold, lag_by_neighbour
from mesh.management.figures.trend import WINDOW_S, forecast_of, trend_of
from mesh.replication.lag import Lag
from mesh.values.units import short_duration

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from mesh.node import Node

BEHIND_S: Final = 60.0              # a consumer this far behind, and not getting better, is worth a word
LINK_BEHIND_S: Final = 3.0          # what waits behind a link so long, though it is up, is worth a word
DISK_SOON_S: Final = 3 * 86_400.0   # the disk is full in less: a warning
DISK_NOW_S: Final = 3_600.0
ITEMS_MAX: Final = 200
SEVERITIES: Final = ("broken", "warning", "notice")


class Item(msgspec.Struct, frozen=True):
    """severity: broken, warning or notice.  since_ms: None: not known.  affects: whom.  url: the page with more."""

    severity: str
    kind: str
    subject: str
    what: str
    affects: str
    do: str
    url: str
    since_ms: int | None = None


def attention(node: Node, sampler: Sampler) -> list[Item]:
    """Bounded; the rest of a kind is summed up in its last item."""
    known: list[dict[str, Any]] = node.mesh.snapshot()["nodes"]
    items = [*_log(node), *_links(node, sampler, known), *_nodes(node, sampler, known), *_disk(node),
             *_consumers(node, sampler), *_webhooks(node), *_bridges(node), *_configuration(node), *_security(node),
             *_clock(node)]
    items.sort(key=lambda item: (SEVERITIES.index(item.severity), item.since_ms or 0, item.subject))
    return items[:ITEMS_MAX]


def verdict(node: Node, items: list[Item]) -> str:
    """One sentence for the top of every screen."""
    bad = [item for item in items if item.severity != "notice"]
    nodes = len(node.mesh.overlay.nodes) + 1
    links = node.links.links
    if not bad:
        up = f"{_count(len(links), 'link')} up, " if links else ""
        return f"All is well: {_count(nodes, 'node')}, {up}{_count(len(node.router.consumers), 'consumer')}."
    worst = bad[0].what
    if len(bad) == 1:
        return f"{worst}."
    return f"{len(bad)} things need attention; the worst: {worst}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _log(node: Node) -> Iterator[Item]:
    for text in node.problems():
        place = text.partition(":")[0]
        yield Item("broken", "log", place, f"the log of {text}", "publishers to it are refused; readers go on",
                   "look at the disk and the node's log lines, then restart the node", "/streams")


def _security(node: Node) -> Iterator[Item]:
    administration = node.administration
    if administration.problem:
        yield Item("broken", "security", node.name, f"{node.name}: {administration.problem}",
                   "everybody who administers",
                   f"at the node's own machine: meshgate policy list --config FILE of {node.name}", "/policies")
    for neighbour in node.spread.silent():
        yield Item("warning", "security", node.name,
                   f"{neighbour} may administer {node.name}, and gives it no documents: it does not trust it with them",
                   "whoever administers from there", f"entrust = true in the entry of {node.name} at {neighbour}",
                   "/links")
    conflicts = administration.book.conflicts
    if conflicts:
        what = "document was" if len(conflicts) == 1 else "documents were"
        yield Item("warning", "security", node.name,
                   f"{len(conflicts)} managed {what} changed at two nodes at the same time, and one change gave way",
                   "whoever made the other one", "meshgate policy conflicts, then set it as it should be", "/policies",
                   min(one.time_ms for one in conflicts.values()))


def _clock(node: Node) -> Iterator[Item]:
    jump = node.clock.jump
    if jump is not None:
        side = "ahead" if node.clock.ahead_ms() > 0 else "back"
        by = short_duration(abs(node.clock.ahead_ms()) / 1000)
        yield Item("warning", "clock", node.name, f"the wall clock of {node.name} jumped {side} by {by}",
                   "stamps, expiry of messages and tokens go by the node's own count; nothing is deleted",
                   "set the clock right, or `meshgate clock confirm` if it is", "/nodes")


def _links(node: Node, sampler: Sampler, known: list[dict[str, Any]]) -> Iterator[Item]:
    cut = [str(other["name"]) for other in known if other["hops"] is None]
    lags = lag_by_neighbour(node, look=True)
    for row in node.links.snapshot():
        state, identifier = str(row["state"]), str(row["id"])
        since = sampler.state_is("link", identifier, state)
        other = row["node"] or row["name"]
        url = f"/links/{quote(identifier, safe='')}"
        backlog = row["backlog"]["seconds"]
        if state == "down":
            yield Item("broken", "link", identifier, f"the link to {other} is down",
                       f"cut off from here: {', '.join(cut[:5])}" if cut else "other ways are used",
                       row["last_error"] or "see whether the other node runs and can be reached", url, since)
        elif state == "blocked":
            waits = f"; {short_duration(backlog)} wait" if backlog else ""
            yield Item("broken", "link", identifier,
                       f"the link to {other} is blocked: connected, but nothing gets through{waits}",
                       f"events to {other} wait in the log", "look at the receiver and the network between", url, since)
        elif state == "throttled":
            yield Item("warning", "link", identifier, f"the link to {other} is held back{_behind(sampler, row, lags)}",
                       f"events to {other} come late", "its rate, or the network, is the limit", url, since)
        elif state == "paused":
            yield Item("notice", "link", identifier, f"the link to {other} is paused", f"events to {other} wait",
                       "resume it when the work is done", url, since)
        elif behind := _behind(sampler, row, lags):
            catches_up = "catches up" in behind
            yield Item("notice" if catches_up else "warning", "link", identifier,
                       f"the link to {other} is behind{behind}", f"events to {other} come late",
                       "wait for it" if catches_up else "its rate, or the network, is the limit", url)


def _behind(sampler: Sampler, row: dict[str, Any], lags: dict[str, Lag]) -> str:
    """ ": 1,200 events wait, the first for 14 s; catches up in 9 s", "" where nothing has waited long."""
    lag = lags.get(str(row["node"]))
    if lag is None or lag.seconds < LINK_BEHIND_S:
        return ""
    _, forecast = foretold(sampler.histories, str(row["id"]), lag)
    waits = f": {lag.events:,} events wait, the first for {short_duration(lag.seconds)}"
    return f"{waits}; {forecast.text}" if forecast.text else waits


def _nodes(node: Node, sampler: Sampler, known: list[dict[str, Any]]) -> Iterator[Item]:
    for row in known:
        reached = row["hops"] is not None
        since = sampler.state_is("node", str(row["name"]), "reached" if reached else "unreachable")
        if not reached:
            yield Item("broken", "node", str(row["name"]), f"node {row['name']} cannot be reached from here",
                       f"what {row['name']} wants waits in the logs, and its events come later",
                       "look at its links and at the node itself", f"/nodes/{quote(str(row['name']), safe='')}", since)
    for problem in node.mesh.overlay.problems():
        yield Item("warning", "mesh", problem[:60], problem, "the mesh", "see docs/mesh.md", "/nodes")


def _disk(node: Node) -> Iterator[Item]:
    disk = node.mesh.replication.disk()
    full_in_s = disk["full_in_s"]
    if disk["publishers_refused"]:
        yield Item("broken", "disk", "disk", "the disk is full", "publishers are refused; readers go on",
                   "free space, or shorten the retention; the node goes on by itself", "/streams")
    elif full_in_s is not None and full_in_s < DISK_SOON_S:
        yield Item("broken" if full_in_s < DISK_NOW_S else "warning", "disk", "disk",
                   f"the disk is full in {short_duration(full_in_s)} at this rate", "publishers, once it is",
                   "free space, or shorten the retention", "/streams")


def _consumers(node: Node, sampler: Sampler) -> Iterator[Item]:
    for (kind, name), figures in list(sampler.rates.items()):
        if kind != "consumer" or figures.get("lag_seconds", 0.0) < BEHIND_S:
            continue
        consumer = node.router.consumers.get(name)
        series = sampler.histories.get("consumer", name, "lag_events")
        if consumer is None or consumer.paused:
            continue
        trend = trend_of(series.recent(WINDOW_S)) if series is not None else None
        forecast = forecast_of(figures["lag_events"], figures["lag_seconds"], trend)
        if forecast.kind == "catches up":
            severity = "notice"
        elif len(consumer.members):
            severity = "warning"
        else:
            severity = "notice"         # away: it is meant to wait for it
        behind = f"{short_duration(figures['lag_seconds'])} behind ({figures['lag_events']:,.0f} events)"
        yield Item(severity, "consumer", name, f"{name} is {behind}{f', {forecast.text}' if forecast.text else ''}",
                   f"whoever reads as {name}", "add members, or look why it does not ack",
                   f"/consumers/{quote(name, safe='')}", node.clock_ms() - int(figures["lag_seconds"] * 1000))


def _webhooks(node: Node) -> Iterator[Item]:
    for row in node.webhooks.snapshot():
        if row["state"] in ("open", "not permitted"):
            yield Item("warning", "webhook", str(row["consumer"]),
                       f"the webhook of {row['consumer']} is {row['state']}",
                       "its receiver gets nothing", str(row.get("last_problem") or "look at its receiver"),
                       f"/consumers/{quote(str(row['consumer']), safe='')}")


def _bridges(node: Node) -> Iterator[Item]:
    for row in node.bridges.snapshot():
        if row["state"] in ("waiting", "stopped"):
            yield Item("warning", "bridge", str(row["name"]), f"the bridge {row['name']} is {row['state']}",
                       f"nothing goes from {row['from']} to {row['to']}",
                       str(row["last_problem"] or "look at its cluster"),
                       f"/bridges?filter=name={quote(str(row['name']), safe='')}")


def _configuration(node: Node) -> Iterator[Item]:
    if node.reload_problem:
        yield Item("warning", "configuration", "reload", f"the changed configuration is refused: {node.reload_problem}",
                   "the one before stays in force", "mend the file, then reload again", "/settings")


def overview(node: Node, sampler: Sampler) -> dict[str, Any]:
    """What the first page shows; everything in it is known already."""
    items = attention(node, sampler)
    sparks = {}
    for figure in ("events_in_s", "lag_events", "denied_s", "dropped_s"):
        series = sampler.histories.get("node", node.name, figure)
        sparks[figure] = [value for _, value in series.recent(120)] if series is not None else []
    return {
        "node": node.name, "site": node.config.node.site, "version": node.version, "state": node.state,
        "verdict": verdict(node, items), "healthy": not any(item.severity == "broken" for item in items),
        "worst": items[0].severity if items else None, "attention": items,
        "figures": sampler.rates.get(("node", node.name), {}), "sparks": sparks,
        "totals": {
            "nodes": len(node.mesh.overlay.nodes) + 1, "links": len(node.links.links),
            "streams": len(node.router.streams.by_name), "consumers": len(node.router.consumers),
            "retained": node.router.retained.tree.count, "published": node.router.published,
            "denied": node.router.policy.denied.total(),
        },
        "uptime_s": round(node.uptime_s(), 1), "time_ms": node.clock_ms(),
    }
