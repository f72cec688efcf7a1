"""Direct messages: events that no stream captures, to the nodes that want them now. At most once, nothing is stored.

    Router.publish ─► DirectLane.send ─► nodes whose interest matches, or the one that a reply topic names
    overlay ─► DirectLane.on_message ─► Router.deliver_direct ─► live subscribers

A message is the MessagePack array [32, topic, [event, …], run, number]; 32 tells it from the messages of
mesh/replication, run is drawn at start and number counts up: a frame may come twice, an event must not. Per event that
costs 0.5 to 3 µs to write and as much to read; a RecordBatch 1.5 to 20 µs and 50 to 130 bytes more.

An answer goes to "$reply/<node>/<id>": to that node by its name, without interest, past the filters of links. Whoever
knows the id was asked.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Protocol, TypeAlias

import msgspec
from msgspec import Meta

from mesh.link.protocol.frames import PRIORITY_DIRECT
from mesh.link.protocol.neighbour import Neighbour
from mesh.once import Once
from mesh.publishers import Publishers
from mesh.topology.linkstate.nodestate import NodeState
from routing.errors import TopicError
from routing.event import Event, HeaderValue, Properties, event_size_bytes
from routing.publishing.route import OWN_TOPICS
from routing.rights.policy import REPLY_PREFIX
from routing.router import Router
from routing.topic import check_topic, filter_matches

TAG: Final = 32
MESSAGE_BYTES: Final = 256 * 1024       # events of one topic beyond this size go as several messages
SEVERAL_BYTES_MAX: Final = 2 * MESSAGE_BYTES    # of a message with more than one event, with all that is around them
EVENTS_MAX: Final = 2_000               # of one message: some 10 ms where it is received
HEADERS_MAX: Final = 4_096              # of one event; [limits] headers_max is asked afterwards
TIME_MAX_MS: Final = 2**53              # no clock says so
TEXT_MAX: Final = 65_535                # characters or bytes of a topic, key, name or identifier, as in MQTT
ASKED_MAX: Final = 2_000                # topics whose answer the router keeps; see DirectLane.nodes_changed
RECHECK_MAX: Final = 200                # of them looked at again with every change; with more the router asks again
EVERYTHING: Final = "#"


_NIL: Final = msgspec.Raw(b"\xc0")
Millis: TypeAlias = Annotated[int, Meta(ge=0, le=TIME_MAX_MS)]
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_MAX)]


class DirectProperties(msgspec.Struct, array_like=True, frozen=True):
    """routing.event.Properties, in the order of its fields."""

    expires_at_ms: Millis | None = None
    content_type: Text | None = None
    reply_to: Text | None = None
    correlation: msgspec.Raw = _NIL     # bytes, text or number: see _scalar(), msgspec has no such union
    message_id: msgspec.Raw = _NIL
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None
    payload_is_text: bool = False


class DirectEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event without its topic. retain is of no use: nothing retained takes this lane."""

    payload: bytes
    timestamp_ms: Millis = 0
    qos: Annotated[int, Meta(ge=0, le=2)] = 0
    publisher: Text = ""
    key: Annotated[bytes, Meta(max_length=TEXT_MAX)] | None = None
    properties: DirectProperties | None = None
    headers: Annotated[list[tuple[Text, msgspec.Raw]], Meta(max_length=HEADERS_MAX)] = []


class Direct(msgspec.Struct, array_like=True, tag=TAG, frozen=True):
    topic: Text
    events: Annotated[list[DirectEvent], Meta(max_length=EVENTS_MAX)]
    run: Annotated[int, Meta(ge=0, le=2**62)] = 0
    number: Annotated[int, Meta(ge=0, le=2**62)] = 0


