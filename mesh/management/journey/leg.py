"""One node's part of a journey: did the event come here, where does it lie, who got it; and if not, why not."""
from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.management.acts.call import Values
from mesh.management.journey.entries import Entries
from mesh.management.journey.readers import SHOWN_MAX, denial_rows, live_counts, reader_rows
from mesh.management.paging.steps import in_steps
from protocols.formats.event_json import rfc3339
from routing.topic import filter_matches

if TYPE_CHECKING:
    from mesh.node import Node
    from routing.event import Event

STEP_SCANNED: Final = 1_024
LOOK_S: Final = 0.5                 # for a copy in the log; then it says that it has not looked at all of it
NODE_NAME_MAX: Final = 64


class Origin(msgspec.Struct, frozen=True):
    """Where the event was first stored: every node of the mesh knows it by that."""

    node: str
    epoch: str
    stream: str
    index: int
    offset: int
    topic: str                      # there; a link may have put a prefix before it
    time_ms: int

    @property
    def text(self) -> str:
        return msgspec.json.encode(self).decode()


def origin_of(node: Node, event: Event) -> Origin:
    found = event.origin
    if found is None:
        return Origin(node.name, node.store.epoch, event.partition.stream, event.partition.index, event.offset,
                      event.topic, event.timestamp_ms)
    return Origin(found.node, found.epoch, found.stream, found.index, event.offset if event.origin_offset < 0
                  else event.origin_offset, event.topic, event.timestamp_ms)


