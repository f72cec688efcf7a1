"""The node: makes every part and connects them. Holds no behaviour; service.py gives it life.

    DataDirectory ── LocalStore ── Router ──┬── a ProtocolServer for each of PROTOCOLS ── its listeners
                        Authenticator ──────┤
                                            └── admin app ── console listener
"""
from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mesh.administration.administration import Administration
from mesh.administration.book import STREAM as SECURITY_STREAM
from mesh.administration.book import Book
from mesh.administration.effective import Base, Place, Rights
from mesh.administration.spread import Spread
from mesh.administration.usage_log import KEPT_BYTES, KEPT_MS, UsageLog
from mesh.administration.usage_log import STREAM as USAGE_STREAM
from mesh.between import Between
from mesh.configuration.checks import NAME_CHARACTERS, NODE_NAME_MAX
from mesh.configuration.config import stream_settings
from mesh.configuration.outside import resolve_bridges, resolve_webhooks
from mesh.configuration.profile import is_hardened
from mesh.configuration.rules import rules_of
from mesh.configuration.settings import Config
from mesh.connectors.kafka.bridges import Bridges
from mesh.connectors.webhooks import Webhooks
from mesh.identity.apikeys import resolve_api_keys
from mesh.identity.identity import Authenticator
from mesh.identity.known_nodes import KnownNodes, MeshKeys
from mesh.identity.node_key import NodeKey
from mesh.identity.remembered import Remembered
from mesh.identity.tokens import Tokens
from mesh.identity.users import User
from mesh.link.manager import LinkManager
from mesh.link.protocol.peer import Me
from mesh.management.security.policy_door import PolicyDoor
from mesh.management.tables.snapshots import damaged_places, failed_partitions
from mesh.meshing import Meshing
from mesh.process.listeners.listener import Listener
from mesh.protocols import PROTOCOLS
from mesh.replication.settings import ReplicationConfig
from mesh.system.files.clockfile import NOTE_EVERY_S, load_clock, write_note
from mesh.system.files.datadir import DataDirectory
from mesh.system.limits import OpenFiles, log_segments_max, log_spares
from mesh.system.loopwatch import LoopWatch
from mesh.topology.linkstate.nodestate import NodeInfo
from protocols.authentication.scram_passwords import ScramPasswords
from protocols.formats.event_json import rfc3339
from protocols.redrive import Redrives
from protocols.server import Address, Parts, ProtocolServer
from routing.direct.replies import Replies
from routing.log.committing.gather import Gather
from routing.log.fs import RealFileSystem
from routing.log.store import LocalStore
from routing.rights.policy import Policy
from routing.router import Router
from routing.steps import in_steps


