"""The sessions of before a restart are brought back from the state table and the log. Made by server.py, once.

What takes time waits until somebody asks: a session with nothing but subscriptions is asleep (asleep.py), and so is its
consumer (routing/consumers/registry/asleep.py). Those that nobody asks for are woken by and by.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain

import msgspec

from protocols.mqtt.broker import Broker
from protocols.mqtt.sessions.asleep import AsleepSession, asleep
from protocols.mqtt.sessions.names import SHARE_PREFIX, group_name
from protocols.mqtt.sessions.retained import RETAINED_PREFIX, RetainedAnswers, StoredAnswer
from protocols.mqtt.sessions.session import (
    CONSUMER_PREFIX,
    QOS2_PREFIX,
    SESSION_PREFIX,
    SUBSCRIPTION_PREFIX,
    OutboundId,
    Place,
    Session,
    StoredQos2,
    StoredSession,
    StoredSubscription,
    subscription_key,
)
from protocols.mqtt.sessions.subscriptions import Plan
from routing.cursors.cursor import Delivery
from routing.retained.retained import RETAINED_NAMES
from routing.rights.policy import Identity

log = logging.getLogger(__name__)

WAKE_TURN_S = 0.004         # of one tick, for sessions that nobody has asked for


class Restored:
    """The sessions that were there. Nobody is connected, so their expiry runs."""

    def __init__(self, broker: Broker, set_timer: Callable[[Session], None]) -> None:
        """set_timer: of a session that is there again."""
        self._broker = broker
        self._asleep: list[AsleepSession | Session] = []
        self._were_connected: list[AsleepSession | Session] = []        # of those, and this is not stored yet
        in_log = dict(broker.router.recovered_qos2())
        now_s, now_ms, steady_ms = broker.router.clock_s(), broker.router.clock_ms(), broker.router.steady_ms()
        self._begun_ms = steady_ms
        state = broker.router.state
        all_read = True
        patterns = self._stored_patterns()
        busy = {key[len(RETAINED_PREFIX):].rpartition("/")[0] for key, _ in state.items(RETAINED_PREFIX)}
        busy.update(in_log)
        decoder = msgspec.msgpack.Decoder(StoredSession)
        raw_qos2 = {key[len(QOS2_PREFIX):]: value for key, value in state.items(QOS2_PREFIX)}
        for key, value in state.items(SESSION_PREFIX):
            client_id = key[len(SESSION_PREFIX):]
            own = patterns.pop(client_id, [])
            try:
                stored = decoder.decode(value)
                raw = raw_qos2.get(client_id)
                qos2 = msgspec.msgpack.decode(raw, type=StoredQos2) if raw is not None else None
            except msgspec.MsgspecError as error:
                log.error("stored session %r cannot be read and is left alone: %s", client_id, error)
                all_read = False
                continue
            identity = Identity(stored.user, stored.roles, protocol="mqtt", client_id=client_id, proof=stored.proof)
            broker.router.shares.sessions.add(identity.user)
            away_s = max(steady_ms - stored.disconnected_ms, 0) / 1000 if stored.disconnected_ms else 0.0
            ends_at_s = now_s + max(stored.expiry_s - away_s, 0.0)
            if client_id not in busy and may_sleep(stored, own, qos2):
                consumer = broker.router.consumers.get(CONSUMER_PREFIX + client_id)
                if consumer is not None:
                    consumer.keep_untracked()
                session = broker.sessions[client_id] = asleep(
                    client_id, identity, now_ms, ends_at_s, consumer, stored, own, self._wake)
                set_timer(session)
                AsleepSession.put_to_sleep(session)
                self._asleep.append(session)
                if not stored.disconnected_ms:
                    self._were_connected.append(session)
                continue
            session = broker.sessions[client_id] = Session(client_id, identity, now_ms)
            self._fill(session, stored, own, qos2, in_log.pop(client_id, {}))
            if session.will is not None:
                session.will_due_s = now_s + max(session.will_delay_s - away_s, 0.0)
            session.ends_at_s = ends_at_s
            set_timer(session)
            self._store_away(session, stored)
        for client_id, left in patterns.items():            # of sessions that ended in the moment of the crash
            if state.get(SESSION_PREFIX + client_id) is None:
                for pattern in left:
                    state.delete(subscription_key(client_id, pattern))
        _restore_retained(broker)
        for client_id, packet_ids in in_log.items():        # ids of sessions that have ended stay dead
            seen: dict[tuple[str, int], int] = {}
            for stream, partition, offset in chain.from_iterable(packet_ids.values()):
                seen[stream, partition] = max(seen.get((stream, partition), -1), offset)
            broker.orphan(client_id, seen)
        if all_read:                                        # else it may be a group of the one that was not read
            _delete_empty_groups(broker)

    def tick(self) -> None:
        """Wake some of those that are asleep, once it is stored of all since when they are away."""
        clock_s = self._broker.router.clock_s
        until_s = clock_s() + WAKE_TURN_S
        while self._were_connected and clock_s() < until_s:
            session = self._were_connected.pop()
            if isinstance(session, AsleepSession):
                self._store_away_asleep(session)
        while self._asleep and clock_s() < until_s:
            session = self._asleep.pop()
            if isinstance(session, AsleepSession):
                session.wake()

    def _stored_patterns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for key, _ in self._broker.router.state.items(SUBSCRIPTION_PREFIX):
            client_id, _, pattern = key[len(SUBSCRIPTION_PREFIX):].partition("\0")
            found.setdefault(client_id, []).append(pattern)
        return found

    def _wake(self, session: Session, stored: StoredSession, patterns: list[str]) -> None:
        """It was an AsleepSession until now."""
        ends_at_s, timer_s, consumer = session.ends_at_s, session.timer_s, session.consumer
        Session.__init__(session, session.client_id, session.identity, session.since_ms)
        session.ends_at_s, session.timer_s, session.consumer = ends_at_s, timer_s, consumer
        qos2 = self._broker.router.state.read(QOS2_PREFIX + session.client_id, StoredQos2, "QoS 2 state")
        self._fill(session, stored, patterns, qos2, {})
        self._store_away(session, stored)

    def _fill(self, session: Session, stored: StoredSession, patterns: list[str], qos2: StoredQos2 | None,
              in_log: dict[int, list[Place]]) -> None:
        """What a session has when its client comes back."""
        broker = self._broker
        session.restore(stored)
        for old in session.subscriptions.by_pattern.values():
            broker.save_subscription(session, old)
        for pattern in patterns:
            found = broker.router.state.read(
                subscription_key(session.client_id, pattern), StoredSubscription, "subscription")
            if found is not None:
                session.restore_subscription(found)
        session.qos2_stored = qos2 is not None
        session.restore_open_ids(qos2 or StoredQos2({}, [], []), in_log)
        _restore_outbound(broker, session, qos2.outbound if qos2 is not None else [])
        session.consumer = session.consumer or broker.router.consumers.get(session.consumer_name)
        if session.consumer is not None:
            session.consumer.keep_untracked()
        kept = session.consumer.filters if session.consumer is not None else {}
        for subscription in session.subscriptions.by_pattern.values():
            subscription.had_more = subscription.pattern in kept
            if subscription.share is not None:
                broker.groups.joined(subscription.share, session)
        session.kept = session.stored(0)

    def _store_away_asleep(self, session: AsleepSession) -> None:
        """The same of one that sleeps on: away from the start of this node on."""
        assert session.sleep is not None
        stored, patterns, wake = session.sleep
        away = msgspec.structs.replace(stored, disconnected_ms=self._begun_ms)
        self._broker.router.state.put(SESSION_PREFIX + session.client_id, msgspec.msgpack.encode(away))
        object.__setattr__(session, "sleep", (away, patterns, wake))

    def _store_away(self, session: Session, stored: StoredSession) -> None:
        """One that was connected is away from now on, over restarts too."""
        if not stored.disconnected_ms:
            self._broker.save_session(session)


def may_sleep(stored: StoredSession, patterns: list[str], qos2: StoredQos2 | None) -> bool:
    """Nothing of it has to be done before somebody asks: no will to publish, no group that counts on it."""
    if stored.will is not None or stored.subscriptions or (qos2 is not None and (qos2.open_ids or qos2.outbound)):
        return False
    return not any(pattern[:1] == "$" for pattern in patterns)


def _restore_retained(broker: Broker) -> None:
    """Retained events that were still to be sent."""
    for key, stored in broker.router.state.decoded(RETAINED_PREFIX, StoredAnswer, "retained answer"):
        client_id, _, number = key.rpartition("/")
        session = broker.sessions.get(client_id)
        if session is None or stored.pattern not in session.subscriptions.by_pattern:
            broker.router.state.delete(RETAINED_PREFIX + key)
            continue
        if session.retained is None:
            session.retained = RetainedAnswers(client_id)
        session.retained.restore(int(number), stored, broker.router.retained.tree.sequence)


def _delete_empty_groups(broker: Broker) -> None:
    """Groups whose last persistent session had left: the members of before the restart are gone for good."""
    joined = {group_name(share) for share in broker.groups.sessions}
    for name in [name for name in broker.router.consumers if name.startswith(SHARE_PREFIX)]:
        if name not in joined:
            broker.router.registry.end(name)


def _restore_outbound(broker: Broker, session: Session, outbound: list[OutboundId]) -> None:
    for entry in outbound:
        if entry.released:
            session.released[entry.packet_id] = None
        elif not entry.owned:
            session.unacked[entry.stream, entry.partition, entry.offset] = entry.packet_id, entry.qos
        else:
            event = broker.event_at(entry.stream, entry.partition, entry.offset)
            if event is not None:
                plan = session.subscriptions.plan(event.topic) or Plan(2, False, b"")
                keeps_retain = entry.stream in RETAINED_NAMES or plan.retain_as_published
                session.owned[entry.packet_id] = Delivery(event), Plan(entry.qos, keeps_retain, plan.id_bytes)
