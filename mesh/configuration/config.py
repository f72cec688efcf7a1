"""A TOML file -> Config, or a ConfigError that names the path of what is wrong.

    bytes --tomllib--> tables --units--> numbers --msgspec--> structs --checks.py--> Config --paths made absolute

Called by cli.py (check, up) and reload.py. Nothing here opens a socket or writes a file.
"""
from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import inspect as shape

from mesh.configuration import profile
from mesh.configuration.checks import check_config
from mesh.configuration.settings import Config, Listeners, ListenerSettings, StreamTable
from mesh.connectors.kafka.settings import absolute_bridge
from mesh.connectors.webhook_paths import absolute_consumer, absolute_webhooks
from mesh.identity.auth_settings import ApiKeySettings, JwtSettings, UserSettings
from mesh.link.proof.files import absolute_link, absolute_peer
from mesh.values.tls import TlsSettings
from mesh.values.units import parse_duration_ms, parse_size
from routing.errors import ConfigError
from routing.settings import StreamSettings

FILE_BYTES_MAX = 4 * 1024 * 1024        # a configuration, not a data set
DEFAULT_STREAM = "events"
DEFAULT_RETENTION_MS = 7 * 86_400_000   # of the default stream; Kafka's log.retention.hours = 168
NOT_YET = {                             # of the design, but of a later version: say so rather than "unknown key"
    "views": "views of streams",
}


def load_config(path: Path | None) -> Config:
    """Read, check and complete a configuration file; None stands for the defaults."""
    if path is None:
        return _complete(Config(), Path.cwd())
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    try:
        return decode_config(raw.decode(), path.resolve().parent)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"{path}: {line}" for line in lines)) from error


