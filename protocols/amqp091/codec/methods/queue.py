"""Class queue.                                                                        Source: AMQP 0-9-1 §1.7."""
from __future__ import annotations

from msgspec import field

from protocols.amqp091.codec.methods.method import Method, method
from protocols.amqp091.codec.tables import Table


@method(50, 10, "queue.declare", "hsbbbbbt")
class QueueDeclare(Method):
    ticket: int = 0
    queue: str = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(50, 11, "queue.declare-ok", "sll")
class QueueDeclareOk(Method):
    queue: str = ""
    message_count: int = 0
    consumer_count: int = 0


@method(50, 20, "queue.bind", "hsssbt")
class QueueBind(Method):
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(50, 21, "queue.bind-ok", "")
class QueueBindOk(Method):
    pass


@method(50, 30, "queue.purge", "hsb")
class QueuePurge(Method):
    ticket: int = 0
    queue: str = ""
    nowait: bool = False


@method(50, 31, "queue.purge-ok", "l")
class QueuePurgeOk(Method):
    message_count: int = 0


@method(50, 40, "queue.delete", "hsbbb")
class QueueDelete(Method):
    ticket: int = 0
    queue: str = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


@method(50, 41, "queue.delete-ok", "l")
class QueueDeleteOk(Method):
    message_count: int = 0


@method(50, 50, "queue.unbind", "hssst")
class QueueUnbind(Method):
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    arguments: Table = field(default_factory=dict)


@method(50, 51, "queue.unbind-ok", "")
class QueueUnbindOk(Method):
    pass
