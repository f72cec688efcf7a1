"""The opening handshake of a WebSocket, the server's side: RFC 6455 §4.2, and the origin check of §10.2. Sans-IO."""
from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from protocols.origin import origin_allowed

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"          # RFC 6455 §1.3


class HandshakeRefused(Exception):
    """status: the HTTP answer. headers: to be sent with it."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def check_handshake(headers: Mapping[str, str], subprotocol: str, allowed_origins: tuple[str, ...], *,
                    required: bool = True) -> dict[str, str]:
    """The response header fields of a good handshake. Raises HandshakeRefused.

    required: False lets a client in that offers no subprotocol at all; one that offers others only is refused.
    """
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in _tokens(headers, "Connection"):
        upgrade = {"Upgrade": "websocket", "Connection": "close, upgrade"}
        raise HandshakeRefused(426, "this is a WebSocket endpoint", upgrade)
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise HandshakeRefused(426, "WebSocket version 13 is spoken here", {"Sec-WebSocket-Version": "13"})
    origin = headers.get("Origin")
    if origin is not None and not origin_allowed(origin, headers.get("Host", ""), allowed_origins):
        raise HandshakeRefused(403, "this origin is not in allowed_origins")
    offered = headers.get("Sec-WebSocket-Protocol", "").replace(" ", "")
    if subprotocol not in offered.split(",") and (required or offered):                             # [MQTT-6.0.0-3]
        raise HandshakeRefused(400, f"the client must offer the subprotocol {subprotocol}")
    key = headers.get("Sec-WebSocket-Key", "").strip()
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


def _tokens(headers: Mapping[str, str], name: str) -> set[str]:
    return {token.strip().lower() for token in headers.get(name, "").split(",")}
