"""MqttServer: the sessions and connections of one node, whatever listener they came by. Glue to the Router.

The node calls connection() for each new byte stream and tick() every 50 to 100 ms. Loop thread only.
"""
from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec

from protocols.errors import ProtocolViolation
from protocols.mqtt import convert
from protocols.mqtt.codec import reasons
from protocols.mqtt.codec.packets import Connect
from protocols.mqtt.connection import MqttConnection
from protocols.mqtt.counters import Counters, LogLimit
from protocols.mqtt.outbound import Outbound
from protocols.mqtt.sessions import shared, subscribe
from protocols.mqtt.sessions.retained import (
    RETAINED_PREFIX,
    RetainedAnswers,
    RetainedTurns,
    StoredAnswer,
    answer_merged,
)
from protocols.mqtt.sessions.session import (
    CONSUMER_PREFIX,
    QOS2_PREFIX,
    SESSION_PREFIX,
    SUBSCRIPTION_PREFIX,
    Session,
    StoredQos2,
    StoredSession,
    StoredSubscription,
    stored_subscription,
    subscription_key,
)
from protocols.mqtt.sessions.subscriptions import MqttSubscription, Plan, Share
from protocols.mqtt.sessions.unsent import LargeFrames, Unsent
from protocols.mqtt.settings import MqttSettings
from protocols.mqtt.sys import SysTopics
from protocols.mqtt.timers import Deadlines
from protocols.server import Authenticator
from protocols.wire import ByteChannel
from routing.cursors.cursor import Delivery
from routing.errors import TopicError
from routing.event import Event
from routing.fairness.steps import in_steps
from routing.retained.retained import RETAINED_NAMES
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket
from routing.topic import KEPT_CHARS_MAX, check_topic

log = logging.getLogger(__name__)

ORPHANS_MAX = 10_000        # sessions that ended, whose QoS 2 ids in the log must not come back to life


def random_client_id() -> str:
    return "auto-" + secrets.token_hex(12)


LOGIN_CHECK_S = 60.0        # a client that came back with a shorter token may stay so much longer


class Begun(NamedTuple):
    """How a connection got its session."""

    present: bool                               # it goes on with one from before
    ticket: Ticket | None                       # to wait for before CONNACK; None: what it promises is durable
    unchanged: bool                             # the terms are the durable ones, but for the time that it was away


