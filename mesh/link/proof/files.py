"""File names in [[links]] and [[link_peers]] count from the configuration file. Called by mesh/configuration."""
from __future__ import annotations

from pathlib import Path

import msgspec

from mesh.link.settings import LinkPeerTable, LinkTable


def absolute_link(table: LinkTable, base: Path) -> LinkTable:
    return msgspec.structs.replace(
        table, ca=_file(table.ca, base), cert=_file(table.cert, base), key=_file(table.key, base),
        token=_reference(table.token, base), proxy_password=_reference(table.proxy_password, base))


def absolute_peer(table: LinkPeerTable, base: Path) -> LinkPeerTable:
    return msgspec.structs.replace(
        table, token=_reference(table.token, base), jwt_key=_reference(table.jwt_key, base))


def _file(name: str | None, base: Path) -> str | None:
    return None if name is None else str((base / Path(name).expanduser()).resolve())


def _reference(value: str | None, base: Path) -> str | None:
    return f"file:{_file(value[5:], base)}" if value is not None and value.startswith("file:") else value
