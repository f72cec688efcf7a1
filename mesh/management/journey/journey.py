"""GET /api/v1/journey?id=events:0:17: the way of one stored event through all nodes, from what their logs hold.

    journey/leg?origin=…     the part of one node; other nodes are asked for it

Nothing is sampled and nothing is collected beforehand, so it works for any event that is still stored somewhere.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesh.management.across.collect import Collector
from mesh.management.acts.call import Call, Endpoint, Param, Values, Viewed
from mesh.management.browse import Browser
from mesh.management.journey.entries import Entries
from mesh.management.journey.leg import Legs, origin_of, parse_origin
from protocols.formats.location import event_id, parse_event_id
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node

WAIT_S: Final = 2.0                 # for other nodes: they look through their logs


class Journeys:
    """One per node."""

    def __init__(self, node: Node, collector: Collector, viewed: Viewed, browser: Browser) -> None:
        self._viewed = viewed
        self._node = node
        self._collector = collector
        self.entries = Entries(node.router, node.clock_ms)
        self._legs = Legs(node, self.entries)
        self._browser = browser

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "journey", Action.VIEW, "The way of a stored event: who let it in, who got it, who not.",
                     self.journey, (Param("id", "of the event: stream:partition:offset"),)),
            Endpoint("GET", "journey/leg", Action.VIEW, "This node's part of a journey.", self.leg,
                     (Param("origin", "as a journey has it"),)),
        ]

    async def journey(self, call: Call) -> Values:
        text = call.query.get("id", "")
        place = parse_event_id(text)
        if place is None:
            raise Problem(400, "query-invalid", "id is that of an event: stream:partition:offset")
        partition = self._node.router.streams.partition(place[0], place[1])
        event = partition.event(place[2]) if partition is not None else None
        if event is None:
            raise Problem(404, "not-found", f"event {text[:200]} is not stored here (any more)")
        await self._viewed(call.identity, "journey", text)
        origin = origin_of(self._node, event)
        mine = await self._legs.leg(origin)
        asked = Call(call.identity, query={"origin": origin.text})
        said = await self._collector.gather("journey/leg", asked, wait_s=WAIT_S)
        legs: list[Values] = [{"state": "answered", "age_s": 0.0, **mine, "node": self._node.name}]
        legs += [{**(one.values or {}), "node": one.node, "state": one.word,
                  "age_s": round(one.age_s, 3) if one.age_s is not None else None,
                  **({"text": one.text} if one.text else {})} for one in said]
        legs.sort(key=lambda leg: (leg["node"] != origin.node, not leg.get("stored"), leg["node"]))
        _arrived(legs)
        known = {leg["node"] for leg in legs}
        if origin.node not in known:
            legs.insert(0, {"node": origin.node, "state": "unreachable", "age_s": None})
        return {
            "id": event_id(place[0], place[1], place[2]), "event": self._browser.row(event, call.identity),
            "origin": {"node": origin.node, "stream": origin.stream, "partition": origin.index,
                       "offset": origin.offset}, "legs": legs}

    async def leg(self, call: Call) -> Values:
        origin = parse_origin(call.query.get("origin", ""))
        if origin is None:
            raise Problem(400, "query-invalid", "origin is as a journey has it")
        return await self._legs.leg(origin)


def _arrived(legs: list[Values]) -> None:
    """A node that has it has taken it, also when its word on that is still on its way to the origin."""
    there = {leg["node"] for leg in legs if leg.get("stored")}
    for leg in legs:
        rows = leg.get("destinations")
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("node") in there and row.get("outcome") == "behind":
                row.update(outcome="taken", why="it has not confirmed it yet")
