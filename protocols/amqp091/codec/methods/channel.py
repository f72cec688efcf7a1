"""Classes channel and access.                                                         Source: AMQP 0-9-1 §1.5."""
from __future__ import annotations

from protocols.amqp091.codec.methods.method import Method, method

CLOSE, CLOSE_OK = b"\x00\x14\x00\x28", b"\x00\x14\x00\x29"      # as they begin


@method(20, 10, "channel.open", "s")
class ChannelOpen(Method):
    out_of_band: str = ""


@method(20, 11, "channel.open-ok", "S")
class ChannelOpenOk(Method):
    channel_id: bytes = b""


@method(20, 20, "channel.flow", "b")
class ChannelFlow(Method):
    active: bool = False


@method(20, 21, "channel.flow-ok", "b")
class ChannelFlowOk(Method):
    active: bool = False


@method(20, 40, "channel.close", "hshh")
class ChannelClose(Method):
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@method(20, 41, "channel.close-ok", "")
class ChannelCloseOk(Method):
    pass


@method(30, 10, "access.request", "sbbbbb")
class AccessRequest(Method):
    realm: str = ""
    exclusive: bool = False
    passive: bool = False
    active: bool = False
    write: bool = False
    read: bool = False


@method(30, 11, "access.request-ok", "h")
class AccessRequestOk(Method):
    ticket: int = 1
