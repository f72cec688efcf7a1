"""Class exchange.                                            Sources: AMQP 0-9-1 §1.6; bind, unbind are RabbitMQ's."""
from __future__ import annotations

from msgspec import field

from protocols.amqp091.codec.methods.method import Method, method
from protocols.amqp091.codec.tables import Table


@method(40, 10, "exchange.declare", "hssbbbbbt")
class ExchangeDeclare(Method):
    ticket: int = 0
    exchange: str = ""
    type: str = ""
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(40, 11, "exchange.declare-ok", "")
class ExchangeDeclareOk(Method):
    pass


@method(40, 20, "exchange.delete", "hsbb")
class ExchangeDelete(Method):
    ticket: int = 0
    exchange: str = ""
    if_unused: bool = False
    nowait: bool = False


@method(40, 21, "exchange.delete-ok", "")
class ExchangeDeleteOk(Method):
    pass


@method(40, 30, "exchange.bind", "hsssbt")
class ExchangeBind(Method):
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(40, 31, "exchange.bind-ok", "")
class ExchangeBindOk(Method):
    pass


@method(40, 40, "exchange.unbind", "hsssbt")
class ExchangeUnbind(Method):
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(40, 51, "exchange.unbind-ok", "")
class ExchangeUnbindOk(Method):
    pass