class Legs:
    """Loop thread only."""

    def __init__(self, node: Node, entries: Entries) -> None:
        self._node = node
        self._entries = entries

    async def leg(self, origin: Origin) -> Values:
        node = self._node
        event, whole = await self._find(origin)
        found: Values = {"node": node.name, "site": node.config.node.site, "is_origin": origin.node == node.name}
        if event is None:
            return {**found, "stored": None, "why": self._why_not(origin, whole)}
        stored = {"stream": event.partition.stream, "partition": event.partition.index, "offset": event.offset,
                  "topic": event.topic, "time": rfc3339(event.timestamp_ms)}
        return {**found, "stored": stored, **(self._entry(event) if event.origin is None else {}),
                "destinations": self._destinations(event) if event.origin is None else [], **await self._readers(event)}

    # -- where it lies ----------------------------------------------------------------------------------------

    async def _find(self, origin: Origin) -> tuple[Event | None, bool]:
        """The event in our log, and whether all of the log was looked at."""
        node = self._node
        if origin.node == node.name:
            partition = node.router.streams.partition(origin.stream, origin.index)
            if partition is None or origin.epoch != node.store.epoch:
                return None, True
            return partition.event(origin.offset), True
        until_s = node.router.clock_s() + LOOK_S

        def wanted(topic: str) -> bool:
            return topic == origin.topic or topic.endswith(f"/{origin.topic}") or origin.topic.endswith(f"/{topic}")
        for stream in list(node.router.streams):
            for partition in stream.partitions:
                offset = partition.start_offset
                while offset < partition.end_offset:
                    scan = partition.scan(offset, wanted, max_events=STEP_SCANNED, max_scanned=STEP_SCANNED)
                    for event in scan.events:
                        place = event.origin
                        if place is not None and event.origin_offset == origin.offset and (
                                place.node, place.epoch, place.stream, place.index) == (
                                origin.node, origin.epoch, origin.stream, origin.index):
                            return event, True
                    offset = max(scan.next_offset, offset + 1)
                    await asyncio.sleep(0)
                    if node.router.clock_s() > until_s:
                        return None, False
        return None, True

    def _why_not(self, origin: Origin, whole: bool) -> str:
        """In the order in which an event comes: link, interest, flow, log."""
        node = self._node
        if origin.node == node.name:
            return "expired: retention has removed it here" if origin.epoch == node.store.epoch else \
                "gone: it was in an earlier log of this node"
        if not whole:
            return "not known: the log is too long to be looked through in one answer"
        flows = [flow for place, branch in node.mesh.replication.intake.branches.items()
                 if (place.node, place.epoch, place.stream, place.index) == (
                     origin.node, origin.epoch, origin.stream, origin.index) for flow in branch.flows()]
        edge = node.mesh.overlay.edge(origin.node)
        if edge is not None and not _passes(edge.imports, origin.topic):
            return f"filtered by link: import of the link to {edge.node} does not let it in"
        local = f"{edge.prefix}/{origin.topic}" if edge is not None and edge.prefix else origin.topic
        if not node.mesh.wanted_here(local):
            return "no match: nothing here wants its topic"
        if not flows:
            return f"no flow: nothing is pulled from {origin.node} {origin.stream}/{origin.index}"
        floor = max(flow.floor for flow in flows)
        if floor <= origin.offset:
            reach = "" if any(flow.reachable for flow in flows) else f"; {origin.node} cannot be reached"
            return f"behind by {origin.offset - floor + 1} records{reach}"
        return "not taken: it passed before it was wanted here, was filtered by a link, or retention has removed it"

    # -- where it came in -------------------------------------------------------------------------------------

    def _entry(self, event: Event) -> Values:
        """Of an event that came in here."""
        entry = self._entries.of(event)
        known: Values | None = None
        if entry is not None:
            known = {"protocol": entry.protocol, "client_id": entry.client_id, "user": entry.user,
                     "roles": list(entry.roles), "rule": entry.rule, "address": entry.address,
                     "known_since": rfc3339(entry.since_ms)}
        return {"entry": known, "publisher": event.publisher}

    # -- where it went ----------------------------------------------------------------------------------------

    def _destinations(self, event: Event) -> list[Values]:
        """Of an event that came in here: which nodes pull it, how far they are, and what keeps it from the others."""
        node = self._node
        replication, overlay = node.mesh.replication, node.mesh.overlay
        rows: dict[str, Values] = {}
        for destination, (stream, index, _), held in replication.outlets.hold.flows():
            if (stream, index) != (event.partition.stream, event.partition.index):
                continue
            if not held.selection.wants_event(event.topic, event.offset):
                rows.setdefault(destination.node, {"node": destination.node, "outcome": "filtered",
                                                   "why": "it pulls other topics of this partition"})
            elif held.confirmed > event.offset:
                rows[destination.node] = {"node": destination.node, "outcome": "taken", "confirmed": held.confirmed,
                                          "why": ""}
            elif rows.get(destination.node, {}).get("outcome") != "taken":
                rows[destination.node] = {"node": destination.node, "outcome": "behind", "confirmed": held.confirmed,
                                          "why": f"{event.offset - held.confirmed + 1} records to go"}
        for name in sorted(overlay.nodes):
            edge = overlay.edge(name)
            if edge is not None and not _passes(edge.exports, event.topic):
                rows[name] = {"node": name, "outcome": "filtered",
                              "why": f"export of the link to {edge.node} does not let it out"}
            elif name not in rows:
                rows[name] = {"node": name, "outcome": "no match", "why": "it does not ask for this partition"}
            rows[name]["by_link"] = edge.link if edge is not None else None
        return [rows[name] for name in sorted(rows)]

    async def _readers(self, event: Event) -> Values:
        found, _ = await in_steps(reader_rows(self._node.router, event))
        rows: list[dict[str, Any]] = [row for row in found if row is not None]
        outcomes = Counter(str(row["outcome"]) for row in rows)
        outcomes["no match"] = len(found) - len(rows)
        shown: list[dict[str, Any]] = []
        listed: Counter[str] = Counter()
        for row in rows:
            listed[row["outcome"]] += 1
            if listed[row["outcome"]] <= SHOWN_MAX:
                shown.append(row)
        return {"readers": shown, "outcomes": dict(outcomes), "live": live_counts(self._node.router, event),
                "refused": denial_rows(self._node.router, event)}


def _passes(filters: tuple[str, ...], topic: str) -> bool:
    return any(filter_matches(pattern, topic) for pattern in filters)


def parse_origin(text: str) -> Origin | None:
    """None: it is none."""
    try:
        found = msgspec.json.decode(text.encode(), type=Origin)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None
    if not 0 <= found.offset < 2**63 or not 0 <= found.index < 2**31 or len(found.node) > NODE_NAME_MAX:
        return None
    return found
