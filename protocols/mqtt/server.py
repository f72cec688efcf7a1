"""MqttServer: the sessions and connections of one node, whatever listener they came by. Glue to the Router.

The node calls connection() for each new byte stream and tick() every 50 to 100 ms. Loop thread only.
"""
from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from functools import partial

from protocols.authentication.authenticator import Authenticator
from protocols.errors import ProtocolViolation
from protocols.mqtt import convert
from protocols.mqtt.broker import Broker
from protocols.mqtt.codec import reasons
from protocols.mqtt.codec.packets import Connect
from protocols.mqtt.connection import Begun, MqttConnection
from protocols.mqtt.rows import client_row
from protocols.mqtt.sessions.restore import Restored
from protocols.mqtt.sessions.session import (
    CONSUMER_PREFIX,
    QOS2_PREFIX,
    SESSION_PREFIX,
    Session,
)
from protocols.mqtt.settings import MqttSettings
from protocols.mqtt.subscribing import subscribe
from protocols.mqtt.subscribing.retained_begin import answer_merged
from protocols.mqtt.sys import SysTopics
from protocols.transport.wire import ByteChannel
from routing.rights.policy import Identity
from routing.router import Router
from routing.steps import in_steps
from routing.ticket import Ticket

log = logging.getLogger(__name__)

LOGIN_CHECK_S = 60.0        # a client that came back with a shorter token may stay so much longer


def random_client_id() -> str:
    return "auto-" + secrets.token_hex(12)


class MqttServer:
    """See the module's head. Made once per tenant; it brings the stored sessions back."""

    def __init__(self, router: Router, authenticator: Authenticator, settings: MqttSettings, *, version: str = "",
                 new_client_id: Callable[[], str] = random_client_id) -> None:
        """version: of the product, for $SYS."""
        self.broker = broker = Broker(router, settings)
        self.router = router
        self.settings = settings
        self.counters = broker.counters
        self.deadlines = broker.deadlines
        self.sessions = broker.sessions
        self.connections: set[MqttConnection] = set()
        self.new_client_id = new_client_id
        self._authenticator = authenticator
        self._stopping = False
        self._sys = SysTopics(version, router.clock_s())
        self._watched: set[str] = set()             # client ids whose login ends some time (tokens)
        self._restored = Restored(broker, self._set_timer)
        router.retained.on_merged.append(
            lambda topics, since: in_steps(router, answer_merged(broker, topics, since)))

    # -- connections ------------------------------------------------------------------------------------------

    def connection(self, channel: ByteChannel, now_s: float) -> MqttConnection:
        """The handler of a new byte stream."""
        connection = MqttConnection(self.broker, self, channel, now_s)
        self.connections.add(connection)
        self.counters.connections_opened += 1
        self.broker.clients_maximum = max(self.broker.clients_maximum, len(self.connections))
        self.deadlines.add(now_s + self.settings.connect_timeout_s, connection.due)
        return connection

    def tick(self, now_s: float) -> None:
        """Timers and deferred work. now_s: monotonic seconds."""
        self.broker.tick(now_s)
        self._restored.tick()
        events = self._sys.due(self.broker, now_s)
        if events:
            self.router.publish(events, self.router.internal)

    def shutdown(self) -> None:
        """Say goodbye to everybody and take nobody in any more."""
        self._stopping = True
        for connection in list(self.connections):
            connection.fail(reasons.SERVER_SHUTTING_DOWN, "the node shuts down")
        self.broker.save_dirty()

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
            session.seen = self.broker.orphans.pop(client_id, {})
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
            ticket = self.broker.save_session(session)
            if session.seen and not present:            # ids of the session before this one must not come back
                self.broker.save_qos2(session)
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
            self.broker.stalled.discard(connection.outbound)
            self.broker.unsent.forget(connection.channel)
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
        self.broker.save_session(session)
        self.broker.save_qos2_soon(session)

    def end_session(self, session: Session) -> Ticket | None:
        """Forget a session and everything of it. A will that still waits goes out now.

        Returns the ticket of its removal, None when nothing of it was stored. Never while its client is connected: a
        new connection ends the old one first [MQTT-4.1.0-1].
        """
        if session.will is not None and session.connection is None:
            self._publish_will(session)
        if self.sessions.pop(session.client_id, None) is not None:
            self.router.shares.sessions.give(session.identity.user)
        self.broker.forget_dirty(session)
        for subscription in session.subscriptions.by_pattern.values():
            if subscription.share is not None:
                self.broker.groups.left(subscription.share, session)
        if session.consumer is not None:
            consumer, session.consumer = session.consumer, None
            self.router.delete_consumer(consumer.name)
        ticket: Ticket | None = None
        if session.persistent:
            if session.retained is not None:
                session.retained.clear(self.router.state)
            for pattern in session.subscriptions.by_pattern:
                self.broker.forget_subscription(session, pattern)
            self.router.state.delete(SESSION_PREFIX + session.client_id)
            ticket = self.router.state.delete(QOS2_PREFIX + session.client_id)
            if session.seen:
                self.broker.orphan(session.client_id, session.seen)
        session.ends_at_s = session.will_due_s = None
        return ticket

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
                self.broker.dropped(session.identity, "will refused")

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
            self.broker.save_session(session)
        if session.ends_at_s is not None and session.ends_at_s <= now_s:
            self._expire(session)
            return None
        due_s = _next_due(session)
        session.timer_s = due_s if due_s is not None else NO_TIMER
        return due_s

    def _expire(self, session: Session) -> None:
        log.info("= session %r has expired", session.client_id)
        self.broker.sessions_expired += 1
        self.end_session(session)

    # -- figures ----------------------------------------------------------------------------------------------

    def clients_snapshot(self) -> Iterator[dict[str, str | int | bool | None]]:
        """One entry per session, connected or not, for the console. Drawn from in steps: it wakes nobody who sleeps."""
        return (client_row(session) for session in list(self.sessions.values())
                if self.sessions.get(session.client_id) is session)


NO_TIMER = float("inf")


def _next_due(session: Session) -> float | None:
    dues = [due_s for due_s in (session.will_due_s, session.ends_at_s) if due_s is not None]
    return min(dues) if dues else None


