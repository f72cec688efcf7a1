"""Class basic.                                                      Sources: AMQP 0-9-1 §1.8; nack is RabbitMQ's."""
from __future__ import annotations

from msgspec import field

from protocols.amqp091.codec.methods.method import Method, method
from protocols.amqp091.codec.tables import Table

PUBLISH = b"\x00\x3c\x00\x28"           # as they begin
ACK = b"\x00\x3c\x00\x50"
ACK_SIZED = b"\x00\x00\x00\x0d" + ACK       # with the size of the payload before it


@method(60, 10, "basic.qos", "lhb")
class BasicQos(Method):
    prefetch_size: int = 0
    prefetch_count: int = 0
    global_: bool = False


@method(60, 11, "basic.qos-ok", "")
class BasicQosOk(Method):
    pass


@method(60, 20, "basic.consume", "hssbbbbt")
class BasicConsume(Method):
    ticket: int = 0
    queue: str = ""
    consumer_tag: str = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: Table = field(default_factory=dict)


@method(60, 21, "basic.consume-ok", "s")
class BasicConsumeOk(Method):
    consumer_tag: str = ""


@method(60, 30, "basic.cancel", "sb")
class BasicCancel(Method):
    consumer_tag: str = ""
    nowait: bool = False


@method(60, 31, "basic.cancel-ok", "s")
class BasicCancelOk(Method):
    consumer_tag: str = ""


@method(60, 40, "basic.publish", "hssbb")
class BasicPublish(Method):
    has_content = True
    ticket: int = 0
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False
    immediate: bool = False


@method(60, 50, "basic.return", "hsss")
class BasicReturn(Method):
    has_content = True
    reply_code: int = 0
    reply_text: str = ""
    exchange: str = ""
    routing_key: str = ""


@method(60, 60, "basic.deliver", "sLbss")
class BasicDeliver(Method):
    has_content = True
    consumer_tag: str = ""
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""


@method(60, 70, "basic.get", "hsb")
class BasicGet(Method):
    ticket: int = 0
    queue: str = ""
    no_ack: bool = False


@method(60, 71, "basic.get-ok", "Lbssl")
class BasicGetOk(Method):
    has_content = True
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""
    message_count: int = 0


@method(60, 72, "basic.get-empty", "s")
class BasicGetEmpty(Method):
    cluster_id: str = ""


@method(60, 80, "basic.ack", "Lb")
class BasicAck(Method):
    delivery_tag: int = 0
    multiple: bool = False


@method(60, 90, "basic.reject", "Lb")
class BasicReject(Method):
    delivery_tag: int = 0
    requeue: bool = False


@method(60, 100, "basic.recover-async", "b")
class BasicRecoverAsync(Method):
    requeue: bool = False


@method(60, 110, "basic.recover", "b")
class BasicRecover(Method):
    requeue: bool = False


@method(60, 111, "basic.recover-ok", "")
class BasicRecoverOk(Method):
    pass


@method(60, 120, "basic.nack", "Lbb")
class BasicNack(Method):
    delivery_tag: int = 0
    multiple: bool = False
    requeue: bool = False
