"""The sessions of before a restart are brought back from the state table and the log. Called by server.py, once."""
from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain

import msgspec

from protocols.mqtt.broker import Broker
from protocols.mqtt.sessions.names import SHARE_PREFIX, group_name
from protocols.mqtt.sessions.retained import RETAINED_PREFIX, RetainedAnswers, StoredAnswer
from protocols.mqtt.sessions.session import (
    QOS2_PREFIX,
    SESSION_PREFIX,
    SUBSCRIPTION_PREFIX,
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


def restore(broker: Broker, set_timer: Callable[[Session], None]) -> None:
    """Nobody is connected, so their expiry runs; set_timer: of a session that is there again."""
    in_log = dict(broker.router.recovered_qos2())
    now_s, now_ms, steady_ms = broker.router.clock_s(), broker.router.clock_ms(), broker.router.steady_ms()
    all_read = True
    subscriptions = _stored_subscriptions(broker)
    for key, value in broker.router.state.items(SESSION_PREFIX):
        client_id = key[len(SESSION_PREFIX):]
        try:
            stored = msgspec.msgpack.decode(value, type=StoredSession)
            raw = broker.router.state.get(QOS2_PREFIX + client_id)
            qos2 = msgspec.msgpack.decode(raw, type=StoredQos2) if raw is not None else StoredQos2({}, [], [])
        except msgspec.MsgspecError as error:
            log.error("stored session %r cannot be read and is left alone: %s", client_id, error)
            all_read = False
            continue
        identity = Identity(stored.user, stored.roles, protocol="mqtt", client_id=client_id, proof=stored.proof)
        session = broker.sessions[client_id] = Session(client_id, identity, now_ms)
        broker.router.shares.sessions.add(identity.user)
        session.restore(stored)
        for old in session.subscriptions.by_pattern.values():
            broker.save_subscription(session, old)
        for found in subscriptions.pop(client_id, ()):
            session.restore_subscription(found)
        session.restore_open_ids(qos2, in_log.pop(client_id, {}))
        _restore_outbound(broker, session, qos2)
        session.consumer = broker.router.consumers.get(session.consumer_name)
        if session.consumer is not None:
            session.consumer.keep_untracked()
        kept = session.consumer.filters if session.consumer is not None else {}
        for subscription in session.subscriptions.by_pattern.values():
            subscription.had_more = subscription.pattern in kept
            if subscription.share is not None:
                broker.groups.joined(subscription.share, session)
        session.kept = session.stored(0)
        away_s = max(steady_ms - stored.disconnected_ms, 0) / 1000 if stored.disconnected_ms else 0.0
        if session.will is not None:
            session.will_due_s = now_s + max(session.will_delay_s - away_s, 0.0)
        session.ends_at_s = now_s + max(session.expiry_s - away_s, 0.0)
        set_timer(session)
        if not stored.disconnected_ms:              # it was connected: from now on it is away, over restarts too
            broker.save_session(session)
    for client_id, left in subscriptions.items():       # of sessions that ended in the moment of the crash
        if broker.router.state.get(SESSION_PREFIX + client_id) is None:
            for found in left:
                broker.router.state.delete(subscription_key(client_id, found.request.pattern))
    _restore_retained(broker)
    for client_id, packet_ids in in_log.items():    # ids of sessions that have ended stay dead
        seen: dict[tuple[str, int], int] = {}
        for stream, partition, offset in chain.from_iterable(packet_ids.values()):
            seen[stream, partition] = max(seen.get((stream, partition), -1), offset)
        broker.orphan(client_id, seen)
    if all_read:                                    # else it may be a group of the one that was not read
        _delete_empty_groups(broker)


def _stored_subscriptions(broker: Broker) -> dict[str, list[StoredSubscription]]:
    found: dict[str, list[StoredSubscription]] = {}
    for key, stored in broker.router.state.decoded(SUBSCRIPTION_PREFIX, StoredSubscription, "subscription"):
        found.setdefault(key.partition("\0")[0], []).append(stored)
    return found


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


def _restore_outbound(broker: Broker, session: Session, stored: StoredQos2) -> None:
    session.qos2_stored = True
    for entry in stored.outbound:
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
