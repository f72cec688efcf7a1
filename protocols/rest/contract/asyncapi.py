"""GET /v1/asyncapi.json: what may be read and written here, as AsyncAPI 3.0, from the point of view of a client.

A channel per capture filter of a stream, and one per topic that was published lately, as far as the one who asks may
read (receive) or write (send) it. Bounded: streams by configuration, topics by TOPICS_MAX, whatever is published.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from protocols.rest.auth import Doorkeeper
from protocols.rest.contract.openapi_parts import Part
from protocols.rest.contract.openapi_schemas import schemas
from protocols.rest.problems import SERVER
from routing.rights.permissions import Permissions
from routing.rights.policy import Action, Identity
from routing.router import Router

TOPICS_MAX = 200            # of a document
TOPICS_LOOKED_AT = 5_000    # of those that the node knows, newest last; some 5 ms
CHANNELS_MAX = 1_000        # of streams: capture filters
FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Server": SERVER}


class AsyncApiEndpoint:
    """The handler."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, version: str) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._version = version

    async def get(self, request: web.Request) -> web.StreamResponse:
        session = await self._doorkeeper.session(request)
        found = document(self._router, session.identity, self._version, request.host, request.secure)
        return web.Response(body=msgspec.json.encode(found), headers=FIELDS)


def document(router: Router, identity: Identity, version: str, host: str, secure: bool) -> Part:
    """host: as the client asked for it."""
    permissions = router.policy.permissions(identity)
    channels: dict[str, Part] = {}
    operations: dict[str, Part] = {}
    for name, channel, may in (*_streams(router, permissions), *_topics(router, permissions)):
        channels[name] = channel
        for action, allowed in zip(("receive", "send"), may):
            if allowed:
                operations[f"{action}-{name}"] = {
                    "action": action, "channel": {"$ref": f"#/channels/{name}"},
                    "messages": [{"$ref": f"#/channels/{name}/messages/event"}]}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Meshgate", "version": version,
                 "description": "Topics as a client of this node may use them, on every protocol that it speaks."},
        "defaultContentType": "application/json",
        "servers": {"http": {"host": host or "localhost", "protocol": "https" if secure else "http", "pathname": "/v1",
                             "description": "See /v1/openapi.json: server-sent events, durable consumers, WebSocket."}},
        "channels": channels, "operations": operations,
        "components": {"messages": {"event": {
            "title": "An event", "payload": {"$ref": "#/components/schemas/EventJson"},
            "description": "As server-sent events, pulls and the WebSocket show it; MQTT has the payload itself."}},
            "schemas": {"EventJson": schemas()["EventJson"]}},
    }


def _streams(router: Router, permissions: Permissions) -> Iterator[tuple[str, Part, tuple[bool, bool]]]:
    """Channel id, channel, (may receive, may send) per capture filter of the streams."""
    captures = ((stream, number, pattern) for stream in router.streams
                for number, pattern in enumerate(stream.settings.capture))
    for stream, number, pattern in islice(captures, CHANNELS_MAX):
        may = permissions.allows_part_of(pattern), permissions.allows_part_of(pattern, Action.PUBLISH)
        if any(may):
            address, parameters = _address(pattern)
            yield f"stream-{_plain(stream.name)}-{number}", _channel(
                address, f"{pattern} in stream {stream.name}", parameters, {
                    "x-meshgate-stream": stream.name, "x-meshgate-filter": pattern,
                    "x-meshgate-partitions": len(stream.partitions)}), may


def _topics(router: Router, permissions: Permissions) -> Iterator[tuple[str, Part, tuple[bool, bool]]]:
    """The same per topic that was published lately."""
    return islice(_allowed_topics(islice(router.routes.known_topics(), TOPICS_LOOKED_AT), permissions), TOPICS_MAX)


def _allowed_topics(
    topics: Iterable[str], permissions: Permissions,
) -> Iterator[tuple[str, Part, tuple[bool, bool]]]:
    for topic in topics:
        if topic.startswith("$"):
            continue
        may = (permissions.decide(Action.SUBSCRIBE, topic).allowed, permissions.decide(Action.PUBLISH, topic).allowed)
        if any(may):
            name = f"topic-{blake2b(topic.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"
            yield name, _channel(_literal(topic), topic, {}, {"x-meshgate-topic": topic}), may


def _channel(address: str, title: str, parameters: Part, more: dict[str, Any]) -> Part:
    made: Part = {"address": address, "title": title,
                  "messages": {"event": {"$ref": "#/components/messages/event"}}, **more}
    return {**made, "parameters": parameters} if parameters else made


def _address(pattern: str) -> tuple[str, Part]:
    """A topic filter as an address: + and # are parameters."""
    levels: list[str] = []
    parameters: Part = {}
    for number, level in enumerate(pattern.split("/"), 1):
        if level in ("+", "#"):
            name = "rest" if level == "#" else f"level{number}"
            parameters[name] = {"description": "any levels, or none" if level == "#" else "one level"}
            levels.append(f"{{{name}}}")
        else:
            levels.append(_literal(level))
    return "/".join(levels), parameters


def _literal(text: str) -> str:
    """Braces in a topic are no parameters."""
    return text.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def _plain(name: str) -> str:
    """As the id of a channel; stream names have dots."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in name)
