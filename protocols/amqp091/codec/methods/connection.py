"""Class connection. Sources: AMQP 0-9-1 §1.4; blocked, unblocked and update-secret are RabbitMQ's."""
from __future__ import annotations

from msgspec import field

from protocols.amqp091.codec.methods.method import Method, method
from protocols.amqp091.codec.tables import Table

CLOSE, CLOSE_OK = b"\x00\x0a\x00\x32", b"\x00\x0a\x00\x33"      # as they begin


@method(10, 10, "connection.start", "ootSS")
class ConnectionStart(Method):
    version_major: int = 0
    version_minor: int = 9
    server_properties: Table = field(default_factory=dict)
    mechanisms: bytes = b""
    locales: bytes = b"en_US"


@method(10, 11, "connection.start-ok", "tsSs")
class ConnectionStartOk(Method):
    client_properties: Table = field(default_factory=dict)
    mechanism: str = ""
    response: bytes = b""
    locale: str = ""


@method(10, 20, "connection.secure", "S")
class ConnectionSecure(Method):
    challenge: bytes = b""


@method(10, 21, "connection.secure-ok", "S")
class ConnectionSecureOk(Method):
    response: bytes = b""


@method(10, 30, "connection.tune", "hlh")
class ConnectionTune(Method):
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@method(10, 31, "connection.tune-ok", "hlh")
class ConnectionTuneOk(Method):
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@method(10, 40, "connection.open", "ssb")
class ConnectionOpen(Method):
    virtual_host: str = ""
    capabilities: str = ""
    insist: bool = False


@method(10, 41, "connection.open-ok", "s")
class ConnectionOpenOk(Method):
    known_hosts: str = ""


@method(10, 50, "connection.close", "hshh")
class ConnectionClose(Method):
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@method(10, 51, "connection.close-ok", "")
class ConnectionCloseOk(Method):
    pass


@method(10, 60, "connection.blocked", "s")
class ConnectionBlocked(Method):
    reason: str = ""


@method(10, 61, "connection.unblocked", "")
class ConnectionUnblocked(Method):
    pass


@method(10, 70, "connection.update-secret", "Ss")
class ConnectionUpdateSecret(Method):
    new_secret: bytes = b""
    reason: str = ""


@method(10, 71, "connection.update-secret-ok", "")
class ConnectionUpdateSecretOk(Method):
    pass