class BadDirect(Exception):
    """The sender's fault: bytes that are no direct message."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Direct)
_value_decoder = msgspec.msgpack.Decoder()
# First bytes of nil, booleans, numbers, text and bytes. Not of arrays and maps, which could be of any depth and size.
_SCALARS: Final = frozenset((*range(0x80), *range(0xA0, 0xC1), *range(0xC2, 0xC7), *range(0xCA, 0xD4),
                             *range(0xD9, 0xDC), *range(0xE0, 0x100)))


def is_direct(body: bytes) -> bool:
    return len(body) > 1 and body[1] == TAG and 0x91 <= body[0] <= 0x9F


def encode_direct(events: list[Event], run: int = 0, number: int = 0) -> bytes:
    """Events of one topic."""
    return _encoder.encode(Direct(events[0].topic, [_plain(event) for event in events], run, number))


def _plain(event: Event) -> DirectEvent:
    own: Any = event.properties         # its identifiers are written as they are
    properties = None if own is None else DirectProperties(
        own.expires_at_ms, own.content_type, own.reply_to, own.correlation, own.message_id, own.priority,
        own.payload_is_text)
    headers: Any = list(event.headers) if event.headers else []
    return DirectEvent(event.payload, event.timestamp_ms, event.qos, event.publisher, event.key, properties, headers)


def decode_direct(body: bytes) -> Direct:
    """Raises BadDirect."""
    try:
        message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDirect(str(error)[:200]) from None
    if len(body) > SEVERAL_BYTES_MAX and len(message.events) > 1:
        raise BadDirect(f"{len(message.events)} events in {len(body)} bytes")
    return message


def events_of(message: Direct, prefix: str = "") -> list[Event]:
    """prefix: put before the topic. Raises BadDirect."""
    try:
        topic = f"{prefix}/{message.topic}" if prefix else message.topic
        check_topic(topic)
        return [_event(topic, one) for one in message.events]
    except TopicError as error:
        raise BadDirect(str(error)[:200]) from None


def _event(topic: str, one: DirectEvent) -> Event:
    properties = None
    if one.properties is not None:
        own = one.properties
        if own.reply_to is not None:
            check_topic(own.reply_to)
        properties = Properties(own.expires_at_ms, own.content_type, own.reply_to, _identifier(own.correlation),
                                _identifier(own.message_id), own.priority, own.payload_is_text)
    headers: tuple[tuple[str, HeaderValue], ...] = ()
    if one.headers:
        headers = tuple((name, _scalar(raw)) for name, raw in one.headers)
    return Event(topic, one.payload, one.qos, one.publisher, one.key, headers, properties, False, one.timestamp_ms)


def _identifier(raw: msgspec.Raw) -> bytes | str | int | None:
    value = _scalar(raw)
    if isinstance(value, (bool, float)) or (isinstance(value, (bytes, str)) and len(value) > TEXT_MAX):
        raise BadDirect("an identifier that is neither bytes, text nor number")
    return value


def _scalar(raw: msgspec.Raw) -> HeaderValue:
    data = memoryview(raw)
    if data[0] not in _SCALARS:
        raise BadDirect("a value that is neither text, bytes nor number")
    try:
        value: HeaderValue = _value_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadDirect(str(error)[:200]) from None
    return value


class Overlay(Protocol):
    """What of mesh/topology/overlay.py is used here."""

    @property
    def nodes(self) -> dict[str, NodeState]: ...
    def send(self, to: str, body: bytes, priority: int) -> bool: ...
    @property
    def came_by(self) -> Neighbour | None: ...
    def edge(self, node: str) -> Neighbour | None: ...
    def wants(self, topic: str) -> tuple[str, ...]: ...


class DirectLane:
    """The router's RemoteLane, and the way in. One per node, loop thread only."""

    def __init__(self, name: str, router: Router, overlay: Overlay, clock_ms: Callable[[], int],
                 before_send: Callable[[], None], run: int, publishers: Publishers) -> None:
        """before_send: tells the others of interest that is new, so that a request does not overtake it.

        run: drawn for this start of the node, at most 2**62.
        """
        self.counts: Counter[str] = Counter()
        self._run = run
        self._number = 0                                # of the last message, whoever it went to
        self._once = Once()
        self._reply_prefix = f"{REPLY_PREFIX}{name}/"
        self._router = router
        self._overlay = overlay
        self._clock_ms = clock_ms
        self._before_send = before_send
        self._asked: dict[str, bool] = {}
        self._publishers = publishers

    # -- out: RemoteLane ----------------------------------------------------------------------------------------

    def wants(self, topic: str) -> bool:
        """Does any other node want this topic?"""
        wanted = any(True for _ in self._receivers(topic))
        if not topic.startswith(REPLY_PREFIX):          # those are as many as requests, and asked for once
            if len(self._asked) >= ASKED_MAX:
                self._asked.clear()
                self._router.routes.changed()
            self._asked[topic] = wanted
        return wanted

    def nodes_changed(self) -> None:
        """Interest or routes are not what they were: if an answer of ours has changed, the router must ask again."""
        if len(self._asked) > RECHECK_MAX or any(
                wanted != any(True for _ in self._receivers(topic)) for topic, wanted in self._asked.items()):
            self._asked.clear()
            self._router.routes.changed()

    def send(self, events: list[Event]) -> None:
        """Events of one topic, to all who want them."""
        self._before_send()
        receivers = list(self._receivers(events[0].topic))
        if not receivers:
            return
        now_ms = self._clock_ms()
        for event in events:
            if not event.timestamp_ms:
                event.timestamp_ms = now_ms
        for part in _parts(events):
            self._number += 1
            body = encode_direct(part, self._run, self._number)
            for node in receivers:
                taken = self._overlay.send(node, body, PRIORITY_DIRECT)
                self.counts["sent" if taken else "not sent"] += len(part)

    def _receivers(self, topic: str) -> Iterator[str]:
        if topic.startswith(REPLY_PREFIX):
            node = topic[len(REPLY_PREFIX):].partition("/")[0]
            if node in self._overlay.nodes:
                yield node
            return
        for node in self._overlay.wants(topic):
            edge = self._overlay.edge(node)
            if edge is not None and _passes(edge.exports, topic):
                yield node

    # -- in -----------------------------------------------------------------------------------------------------

    def on_message(self, source: str, body: bytes) -> None:
        edge = self._overlay.edge(source)
        if edge is None:
            return
        try:
            message = decode_direct(body)
            if message.number and not self._once.is_new(source, message.run, message.number):
                self.counts["repeated messages"] += 1
                return
            topic = message.topic
            came_by = self._overlay.came_by             # what may enter by the one does not enter by another way
            if not topic.startswith(REPLY_PREFIX) and not (
                    _passes(edge.imports, topic) and (came_by is None or _passes(came_by.imports, topic))):
                self.counts["not imported"] += len(message.events)
                return
            events = events_of(message, "" if topic.startswith(REPLY_PREFIX) else edge.prefix)
        except BadDirect:
            self.counts["bad messages"] += 1
            return
        if topic.startswith(OWN_TOPICS) or (
                topic.startswith(REPLY_PREFIX) and not topic.startswith(self._reply_prefix)):
            self.counts["bad messages"] += 1
            return
        limits, now_ms = self._router.limits, self._clock_ms()
        fitting = [
            event for event in events
            if len(event.payload) <= limits.payload_bytes_max and len(event.headers) <= limits.headers_max
            and (event.properties is None or event.properties.expires_at_ms is None
                 or event.properties.expires_at_ms > now_ms)
        ]
        self.counts["received"] += len(fitting)
        self.counts["too large or expired"] += len(events) - len(fitting)
        if fitting:
            self._router.deliver_direct(fitting, self._publishers.of(source))


def _passes(filters: tuple[str, ...], topic: str) -> bool:
    return any(pattern == EVERYTHING or filter_matches(pattern, topic) for pattern in filters)


def _size_bytes(event: Event) -> int:
    size, own = event_size_bytes(event), event.properties
    if own is not None:
        for value in (own.content_type, own.reply_to, own.correlation, own.message_id):
            size += 4 * len(value) if isinstance(value, (str, bytes)) else 9
    return size


def _parts(events: list[Event]) -> Iterator[list[Event]]:
    """The events in lists of bounded size; most often one."""
    start = size = 0
    for index, event in enumerate(events):
        more = _size_bytes(event)
        if index > start and (size + more > MESSAGE_BYTES or index - start >= EVENTS_MAX):
            yield events[start:index]
            start, size = index, 0
        size += more
    yield events[start:] if start else events
