"""What of the topology outlives the node: records in the state table.

    amqp091/exchange/<name>     amqp091/queue/<name>        amqp091/binding/<digest of its identity>
"""
from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from protocols.amqp091.codec.tables import Table, decode_table, encode_table
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import DELAYED, DELAYED_TYPE, TYPES, Binding, canonical

if TYPE_CHECKING:
    from routing.state import StateTable
    from routing.ticket import Ticket

EXCHANGE, QUEUE, BINDING = "amqp091/exchange/", "amqp091/queue/", "amqp091/binding/"


class StoredExchange(msgspec.Struct, array_like=True):
    type: str
    auto_delete: bool
    internal: bool
    arguments: bytes            # as a field table
    user: str


class StoredQueue(msgspec.Struct, array_like=True):
    auto_delete: bool
    arguments: bytes
    user: str


class StoredBinding(msgspec.Struct, array_like=True):
    source: str
    destination: str
    to_exchange: bool
    key: str
    arguments: bytes
    filter: str | None


class StoredTopology:
    """Writes and reads them."""

    def __init__(self, state: StateTable) -> None:
        self._state = state

    def put_exchange(self, exchange: Exchange) -> Ticket:
        return self._state.put(EXCHANGE + exchange.name, msgspec.msgpack.encode(StoredExchange(
            exchange.type, exchange.auto_delete, exchange.internal, encode_table(exchange.arguments), exchange.user)))

    def delete_exchange(self, name: str) -> None:
        self._delete(EXCHANGE + name)

    def put_queue(self, name: str, auto_delete: bool, arguments: Table, user: str) -> Ticket:
        return self._state.put(
            QUEUE + name, msgspec.msgpack.encode(StoredQueue(auto_delete, encode_table(arguments), user)))

    def delete_queue(self, name: str) -> None:
        self._delete(QUEUE + name)

    def put_binding(self, binding: Binding) -> Ticket:
        return self._state.put(_key(binding), msgspec.msgpack.encode(StoredBinding(
            binding.source, binding.destination, binding.to_exchange, binding.key, encode_table(binding.arguments),
            binding.filter)))

    def delete_binding(self, binding: Binding) -> None:
        self._delete(_key(binding))

    def _delete(self, key: str) -> None:
        if self._state.get(key) is not None:            # what is not durable was never put
            self._state.delete(key)

    def exchanges(self) -> Iterator[Exchange]:
        for name, found in self._state.decoded(EXCHANGE, StoredExchange, "exchange"):
            arguments = table(found.arguments)
            kind = arguments.get(DELAYED_TYPE) if found.type == DELAYED else found.type
            if kind in TYPES:                           # else of a version that knew more
                yield Exchange(name, found.type, True, found.auto_delete, found.internal, arguments, found.user)

    def queues(self) -> Iterator[tuple[str, StoredQueue]]:
        yield from self._state.decoded(QUEUE, StoredQueue, "queue")

    def bindings(self) -> Iterator[Binding]:
        for _, found in self._state.decoded(BINDING, StoredBinding, "binding"):
            yield Binding(found.source, found.destination, found.to_exchange, found.key, table(found.arguments),
                          found.filter)


def table(data: bytes) -> Table:
    return decode_table(data, 0, len(data))[0]


def _key(binding: Binding) -> str:
    parts = (binding.source, binding.destination, str(binding.to_exchange), binding.key)
    text = "\0".join(parts).encode("utf-8", "replace") + canonical(binding.arguments)
    return BINDING + blake2b(text, digest_size=16).hexdigest()
