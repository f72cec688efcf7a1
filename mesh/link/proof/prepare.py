"""Links as the manager wants them, made of a configuration: secrets read, TLS contexts made. Nothing is dialled."""
from __future__ import annotations

import msgspec

from mesh.link.dialling.target import Target, make_target
from mesh.link.proof.credentials import PeerEntry, resolve_peers
from mesh.link.settings import LinkPeerTable, LinkTable


class PreparedLinks(msgspec.Struct, frozen=True):
    targets: list[Target]
    entries: list[PeerEntry]
    anonymous: bool             # no users and no [[link_peers]]: programs on this machine may link without proof


def prepare_links(
    links: tuple[LinkTable, ...], peers: tuple[LinkPeerTable, ...], *, users: bool,
) -> PreparedLinks:
    """Everything about links that can go wrong outside of the configuration. Raises ConfigError.

    users: there are users, so nobody is trusted just because it runs on this machine.
    """
    targets = [make_target(index, table) for index, table in enumerate(links)]
    return PreparedLinks(targets, resolve_peers(peers), anonymous=not users and not peers)
