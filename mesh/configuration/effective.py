"""The effective configuration for people: TOML text without secrets, and warnings. Called by `meshgate check`, `up`."""
from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesh.configuration.settings import Config
from mesh.configuration.strangers import strangers
from mesh.identity.masks import overlaps
from mesh.values.units import exact_duration

HIDDEN = "(hidden)"


def effective(config: Config) -> dict[str, object]:
    """The configuration with every default in it, secrets hidden; references to secrets stay readable."""
    shown = msgspec.to_builtins(config)
    assert isinstance(shown, dict)
    for stream in shown["streams"]:
        stream["segment_age"] = exact_duration(stream["segment_age"])
        if stream["retention"]["age"] is not None:
            stream["retention"]["age"] = exact_duration(stream["retention"]["age"])
    shown["replication"]["hold_age"] = exact_duration(shown["replication"]["hold_age"])
    for user in shown["users"]:
        if user["password_hash"] is not None and not user["password_hash"].startswith(("file:", "env:")):
            user["password_hash"] = HIDDEN
    for key in shown["api_keys"]:
        if not key["key_hash"].startswith(("file:", "env:")):
            key["key_hash"] = HIDDEN
    oidc = shown["oidc"]
    if oidc is not None and oidc["client_secret"] and not oidc["client_secret"].startswith(("file:", "env:")):
        oidc["client_secret"] = HIDDEN
    for table in (*shown["links"], *shown["link_peers"]):
        for key in ("token", "jwt_key", "proxy_password"):
            if table.get(key) is not None and not table[key].startswith(("file:", "env:")):
                table[key] = HIDDEN
    return shown


def warnings_of(config: Config) -> list[str]:
    """What is allowed but probably not meant."""
    found = []
    if config.authenticates and not config.policies:
        found.append("users are configured but no [[policies]]: everybody may connect, nobody may publish or subscribe")
    if config.policies and not config.authenticates:
        found.append("[[policies]] without [[users]], [[api_keys]] or [[jwt]]: "
                     "only rules for \"anonymous\" or \"*\" apply to anybody")
    if config.authenticates:
        found.extend(strangers(config))
    found.extend(overlaps(config.masks, config.policies))
    for _, listener, path in config.listeners.placed():
        if listener.insecure and listener.tls is None:
            found.append(f"{path}: insecure = true, so passwords and events travel in clear text")
    if config.link_peers and config.listeners.link is None:
        found.append("[[link_peers]] without listeners.link: no node can dial this one")
    found.extend(
        f"links[{index}]: insecure = true, so its token and events may travel in clear text"
        for index, link in enumerate(config.links) if link.insecure and link.to.startswith("ws://")
    )
    found.extend(
        f"streams.{stream.name}: no retention, so its log grows until the disk is full"
        for stream in config.streams
        if stream.retention.age_ms is None and stream.retention.size_bytes is None and not stream.compact
    )
    return found


def format_toml(tables: Mapping[str, object]) -> str:
    """TOML text of nested mappings, lists and plain values; None is left out. Sizes stay plain numbers of bytes."""
    lines: list[str] = []
    _table("", tables, lines)
    return "\n".join(lines).strip() + "\n"


def _table(path: str, table: Mapping[str, object], lines: list[str]) -> None:
    for name, value in table.items():
        if value is not None and not _is_table(value) and not _is_tables(value):
            lines.append(f"{name} = {_value(value)}")
    for name, value in table.items():
        inner = f"{path}.{name}" if path else name
        if _is_table(value):
            if not all(_is_table(item) for item in value.values() if item is not None):  # type: ignore[attr-defined]
                lines.extend(("", f"[{inner}]"))
            _table(inner, value, lines)  # type: ignore[arg-type]
        elif _is_tables(value):
            for item in value:  # type: ignore[attr-defined]
                lines.extend(("", f"[[{inner}]]"))
                _table(inner, item, lines)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_tables(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, dict) for item in value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()      # a JSON string is a TOML basic string
    return str(value)
