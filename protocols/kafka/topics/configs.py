"""Configurations of topics: Kafka's keys, what they are in StreamSettings, and which have one value here.

    settable    cleanup.policy, retention.*, segment.*, max.message.bytes
    lenient     how a cluster or its files are kept: accepted, described as it is here (min.insync.replicas is 1)
    fixed       what readers or writers would notice: any other value is refused

Everything is described, with its default and where it is from: Kafka's frameworks begin with that.
"""
from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from routing.settings import StreamSettings

LONG_MAX, INT_MAX = 2**63 - 1, 2**31 - 1
BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7             # ConfigType              Source: KIP-569
SEGMENT_BYTES_MIN = 64 * 1024
AGE_MS_MIN = 1_000
AGE_MS_MAX = 100 * 366 * 24 * 3_600_000         # a hundred years
BATCH_BYTES_MAX = 16 * 1024 * 1024


class Source(enum.IntEnum):
    """Where a value is from.                                                                     Source: KIP-226"""

    TOPIC = 1
    BROKER = 4
    DEFAULT = 5


class ConfigError(ValueError):
    """A key or value that is not taken; the text says what is."""


class Key(msgspec.Struct, frozen=True):
    """One configuration of topics. take: what a value changes in the settings; None: it has the default only."""

    name: str
    type: int
    default: str
    doc: str
    show: Callable[[StreamSettings], str] | None = None
    take: Callable[[StreamSettings, str], StreamSettings] | None = None
    lenient: bool = False


def _number(name: str, text: str, least: int, most: int = LONG_MAX) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{name}: a whole number, got {text[:40]!r}") from None
    if not least <= value <= most:
        raise ConfigError(f"{name}: from {least} to {most}, got {value}")
    return value


def _show_policy(settings: StreamSettings) -> str:
    if not settings.compact:
        return "delete"
    return "compact" if settings.retention_ms is None and settings.retention_bytes is None else "compact,delete"


def _take_policy(settings: StreamSettings, text: str) -> StreamSettings:
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    if not wanted or wanted - {"compact", "delete"}:
        raise ConfigError(f"cleanup.policy: delete, compact, or compact,delete, got {text[:40]!r}")
    changed = msgspec.structs.replace(settings, compact="compact" in wanted)
    if "delete" not in wanted:
        return msgspec.structs.replace(changed, retention_ms=None, retention_bytes=None)
    return changed


