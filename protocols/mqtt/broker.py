"""Broker: what all MQTT connections of a node share: router, settings, counters, sessions and what is stored of them.

MqttServer (server.py) makes it, begins and ends the sessions in it; connections and their parts take it as it is. It
knows a connection only as the Line of a Session. Loop thread only.
"""
from __future__ import annotations

import logging

from protocols.mqtt import convert
from protocols.mqtt.counters import Counters
from protocols.mqtt.sessions.groups import Groups
from protocols.mqtt.sessions.retained_turns import RetainedTurns
from protocols.mqtt.sessions.session import (
    QOS2_PREFIX,
    SESSION_PREFIX,
    Session,
    WayOut,
    stored_subscription,
    subscription_key,
)
from protocols.mqtt.sessions.subscriptions import MqttSubscription
from protocols.mqtt.sessions.unsent import LargeFrames, Unsent
from protocols.mqtt.settings import MqttSettings
from protocols.mqtt.timers import Deadlines
from protocols.transport.loglimit import LogLimit
from routing.errors import TopicError
from routing.event import Event
from routing.retained.retained import RETAINED_NAMES
from routing.rights.policy import Identity
from routing.router import Router
from routing.ticket import Ticket
from routing.topic import KEPT_CHARS_MAX, check_topic

log = logging.getLogger(__name__)

ORPHANS_MAX = 10_000        # sessions that ended, whose QoS 2 ids in the log must not come back to life


class Broker:
    """See the module's head."""

    def __init__(self, router: Router, settings: MqttSettings) -> None:
        self.router = router
        self.settings = settings
        self.counters = Counters()
        self.log_limit = LogLimit(settings.log_lines_per_s)
        self.deadlines = Deadlines()
        self.sessions: dict[str, Session] = {}
        self.retained_turns = RetainedTurns(router.call_soon)
        self.unsent = Unsent(settings.unsent_bytes_max, settings.write_buffer_drop_bytes)
        self.large_frames = LargeFrames(router.call_soon)
        self.stalled: set[WayOut] = set()           # have retained events that wait for the socket, or for other nodes
        self.topics: dict[bytes, str] = {}          # checked topics by their bytes; see plain_topic()
        self.groups = Groups(router)
        self.orphans: dict[str, dict[tuple[str, int], int]] = {}
        self.clients_maximum = 0                    # connected at the same time
        self.sessions_expired = 0
        self._dirty: set[Session] = set()           # QoS 2 state to be stored by and by
        self._next_save_s = 0.0
        self._more_due = False                      # another turn sees to them

    def tick(self, now_s: float) -> None:
        """Timers and deferred work. now_s: monotonic seconds."""
        self._run_deadlines(now_s)
        self.unsent.look_again()
        if self.stalled:
            stalled, self.stalled = self.stalled, set()
            for outbound in stalled:
                self.retained_turns.add(outbound)
        if self._dirty and now_s >= self._next_save_s:
            self._next_save_s = now_s + self.settings.qos2_save_interval_s
            self.save_dirty()

    def _run_deadlines(self, now_s: float) -> None:
        if self.deadlines.run(now_s) and not self._more_due:
            self._more_due = True
            self.router.call_soon(lambda: self._go_on(now_s))

    def _go_on(self, now_s: float) -> None:
        self._more_due = False
        self._run_deadlines(now_s)

    def save_dirty(self) -> None:
        for session in list(self._dirty):
            self.save_qos2(session)

    def forget_dirty(self, session: Session) -> None:
        """It is over."""
        self._dirty.discard(session)

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

    def dropped(self, identity: Identity, reason: str, count: int = 1) -> None:
        self.counters.dropped[reason] += count
        self.router.count_drop(identity, reason, count)

    # -- QoS 2 ------------------------------------------------------------------------------------------------

    def qos2_durable(self, session: Session, event: Event) -> None:
        """An inbound QoS 2 event is on the disk; its session may have ended or been replaced meanwhile."""
        now = self.sessions.get(session.client_id)
        if now is not None:
            now.noticed(event)
            self.save_qos2_soon(now)
        elif session.persistent:
            session.noticed(event)
            self.orphan(session.client_id, session.seen)

    def confirm(self, session: Session, packet_id: int, topic: str, payload: bytes) -> bool:
        """Whether an id that was found open in the log stands for this very PUBLISH. Asked once per id.

        An event that is not in the log any more (retention, compaction) is taken on trust.
        """
        events = [self.event_at(*place) for place in session.recovered.pop(packet_id)]
        if any(event is None or (event.topic == topic and event.payload == payload) for event in events):
            return True
        log.warning("QoS 2 packet id %d of %r was released and comes with another event: stored as new",
                    packet_id, session.client_id)
        return False

    def orphan(self, client_id: str, seen: dict[tuple[str, int], int]) -> None:
        while len(self.orphans) >= ORPHANS_MAX:
            self.orphans.pop(next(iter(self.orphans)))
        self.orphans[client_id] = seen

    def event_at(self, stream_name: str, index: int, offset: int) -> Event | None:
        if stream_name in RETAINED_NAMES:
            return self.router.retained.event_at(offset)
        stream = self.router.streams.by_name.get(stream_name)
        return stream.partitions[index].event(offset) if stream is not None else None

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
