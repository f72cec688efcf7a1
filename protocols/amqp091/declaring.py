"""Declaring for other protocols (protocols/declaring.py): the methods of a channel, without a wire.

A declarer is a channel whose stream goes nowhere. Rights, checks and texts are those of every channel.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from protocols.amqp091.broker import Broker
from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.channels.publishing import Publishing
from protocols.amqp091.codec import methods
from protocols.amqp091.codec.codes import INTERNAL_ERROR, AmqpError
from protocols.amqp091.codec.methods import Method
from protocols.amqp091.codec.tables import Table
from protocols.amqp091.methods import access
from protocols.amqp091.methods.dispatch import HANDLERS
from protocols.amqp091.topology.streamqueue import StreamQueue
from protocols.declaring import Declarer, Done, Outcome, Routed, StreamPlace
from routing.consumers.definition.spec import Start
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Identity

_METHODS: dict[str, type[Method]] = {
    "queue.declare": methods.QueueDeclare, "queue.delete": methods.QueueDelete, "queue.purge": methods.QueuePurge,
    "queue.bind": methods.QueueBind, "queue.unbind": methods.QueueUnbind,
    "exchange.declare": methods.ExchangeDeclare, "exchange.delete": methods.ExchangeDelete,
    "exchange.bind": methods.ExchangeBind, "exchange.unbind": methods.ExchangeUnbind,
}


class _NoStream:
    """A ByteChannel that nobody reads."""

    address = "inside"
    secure = True
    tls_identity = None

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def buffered_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def over(self) -> bool:
        return False

    def put_back(self, data: bytes) -> None: ...


class _Inside(Peer):
    """A client of this node's own: what would be sent to it is an outcome."""

    __slots__ = ("waiting",)

    def __init__(self, broker: Broker, identity: Identity) -> None:
        super().__init__(broker, _NoStream(), self.failed)
        self.identity = identity
        self.waiting: deque[Done] = deque()

    def send(self, channel: int, method: Method) -> None:
        if self.waiting:
            values = {name: getattr(method, name) for name in method.__struct_fields__}
            self.waiting.popleft()(Outcome(200, "", values))

    def failed(self, error: Exception) -> None:
        if self.waiting:
            done = self.waiting.popleft()
            if isinstance(error, AmqpError):
                done(Outcome(error.wire_code, error.text))
            else:
                done(Outcome(INTERNAL_ERROR, "internal error"))


class _Declarer:
    def __init__(self, broker: Broker, identity: Identity) -> None:
        self._peer = _Inside(broker, identity)
        publishing = Publishing(self._peer, lambda channel, error: None, lambda: True)
        self._channel = Channel(self._peer, publishing, 1, lambda number: None)

    def do(self, method: str, arguments: Mapping[str, Any], done: Done) -> None:
        kind = _METHODS[method]
        self._peer.waiting.append(done)
        self._peer.guarded(lambda: HANDLERS[kind](self._channel, kind(**arguments)))

    def bindings(self, source: str, destination: str, to_exchange: bool, done: Done) -> None:
        peer = self._peer
        try:
            if source:                              # of the default exchange there is nothing to know
                access.check_exchange(peer, source)
            (access.check_exchange if to_exchange else access.check_queue)(peer, destination)
        except AmqpError as error:
            done(Outcome(error.wire_code, error.text))
            return
        exchange = peer.broker.declared.topology.exchanges.get(source)
        found = [] if exchange is None else [
            {"key": binding.key, "arguments": dict(binding.arguments)} for binding in exchange.bindings.values()
            if (binding.destination, binding.to_exchange) == (destination, to_exchange)]
        done(Outcome(200, "", {"bindings": found}))

    def take_identity(self, identity: Identity) -> None:
        self._peer.identity = identity

    def close(self) -> None:
        self._peer.closed = True
        self._peer.waiting.clear()
        self._peer.broker.declared.connection_gone(self._peer)


class _Seen:
    """An event as exchanges look at it."""

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    @property
    def headers(self) -> Table:
        return dict(self._event.headers)

    def property_text(self, name: str) -> str:
        properties = self._event.properties
        value = None
        if properties is not None:
            value = {"message_id": properties.message_id, "correlation_id": properties.correlation}.get(name)
        return str(value) if value is not None else ""


class Declaring:
    """One per server."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def declarer(self, identity: Identity) -> Declarer:
        return _Declarer(self._broker, identity)

    def queue(self, name: str) -> Mapping[str, Any] | None:
        found = self._broker.declared.queue(name)
        if found is None:
            return None
        return {"durable": found.durable, "auto_delete": found.auto_delete, "exclusive": found.owner is not None,
                "type": found.options.type, "arguments": dict(found.arguments),
                "message_count": found.ready_count(), "consumer_count": found.readers}

    def stream_topic(self, name: str) -> str | None:
        return self._broker.declared.topology.streams.get(name)

    def read_stream(self, name: str, identity: Identity, start: Start, in_flight: int) -> StreamPlace | Refusal:
        stream = self._broker.declared.queue(name)
        assert isinstance(stream, StreamQueue)
        return stream.read(identity, start, in_flight)

    def has_exchange(self, name: str) -> bool:
        return name in self._broker.declared.topology.exchanges

    def route(self, exchange: str, key: str, event: Event) -> Routed | None:
        topology = self._broker.declared.topology
        found = topology.exchanges.get(exchange)
        if found is None:
            return None
        targets = topology.route(found, key, _Seen(event))
        return Routed(bool(targets.queues), targets.copies)

