"""SIGHUP: take a changed configuration while running. Everything is checked before anything is changed.

Taken: users, policies, certificates, new streams, settings of streams, limits of the routing core. What needs new
sockets, new files or a new name needs a restart; a configuration that asks for it is refused whole, like a wrong one.
"""
from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mesh.administration.effective import Base
from mesh.configuration.config import load_config, stream_settings
from mesh.configuration.effective import warnings_of
from mesh.configuration.outside import resolve_bridges, resolve_links, resolve_outside, resolve_webhooks
from mesh.configuration.settings import Config, ListenerSettings
from mesh.connectors.kafka.bridges import PreparedBridges
from mesh.connectors.webhooks import Prepared as Webhooks
from mesh.identity.apikeys import ApiKey, resolve_api_keys
from mesh.identity.users import User
from mesh.link.proof.prepare import PreparedLinks
from mesh.process.first_admin import first_admin
from mesh.protocols import PROTOCOLS
from routing.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from mesh.node import Node

logger = logging.getLogger(__name__)

RESTART = "cannot change while the node runs; restart it"
TABLES_AT_START = (
    "logins", "oidc", "console", *(spec.name for spec in PROTOCOLS), "link", "mesh", "replicate", "replication")
LIMITS_AT_START = ("pending_commit_bytes", "tail_cache_bytes", "dedupe_window", "dedupe_bytes")


async def reload(node: Node, path: Path | None, data: str | None) -> None:
    """Apply the file, or log why not and go on with what was. data: overrides node.data, as --data did at the start.

    Reading and checking a file with 10,000 users and rules takes a second, so that is a thread's work.
    """
    async with node.administration.lock:
        await _reload(node, path, data)


async def _reload(node: Node, path: Path | None, data: str | None) -> None:
    try:
        new = await asyncio.to_thread(prepare, node.config, path, data)
        base = Base(new.config, new.users + first_admin(new.config, new.users, node.data)[0], new.keys, new.links)
        rights = await node.administration.combined(base)
        node.router.apply_streams(stream_settings(new.config))      # first: the one step that the world can refuse
    except (ConfigError, StorageError) as error:
        node.reloads["refused"] += 1
        node.reload_problem = str(error)
        for line in str(error).splitlines():
            logger.error("configuration refused, the old one stays: %s", line)
        for told in node.on_reload:
            told(node.config, None, str(error))
        return
    config = new.config
    node.router.apply_limits(config.limits)
    node.administration.take_base(base, rights)
    node.authenticator.tokens.prefetch()        # key sets in files are read again, too
    listeners = (item for _, item in config.listeners.all())
    for listener, settings, context in zip(node.listeners, listeners, new.contexts):
        if context is not None:
            await listener.reload(settings.tls, context)
    node.webhooks.apply(new.webhooks)
    node.bridges.apply(new.bridges)
    before, node.config = node.config, config
    for told in node.on_reload:
        told(before, config, "")
    node.reloads["ok"] += 1
    node.reload_problem = None
    logger.info("configuration taken: %d streams, %d users, %d policies",
                len(config.streams), len(config.users), len(config.policies))
    for warning in new.warnings:
        logger.warning("%s", warning)


class Changes(NamedTuple):
    """A configuration with everything that it points to, read and checked."""

    config: Config
    users: list[User]
    keys: dict[str, ApiKey]
    contexts: list[ssl.SSLContext | None]
    links: PreparedLinks
    webhooks: Webhooks
    bridges: PreparedBridges
    warnings: list[str]


def prepare(current: Config, path: Path | None, data: str | None) -> Changes:
    """Everything that can go wrong. Raises ConfigError. Touches nothing of the node."""
    if path is None:
        raise ConfigError("this node runs without a configuration file, there is nothing to reload")
    config = load_config(path)
    if data is not None:
        config = msgspec.structs.replace(config, node=msgspec.structs.replace(config.node, data=data))
    problems = restart_needed(current, config)
    if problems:
        raise ConfigError("\n".join(problems))
    users, contexts = resolve_outside(config)
    return Changes(config, users, resolve_api_keys(config.api_keys), contexts,
                   resolve_links(config), resolve_webhooks(config), resolve_bridges(config), list(warnings_of(config)))


def restart_needed(current: Config, new: Config) -> list[str]:
    """Settings that differ and cannot be taken now, one line each."""
    problems = [
        f"node.{name}: {RESTART}" for name in ("name", "site", "data", "profile")
        if getattr(current.node, name) != getattr(new.node, name)
    ]
    if _sockets(current) != _sockets(new):
        problems.append(f"listeners: addresses, and TLS on or off, {RESTART}")
    if current.authenticates != new.authenticates:
        problems.append(f"users, api_keys and jwt: between none and some, {RESTART}")
    problems.extend(
        f"{table}: {RESTART}" for table in TABLES_AT_START
        if getattr(current, table) != getattr(new, table)
    )
    problems.extend(
        f"limits.{name}: {RESTART}" for name in LIMITS_AT_START
        if getattr(current.limits, name) != getattr(new.limits, name)
    )
    streams = {stream.name: stream for stream in new.streams}
    for stream in current.streams:
        after = streams.get(stream.name)
        if after is None:
            problems.append(f"streams: {stream.name} is gone from the file, but streams are not removed; put it back")
        elif after.partitions != stream.partitions:
            problems.append(f"streams: {stream.name}: partitions {RESTART}")
    return problems


def _sockets(config: Config) -> list[tuple[str, str, bool, bool]]:
    return [(protocol, *_socket(listener)) for protocol, listener in config.listeners.all()]


def _socket(listener: ListenerSettings) -> tuple[str, bool, bool]:
    return listener.bind, listener.tls is not None, listener.tls is not None and listener.tls.client_ca is not None
