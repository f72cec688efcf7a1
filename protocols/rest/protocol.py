"""HTTP in a node: one server, one aiohttp runner for all listeners, and the WebSockets that it carries."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from protocols.rest.app import RestServer, UpgradeEndpoint
from protocols.rest.http.server import GuardedRunner
from protocols.rest.settings import RestSettings
from protocols.rest.upgrade import JsonUpgrade
from protocols.server import Parts, ProtocolServer, SocketFactory


class _WebSockets(Protocol):
    """protocols/websocket/protocol.py."""

    mqtt: UpgradeEndpoint
    amqp: UpgradeEndpoint
    json: JsonUpgrade


class RestProtocol(ProtocolServer):
    """See protocols/server.py."""

    def __init__(self, parts: Parts, settings: RestSettings) -> None:
        websockets = cast(_WebSockets, parts.servers["websocket"])
        self.server = RestServer(
            parts.router, parts.authenticator, settings, websockets.mqtt, websockets.json, parts.replies, parts.version,
            parts.redrives, websockets.amqp)
        self._runner = GuardedRunner(self.server.make_app(), settings, self.server.counters, parts.router.turns)

    async def factory(self) -> SocketFactory:
        await self._runner.setup()
        assert self._runner.server is not None
        return self._runner.server

    async def shutdown(self) -> None:
        try:
            await self.server.shutdown()
        finally:
            await self._runner.cleanup()

    @property
    def connections(self) -> int:
        return self.server.counters.connections

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return {"http": self.server.counters.snapshot()}
