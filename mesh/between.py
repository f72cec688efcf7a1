"""What the protocols of two nodes say to each other: a name and bytes in a Relay frame, which only they understand.

    protocol server ── Peers.say ──► Between ──► overlay ──► Between ──► ProtocolServer.heard

Wired by mesh/node.py.
"""
from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from mesh.link.protocol.frames import PRIORITY_GOSSIP

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from protocols.server import ProtocolServer

TAG: Final = 60
BYTES_MAX: Final = 1024 * 1024


class Said(msgspec.Struct, array_like=True, tag=TAG, frozen=True):
    protocol: Annotated[str, Meta(max_length=64)]
    body: Annotated[bytes, Meta(max_length=BYTES_MAX)]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def is_between(body: bytes) -> bool:
    return len(body) > 1 and body[1] == TAG and 0x91 <= body[0] <= 0x9F


class _Peers:
    """Of one protocol. See protocols/peers.py."""

    def __init__(self, overlay: Overlay, protocol: str) -> None:
        self._overlay = overlay
        self._protocol = protocol

    @property
    def me(self) -> str:
        return self._overlay.me.name

    @property
    def epoch(self) -> str:
        return self._overlay.me.epoch

    @property
    def in_sight(self) -> Container[str]:
        return self._overlay.nodes

    def say(self, node: str, body: bytes) -> None:
        if node in self._overlay.nodes:
            self._overlay.send(node, _encoder.encode(Said(self._protocol, body)), PRIORITY_GOSSIP)


class Between:
    """Loop thread only."""

    def __init__(self, overlay: Overlay, servers: Mapping[str, ProtocolServer]) -> None:
        self.bad = 0                            # messages that were none
        self._overlay = overlay
        self._servers = servers

    def start(self) -> None:
        for name, server in self._servers.items():
            server.meet(_Peers(self._overlay, name))

    def on_message(self, source: str, body: bytes) -> None:
        try:
            said = _decoder.decode(body)
        except msgspec.MsgspecError:
            self.bad += 1
            return
        server = self._servers.get(said.protocol)
        if server is not None:
            server.heard(source, said.body)