def decode_config(text: str, base: Path) -> Config:
    """Config from TOML text. base: the directory that relative names in it count from."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        text = str(error).replace("Cannot overwrite a value", "this name has a value already")
        raise ConfigError(f"not valid TOML: {text}") from error
    _refuse_not_yet(tables)
    try:
        config = msgspec.convert(_numbers(tables, ""), Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error))) from error
    return _complete(config, base)


def stream_settings(config: Config) -> list[StreamSettings]:
    """The streams of a configuration as the log wants them."""
    return [
        StreamSettings(
            name=stream.name, capture=stream.capture, partitions=stream.partitions,
            retention_ms=stream.retention.age_ms, retention_bytes=stream.retention.size_bytes,
            durability=stream.durability, compact=stream.compact, topic=stream.topic,
            segment_bytes=stream.segment_bytes, segment_ms=stream.segment_age_ms,
        )
        for stream in config.streams
    ]


def _complete(config: Config, base: Path) -> Config:
    """Add the default stream, check what one value cannot tell, make every name absolute."""
    config = msgspec.structs.replace(config, streams=_with_default_stream(config.streams))
    problems = check_config(config)
    if problems:
        raise ConfigError("\n".join(problems))
    config = profile.applied(config)
    listeners = Listeners(**{
        name: _absolute_listeners(getattr(config.listeners, name), base) for name in Listeners.__struct_fields__
    })
    config = msgspec.structs.replace(
        config, links=tuple(absolute_link(link, base) for link in config.links),
        link_peers=tuple(absolute_peer(peer, base) for peer in config.link_peers))
    config = msgspec.structs.replace(
        config, webhooks=absolute_webhooks(config.webhooks, base),
        consumers=tuple(absolute_consumer(consumer, base) for consumer in config.consumers),
        kafka_bridges=tuple(absolute_bridge(bridge, base) for bridge in config.kafka_bridges))
    users = tuple(_absolute_user(user, base) for user in config.users)
    api_keys = tuple(_absolute_key(key, base) for key in config.api_keys)
    jwt = tuple(_absolute_jwks(issuer, base) for issuer in config.jwt)
    node = msgspec.structs.replace(config.node, data=_absolute(config.node.data, base))
    return msgspec.structs.replace(config, node=node, listeners=listeners, users=users, api_keys=api_keys, jwt=jwt)


def _with_default_stream(streams: tuple[StreamTable, ...]) -> tuple[StreamTable, ...]:
    """A stream for everything that no other one captures, unless the file has its own idea of that."""
    if any(stream.name == DEFAULT_STREAM or "#" in stream.capture for stream in streams):
        return streams
    default = msgspec.convert(
        {"name": DEFAULT_STREAM, "capture": ["#"], "retention": {"age": DEFAULT_RETENTION_MS}}, StreamTable)
    return (*streams, default)


def _absolute(name: str, base: Path) -> str:
    return str((base / Path(name).expanduser()).resolve())


def _absolute_listeners(
    value: ListenerSettings | tuple[ListenerSettings, ...] | None, base: Path,
) -> ListenerSettings | tuple[ListenerSettings, ...] | None:
    if isinstance(value, tuple):
        return tuple(_absolute_listener(listener, base) for listener in value)
    return None if value is None else _absolute_listener(value, base)


def _absolute_listener(listener: ListenerSettings, base: Path) -> ListenerSettings:
    if listener.tls is None:
        return listener
    tls = listener.tls
    client_ca = None if tls.client_ca is None else _absolute(tls.client_ca, base)
    return msgspec.structs.replace(
        listener, tls=TlsSettings(_absolute(tls.cert, base), _absolute(tls.key, base), client_ca))


def _absolute_user(user: UserSettings, base: Path) -> UserSettings:
    if user.password_hash is None or not user.password_hash.startswith("file:"):
        return user
    return msgspec.structs.replace(user, password_hash="file:" + _absolute(user.password_hash[5:], base))


def _absolute_key(key: ApiKeySettings, base: Path) -> ApiKeySettings:
    if not key.key_hash.startswith("file:"):
        return key
    return msgspec.structs.replace(key, key_hash="file:" + _absolute(key.key_hash[5:], base))


def _absolute_jwks(issuer: JwtSettings, base: Path) -> JwtSettings:
    if not issuer.jwks.startswith("file:"):
        return issuer
    return msgspec.structs.replace(issuer, jwks="file:" + _absolute(issuer.jwks[5:], base))


def _refuse_not_yet(tables: Mapping[str, object]) -> None:
    listeners = tables.get("listeners")
    keys = [*tables, *(f"listeners.{name}" for name in listeners)] if isinstance(listeners, dict) else list(tables)
    problems = [f"{key}: this version does not have {NOT_YET[key]} yet" for key in keys if key in NOT_YET]
    if problems:
        raise ConfigError("\n".join(problems))


def _numbers(value: object, path: str) -> object:
    """The tables with sizes and durations as numbers: the name of a key tells its unit."""
    if isinstance(value, list):
        return [_numbers(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    return {key: _number(key, item, f"{path}.{key}" if path else key) for key, item in value.items()}


def _number(key: str, value: object, path: str) -> object:
    last = key.removesuffix("_max").removesuffix("_min").rpartition("_")[2]
    try:
        if last == "bytes" and not isinstance(value, (dict, list)):
            return parse_size(value)
        if last == "age":
            return parse_duration_ms(value)
        if last in ("s", "ms") and isinstance(value, str):
            milliseconds = parse_duration_ms(value)
            return milliseconds if last == "ms" else _seconds(milliseconds)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return _numbers(value, path)


def _seconds(milliseconds: int) -> int | float:
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def _explain(text: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.a[0].b`" as "a[0].b: expected int, got str"."""
    problem, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    problem = problem.replace("`", "")
    for start in ("Object contains unknown field ", "Object missing required field "):
        if problem.startswith(start):
            key = problem[len(start):]
            full = f"{path}.{key}" if path else key
            return f"{full}: missing" if "missing" in start else f"{full}: unknown key{_suggest(path, key)}"
    if problem.startswith("Invalid enum value "):
        problem += f", expected {_choices(path)}"
    problem = problem.replace("object", "table")
    return f"{path}: {problem[:1].lower()}{problem[1:]}"


def _suggest(path: str, key: str) -> str:
    known = _keys_at(path)
    near = difflib.get_close_matches(key, known, 1)
    return f", did you mean {near[0]}?" if near else f" (known: {', '.join(known)})" if known else ""


def _keys_at(path: str) -> list[str]:
    """Names that are allowed in the table at a path such as "streams[0].retention"."""
    found = _type_at(path)
    return [field.encode_name for field in found.fields] if isinstance(found, shape.StructType) else []


def _choices(path: str) -> str:
    """The values that an enumeration at a path allows: "fsync or write"."""
    found = _type_at(path)
    values = [str(member.value) for member in found.cls] if isinstance(found, shape.EnumType) else []
    return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else "".join(values)


def _type_at(path: str) -> shape.Type | None:
    found: shape.Type = shape.type_info(Config)
    for step in path.split(".") if path else []:
        name, bracket, _ = step.partition("[")
        table = found.fields if isinstance(found, shape.StructType) else ()
        fields = {field.encode_name: field.type for field in table}
        if name not in fields:
            return None
        found = _inner_type(fields[name], listed=bool(bracket))
    return found


def _inner_type(found: shape.Type, listed: bool) -> shape.Type:
    """The table, or the member of a list, inside "table | list of tables | null"."""
    options = list(found.types) if isinstance(found, shape.UnionType) else [found]
    for option in options:
        if listed and isinstance(option, shape.VarTupleType):
            return option.item_type
        if not listed and isinstance(option, shape.StructType):
            return option
    return found
