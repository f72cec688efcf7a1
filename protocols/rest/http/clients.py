"""Who shares a part of the loop among the clients of the HTTP listener."""
from __future__ import annotations

from protocols.scheduling.pace import Client
from protocols.transport.network import network_of_host

CLIENTS_KEPT = 16_384   # beyond it those without connections are forgotten


class Clients:
    """Who shares a part of the loop, by address: what all connections of one have had, kept beyond their end."""

    def __init__(self) -> None:
        self._by_network: dict[str, Client] = {}

    def of(self, peername: object) -> Client:
        network = network_of_host(str(peername[0])) if isinstance(peername, tuple) else ""
        client = self._by_network.get(network)
        if client is None:
            if len(self._by_network) >= CLIENTS_KEPT:
                self._by_network = {name: known for name, known in self._by_network.items() if known.connections}
            client = self._by_network[network] = Client()
        return client
