"""Who is at each end of a link."""
from __future__ import annotations

import msgspec

from mesh.link.protocol.frames import FRAME_BYTES_MAX, PROTOCOL_MAX, PROTOCOL_MIN, Hello, Welcome

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Me(msgspec.Struct, frozen=True):
    """This node, as it introduces itself."""

    node: str
    site: str
    epoch: str                          # of its log
    boot: str                           # random, new with every start
    version: str
    protocol_min: int = PROTOCOL_MIN    # a test or an operator may narrow the range
    protocol_max: int = PROTOCOL_MAX
    features: tuple[str, ...] = ()


class Peer(msgspec.Struct, frozen=True):
    """The node at the other end, as it introduced itself. Not trusted before it was admitted."""

    node: str
    site: str
    epoch: str
    boot: str
    version: str
    protocol: int                       # agreed on
    link: str
    cost: int
    features: tuple[str, ...] = ()
    frame_bytes_max: int = FRAME_BYTES_MAX


def agree(me: Me, hello: Hello) -> int | None:
    """The newest protocol version that both speak; None when there is none."""
    protocol = min(me.protocol_max, hello.protocol_max)
    return protocol if protocol >= max(me.protocol_min, hello.protocol_min) else None


def bad_name(frame: Hello | Welcome) -> str | None:
    """What is wrong with the names of a stranger, which end up in logs, topics and metrics; None when nothing is."""
    for field in ("node", "site", "epoch", "boot", "link"):
        if not NAME_CHARACTERS.issuperset(getattr(frame, field, "")):
            return f"{field}: only letters, digits, dots, dashes and underscores"
    return None if frame.version.isascii() and frame.version.isprintable() else "version: only printable ASCII"


def peer_of_hello(hello: Hello, protocol: int) -> Peer:
    return Peer(
        hello.node, hello.site, hello.epoch, hello.boot, hello.version, protocol, hello.link, hello.cost,
        hello.features, hello.frame_bytes_max)


def peer_of_welcome(welcome: Welcome, link: str, cost: int) -> Peer:
    return Peer(
        welcome.node, welcome.site, welcome.epoch, welcome.boot, welcome.version, welcome.protocol, link, cost,
        welcome.features, welcome.frame_bytes_max)
