"""Session: what outlives a connection, and how it is stored. Sans-IO; MqttServer owns all of them.

A session with an expiry of 0 lives in memory and ends with its connection. Any other survives kill -9; two keys of
the state table hold it, apart because one changes with every QoS 2 packet and the other hardly ever:

    mqtt/session/<client id>    user, expiry, will
    mqtt/subscription/<client id>, U+0000, <filter>     one subscription, so that storing a change costs what is changed
    mqtt/qos2/<client id>       QoS 2: open inbound ids, offsets up to which the log is accounted for, outbound ids

Events that wait for the client are not here: they stay in the log, where the consumer "mqtt/<client id>" has its place,
and in the table of retained events, where the answers of retained.py have theirs.

Inbound QoS 2, exactly once: an id is open from PUBLISH to PUBREL. The id is stored with its event in the log, so event
and id become durable together. What is stored here says which of those ids have been released: an id in the log at an
offset above `seen` of its partition is open, one below it is open only if it is listed.
Outbound: an id stands for one place in the log until PUBREC, from then on for nothing but the PUBREL.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import msgspec

from protocols.mqtt.codec.filters import parse_share
from protocols.mqtt.codec.packets import FilterRequest, Will
from protocols.mqtt.codec.properties import USER_PROPERTY, PropertyDict
from protocols.mqtt.sessions.open_ids import Blocks, OpenIds
from protocols.mqtt.sessions.subscriptions import MqttSubscription, Plan, SubscriptionSet
from routing.cursors.cursor import Delivery
from routing.event import Event
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.mqtt.handshake import Terms
    from protocols.mqtt.sessions.retained import RetainedAnswers
    from protocols.transport.wire import ByteChannel
    from routing.consumers.consumer import Consumer
    from routing.ticket import Ticket

SESSION_PREFIX = "mqtt/session/"
SUBSCRIPTION_PREFIX = "mqtt/subscription/"
QOS2_PREFIX = "mqtt/qos2/"
CONSUMER_PREFIX = "mqtt/"

Place = tuple[str, int, int]                # stream, partition, offset


class StoredWill(msgspec.Struct, array_like=True):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    delay_s: int
    numbers: dict[int, int]                 # properties by kind of value
    texts: dict[int, str]
    binaries: dict[int, bytes]
    users: list[tuple[str, str]]


class StoredSubscription(msgspec.Struct, array_like=True):
    request: FilterRequest
    identifier: int | None


class StoredSession(msgspec.Struct, array_like=True):
    user: str
    roles: tuple[str, ...]
    expiry_s: int
    disconnected_ms: int                    # wall clock; 0 while connected
    subscriptions: list[StoredSubscription]         # of older builds; empty in what is written
    will: StoredWill | None
    proof: str = ""                         # of the login; see Identity.proof


class OutboundId(msgspec.Struct, array_like=True):
    """A QoS 2 id that we have given out, or one of QoS 1 whose event no consumer has."""

    packet_id: int
    stream: str
    partition: int
    offset: int
    released: bool                          # PUBREC has come: only the PUBREL is outstanding
    owned: bool                             # no consumer will deliver the event again, the session must
    qos: int = 2                            # it was sent with; it goes with that again


class StoredQos2(msgspec.Struct, array_like=True):
    open_ids: Blocks
    seen: list[Place]
    outbound: list[OutboundId]


class WayOut(Protocol):
    """What goes out to the client that is connected: Outbound of delivery/outbound.py."""

    in_flight: dict[int, Delivery | None]

    def outbound_ids(self) -> Iterable[OutboundId]:
        """QoS 2 ids in flight, to be stored."""
        ...

    def step_retained(self) -> bool:
        """Send some of the retained events. False: nothing more can be sent for now."""
        ...


class Line(Protocol):
    """The connection that a session has while its client is there: MqttConnection of connection.py."""

    version: int
    connected_ms: int
    closed: bool
    terms: Terms | None

    @property
    def address(self) -> str: ...
    @property
    def channel(self) -> ByteChannel: ...
    @property
    def accepted(self) -> bool: ...
    @property
    def outbound(self) -> WayOut | None: ...
    def write(self, data: bytes, kind: int, count: int = 1) -> None: ...
    def write_publishes(self, parts: list[bytes], count: int) -> None: ...
    def write_shared(self, parts: list[bytes], count: int, size_max: int) -> None: ...
    def write_stored(self, data: bytes, kind: int, count: int, ticket: Ticket | None) -> None: ...
    def ack_packet(self, kind: int, packet_id: int, code: int, text: str) -> bytes: ...
    def fail(self, code: int, text: str) -> None: ...
    def taken_over(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def describe(self) -> str: ...


Sleep = tuple[StoredSession, list[str], "Callable[[Session, StoredSession, list[str]], None]"]


class Session:
    """State of one client id. connection is None while the client is away."""

    __slots__ = (
        "client_id",
        "connection",
        "consumer",
        "ends_at_s",
        "expiry_s",
        "identity",
        "kept",
        "open_ids",
        "owned",
        "persistent",
        "qos2_stored",
        "recovered",
        "released",
        "retained",
        "seen",
        "since_ms",
        "sleep",
        "subscriptions",
        "timer_s",
        "unacked",
        "will",
        "will_delay_s",
        "will_due_s",
    )

    def __init__(self, client_id: str, identity: Identity, since_ms: int) -> None:
        self.client_id = client_id
        self.identity = identity
        self.since_ms = since_ms
        self.connection: Line | None = None
        self.expiry_s = 0
        self.persistent = False                             # stored; set when the session begins
        self.kept: bytes | None = None                      # stored(0), when that is durable, else None
        self.subscriptions = SubscriptionSet(client_id)
        self.consumer: Consumer | None = None               # of the guaranteed, not shared subscriptions
        # outbound, between connections
        self.unacked: dict[Place, tuple[int, int]] = {}     # place → id and QoS of what the consumer will deliver again
        self.released: dict[int, None] = {}                 # ids that wait for PUBCOMP, in the order of their PUBREC
        self.owned: dict[int, tuple[Delivery, Plan]] = {}   # id → delivery that no consumer has
        self.retained: RetainedAnswers | None = None        # retained events still to be sent
        # inbound QoS 2
        self.open_ids = OpenIds()
        self.seen: dict[tuple[str, int], int] = {}          # (stream, partition) → offset that is accounted for
        self.recovered: dict[int, list[Place]] = {}         # ids found open in the log, until the client confirms one
        self.qos2_stored = False                            # something is stored under mqtt/qos2/
        # will and end
        self.will: Will | None = None
        self.will_delay_s = 0
        self.will_due_s: float | None = None                # while the client is away
        self.ends_at_s: float | None = None                 # while the client is away
        self.timer_s = float("inf")                         # earliest entry in the server's deadlines
        self.sleep: Sleep | None = None                     # see asleep.py

    @property
    def subscription_count(self) -> int:
        return len(self.subscriptions)

    @property
    def consumer_name(self) -> str:
        return CONSUMER_PREFIX + self.client_id

    def noticed(self, event: Event) -> None:
        """A QoS 2 event of this session is durable: account for its place."""
        if event.partition is not None:
            key = (event.partition.stream, event.partition.index)
            if event.offset > self.seen.get(key, -1):
                self.seen[key] = event.offset

    def _passed(self, event: Event) -> bool:
        """Whether `seen` has gone past an event that still waits for its ticket: then it is durable, too.

        So it is after a take-over, when a ticket of the old connection waits for another partition.
        """
        if event.partition is None:
            return False
        return 0 <= event.offset <= self.seen.get((event.partition.stream, event.partition.index), -1)

    def stored(self, disconnected_ms: int) -> bytes:
        """Value of mqtt/session/<client id>. disconnected_ms: steady time, or 0."""
        will = _stored_will(self.will, self.will_delay_s) if self.will is not None else None
        return msgspec.msgpack.encode(StoredSession(
            self.identity.user, self.identity.roles, self.expiry_s, disconnected_ms, [], will, self.identity.proof))

    def stored_qos2(self, in_flight: Iterable[OutboundId]) -> bytes:
        """Value of mqtt/qos2/<client id>. in_flight: the outbound ids of the live connection."""
        self.qos2_stored = True
        outbound = list(in_flight)
        known = {entry.packet_id for entry in outbound}
        outbound.extend(
            OutboundId(packet_id, *place, False, False, qos)
            for place, (packet_id, qos) in self.unacked.items() if packet_id not in known)
        outbound.extend(
            outbound_id(packet_id, delivery.event, released=False, owned=True, qos=plan.qos)
            for packet_id, (delivery, plan) in self.owned.items()
            if packet_id not in known and delivery.event.partition is not None)
        outbound.extend(
            OutboundId(packet_id, "", 0, -1, True, False) for packet_id in self.released if packet_id not in known)
        passed = [packet_id for packet_id, waits in self.open_ids.waiting.items() if self._passed(waits)]
        return msgspec.msgpack.encode(StoredQos2(
            self.open_ids.blocks(passed),
            [(stream, partition, offset) for (stream, partition), offset in self.seen.items()],
            outbound))

    def restore(self, stored: StoredSession) -> None:
        """Take over what was stored, after a restart."""
        self.persistent = True
        self.expiry_s = stored.expiry_s
        for entry in stored.subscriptions:
            self.restore_subscription(entry)
        if stored.will is not None:
            self.will = _restored_will(stored.will)
            self.will_delay_s = stored.will.delay_s

    def restore_subscription(self, stored: StoredSubscription) -> None:
        share = parse_share(stored.request.pattern)
        self.subscriptions.add(MqttSubscription(stored.request, stored.identifier, share))

    def restore_open_ids(self, stored: StoredQos2, in_log: dict[int, list[Place]]) -> None:
        """Inbound ids that are open after a restart. in_log: QoS 2 ids in the tail of the log, with their places."""
        stored_seen = {(stream, partition): offset for stream, partition, offset in stored.seen}
        self.seen = dict(stored_seen)
        self.open_ids.restore(stored.open_ids)
        known = set(self.open_ids)
        for packet_id, places in in_log.items():
            for place in places:
                key, offset = place[:2], place[2]
                if offset > stored_seen.get(key, -1):
                    self.open_ids.received(packet_id)
                    self.recovered.setdefault(packet_id, []).append(place)
                # else the next restart would find the id open again, after its release and perhaps its next use
                self.seen[key] = max(self.seen.get(key, -1), offset)
        for packet_id in known:                         # known for certain, nothing is to be confirmed
            self.recovered.pop(packet_id, None)


def subscription_key(client_id: str, pattern: str) -> str:
    """Neither can hold U+0000."""
    return f"{SUBSCRIPTION_PREFIX}{client_id}\0{pattern}"


def stored_subscription(subscription: MqttSubscription) -> bytes:
    request = FilterRequest(subscription.pattern, subscription.qos, subscription.no_local,
                            subscription.retain_as_published, subscription.retain_handling)
    return msgspec.msgpack.encode(StoredSubscription(request, subscription.identifier))


def outbound_id(packet_id: int, event: Event, *, released: bool, owned: bool, qos: int = 2) -> OutboundId:
    return OutboundId(packet_id, *place_of(event), released, owned, qos)


def place_of(event: Event) -> Place:
    """Where the event is in the log; where no stream holds it, an offset below 0 that is its own."""
    if event.partition is None:
        return "", 0, event.offset
    return event.partition.stream, event.partition.index, event.offset


def _stored_will(will: Will, delay_s: int) -> StoredWill:
    stored = StoredWill(will.topic, will.payload, will.qos, will.retain, delay_s, {}, {}, {}, [])
    for identifier, value in will.properties.items():
        if isinstance(value, int):
            stored.numbers[identifier] = value
        elif isinstance(value, str):
            stored.texts[identifier] = value
        elif isinstance(value, bytes):
            stored.binaries[identifier] = value
        else:
            stored.users.extend(pair for pair in value if isinstance(pair, tuple))
    return stored


def _restored_will(stored: StoredWill) -> Will:
    found: PropertyDict = {**stored.numbers, **stored.texts, **stored.binaries}
    if stored.users:
        found[USER_PROPERTY] = stored.users
    return Will(stored.topic, stored.payload, stored.qos, stored.retain, found)