def _take_retention_ms(settings: StreamSettings, text: str) -> StreamSettings:
    value = _number("retention.ms", text, -1)
    return msgspec.structs.replace(
        settings, retention_ms=None if value == -1 or value > LONG_MAX // 2 else max(value, AGE_MS_MIN))


def _take_retention_bytes(settings: StreamSettings, text: str) -> StreamSettings:
    value = _number("retention.bytes", text, -1)
    return msgspec.structs.replace(
        settings, retention_bytes=None if value == -1 or value > LONG_MAX // 2 else max(value, SEGMENT_BYTES_MIN))


def _take_segment_bytes(settings: StreamSettings, text: str) -> StreamSettings:
    return msgspec.structs.replace(
        settings, segment_bytes=max(_number("segment.bytes", text, 14, INT_MAX), SEGMENT_BYTES_MIN))


def _take_segment_ms(settings: StreamSettings, text: str) -> StreamSettings:
    return msgspec.structs.replace(settings, segment_ms=max(_number("segment.ms", text, 1), AGE_MS_MIN))


def _take_tombstone_ms(settings: StreamSettings, text: str) -> StreamSettings:
    return msgspec.structs.replace(settings, tombstone_ms=_number("delete.retention.ms", text, 0, AGE_MS_MAX))


def _take_compact_after_ms(settings: StreamSettings, text: str) -> StreamSettings:
    return msgspec.structs.replace(settings, compact_after_ms=_number("min.compaction.lag.ms", text, 0, AGE_MS_MAX))


def _take_batch_bytes(settings: StreamSettings, text: str) -> StreamSettings:
    return msgspec.structs.replace(
        settings, batch_bytes_max=_number("max.message.bytes", text, 0, BATCH_BYTES_MAX))


_DEFAULTS = StreamSettings("default")
KEYS: dict[str, Key] = {key.name: key for key in (
    Key("cleanup.policy", LIST, "delete", "what becomes of old records", _show_policy, _take_policy),
    Key("compression.type", STRING, "producer", "batches stay as their producers compressed them"),
    Key("delete.retention.ms", LONG, "86400000", "how long a deletion stays in a compacted topic",
        lambda settings: str(settings.tombstone_ms), _take_tombstone_ms),
    Key("file.delete.delay.ms", LONG, "60000", "files go at once", lenient=True),
    Key("flush.messages", LONG, "1", "every commit is synced before it is acked", lenient=True),
    Key("flush.ms", LONG, "0", "every commit is synced before it is acked", lenient=True),
    Key("index.interval.bytes", INT, "4096", "of the offset index", lenient=True),
    Key("max.compaction.lag.ms", LONG, str(LONG_MAX), "a bound for how late a record is compacted"),
    Key("max.message.bytes", INT, str(_DEFAULTS.batch_bytes_max), "the largest batch that is taken",
        lambda settings: str(settings.batch_bytes_max), _take_batch_bytes),
    Key("message.timestamp.after.max.ms", LONG, str(LONG_MAX), "timestamps are taken as they are", lenient=True),
    Key("message.timestamp.before.max.ms", LONG, str(LONG_MAX), "timestamps are taken as they are", lenient=True),
    Key("message.timestamp.type", STRING, "CreateTime", "timestamps are those of the producers"),
    Key("min.cleanable.dirty.ratio", DOUBLE, "0.5", "how much must be old before it is compacted", lenient=True),
    Key("min.compaction.lag.ms", LONG, "0", "how long a record is not compacted",
        lambda settings: str(settings.compact_after_ms), _take_compact_after_ms),
    Key("min.insync.replicas", INT, "1", "a node is one broker", lenient=True),
    Key("preallocate", BOOLEAN, "false", "of segment files", lenient=True),
    Key("retention.bytes", LONG, "-1", "of one partition; -1: no bound",
        lambda settings: str(-1 if settings.retention_bytes is None else settings.retention_bytes),
        _take_retention_bytes),
    Key("retention.ms", LONG, "604800000", "older segments go; -1: none",
        lambda settings: str(-1 if settings.retention_ms is None else settings.retention_ms), _take_retention_ms),
    Key("segment.bytes", INT, str(_DEFAULTS.segment_bytes), "a segment file is closed at this size",
        lambda settings: str(settings.segment_bytes), _take_segment_bytes),
    Key("segment.index.bytes", INT, "10485760", "of the offset index", lenient=True),
    Key("segment.jitter.ms", LONG, "0", "segments are closed on time", lenient=True),
    Key("segment.ms", LONG, str(_DEFAULTS.segment_ms), "a segment file is closed at this age",
        lambda settings: str(settings.segment_ms), _take_segment_ms),
    Key("unclean.leader.election.enable", BOOLEAN, "false", "a node is the only one that leads", lenient=True),
)}
DEFAULT_RETENTION_MS = 604_800_000


def fresh_settings(name: str, partitions: int, capture: tuple[str, ...], topic: str,
                   configs: Mapping[str, str | None]) -> StreamSettings:
    """Settings of a topic that is made with these configurations. Raises ConfigError."""
    settings = StreamSettings(name, capture, partitions, retention_ms=DEFAULT_RETENTION_MS, topic=topic)
    return changed(settings, configs)


def changed(settings: StreamSettings, configs: Mapping[str, str | None]) -> StreamSettings:
    """Settings with these configurations; None stands for the default. Raises ConfigError."""
    for name in sorted(configs, key=lambda key: key != "cleanup.policy"):     # retention only counts with delete
        value = configs[name]
        key = KEYS.get(name)
        if key is None:
            raise ConfigError(f"Unknown topic config name: {name[:100]}")
        text = key.default if value is None else value
        if key.take is not None:
            settings = key.take(settings, text)
        elif text.lower() != key.default.lower() and not key.lenient:
            raise ConfigError(f"{name}: this node knows {key.default} only")
    policy = configs.get("cleanup.policy")
    if policy is not None and "delete" not in policy:
        return msgspec.structs.replace(settings, retention_ms=None, retention_bytes=None)
    return settings


def appended(settings: StreamSettings, name: str, value: str, *, take_away: bool) -> str:
    """The value of a list after APPEND or SUBTRACT. Raises ConfigError."""
    key = KEYS.get(name)
    if key is None or key.type != LIST or key.show is None:
        raise ConfigError(f"{name[:100]}: is no list")
    parts = [part for part in key.show(settings).split(",") if part]
    given = [part.strip() for part in value.split(",") if part.strip()]
    if take_away:
        return ",".join(part for part in parts if part not in given)
    return ",".join(parts + [part for part in given if part not in parts])


def rows(settings: StreamSettings, names: list[str] | None = None, *, is_fixed: bool = False) -> list[dict[str, Any]]:
    """The configurations of a topic for DescribeConfigs and CreateTopics. is_fixed: the configuration file has it."""
    found: list[dict[str, Any]] = []
    for key in KEYS.values():
        if names is not None and key.name not in names:
            continue
        value = key.default if key.show is None else key.show(settings)
        source = Source.DEFAULT if value == key.default else Source.TOPIC
        synonyms: list[dict[str, Any]] = [{"name": key.name, "value": key.default, "source": Source.DEFAULT}]
        if source is not Source.DEFAULT:
            synonyms.insert(0, {"name": key.name, "value": value, "source": source})
        found.append({
            "name": key.name, "value": value, "read_only": is_fixed or (key.take is None and not key.lenient),
            "config_source": source, "is_sensitive": False, "config_type": key.type, "documentation": key.doc,
            "synonyms": synonyms})
    return found
