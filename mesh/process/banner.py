"""What a person at the terminal sees when a node starts: standard output, while log lines go to standard error."""
from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.protocols import PROTOCOLS
from mesh.values.units import format_size

if TYPE_CHECKING:
    from mesh.node import Node

NAMES = {
    "console": "console, health, metrics, API", "link": "links from other nodes",
    **{spec.name: spec.title for spec in PROTOCOLS}, "amqp": "AMQP 0-9-1 and 1.0",
}
SCHEMES = {"console": ("http", "https"), "link": ("ws", "wss"), **{spec.name: spec.schemes for spec in PROTOCOLS}}


def print_banner(node: Node) -> None:
    lines = [f"meshgate {node.version}: node {node.name} (site {node.config.node.site}) is ready"]
    for listener in node.listeners:
        scheme = SCHEMES[listener.protocol][listener.secure]
        lines.extend(f"  {NAMES[listener.protocol]:<32} {scheme}://{text}" for text in listener.texts)
    size = sum(part.size_bytes for stream in node.router.streams for part in stream.partitions)
    streams = ", ".join(node.router.streams.by_name)
    lines.append(f"  {'data':<32} {node.data.root} ({format_size(size)}; streams: {streams})")
    if node.authenticator.open:
        lines.append("  No users are configured: this node serves programs on this machine only, and trusts them all.")
    print("\n".join(lines), flush=True)


def print_first_password(user: str, password: str) -> None:
    print(
        f"No configured user may manage this node, so one was made. This is shown once:\n"
        f"  user {user}   password {password}", flush=True)