class Node:
    """All parts of one node. Made on the running loop; opening the log blocks until it is recovered."""

    def __init__(self, config: Config, users: list[User], data: DataDirectory, version: str) -> None:
        loop = asyncio.get_running_loop()

        self.watch = LoopWatch(loop.call_soon, watching=False)

        def call_on_loop(work: Callable[[], None]) -> None:
            loop.call_soon_threadsafe(self._from_thread, work)

        self.config = config
        self.data = data
        self.version = version
        self.name = config.node.name or host_name()
        self.listeners: list[Listener] = []     # set by service.py, which binds them before the log is opened
        self.state = "starting"             # → "ready" → "stopping"
        self.started_s = time.monotonic()
        self.clock = load_clock(data.root)
        clock_ms = self.clock_ms = self.clock.now_ms
        self.started_ms = clock_ms()
        self.reloads: Counter[str] = Counter({"ok": 0, "refused": 0})
        self.reload_problem: str | None = None
        self._maintaining = False           # of all partitions, a few in each turn
        # Told of the configuration before and after a reload (None: it was refused), and why it was.
        self.on_reload: list[Callable[[Config, Config | None, str], None]] = []
        self.masks = config.masks           # with the managed ones, once there are some
        self.key = NodeKey(data.root)
        self.policy = Policy(rules_of(config))
        self.disk = RealFileSystem(log_spares())
        gather = Gather(config.limits.commit_gather_ms / 1000, time.monotonic, loop.call_later)
        self.store = LocalStore(
            data.root, call_on_loop=call_on_loop, clock_ms=clock_ms,
            fs=self.disk, open_segments_max=log_segments_max(),
            steady_ms=self.clock.steady_ms, settled_for_ms=self.clock.settled_for_ms,
            pending_bytes_max=config.limits.pending_commit_bytes, tail_cache_bytes=config.limits.tail_cache_bytes,
            gather=gather)
        write_note(data.root, self.clock.note())        # before anything else is written that a clock could be told by
        self.router = Router(
            self.store, stream_settings(config), self.policy, limits=config.limits, call_soon=self.watch.call_soon,
            clock_s=time.monotonic, clock_ms=clock_ms, gather=gather, cpu_s=time.thread_time)
        self.watch.turns = self.router.turns
        self.router.retained.node_name = self.name
        remembered = Remembered(data.root, config.logins.remembered_max, config.logins.remember_s)
        remembered.load(time.monotonic(), clock_ms())
        self.authenticator = Authenticator(
            users, self.policy, call_on_loop=call_on_loop, clock_ms=clock_ms, now_s=time.monotonic,
            settings=config.logins, remembered=remembered, anonymous=not is_hardened(config),
            tokens=Tokens(resolve_api_keys(config.api_keys), config.jwt, clock_ms=clock_ms, now_s=time.monotonic))
        self.router.logins.renew = self.authenticator.renewal.renew
        self.router.logins.renew_owner = self.authenticator.renewal.renew_owner
        self.administration = Administration(
            Book(self.router.streams.open_internal(SECURITY_STREAM), self.router.request_turn),
            Place(self.name, config.node.site), clock_ms, self._take_rights)
        self.usage = UsageLog(
            self.router.streams.open_internal(USAGE_STREAM, compact=False, retention_ms=KEPT_MS,
                                              retention_bytes=KEPT_BYTES),
            self.router.usage, clock_ms, self.router.request_turn)
        self.redrives = Redrives(self.router)
        self.policies = PolicyDoor(self.administration, self.policy, clock_ms)
        parts = Parts(self.router, self.authenticator, ScramPasswords(self.router, self.authenticator),
                      Replies(self.router, self.name), self.redrives, self.name, version, self.addresses, self.policies)
        self.protocols: dict[str, ProtocolServer] = parts.servers
        for spec in PROTOCOLS:
            self.protocols[spec.name] = spec.make(parts, config.protocol(spec.name))
        self.webhooks = Webhooks(self.router, self.name, resolve_webhooks(config))
        me = NodeInfo(self.name, config.node.site, self.store.epoch, secrets.token_hex(8), version)
        self.keys = MeshKeys(self.key)
        self.known_nodes = KnownNodes(self.router.state, clock_ms)
        self.mesh = Meshing(
            me, self.router, config.mesh, ReplicationConfig(config.replicate, config.replication),
            clock_s=time.monotonic, clock_ms=clock_ms, rng=random.Random(), call_later=loop.call_later,
            crypto=self.keys, pins=self.known_nodes)
        self.bridges = Bridges(
            self.router, self.name, lambda: ((state.name, state.epoch) for state in self.mesh.overlay.nodes.values()),
            resolve_bridges(config))
        self.links = LinkManager(
            Me(me.name, me.site, me.epoch, me.boot, version), config.link, self.mesh.overlay,
            clock_s=time.monotonic, clock_ms=clock_ms, rng=random.Random(), turns=self.router.turns)
        self.spread = Spread(self.administration, self.mesh.overlay, time.monotonic)
        self.mesh.on_administration = self.spread.on_message
        between = Between(self.mesh.overlay, self.protocols)
        self.mesh.on_between = between.on_message
        between.start()
        self.mesh.replication.watch_disk(data.free_bytes)
        self.mesh.start()
        self.files: OpenFiles | None = None
        self._clock_noted_s = time.monotonic()

    def _take_rights(self, base: Base, rights: Rights) -> None:
        """Users, keys, rules and link peers as they are from now on; every login is looked at by all of them."""
        self.authenticator.tokens.replace(rights.keys, base.config.jwt)
        self.authenticator.replace(rights.users)
        self.masks = rights.masks
        self.router.shares.quotas.replace(rights.quotas)
        self.router.apply_rules(rights.rules)
        self.links.apply(rights.links)

    def _from_thread(self, work: Callable[[], None]) -> None:
        """What a thread has for the loop: events that are durable now, a login that was checked."""
        self.watch.begin()
        started_s = time.monotonic()
        work()
        took_s = time.monotonic() - started_s
        self.router.turns.note(work.__qualname__, took_s)

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    def tick(self, now_s: float) -> None:
        self.router.tick(now_s)
        for server in self.protocols.values():
            server.tick(now_s)
        self.links.tick(now_s)
        self.mesh.tick(now_s)
        self.administration.tick(self.clock_ms())
        self.spread.tick(now_s)
        self.usage.tick()

    def maintain(self) -> None:
        """Once a second: retention, compaction, rolling by age."""
        self.disk.keep_spares()
        if not self._maintaining:
            self._maintaining = True
            in_steps(self.router, self._maintain())

    def _maintain(self) -> Iterator[None]:
        try:
            yield from self.store.maintaining(self.clock.steady_ms())
        finally:
            self._maintaining = False

    def watch_clock(self) -> None:
        """Once a second."""
        self.clock.watch()
        now_s = time.monotonic()
        if now_s >= self._clock_noted_s + NOTE_EVERY_S:
            self._clock_noted_s = now_s
            note = self.clock.note()
            self.store.later(lambda: write_note(self.data.root, note))

    def confirm_clock(self) -> bool:
        """An operator says that the wall clock is right after all. False: there is nothing to confirm."""
        done = self.clock.confirm()
        self._clock_noted_s -= NOTE_EVERY_S         # the next second writes it down
        return done

    def clock_status(self) -> dict[str, Any]:
        """Does the node trust the wall clock, and how far is that off?"""
        jump = self.clock.jump
        return {
            "trusted": jump is None, "now": rfc3339(self.clock.now_ms()),
            "wall_ahead_s": round(self.clock.ahead_ms() / 1000, 3), "jumps_taken": self.clock.jumps,
            "taken_in_s": None if jump is None else self.clock.taken_in_s(),
        }

    def uptime_s(self) -> float:
        return time.monotonic() - self.started_s

    def problems(self) -> list[str]:
        """Why the node is not healthy; empty when it is."""
        return failed_partitions(self.store)

    def protocol_counters(self) -> dict[str, dict[str, int]]:
        """Protocol → its own numbers."""
        found: dict[str, dict[str, int]] = {"link": dict(self.links.counters)}
        for server in self.protocols.values():
            found.update((group, dict(numbers)) for group, numbers in server.counters().items())
        return found

    @property
    def connections(self) -> int:
        """Of clients, open now."""
        return sum(server.connections for server in self.protocols.values())

    def clients(self) -> Iterator[dict[str, Any]]:
        """Of all protocols, sessions that are away included: there may be 100,000, so draw from it in steps."""
        for name, server in list(self.protocols.items()):
            for client in server.clients():
                yield {**client, "protocol": name}

    def protocol_rows(self, table: str) -> Iterator[dict[str, Any]]:
        """What the protocols have of their own: rows of a table of the management API."""
        for name, server in self.protocols.items():
            for row in server.table(table):
                yield {**row, "protocol": name}

    def kick(self, client_id: str) -> bool:
        """Close a client's connection; False when there is none."""
        return any(server.kick(client_id) for server in self.protocols.values())

    def delete_consumer(self, name: str) -> bool:
        """Delete a consumer, and the session that it belongs to, if that is away; False when there is none."""
        deleted = self.router.delete_consumer(name)
        for server in self.protocols.values():
            server.consumer_deleted(name)
        return deleted

    def addresses(self, protocol: str) -> list[Address]:
        """Where the listeners of a protocol are bound."""
        return [Address(*address, listener.secure) for listener in self.listeners
                if listener.protocol == protocol for address in listener.addresses]

    def listening(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for listener in self.listeners:
            found.setdefault(listener.protocol, []).extend(listener.texts)
        return found

    def http_places(self) -> list[dict[str, Any]]:
        """Where the HTTP listener is on this machine's addresses: for who has logged in at the console's."""
        return [{"port": port, "tls": listener.secure} for listener in self.listeners if listener.protocol == "http"
                for port in dict.fromkeys(port for _, port in listener.addresses)]

    def status(self) -> dict[str, Any]:
        """For the management API and `meshgate status`."""
        problems = self.problems()
        return {
            "name": self.name, "site": self.config.node.site,
            "environment": self.config.node.environment, "base_path": self.config.console.base_path,
            "version": self.version, "state": self.state,
            "healthy": not problems, "problems": problems,
            "damage": damaged_places(self.store), "uptime_s": round(self.uptime_s(), 1),
            "started_ms": self.started_ms, "data": str(Path(self.config.node.data)), "epoch": self.store.epoch,
            "clock": self.clock_status(), "anonymous": self.authenticator.open,
            "event_loop": type(asyncio.get_running_loop()).__module__,
            "listeners": [
                {"protocol": listener.protocol, "addresses": listener.texts, "tls": listener.secure}
                for listener in self.listeners
            ],
            "streams": len(self.router.streams.by_name), "consumers": len(self.router.consumers),
            "connections": self.connections,
            "sessions": sum(server.sessions for server in self.protocols.values()),
            "events_published": self.router.published,
            "mesh_nodes": len(self.mesh.overlay.nodes) + 1,
            "links_up": sum(1 for link in self.links.links.values() if link.up), "links": len(self.links.links),
            "mesh_problems": self.mesh.overlay.problems(),
            "retained_events": self.router.retained.tree.count, "pending_commit_bytes": self.store.pending_bytes,
            "reloads": dict(self.reloads), "reload_problem": self.reload_problem,
        }


def host_name() -> str:
    """This machine's name as a node name: what does not fit becomes a dash."""
    name = "".join(char if char in NAME_CHARACTERS else "-" for char in socket.gethostname())
    return name[:NODE_NAME_MAX] or "node"