class MqttServer:
    """See the module's head. Made once per tenant; it brings the stored sessions back."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: MqttSettings, *, version: str = "",
                 new_client_id: Callable[[], str] = random_client_id) -> None:
        """version: of the product, for $SYS."""
        self.router = router
        self.settings = settings
        self.counters = Counters()
        self.log_limit = LogLimit(settings.log_lines_per_s)
        self.deadlines = Deadlines()
        self.sessions: dict[str, Session] = {}
        self.connections: set[MqttConnection] = set()
        self.retained_turns = RetainedTurns(router.call_soon)
        self.unsent = Unsent(settings.unsent_bytes_max, settings.write_buffer_drop_bytes)
        self.large_frames = LargeFrames(router.call_soon)
        self.stalled: set[Outbound] = set()         # have retained events that wait for the socket, or for other nodes
        self.topics: dict[bytes, str] = {}          # checked topics by their bytes; see plain_topic()
        self.new_client_id = new_client_id
        self._authenticator = authenticator
        self._groups: Counter[Share] = Counter()            # sessions that subscribe to it
        self._dirty: set[Session] = set()           # QoS 2 state to be stored by and by
        self._next_save_s = 0.0
        self._stopping = False
        self._orphans: dict[str, dict[tuple[str, int], int]] = {}
        self._sys = SysTopics(version, router.clock_s())
        self.clients_maximum = 0                    # connected at the same time
        self.sessions_expired = 0
        self._watched: set[str] = set()             # client ids whose login ends some time (tokens)
        self._restore()
        router.retained.on_merged.append(
            lambda topics, since: in_steps(router, answer_merged(self, topics, since)))

    # -- connections ------------------------------------------------------------------------------------------

    def connection(self, channel: ByteChannel, now_s: float) -> MqttConnection:
        """The handler of a new byte stream."""
        connection = MqttConnection(self, channel, now_s)
        self.connections.add(connection)
        self.counters.connections_opened += 1
        self.clients_maximum = max(self.clients_maximum, len(self.connections))
        self.deadlines.add(now_s + self.settings.connect_timeout_s, connection.due)
        return connection

    def tick(self, now_s: float) -> None:
        """Timers and deferred work. now_s: monotonic seconds."""
        self.deadlines.run(now_s)
        self.unsent.look_again()
        if self.stalled:
            stalled, self.stalled = self.stalled, set()
            for outbound in stalled:
                self.retained_turns.add(outbound)
        if self._dirty and now_s >= self._next_save_s:
            self._next_save_s = now_s + self.settings.qos2_save_interval_s
            for session in list(self._dirty):
                self.save_qos2(session)
        events = self._sys.due(self, now_s)
        if events:
            self.router.publish(events, self.router.internal)

    def shutdown(self) -> None:
        """Say goodbye to everybody and take nobody in any more."""
        self._stopping = True
        for connection in list(self.connections):
            connection.fail(reasons.SERVER_SHUTTING_DOWN, "the node shuts down")
        for session in list(self._dirty):
            self.save_qos2(session)

    def kick(self, client_id: str) -> bool:
        """Disconnect a client; its session stays. False when it is not connected."""
        session = self.sessions.get(client_id)
        if session is None or session.connection is None:
            return False
        session.connection.fail(reasons.ADMINISTRATIVE_ACTION, "disconnected by an operator")
        return True

    def _watch_login(self, client_id: str, identity: Identity) -> None:
        """Disconnect the client when its token ends; one deadline per client id, however often it comes back."""
        if identity.expires_ms is not None and client_id not in self._watched:
            self._watched.add(client_id)
            self.deadlines.add(self.router.clock_s(), lambda now_s: self._check_login(client_id, now_s))

    def _check_login(self, client_id: str, now_s: float) -> float | None:
        session = self.sessions.get(client_id)
        if session is not None and session.connection is not None and session.identity.expires_ms is not None:
            left_ms = session.identity.expires_ms - self.router.clock_ms()
            if left_ms > 0:
                return now_s + min(left_ms / 1000, LOGIN_CHECK_S)
            session.connection.fail(reasons.NOT_AUTHORIZED, "the token has expired")
        self._watched.discard(client_id)
        return None

    def consumer_deleted(self, name: str) -> None:
        """An operator deleted a consumer. A session that is away ends with its own, as what waited for it is gone.

        A client that is connected has been told, and comes back to a fresh one.
        """
        session = self.sessions.get(name.removeprefix(CONSUMER_PREFIX)) if name.startswith(CONSUMER_PREFIX) else None
        if session is not None and session.connection is None and session.consumer is not None \
                and session.consumer.name == name and session.consumer.closed:
            log.info("= session %r ends: its consumer was deleted", session.client_id)
            self.end_session(session)

    def authenticate(self, connection: MqttConnection, connect: Connect, client_id: str) -> Callable[[], None] | None:
        return self._authenticator.authenticate(
            connect.username, connect.password, "mqtt", client_id, connection.address,
            partial(connection.decided, client_id), certificate_name=connection.channel.tls_identity)

    def plain_topic(self, raw: bytes) -> str | None:
        """A topic that a client may publish to, policy aside, remembered; None when it is not one."""
        try:
            topic = raw.decode()
            check_topic(topic)
        except (UnicodeDecodeError, TopicError):
            return None
        if convert.is_internal(topic):
            return None
        if len(raw) <= KEPT_CHARS_MAX:
            if len(self.topics) >= self.settings.topic_cache_max:
                self.topics.clear()
            self.topics[raw] = topic
        return topic

    # -- sessions: begin and end ------------------------------------------------------------------------------

    def begin(self, connection: MqttConnection, connect: Connect, client_id: str, identity: Identity) -> Begun:
        """Give an authenticated connection its session. Raises ProtocolViolation with the code for CONNACK."""
        if self._stopping:
            raise ProtocolViolation(reasons.SERVER_SHUTTING_DOWN, "the node shuts down")
        if connect.will is not None:
            will = convert.will_to_event(connect.will, client_id, self.router.clock_ms())
            refusal = self.router.refuse_later(will, identity)
            if refusal is not None:
                raise ProtocolViolation(reasons.CODE_OF_REASON[refusal.reason], f"will: {refusal.text}")
        session = self.sessions.get(client_id)                                          # [MQTT-3.1.3-2]
        if session is not None and session.ends_at_s is not None and session.ends_at_s <= self.router.clock_s():
            self._expire(session)                       # its time was up before its timer has run, as after a restart
            session = None
        if session is not None and session.identity.user != identity.user:
            raise ProtocolViolation(reasons.NOT_AUTHORIZED, "the client id belongs to another user")
        before = session.kept if session is not None else None
        was_away = session is not None and session.connection is None
        if session is not None and session.connection is not None:
            session.connection.taken_over()                                             # [MQTT-3.1.4-3]
            session = self.sessions.get(client_id)
        ticket: Ticket | None = None
        if session is not None and connect.clean_start:                 # [MQTT-3.1.2-4] [MQTT-3.1.4-4]
            ticket = self.end_session(session)
            session, before = None, None
        present = session is not None                   # [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-5]
        terms = connection.terms
        assert terms is not None
        if session is None:                                                             # [MQTT-3.1.2-6]
            refusal = self.router.shares.sessions.take(identity.user, self.settings.sessions_max)
            if refusal is not None:
                raise ProtocolViolation(reasons.QUOTA_EXCEEDED, refusal.text)
            session = self.sessions[client_id] = Session(client_id, identity, self.router.clock_ms())
            session.seen = self._orphans.pop(client_id, {})
            session.persistent = terms.expiry_s > 0
        session.identity = identity
        self._watch_login(client_id, identity)
        session.expiry_s = terms.expiry_s
        session.ends_at_s = None
        session.will_due_s = None                                                       # [MQTT-3.1.3-9]
        session.will = connect.will                                                     # [MQTT-3.1.2-7]
        session.will_delay_s = terms.will_delay_s
        session.connection = connection
        connection.session = session
        self.router.logins.add(connection)
        unchanged = False
        if session.persistent:
            ticket = self.save_session(session)
            if session.seen and not present:            # ids of the session before this one must not come back
                self.save_qos2(session)
            unchanged = before is not None and before == session.stored(0)
            if unchanged and not was_away:
                ticket = None
        return Begun(present, ticket, unchanged)

    def leave(self, connection: MqttConnection, with_will: bool) -> None:
        """A connection is over. Its session stays for its expiry, or ends now.

        Sources: [MQTT-3.1.2-8] [MQTT-3.1.2-23] [MQTT-4.1.0-2]
        """
        self.connections.discard(connection)
        self.deadlines.forget(connection.due)
        if connection.outbound is not None:
            self.stalled.discard(connection.outbound)
            self.unsent.forget(connection.outbound)
        session = connection.session
        if session is None or session.connection is not connection:
            return
        self.router.logins.discard(connection)
        subscribe.leave_all(connection)
        session.connection = None
        if not with_will:
            session.will = None                                                         # [MQTT-3.1.2-10]
        if session.expiry_s == 0:
            self.end_session(session)
            return
        now_s = self.router.clock_s()
        if session.will is not None and session.will_delay_s == 0:
            self._publish_will(session)
        elif session.will is not None:
            session.will_due_s = now_s + session.will_delay_s
        session.ends_at_s = now_s + session.expiry_s
        self._set_timer(session)
        self.save_session(session)
        self.save_qos2_soon(session)

    def end_session(self, session: Session) -> Ticket | None:
        """Forget a session and everything of it. A will that still waits goes out now.

        Returns the ticket of its removal, None when nothing of it was stored. Never while its client is connected: a
        new connection ends the old one first [MQTT-4.1.0-1].
        """
        if session.will is not None and session.connection is None:
            self._publish_will(session)
        if self.sessions.pop(session.client_id, None) is not None:
            self.router.shares.sessions.give(session.identity.user)
        self._dirty.discard(session)
        for subscription in session.subscriptions.by_pattern.values():
            if subscription.share is not None:
                self.share_left(subscription.share)
        if session.consumer is not None:
            consumer, session.consumer = session.consumer, None
            self.router.delete_consumer(consumer.name)
        ticket: Ticket | None = None
        if session.persistent:
            if session.retained is not None:
                session.retained.clear(self.router.state)
            for pattern in session.subscriptions.by_pattern:
                self.forget_subscription(session, pattern)
            self.router.state.delete(SESSION_PREFIX + session.client_id)
            ticket = self.router.state.delete(QOS2_PREFIX + session.client_id)
            if session.seen:
                self._orphan(session.client_id, session.seen)
        session.ends_at_s = session.will_due_s = None
        return ticket

    def qos2_durable(self, session: Session, event: Event) -> None:
        """An inbound QoS 2 event is on the disk; its session may have ended or been replaced meanwhile."""
        now = self.sessions.get(session.client_id)
        if now is not None:
            now.noticed(event)
            self.save_qos2_soon(now)
        elif session.persistent:
            session.noticed(event)
            self._orphan(session.client_id, session.seen)

    def confirm(self, session: Session, packet_id: int, topic: str, payload: bytes) -> bool:
        """Whether an id that was found open in the log stands for this very PUBLISH. Asked once per id.

        An event that is not in the log any more (retention, compaction) is taken on trust.
        """
        events = [self._event_at(*place) for place in session.recovered.pop(packet_id)]
        if any(event is None or (event.topic == topic and event.payload == payload) for event in events):
            return True
        log.warning("QoS 2 packet id %d of %r was released and comes with another event: stored as new",
                    packet_id, session.client_id)
        return False

    def _orphan(self, client_id: str, seen: dict[tuple[str, int], int]) -> None:
        while len(self._orphans) >= ORPHANS_MAX:
            self._orphans.pop(next(iter(self._orphans)))
        self._orphans[client_id] = seen

    def _publish_will(self, session: Session) -> None:
        """[MQTT-3.1.2-14] [MQTT-3.1.2-15] It is an event like any other, retained if the client said so.

        Its user may have gone while it waited: then it is refused as any other publish of his.
        """
        session.identity = self.router.logins.renew_owner(session.identity)
        will, session.will = session.will, None
        session.will_due_s = None
        assert will is not None
        event = convert.will_to_event(will, session.client_id, self.router.clock_ms())
        ticket = self.router.publish([event], self.router.publisher(session.identity))
        self.counters.wills_published += 1

        def done(ticket: Ticket) -> None:
            if ticket.refusals:
                log.warning("will of %r refused: %s", session.client_id, ticket.refusals[0].text)
                self.dropped(session.identity, "will refused")

        ticket.on_done(done)

    def _set_timer(self, session: Session) -> None:
        """Have _session_due() called; an entry that is there already, and earlier, will see to the rest."""
        due_s = _next_due(session)
        if due_s is not None and due_s < session.timer_s:
            session.timer_s = due_s
            self.deadlines.add(due_s, partial(self._session_due, session))

    def _session_due(self, session: Session, now_s: float) -> float | None:
        if now_s < session.timer_s:                     # a newer entry of this session is in the heap
            return None
        session.timer_s = NO_TIMER
        if self.sessions.get(session.client_id) is not session:
            return None
        if session.will_due_s is not None and session.will_due_s <= now_s:
            self._publish_will(session)
            self.save_session(session)
        if session.ends_at_s is not None and session.ends_at_s <= now_s:
            self._expire(session)
            return None
        due_s = _next_due(session)
        session.timer_s = due_s if due_s is not None else NO_TIMER
        return due_s

    def _expire(self, session: Session) -> None:
        log.info("= session %r has expired", session.client_id)
        self.sessions_expired += 1
        self.end_session(session)

    # -- share groups -----------------------------------------------------------------------------------------

    def share_joined(self, share: Share) -> None:
        self._groups[share] += 1

    @property
    def shared_subscriptions(self) -> int:
        return self._groups.total()

    def share_left(self, share: Share) -> None:
        """One session less; the group ends with its last."""
        self._groups[share] -= 1
        if self._groups[share] <= 0:
            del self._groups[share]
            if not share.is_queue:
                self.router.delete_consumer(shared.group_name(share))

    # -- stored state -----------------------------------------------------------------------------------------

    def save_subscription(self, session: Session, subscription: MqttSubscription) -> Ticket:
        return self.router.state.put(
            subscription_key(session.client_id, subscription.pattern), stored_subscription(subscription))

    def forget_subscription(self, session: Session, pattern: str) -> Ticket:
        return self.router.state.delete(subscription_key(session.client_id, pattern))

    def save_session(self, session: Session) -> Ticket:
        """Store what changes rarely. Puts of one turn are one commit."""
        value = terms = session.stored(0)
        if session.connection is None:
            value = session.stored(self.router.steady_ms())
        ticket = self.router.state.put(SESSION_PREFIX + session.client_id, value)
        if session.kept != terms:
            session.kept = None

            def done(ticket: Ticket) -> None:
                if not ticket.refusals and session.stored(0) == terms:
                    session.kept = terms

            ticket.on_done(done)
        return ticket

    def save_qos2(self, session: Session) -> Ticket:
        """Store the QoS 2 state now."""
        self._dirty.discard(session)
        outbound = session.connection.outbound if session.connection is not None else None
        in_flight = outbound.outbound_ids() if outbound is not None else ()
        if session.retained is not None:
            session.retained.save(self.router.state)
        return self.router.state.put(QOS2_PREFIX + session.client_id, session.stored_qos2(in_flight))

    def save_qos2_soon(self, session: Session) -> None:
        """Store it within qos2_save_interval_s: nothing depends on it but how far a restart must look back."""
        if session.persistent and (session.seen or session.open_ids or session.released or session.unacked
                                   or session.owned or session.retained is not None or session.qos2_stored):
            self._dirty.add(session)

    def _restore(self) -> None:
        """Bring back the sessions of before the restart. Nobody is connected, so their expiry runs."""
        in_log = dict(self.router.recovered_qos2())
        now_s, now_ms, steady_ms = self.router.clock_s(), self.router.clock_ms(), self.router.steady_ms()
        all_read = True
        subscriptions = self._stored_subscriptions()
        for key, value in self.router.state.items(SESSION_PREFIX):
            client_id = key[len(SESSION_PREFIX):]
            try:
                stored = msgspec.msgpack.decode(value, type=StoredSession)
                raw = self.router.state.get(QOS2_PREFIX + client_id)
                qos2 = msgspec.msgpack.decode(raw, type=StoredQos2) if raw is not None else StoredQos2({}, [], [])
            except msgspec.MsgspecError as error:
                log.error("stored session %r cannot be read and is left alone: %s", client_id, error)
                all_read = False
                continue
            identity = Identity(stored.user, stored.roles, protocol="mqtt", client_id=client_id, proof=stored.proof)
            session = self.sessions[client_id] = Session(client_id, identity, now_ms)
            self.router.shares.sessions.add(identity.user)
            session.restore(stored)
            for old in session.subscriptions.by_pattern.values():
                self.save_subscription(session, old)
            for found in subscriptions.pop(client_id, ()):
                session.restore_subscription(found)
            session.restore_open_ids(qos2, in_log.pop(client_id, {}))
            self._restore_outbound(session, qos2)
            session.consumer = self.router.consumers.get(session.consumer_name)
            if session.consumer is not None:
                session.consumer.keep_untracked()
            kept = session.consumer.filters if session.consumer is not None else {}
            for subscription in session.subscriptions.by_pattern.values():
                subscription.had_more = subscription.pattern in kept
                if subscription.share is not None:
                    self.share_joined(subscription.share)
            session.kept = session.stored(0)
            away_s = max(steady_ms - stored.disconnected_ms, 0) / 1000 if stored.disconnected_ms else 0.0
            if session.will is not None:
                session.will_due_s = now_s + max(session.will_delay_s - away_s, 0.0)
            session.ends_at_s = now_s + max(session.expiry_s - away_s, 0.0)
            self._set_timer(session)
            if not stored.disconnected_ms:              # it was connected: from now on it is away, over restarts too
                self.save_session(session)
        for client_id, left in subscriptions.items():       # of sessions that ended in the moment of the crash
            if self.router.state.get(SESSION_PREFIX + client_id) is None:
                for found in left:
                    self.router.state.delete(subscription_key(client_id, found.request.pattern))
        self._restore_retained()
        for client_id, packet_ids in in_log.items():    # ids of sessions that have ended stay dead
            seen: dict[tuple[str, int], int] = {}
            for stream, partition, offset in chain.from_iterable(packet_ids.values()):
                seen[stream, partition] = max(seen.get((stream, partition), -1), offset)
            self._orphan(client_id, seen)
        if all_read:                                    # else it may be a group of the one that was not read
            self._delete_empty_groups()

    def _stored_subscriptions(self) -> dict[str, list[StoredSubscription]]:
        found: dict[str, list[StoredSubscription]] = {}
        for key, stored in self.router.state.decoded(SUBSCRIPTION_PREFIX, StoredSubscription, "subscription"):
            found.setdefault(key.partition("\0")[0], []).append(stored)
        return found

    def _restore_retained(self) -> None:
        """Retained events that were still to be sent."""
        for key, stored in self.router.state.decoded(RETAINED_PREFIX, StoredAnswer, "retained answer"):
            client_id, _, number = key.rpartition("/")
            session = self.sessions.get(client_id)
            if session is None or stored.pattern not in session.subscriptions.by_pattern:
                self.router.state.delete(RETAINED_PREFIX + key)
                continue
            if session.retained is None:
                session.retained = RetainedAnswers(client_id)
            session.retained.restore(int(number), stored, self.router.retained.tree.sequence)

    def _delete_empty_groups(self) -> None:
        """Groups whose last persistent session had left: the members of before the restart are gone for good."""
        joined = {shared.group_name(share) for share in self._groups}
        for name in [name for name in self.router.consumers if name.startswith(shared.SHARE_PREFIX)]:
            if name not in joined:
                self.router.delete_consumer(name)

    def _restore_outbound(self, session: Session, stored: StoredQos2) -> None:
        session.qos2_stored = True
        for entry in stored.outbound:
            if entry.released:
                session.released[entry.packet_id] = None
            elif not entry.owned:
                session.unacked[entry.stream, entry.partition, entry.offset] = entry.packet_id, entry.qos
            else:
                event = self._event_at(entry.stream, entry.partition, entry.offset)
                if event is not None:
                    plan = session.subscriptions.plan(event.topic) or Plan(2, False, b"")
                    keeps_retain = entry.stream in RETAINED_NAMES or plan.retain_as_published
                    session.owned[entry.packet_id] = Delivery(event), Plan(entry.qos, keeps_retain, plan.id_bytes)

    def _event_at(self, stream_name: str, index: int, offset: int) -> Event | None:
        if stream_name in RETAINED_NAMES:
            return self.router.retained.event_at(offset)
        stream = self.router.streams.by_name.get(stream_name)
        return stream.partitions[index].event(offset) if stream is not None else None

    # -- figures ----------------------------------------------------------------------------------------------

    def dropped(self, identity: Identity, reason: str, count: int = 1) -> None:
        self.counters.dropped[reason] += count
        self.router.count_drop(identity, reason, count)

    def clients_snapshot(self) -> list[dict[str, str | int | bool | None]]:
        """One entry per session, connected or not, for the console."""
        return [_client(session) for session in self.sessions.values()]


NO_TIMER = float("inf")


def _next_due(session: Session) -> float | None:
    dues = [due_s for due_s in (session.will_due_s, session.ends_at_s) if due_s is not None]
    return min(dues) if dues else None


def _client(session: Session) -> dict[str, str | int | bool | None]:
    connection = session.connection
    outbound = connection.outbound if connection is not None else None
    return {
        "client_id": session.client_id,
        "user": session.identity.user,
        "connected": connection is not None,
        "address": connection.address if connection is not None else None,
        "protocol_version": ("5.0" if connection.version == 5 else "3.1.1") if connection is not None else None,
        "connected_since_ms": connection.connected_ms if connection is not None else None,
        "session_since_ms": session.since_ms,
        "session_expiry_s": session.expiry_s,
        "keep_alive_s": connection.terms.keep_alive_s if connection is not None and connection.terms else None,
        "subscriptions": len(session.subscriptions),
        "in_flight": len(outbound.in_flight) if outbound is not None else len(session.unacked) + len(session.released),
        "qos2_open": len(session.open_ids),
        "queued": session.consumer.lag().events if session.consumer is not None else 0,
        "write_buffer_bytes": connection.channel.buffered_bytes() if connection is not None else 0,
    }
