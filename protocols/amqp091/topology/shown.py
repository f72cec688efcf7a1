"""Exchanges and bindings as operators see them: rows of the management API."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology.topology import Topology

DEFAULT_NAME = "(AMQP default)"         # the exchange without a name, as RabbitMQ's console shows it
TEXT_MAX = 300


def exchange_rows(topology: Topology) -> Iterator[Mapping[str, Any]]:
    for exchange in list(topology.exchanges.values()):
        yield {
            "name": exchange.name or DEFAULT_NAME, "type": exchange.type, "durable": exchange.durable,
            "auto_delete": exchange.auto_delete, "internal": exchange.internal, "user": exchange.user,
            "alternate": exchange.alternate, "bindings": len(exchange.bindings), "incoming": len(exchange.incoming),
            "arguments": arguments_text(exchange.arguments)}


def binding_rows(topology: Topology) -> Iterator[Mapping[str, Any]]:
    """Without those of the default exchange, which every queue has."""
    for exchange in list(topology.exchanges.values()):
        for number, binding in enumerate(list(exchange.bindings.values())):
            kind = "exchange" if binding.to_exchange else "queue"
            yield {
                "id": f"{binding.source}/{number}/{binding.destination}", "source": binding.source or DEFAULT_NAME,
                "destination": binding.destination, "to": kind, "key": binding.key,
                "arguments": arguments_text(binding.arguments)}


def arguments_text(arguments: Table) -> str:
    """ "x-match=all, kind=lamp"; cut, for they may be as large as a frame."""
    return ", ".join(f"{name}={value!r}" if isinstance(value, bytes) else f"{name}={value!s}"
                     for name, value in arguments.items())[:TEXT_MAX]
