"""GET /api/v1/stream?topics=overview,topology,consumers: one stream of server-sent events per page or terminal.

    event: state      the whole of every topic; first, after a gap, and when something came, went or changed its state
    event: rates      figures alone, once a second
    event: bye        the session is over, or the node stops; the client logs in again or tries again

A frame is made once a second however many look, and encoded once. A viewer that does not read keeps nothing waiting: it
is given the newest frame when it reads again, with "skipped": how many it missed.
"""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from mesh.management.figures.attention import overview
from mesh.management.figures.sampler import rates_of
from mesh.management.paging.table import QueryError
from protocols.rest.problems import Problem

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from mesh.node import Node

HEARTBEAT_S: Final = 15.0
VIEWERS_MAX: Final = 500
CONSUMERS_SHOWN_MAX: Final = 200
WRITE_MAX_S: Final = 60.0           # a viewer that takes nothing for so long is cut off
_encoder = msgspec.json.Encoder(enc_hook=str)


class Topic(msgspec.Struct, frozen=True):
    """state: all of it.  rates: figures alone.  shape: differs when a viewer must be given the whole state again."""

    state: Callable[[], Any]
    rates: Callable[[], Any]
    shape: Callable[[Any], object]


class Live:
    """One per node: makes frames while somebody looks."""

    def __init__(self, node: Node, sampler: Sampler) -> None:
        self.viewers = 0
        self._node = node
        self._sampler = sampler
        self._topics = topics_of(node, sampler)
        self._number = 0
        self._made: dict[tuple[str, ...], tuple[int, bytes, bytes, object]] = {}   # topics → frame()
        self._next: asyncio.Event = asyncio.Event()
        sampler.on_sample.append(self._sampled)

    def _sampled(self) -> None:
        self._number += 1
        self._made.clear()
        following, self._next = self._next, asyncio.Event()
        following.set()

    def topics(self, text: str) -> tuple[str, ...]:
        """Raises QueryError."""
        names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()})) or ("overview",)
        unknown = [name for name in names if name not in self._topics]
        if unknown:
            raise QueryError(f"topics are {', '.join(self._topics)}; there is no {unknown[0][:50]}")
        return names

    def frame(self, names: tuple[str, ...]) -> tuple[int, bytes, bytes, object]:
        """Of this second: number, the state event, the rates event, the shape."""
        made = self._made.get(names)
        if made is None:
            state = {name: self._topics[name].state() for name in names}
            shape = tuple(self._topics[name].shape(state[name]) for name in names)
            rates = {name: self._topics[name].rates() for name in names}
            made = (self._number, event_text("state", state), event_text("rates", rates), shape)
            self._made[names] = made
        return made

    async def answer(self, request: web.Request, alive: Callable[[], bool]) -> web.StreamResponse:
        """alive: False once the viewer's login has ended."""
        try:
            names = self.topics(request.query.get("topics", ""))
        except QueryError as error:
            raise Problem(400, "query-invalid", str(error)) from error
        return await self.serve(request, lambda response: self._feed(response, names, alive))

    async def serve(self, request: web.Request,
                    feed: Callable[[web.StreamResponse], Awaitable[None]]) -> web.StreamResponse:
        """A stream of server-sent events. Raises Problem when too many look already."""
        if self.viewers >= VIEWERS_MAX:
            raise Problem(503, "busy", f"{VIEWERS_MAX} viewers are connected")
        response = web.StreamResponse(headers={
            "Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        self.viewers += 1
        try:
            await feed(response)
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self.viewers -= 1
        return response

    async def next(self, response: web.StreamResponse, following: asyncio.Event) -> None:
        """Wait for a sample; a viewer hears in between that the node is there."""
        while True:
            try:
                await asyncio.wait_for(following.wait(), HEARTBEAT_S)
                return
            except TimeoutError:
                await asyncio.wait_for(response.write(b": still here\n\n"), WRITE_MAX_S)

    @property
    def following(self) -> asyncio.Event:
        """Set with the next sample."""
        return self._next

    async def goodbye(self, response: web.StreamResponse, alive: Callable[[], bool]) -> None:
        why = "stopping" if alive() else "login ended"
        await asyncio.wait_for(response.write(event_text("bye", {"why": why})), WRITE_MAX_S)

    async def _feed(self, response: web.StreamResponse, names: tuple[str, ...], alive: Callable[[], bool]) -> None:
        seen, shape = -1, None
        while alive() and self._node.state != "stopping":
            following = self._next
            number, state, rates, new_shape = self.frame(names)
            skipped = number - seen - 1 if seen >= 0 else 0
            whole = seen < 0 or skipped or new_shape != shape
            text = state if whole else rates
            if skipped:
                text = event_text("skipped", skipped) + text
            seen, shape = number, new_shape
            await asyncio.wait_for(response.write(text), WRITE_MAX_S)
            await self.next(response, following)
        await self.goodbye(response, alive)


def topics_of(node: Node, sampler: Sampler) -> Mapping[str, Topic]:
    def topology() -> Any:
        return {"nodes": node.mesh.snapshot()["nodes"], "links": node.links.snapshot()}

    def consumers() -> Any:
        found = rates_of(sampler, "consumer")
        worst = sorted(found, key=lambda name: -found[name].get("lag_events", 0.0))[:CONSUMERS_SHOWN_MAX]
        return {name: found[name] for name in worst}

    return {
        "overview": Topic(lambda: overview(node, sampler), lambda: sampler.rates.get(("node", node.name), {}),
                          lambda state: (state["verdict"], len(state["attention"]))),
        "topology": Topic(topology, lambda: rates_of(sampler, "link"), lambda state: (
            tuple((row["name"], row["hops"], tuple((link["node"], link["state"]) for link in row["links"]))
                  for row in state["nodes"]),
            tuple((row["id"], row["state"]) for row in state["links"]))),
        "links": Topic(lambda: node.links.snapshot(), lambda: rates_of(sampler, "link"),
                       lambda state: tuple((row["id"], row["state"]) for row in state)),
        "streams": Topic(lambda: rates_of(sampler, "stream"), lambda: rates_of(sampler, "stream"), len),
        "consumers": Topic(consumers, consumers, lambda state: tuple(sorted(state))),
    }


def event_text(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encoder.encode(data))
