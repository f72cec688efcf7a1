"""The configurations of a group, as clients set them: those of share groups. Stored by group.          Source: KIP-932

A group may have them before it has a member. What is not set is as the node's settings say.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from protocols.kafka.settings import KafkaSettings
from protocols.kafka.topics.configs import INT, STRING, ConfigError
from routing.consumers.definition.spec import Start
from routing.router import Router
from routing.ticket import Ticket

PREFIX = "kafka-group-config/"
RESET, LOCK, HEARTBEAT = "share.auto.offset.reset", "share.record.lock.duration.ms", "share.heartbeat.interval.ms"
SESSION, ISOLATION = "share.session.timeout.ms", "share.isolation.level"
RANGES = {LOCK: (1_000, 3_600_000), HEARTBEAT: (100, 60_000), SESSION: (1_000, 1_800_000)}
_GROUP, _DEFAULT = 8, 5         # ConfigSource: DYNAMIC_GROUP_CONFIG, DEFAULT_CONFIG
_DURATION = re.compile(
    r"by_duration:P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.\d{1,9})?S)?)?")


class GroupOptions:
    """One per broker. Loop thread only."""

    def __init__(self, router: Router, settings: KafkaSettings) -> None:
        self._router = router
        self._defaults = {
            RESET: "latest", LOCK: str(settings.share_lock_ms), HEARTBEAT: str(settings.share_heartbeat_interval_ms),
            SESSION: str(settings.share_session_timeout_ms), ISOLATION: "read_committed"}
        self._set: dict[str, dict[str, str]] = dict(
            router.state.decoded(PREFIX, dict[str, str], "the configuration of a Kafka group"))

    def get(self, group_id: str, name: str) -> str:
        return self._set.get(group_id, {}).get(name, self._defaults[name])

    def seconds(self, group_id: str, name: str) -> float:
        return int(self.get(group_id, name)) / 1000

    def start(self, group_id: str) -> Start:
        """Where a group begins to read a topic."""
        wanted = self.get(group_id, RESET)
        if wanted in ("latest", "earliest"):
            return wanted
        return {"time_ms": self._router.clock_ms() - _duration_ms(wanted)}

    def change(self, group_id: str, changes: Mapping[str, str | None], *, validate_only: bool) -> Ticket | None:
        """None as a value: the default. Returns when it is on disk. Raises ConfigError."""
        for name, value in changes.items():
            _check(name, value)
        if validate_only:
            return None
        values = {name: value for name, value in {**self._set.get(group_id, {}), **changes}.items()
                  if value is not None}
        if values:
            self._set[group_id] = values
            return self._router.state.put(PREFIX + group_id, msgspec.msgpack.encode(values))
        self._set.pop(group_id, None)
        return self._router.state.delete(PREFIX + group_id)

    def rows(self, group_id: str, names: list[str] | None) -> list[dict[str, Any]]:
        """For DescribeConfigs."""
        found = []
        for name, default in self._defaults.items():
            if names is None or name in names:
                source = _GROUP if name in self._set.get(group_id, {}) else _DEFAULT
                value = self.get(group_id, name)
                found.append({
                    "name": name, "value": value, "read_only": name == ISOLATION, "config_source": source,
                    "is_sensitive": False, "config_type": INT if name in RANGES else STRING, "documentation": None,
                    "synonyms": [{"name": name, "value": value, "source": source}] + (
                        [{"name": name, "value": default, "source": _DEFAULT}] if source == _GROUP else [])})
        return found


def _check(name: str, value: str | None) -> None:
    if name not in RANGES and name not in (RESET, ISOLATION):
        raise ConfigError(f"{name[:100]}: no configuration of a group here")
    if value is None:
        return
    if name == RESET:
        if value not in ("latest", "earliest") and (
                not _DURATION.fullmatch(value) or _duration_ms(value) == 0):
            raise ConfigError(f"{name}: latest, earliest or by_duration:PT1H, got {value[:40]!r}")
    elif name == ISOLATION:
        if value != "read_committed":
            raise ConfigError(f"{name}: every reader sees committed records only here")
    else:
        least, most = RANGES[name]
        if not value.isdigit() or len(value) > 9 or not least <= int(value) <= most:
            raise ConfigError(f"{name}: from {least} to {most}, got {value[:40]!r}")


def _duration_ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found is not None else (0, 0, 0, 0)
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
