"""The opening handshake of a WebSocket, the server's side: RFC 6455 §4.2, and the origin check of §10.2. Sans-IO."""
from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from protocols.web.fields import FieldRepeated, list_of, one_of, tokens_of
from protocols.web.origin import origin_allowed

if TYPE_CHECKING:
    from multidict import MultiMapping

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"          # RFC 6455 §1.3


class HandshakeRefused(Exception):
    """status: the HTTP answer. headers: to be sent with it."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def check_handshake(headers: MultiMapping[str], subprotocol: str, allowed_origins: tuple[str, ...], *,
                    version: tuple[int, int] = (1, 1), required: bool = True) -> dict[str, str]:
    """The response header fields of a good handshake. Raises HandshakeRefused.

    version: of HTTP. required: False lets a client in that offers no subprotocol at all; one that offers others only is
    refused.
    """
    try:
        return _checked(headers, subprotocol, allowed_origins, version, required)
    except FieldRepeated as error:
        raise HandshakeRefused(400, str(error)) from None


def _checked(headers: MultiMapping[str], subprotocol: str, allowed_origins: tuple[str, ...],
             version: tuple[int, int], required: bool) -> dict[str, str]:
    origin = one_of(headers, "Origin")
    if origin is not None and not origin_allowed(origin, one_of(headers, "Host") or "", allowed_origins):
        raise HandshakeRefused(403, "this origin is not in allowed_origins")
    # RFC 9110 §7.8: an Upgrade in HTTP/1.0 is to be ignored; RFC 6455 §4.1: the version must be at least 1.1.
    if version < (1, 1) or "websocket" not in tokens_of(headers, "Upgrade") or (
            "upgrade" not in tokens_of(headers, "Connection")):
        upgrade = {"Upgrade": "websocket", "Connection": "close, upgrade"}
        text = "this path speaks WebSocket; REST is at /v1/, the console has a listener of its own"
        raise HandshakeRefused(426, text, upgrade)
    if one_of(headers, "Sec-WebSocket-Version") != "13":
        raise HandshakeRefused(426, "WebSocket version 13 is spoken here", {"Sec-WebSocket-Version": "13"})
    offered = list_of(headers, "Sec-WebSocket-Protocol")
    if subprotocol not in offered and (required or offered):                             # [MQTT-6.0.0-3]
        raise HandshakeRefused(400, f"the client must offer the subprotocol {subprotocol}")
    key = one_of(headers, "Sec-WebSocket-Key") or ""
    try:
        good = len(binascii.a2b_base64(key.encode("ascii"), strict_mode=True)) == 16
    except ValueError:
        good = False
    if not good:
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    accept = base64.b64encode(hashlib.sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest()).decode("ascii")
    answer = {
        "Server": "meshgate", "Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Accept": accept,
    }
    if offered:
        answer["Sec-WebSocket-Protocol"] = subprotocol
    return answer
