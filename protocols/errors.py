"""Errors by fault, for all protocols: what a peer did wrong on the wire, with the code that tells it so."""
from __future__ import annotations

from routing.errors import MeshgateError


class ProtocolViolation(MeshgateError):
    """The peer broke its protocol. wire_code is the protocol's own number for it; text is safe to send to the peer."""

    def __init__(self, wire_code: int, text: str) -> None:
        super().__init__(text)
        self.wire_code = wire_code
        self.text = text


class MalformedPacket(ProtocolViolation):
    """The bytes cannot be parsed at all. Codecs raise only this and its base."""
