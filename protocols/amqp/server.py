"""Amqp10Server: the AMQP 1.0 connections of one node, whatever listener they came by. Host of engine/connection.py.

The node calls connection() for each new byte stream and tick() every 50 to 100 ms. Loop thread only.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from protocols.amqp.azure.emulator import Emulator
from protocols.amqp.codec.conditions import CONNECTION_FORCED, INVALID_FIELD, UNAUTHORIZED, ConnectionFault
from protocols.amqp.codec.performatives import Attach, Open
from protocols.amqp.codec.types import Symbol
from protocols.amqp.counters import Counters
from protocols.amqp.engine.connection import Connection
from protocols.amqp.nodes import dynamic
from protocols.amqp.nodes.attaching import Attaching
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.reading import QueueReader
from protocols.amqp.resuming.suspended import Termini
from protocols.amqp.sasl import PROTOCOL, Login
from protocols.amqp.settings import Amqp10Settings
from protocols.authentication.authenticator import Authenticator
from protocols.authentication.scram_passwords import ScramPasswords
from protocols.declaring import Declaring
from protocols.transport.loglimit import LogLimit
from protocols.transport.wire import ByteChannel
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.fairness.turns import Turns
from routing.rights.policy import INTERNAL, Identity
from routing.router import Router

ROUND_S = 0.5               # every connection is looked at once in so long, or a little more
LOOKS = 10                  # every connection is looked at once in so many ticks
CAPABILITIES = ("ANONYMOUS-RELAY", "DELAYED_DELIVERY", "SHARED-SUBS")
SOLE_CONNECTION = "sole-connection-for-container"
FAILED = Symbol("amqp:connection-establishment-failed")


class Amqp10Server:
    """See the module's head. Made once per tenant."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: Amqp10Settings, *, version: str = "",
                 node: str = "", declaring: Declaring | None = None, scram: ScramPasswords | None = None) -> None:
        """declaring: who keeps exchanges and bindings, for /management and addresses of exchanges."""
        self._scram = scram
        self.router = router
        self.bounds = settings
        self.authenticator = authenticator
        self.counters = Counters()
        self.connections: dict[Connection, None] = {}
        self.stopping = False
        self._version = version
        self._node = node or "meshgate"
        self._termini = Termini(
            Share("suspended AMQP 1.0 links", lambda: self.router.limits.user_share),
            Share("bytes of suspended AMQP 1.0 links", lambda: self.router.limits.user_share), router.clock_s,
            links_max=lambda: self.bounds.suspended_links_max, bytes_max=lambda: self.bounds.suspended_bytes_max,
            suspended_s=lambda: self.bounds.suspended_s)
        self._attaching = Attaching(router, settings, declaring, self._new_token, self._termini)
        self._azure = Emulator(
            router, settings, authenticator, self._attaching.finding, self._new_token) if settings.azure else None
        self._log_limit = LogLimit(settings.log_lines_per_s)
        self._share = Share("AMQP 1.0 connections", lambda: router.limits.user_share,
                            router.shares.quotas.cap("connections"))
        self._sole: dict[tuple[str, str], Connection] = {}      # user, container id → who has it for itself
        self._next_round_s = 0.0
        self._to_look_at: list[Connection] = []

    # -- bounds -----------------------------------------------------------------------------------------------

    @property
    def turns(self) -> Turns:
        return self.router.turns

    @property
    def session_window(self) -> int:
        return self.bounds.session_window

    @property
    def handles_max(self) -> int:
        return self.bounds.handles_max

    @property
    def link_credit(self) -> int:
        return self.bounds.link_credit

    @property
    def full_frames(self) -> bool:
        return self.bounds.azure                        # Azure's SDK for Python reads fields by their number

    @property
    def partial_bytes_max(self) -> int:
        return self.bounds.partial_bytes_max

    @property
    def waiting_bytes_max(self) -> int:
        return self.bounds.waiting_bytes_max

    @property
    def message_bytes_max(self) -> int:
        return self.router.limits.payload_bytes_max + self.bounds.sections_bytes_max

    # -- connections ------------------------------------------------------------------------------------------

    def connection(self, channel: ByteChannel, now_s: float) -> Connection:
        """The handler of a new byte stream."""
        connection = Connection(self, channel, now_s, self.router.clock_s)
        self.connections[connection] = None
        self.counters.values["connections_opened"] += 1
        return connection

    def login(self, connection: Connection) -> Login:
        channel = connection.channel
        return Login(self.authenticator, channel.address, channel.tls_identity,
                     plain=channel.secure or not self.bounds.passwords_need_tls or self.authenticator.open,
                     claims=self._azure is not None, scram=self._scram, wanted=self.bounds.mechanisms,
                     secure=channel.secure)

    def logged_in(self, connection: Connection, identity: Identity) -> Refusal | None:
        """A login that has succeeded: is there room for one more connection of this user?"""
        refusal = self._share.take(identity.user, self.bounds.connections_max)
        if refusal is None:
            connection.take_identity(identity)
            connection.parts = Parts(self.router, connection, self.bounds, self.count)
            if not identity.revoked:
                self.router.logins.add(connection)
        return refusal

    def opened(self, connection: Connection, open: Open) -> None:
        bounds = self.bounds
        properties: dict[Any, Any] = {
            Symbol("product"): "Meshgate", Symbol("version"): self._version or "0", Symbol("platform"): "Python",
        }
        if bounds.identify_as:
            product, _, version = bounds.identify_as.rpartition(" ")
            properties[Symbol("product")], properties[Symbol("version")] = product, version
        offered = list(CAPABILITIES)
        sole = SOLE_CONNECTION in open.desired_capabilities
        if sole:
            offered.append(SOLE_CONNECTION)
        answer = Open(
            self._node, None, bounds.frame_bytes_max, bounds.sessions_max - 1,
            int(bounds.idle_timeout_s * 500) or None, offered_capabilities=tuple(offered), properties=properties)
        place = connection.identity.user, open.container_id        # a container of somebody else's is another one
        if not open.container_id or place in self._sole or (sole and any(
                other.is_open and (other.identity.user, other.container_id) == place for other in self.connections)):
            properties[FAILED] = True
            connection.refuse_open(answer, ConnectionFault(
                INVALID_FIELD, "the container id is in use", {Symbol("invalid-field"): Symbol("container-id")}))
            return
        if sole:
            self._sole[place] = connection
        identity = msgspec.structs.replace(connection.identity, client_id=open.container_id)
        connection.take_identity(identity)
        connection.parts.work.take_identity(identity)
        connection.accept_open(answer, self.router.clock_ms())

    def _new_token(self, connection: Connection, token: bytes, done: Callable[[bool], None]) -> None:
        """The client shows another token, of the same user; or the first one, by $cbs."""
        def answered(answer: Identity | Refusal) -> None:
            if connection.parts is None:
                return
            fine = isinstance(answer, Identity) and self._may_become(connection, answer)
            if fine:
                assert isinstance(answer, Identity)
                identity = msgspec.structs.replace(answer, client_id=connection.container_id)
                connection.take_identity(identity)
                connection.parts.work.take_identity(identity)
                self.identity_changed(connection)
            done(fine)

        self.authenticator.authenticate(None, token, PROTOCOL, connection.container_id, connection.address, answered)

    def _may_become(self, connection: Connection, identity: Identity) -> bool:
        before = connection.identity
        if not before.revoked:
            return identity.user == before.user
        if self._share.take(identity.user, self.bounds.connections_max) is not None:
            return False
        self._share.give(before.user)
        self.router.logins.add(connection)
        return True

    def attach_source(self, link: Any, attach: Attach) -> None:
        self._attaching.admit(link)
        if self._azure is None or not self._azure.source(link, attach):
            self._attaching.source(link, attach)

    def attach_target(self, link: Any, attach: Attach) -> None:
        self._attaching.admit(link)
        if self._azure is None or not self._azure.target(link, attach):
            self._attaching.target(link, attach)

    def identity_changed(self, connection: Connection) -> None:
        """Who reads does so with the roles that he has now. Publishers are renewed by the router."""
        for session in connection.sessions.values():
            for link in session.links.values():
                if isinstance(link.node, QueueReader) and link.node.identity is not INTERNAL:
                    link.node.identity = connection.identity

    def before_settlement(self, connection: Connection) -> None:
        connection.parts.work.flush()

    def read_over(self, connection: Connection) -> None:
        connection.parts.work.flush()
        connection.flush_answers()

    def session_ended(self, session: Any) -> None:
        self._termini.session_ended(session)

    def left(self, connection: Connection) -> None:
        """It is over: called once its links have let go, maybe more than once."""
        self._termini.connection_closed(connection)
        parts: Parts | None = connection.parts
        if parts is None:
            return
        connection.parts = None
        parts.work.close()
        parts.transactions.close()
        if parts.management is not None:
            parts.management.close()
        for desk in parts.desks.values():
            desk.close()
        for queue in parts.ending.values():
            if not queue.is_deleted and not queue.consumer.members.all:
                self.router.queues.delete(queue.name, reason="the subscription went with its connection")
        dynamic.drop_all(self.router, parts)
        self.router.logins.discard(connection)
        self._share.give(connection.identity.user)
        place = connection.identity.user, connection.container_id
        if self._sole.get(place) is connection:
            del self._sole[place]

    def gone(self, connection: Connection) -> None:
        self.connections.pop(connection, None)

    def count(self, name: str, number: int = 1) -> None:
        self.counters.values[name] += number

    def may_log(self) -> bool:
        return self._log_limit.allows(self.router.clock_s())

    # -- the node ---------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Time-outs and signs of life: a part of the connections each time. now_s: monotonic seconds."""
        self._termini.tick(now_s)
        if not self._to_look_at and now_s >= self._next_round_s:
            self._next_round_s = now_s + ROUND_S
            self._to_look_at = list(self.connections)
        part = -(-len(self.connections) // LOOKS)
        for _ in range(min(part, len(self._to_look_at))):
            connection = self._to_look_at.pop()
            if connection.is_open and self._has_expired(connection.identity):
                connection.fail(ConnectionFault(CONNECTION_FORCED, "the token has expired"))
            elif connection.is_open and connection.identity.revoked and (
                    self.router.clock_ms() - connection.connected_ms > self.bounds.connect_timeout_s * 1000):
                connection.fail(ConnectionFault(UNAUTHORIZED, "no token was shown at $cbs"))
            connection.look(now_s)

    def _has_expired(self, identity: Identity) -> bool:
        return identity.expires_ms is not None and identity.expires_ms <= self.router.clock_ms()

    def shutdown(self) -> None:
        """Say goodbye to everybody and take nobody in any more."""
        self.stopping = True
        for connection in list(self.connections):
            connection.fail(ConnectionFault(CONNECTION_FORCED, "the node shuts down"))
        self._termini.close()

    def kick(self, client_id: str) -> bool:
        """Close the connections of a client; False when there is none."""
        found = [one for one in self.connections if one.is_open and one.container_id == client_id]
        for connection in found:
            connection.fail(ConnectionFault(CONNECTION_FORCED, "closed by an operator"))
        return bool(found)

    def clients_snapshot(self) -> list[dict[str, Any]]:
        """For the management API."""
        return [{
            "client_id": one.container_id, "user": one.identity.user, "connected": True, "address": one.address,
            "protocol_version": "1.0", "connected_since_ms": one.connected_ms, "sessions": len(one.sessions),
            "subscriptions": sum(len(session.links) for session in one.sessions.values()),
            "in_flight": sum(len(session.unsettled) for session in one.sessions.values()),
            "write_buffer_bytes": one.channel.buffered_bytes(),
            "product": str((one.open.properties or {}).get("product", ""))[:100],
        } for one in self.connections if one.is_open]
