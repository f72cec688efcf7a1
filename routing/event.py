"""Event: the one message type that every protocol converts to and from.

Used by everything; imports nothing of ours. The log writes an Event as one Kafka record (routing/log/records/batch.py).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

HeaderValue: TypeAlias = str | bytes | int | float | bool | None
Headers: TypeAlias = tuple[tuple[str, HeaderValue], ...]


class Death(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A consumer that gave an event up, on its way through dead-letter topics."""

    consumer: str
    reason: str
    topic: str                              # under which it was read
    rounds: int                             # times that it was given up there
    count: int                              # deliveries of all these times
    first_ms: int                           # wall clock
    last_ms: int
    ttl_ms: int | None = None               # that it had of its own when it was given up first


class DeadLetter(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a dead letter is the copy of. Only the node writes it: unlike a header, no publisher can."""

    consumer: str                           # which gave up on it
    topic: str                              # of the original
    event_id: str                           # and its place, "<stream>:<partition>:<offset>"
    history: tuple[Death, ...] = ()         # who gave it up on the way, this one last

    @property
    def topics(self) -> list[str]:
        """All topics under which it was there: who may not read one of them does not read it here."""
        return [self.topic, *(death.topic for death in self.history)]


class Native(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event as the protocol it came by wrote it, so that it leaves by that protocol byte for byte.

    data is that protocol's to read (its convert.py says how); whoever writes it has checked it.
    """

    kind: str                               # "amqp091", …
    data: bytes


class Properties(msgspec.Struct, gc=False, frozen=True, omit_defaults=True):
    """The rarer fields of an event. An event that has none carries None instead, which keeps the hot path short."""

    expires_at_ms: int | None = None        # wall clock, ms since the epoch; first set where the event entered
    content_type: str | None = None
    reply_to: str | None = None             # topic
    correlation: bytes | str | int | None = None
    message_id: bytes | str | int | None = None         # the publisher's; nobody counts by it
    priority: int | None = None             # 0..255; above 9 only by AMQP 0-9-1, for queues with more levels
    payload_is_text: bool = False           # MQTT 5 payload format indicator = 1
    mqtt_packet_id: int | None = None       # QoS 2 only: the publisher's packet id, so that a crash cannot double it
    dedupe_id: bytes | str | int | None = None  # a second event with it, of this publisher and topic, is the first one
    dead_letter: DeadLetter | None = None   # of a copy on a dead-letter topic, see ConsumerRegistry.dead_letter
    native: Native | None = None            # None: nothing that the other fields do not say
    null_key: bool = False                  # a Kafka record without key: neither the topic nor the empty key
    null_payload: bool = False              # a Kafka record without value, which is not the empty one; payload is b""
    deliver_at_ms: int | None = None        # wall clock: consumers and queues deliver it no earlier


_NULL_KEY, _NULL_PAYLOAD = Properties(null_key=True), Properties(null_payload=True)
_NULLS = Properties(null_key=True, null_payload=True)


def with_null_key(properties: Properties | None) -> Properties:
    """The same, of a record without key."""
    if properties is None:
        return _NULL_KEY
    return _NULLS if properties is _NULL_PAYLOAD else msgspec.structs.replace(properties, null_key=True)


def with_null_payload(properties: Properties | None) -> Properties:
    """The same, of a record without value."""
    if properties is None:
        return _NULL_PAYLOAD
    return _NULLS if properties is _NULL_KEY else msgspec.structs.replace(properties, null_payload=True)


def has_null_payload(event: Event) -> bool:
    """True when there is no payload, not even an empty one. Protocols that know no such thing show it as empty."""
    return not event.payload and event.properties is not None and event.properties.null_payload


class OriginPartition(msgspec.Struct, frozen=True, gc=False):
    """Where an event of another node was first stored: that node, the epoch of its log, stream and partition there."""

    node: str
    epoch: str                              # new whenever a log is made, so a wiped node is not taken for its past
    stream: str
    index: int

    @property
    def text(self) -> str:
        """As in the log and in messages between nodes: "graz-1/3f0c…/events/0"."""
        return f"{self.node}/{self.epoch}/{self.stream}/{self.index}"


class Event(msgspec.Struct, gc=False):
    """One message. Immutable once published, but for the slots that the log assigns once (marked below).

    gc=False is safe: no field ever refers back to an Event.
    """

    topic: str
    payload: bytes
    qos: int = 0                            # level asked for by the publisher: 0 direct, 1 and 2 guaranteed
    publisher: str = ""                     # client id of the publisher, "" when it has none
    key: bytes | None = None                # None: the topic is the key
    headers: Headers = ()                   # user headers; order and repeats kept
    properties: Properties | None = None
    retain: bool = False
    timestamp_ms: int = 0                   # wall clock at append (assigned by the router when 0)
    offset: int = -1                        # assigned by the log at append
    partition: Any = None                   # routing.log.partition.Partition, assigned by the log at append
    mqtt4_frame: bytes | None = None        # encoded QoS 0 PUBLISH shared by all subscribers (MQTT 3.1.1), a cache
    mqtt5_frame: bytes | None = None        # the same for MQTT 5
    origin: OriginPartition | None = None   # None: this node is where it was first stored
    origin_offset: int = -1                 # its offset there
    flow: int = 0                           # how it came here: 0 as it happened, above 0 by a back-fill of history

    @property
    def guaranteed(self) -> bool:
        return self.qos > 0


def is_dead_letter(event: Event) -> bool:
    properties = event.properties
    return properties is not None and properties.dead_letter is not None


def event_size_bytes(event: Event) -> int:
    """Approximate memory and log size of an event: payload, topic, key and headers. Used for byte budgets."""
    size = len(event.payload) + len(event.topic) + 64
    if event.key is not None:
        size += len(event.key)
    if event.properties is not None and event.properties.native is not None:
        size += len(event.properties.native.data)
    for name, value in event.headers:
        size += len(name) + (len(value) if isinstance(value, (str, bytes)) else 8)
    return size


def is_expired(event: Event, now_ms: int) -> bool:
    """Is its time to live over? now_ms: wall clock."""
    properties = event.properties
    return properties is not None and properties.expires_at_ms is not None and properties.expires_at_ms <= now_ms


def topic_runs(events: list[Event]) -> Iterator[list[Event]]:
    """The events cut into runs of one topic, in order. Router.publish and its like do it in place: see bench/micro."""
    start, count = 0, len(events)
    while start < count:
        end = run_end(events, start)
        yield events if end - start == count else events[start:end]
        start = end


def run_end(events: list[Event], start: int) -> int:
    """Where the run of one topic ends that begins at start."""
    topic, count = events[start].topic, len(events)
    end = start + 1
    if start == 0 and end < count and events[-1].topic is topic and (
            [event.topic for event in events].count(topic) == count):
        return count                            # half the time of the loop, for what most publishers send
    while end < count and events[end].topic is topic:
        end += 1
    return end
