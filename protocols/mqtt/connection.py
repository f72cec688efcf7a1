"""State machine of one MQTT connection: handshake, limits, time, errors. Sans-IO: bytes and time come in as arguments.

    CONNECTING ── CONNECT ──► DECIDING ── authenticated ──► STORING ── durable ──► OPEN ── DISCONNECT, error, eof ─┐
         │                       │  └──── with nothing to be stored ────────────────►┘                             ▼
         └───────────────────────┴──────── error or connect timeout ────┴──────────────────────────────────────► CLOSED

A peer's fault ends in fail(): CONNACK or DISCONNECT with the reason code (MQTT 5), then close. What a connection does
with packets stands in inbound.py (PUBLISH), delivery/ (what goes out, and its acks) and subscribing/; what it writes
goes by writing.py.
"""
from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from protocols.errors import ProtocolViolation
from protocols.mqtt import handshake
from protocols.mqtt.codec import decode, encode, packets, properties, reasons
from protocols.mqtt.codec.packets import (
    VERSION_3_1_1,
    VERSION_5,
    Ack,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingRequest,
    Publish,
    Subscribe,
    Unsubscribe,
)
from protocols.mqtt.codec.reader import PacketReader
from protocols.mqtt.delivery import answers
from protocols.mqtt.delivery.outbound import Outbound
from protocols.mqtt.inbound import Inbound
from protocols.mqtt.subscribing import subscribe
from protocols.mqtt.timers import Due
from protocols.mqtt.writing import Writing
from protocols.transport.wire import ByteChannel
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from protocols.mqtt.sessions.session import Session
    from routing.ticket import Ticket

log = logging.getLogger(__name__)


class State(enum.Enum):
    CONNECTING = "waits for CONNECT"
    DECIDING = "waits for the authenticator"
    STORING = "has a session, which is not durable yet"
    OPEN = "accepted"
    CLOSED = "closed"


_NEXT = {
    State.CONNECTING: {State.DECIDING, State.CLOSED},
    State.DECIDING: {State.STORING, State.OPEN, State.CLOSED},
    State.STORING: {State.OPEN, State.CLOSED},
    State.OPEN: {State.CLOSED},
    State.CLOSED: set(),
}


class Begun(NamedTuple):
    """How a connection got its session."""

    present: bool                               # it goes on with one from before
    ticket: Ticket | None                       # to wait for before CONNACK; None: what it promises is durable
    unchanged: bool                             # the terms are the durable ones, but for the time that it was away


class Door(Protocol):
    """Who lets a client in, gives it a session, and takes it back: MqttServer of server.py."""

    new_client_id: Callable[[], str]

    def authenticate(self, connection: MqttConnection, connect: Connect, client_id: str) -> Callable[[], None] | None:
        """connection.decided() gets the answer, perhaps within this call. Returns what gives up the wait."""
        ...

    def begin(self, connection: MqttConnection, connect: Connect, client_id: str, identity: Identity) -> Begun:
        """Raises ProtocolViolation with the code for CONNACK."""
        ...

    def leave(self, connection: MqttConnection, with_will: bool) -> None: ...


class MqttConnection(Writing):
    """ConnectionHandler of protocols/transport/wire.py."""

    __slots__ = ("_connect", "_door", "_early", "_early_bytes", "_give_up_login", "_inbound", "_last_in_s",
                 "_next_due_s", "_opened_s", "_pauses", "_reader", "_slow", "_state", "address",
                 "connected_ms", "due", "outbound", "session")

    def __init__(self, broker: Broker, door: Door, channel: ByteChannel, now_s: float) -> None:
        super().__init__(broker, channel)
        self._door = door
        self.due = Due(self.handle_deadline)
        self.address = channel.address
        self.session: Session | None = None
        self.outbound: Outbound | None = None       # once there is a subscription or something to send again
        self.connected_ms = 0
        self._state = State.CONNECTING
        self._reader = PacketReader(self, broker.settings.pre_auth_bytes_max, broker.topics)
        self._inbound: Inbound | None = None        # once it publishes
        self._connect: Connect | None = None        # while it is being decided
        self._give_up_login: Callable[[], None] | None = None       # frees its place among those who log in
        self._early: list[bytes] | None = None      # what came meanwhile
        self._early_bytes = 0
        self._pauses = 0                            # how many do not want it to be read
        self._slow = False                          # the socket's write buffer is over its high-water mark
        self._opened_s = now_s
        self._last_in_s = now_s
        self._next_due_s = now_s + broker.settings.connect_timeout_s

    @property
    def accepted(self) -> bool:
        """CONNACK is out."""
        return self._state is State.OPEN

    # -- bytes in ---------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now_s: float) -> None:
        if self.closed:
            return
        self._last_in_s = now_s
        self.broker.counters.bytes_in += len(data)
        self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            rest = self._reader.read(data)
            if self._inbound is not None:
                self._inbound.flush()
            if rest:
                self._later(rest)
        except ProtocolViolation as violation:
            self._fail_after_flush(violation)
        except Exception:                           # a fault of ours: this connection dies, the node lives
            log.exception("! internal error on the connection of %s", self._who())
            self.fail(reasons.UNSPECIFIED_ERROR, "internal error")

    def _later(self, data: bytes) -> None:
        """It comes again by receive_data(), in a turn of ours."""
        self.broker.counters.bytes_in -= len(data)
        self.channel.put_back(data)

    def over(self) -> bool:
        if self._inbound is not None:
            self._inbound.flush()
        return self._pauses > 0 or self.channel.over()

    def pause_reading(self) -> None:
        """Take no packet behind this one, until resume_reading() was called as often."""
        self._pauses += 1
        if self._pauses == 1:
            self._reader.look()
            self.channel.pause_reading()

    def resume_reading(self) -> None:
        self._pauses -= 1
        if not self._pauses:
            self.channel.resume_reading()

    def _fail_after_flush(self, violation: ProtocolViolation) -> None:
        """What came before the fault is still taken."""
        try:
            if self._inbound is not None:
                self._inbound.flush()
        except ProtocolViolation:
            pass
        self.fail(violation.wire_code, violation.text)

    def _keep_early(self, data: bytes) -> None:
        """A packet that the client sent before our CONNACK, which it may; it waits, within the bound for strangers.

        Once the client is known the bound is what one read gives, for then we stop reading.
        """
        if self._early is None:
            self._early = []
        self._early.append(data)
        self._early_bytes += len(data)
        if self._state is State.DECIDING and self._early_bytes > self.broker.settings.pre_auth_bytes_max:
            raise ProtocolViolation(reasons.PACKET_TOO_LARGE, "too much was sent before the CONNACK")

    # -- calls of the reader ----------------------------------------------------------------------------------

    def plain_topic(self, raw: bytes) -> str | None:
        return self.broker.plain_topic(raw)

    def publishes(self, events: list[Event], raw_ids: bytearray) -> None:
        self.broker.counters.packets_in[packets.PUBLISH] += len(events)
        self._in().publishes(events, raw_ids)

    def _in(self) -> Inbound:
        if self._inbound is None:
            assert self.session is not None
            self._inbound = Inbound(self.broker, self, self.session)
        return self._inbound

    def out(self) -> Outbound:
        """The way out; made on first use."""
        if self.outbound is None:
            assert self.session is not None and self.terms is not None
            self.outbound = Outbound(
                self.broker, self, self.session, self.terms.window, self.terms.aliases_max, self.terms.packet_bytes_max)
            if self._slow:
                self.outbound.pause()
        return self.outbound

    def acks(self, kind: int, packet_ids: tuple[int, ...]) -> None:
        self.broker.counters.packets_in[kind] += len(packet_ids)
        if kind == packets.PUBREL:
            if self._inbound is not None:
                self._inbound.flush()
            self._in().pubrel(packet_ids)
        elif kind == packets.PUBACK:
            answers.puback(self.out(), packet_ids)
        elif kind == packets.PUBREC:
            answers.pubrec(self.out(), packet_ids)
        else:
            answers.pubcomp(self.out(), packet_ids)

    def packet(self, first: int, data: bytes, position: int, end: int) -> None:
        """One packet the long way."""
        kind = first >> 4
        self.broker.counters.packets_in[kind] += 1
        if self._state is not State.OPEN:
            self._first_packet(first, data, position, end)
            return
        packet = decode.decode_packet(first, data, position, end, self.version, self.broker.settings)
        if isinstance(packet, Publish):
            self._in().publish(packet)
        elif isinstance(packet, PingRequest):
            self.write(encode.PINGRESP, packets.PINGRESP)                               # [MQTT-3.12.4-1]
        else:
            if self._inbound is not None:           # keep the order of publishes and everything else
                self._inbound.flush()
            self._control(packet)

    def _control(self, packet: Packet) -> None:
        if isinstance(packet, Ack):
            if packet.kind == packets.PUBREC and packet.code >= 0x80:
                answers.pubrec_refused(self.out(), packet.packet_id)
            else:
                self.broker.counters.packets_in[packet.kind] -= 1       # acks() counts it
                self.acks(packet.kind, (packet.packet_id,))
        elif isinstance(packet, Subscribe):
            subscribe.subscribe(self, packet)
        elif isinstance(packet, Unsubscribe):
            subscribe.unsubscribe(self, packet)
        elif isinstance(packet, Disconnect):
            self._disconnect(packet)
        elif isinstance(packet, Auth):              # [MQTT-4.12.0-7]; nor do we ever send one [MQTT-4.12.0-6]
            raise ProtocolViolation(reasons.PROTOCOL_ERROR, "AUTH without an authentication method")

    def oversize(self, data: bytes, position: int, end: int) -> None:
        """The body of a packet begins at position, and it is larger than what we take."""
        if self._state is State.CONNECTING:
            self.version = decode.protocol_version(data, position, end)     # it is to hear of it in its own words
        raise ProtocolViolation(
            reasons.PACKET_TOO_LARGE, f"a packet has at most {self._reader.packet_bytes_max} bytes")

    # -- handshake --------------------------------------------------------------------------------------------

    def _first_packet(self, first: int, data: bytes, position: int, end: int) -> None:
        if self._state is not State.CONNECTING:
            self._keep_early(encode.packet(first, data[position:end]))
            return
        version = decode.protocol_version(data, position, end)
        self.version = version
        if version not in (VERSION_3_1_1, VERSION_5):
            raise ProtocolViolation(reasons.UNSUPPORTED_PROTOCOL_VERSION, "MQTT 3.1.1 and 5.0 are spoken here")
        if first & 15:
            raise ProtocolViolation(reasons.MALFORMED_PACKET, "wrong flags in CONNECT")
        connect = decode.decode_connect(data, position, end, self.broker.settings)      # [MQTT-3.1.4-1]
        if not connect.client_id and version == VERSION_3_1_1 and not connect.clean_start:
            raise ProtocolViolation(reasons.CLIENT_ID_NOT_VALID, "an empty client id needs clean session 1")
        self.terms = handshake.negotiate(connect, self.broker.settings)
        self._connect = connect
        self._to(State.DECIDING)
        client_id = connect.client_id or self._door.new_client_id()                    # [MQTT-3.1.3-6]
        self._give_up_login = self._door.authenticate(self, connect, client_id)        # [MQTT-3.1.4-2]

    def decided(self, client_id: str, answer: Identity | Refusal) -> None:
        """The authenticator's answer; may come within authenticate()."""
        connect = self._connect
        if self.closed or connect is None:
            return
        self._connect = self._give_up_login = None
        if isinstance(answer, Refusal):
            self.fail(reasons.CODE_OF_REASON[answer.reason], answer.text)
            return
        try:
            begun = self._door.begin(self, connect, client_id, answer)
        except ProtocolViolation as violation:
            self.fail(violation.wire_code, violation.text)
            return
        if begun.ticket is None:
            self._accept(connect, client_id, begun.present)
            return
        self._to(State.STORING)
        self._reader.packet_bytes_max = self.broker.settings.packet_bytes_max
        self.pause_reading()
        begun.ticket.on_done(partial(self._stored, connect, client_id, begun))

    def _stored(self, connect: Connect, client_id: str, begun: Begun, ticket: Ticket) -> None:
        """What CONNACK promises is durable, or could not be stored.

        A client whose terms are what they were goes on even then: it has to get at its events when the disk is full.
        """
        if self.closed:
            return
        self.resume_reading()
        if ticket.refusals and not begun.unchanged:
            assert self.session is not None
            self.session.will = None
            if not begun.present:
                self.session.expiry_s = 0                   # nobody knows of it
            refusal = next(iter(ticket.refusals.values()))
            self.fail(reasons.CODE_OF_REASON[refusal.reason], "the session could not be stored")
            return
        self._accept(connect, client_id, begun.present)

    def _accept(self, connect: Connect, client_id: str, session_present: bool) -> None:
        assert self.terms is not None
        packet = handshake.connack(connect, self.terms, client_id, session_present, self.broker.settings)
        if not self.takes(packet):
            self.fail(reasons.PACKET_TOO_LARGE, "the client does not take a CONNACK of its size")
            return
        self._to(State.OPEN)
        self.connected_ms = self.broker.router.clock_ms()
        self._reader.accepted(self.version, client_id, self.broker.settings.packet_bytes_max)
        self.write(packet, packets.CONNACK)                             # [MQTT-3.2.0-1] [MQTT-3.2.0-2]
        self._set_timer()
        if session_present:
            subscribe.resume(self)
        early, self._early = self._early, None
        if early is not None:
            self._later(b"".join(early) + self._reader.take_rest())

    def _set_timer(self) -> None:
        due_s = self._due_s()
        if due_s is not None and due_s < self._next_due_s:
            self._next_due_s = due_s
            self.broker.deadlines.add(due_s, self.due)

    # -- time -------------------------------------------------------------------------------------------------

    def _due_s(self) -> float | None:
        if not self.accepted:
            return self._opened_s + self.broker.settings.connect_timeout_s
        if self.terms is None or not self.terms.keep_alive_s:
            return None
        heard_s = self._last_in_s
        if self._inbound is not None and self._inbound.held:        # it is we who do not listen
            heard_s = self.broker.router.clock_s()
        return heard_s + 1.5 * self.terms.keep_alive_s                                  # [MQTT-3.1.2-22]

    def handle_deadline(self, now_s: float) -> float | None:
        if self.closed or now_s < self._next_due_s:         # a newer entry of ours is in the heap
            return None
        due_s = self._due_s()
        if due_s is not None and due_s <= now_s:
            if self._state is State.OPEN:
                self.fail(reasons.KEEP_ALIVE_TIMEOUT, "nothing was heard for 1.5 keep-alive intervals")
            else:
                self._close_quietly("connect timeout")
            return None
        self._next_due_s = due_s if due_s is not None else float("inf")
        return due_s

    # -- the end ----------------------------------------------------------------------------------------------

    def fail(self, code: int, text: str) -> None:
        """Close with a reason code of 0x80 or above.    [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.2.2-7]"""
        if self.closed:
            return
        if self._state is State.OPEN:
            self.broker.counters.violations[code] += 1
            self._note(f"0x{code:02x} {text}")
            if self.version == VERSION_5:
                self.write(self.disconnect_packet(code, text), packets.DISCONNECT)
        else:                                       # [MQTT-3.14.0-1] no DISCONNECT before CONNACK
            self.broker.counters.refused[code] += 1
            self._note(f"CONNECT refused, 0x{code:02x} {text}")
            limit = self.terms.packet_bytes_max if self.terms is not None else None
            answer = handshake.refusal(self.version, code, text, limit)
            if answer:
                self.write(answer, packets.CONNACK)                                     # [MQTT-3.1.4-6]
        self._end(with_will=True)

    def _close_quietly(self, why: str) -> None:
        self._note(f"closed, {why}")
        self.broker.counters.refused[0] += 1
        self._end(with_will=True)

    def _disconnect(self, packet: Disconnect) -> None:
        """The client's goodbye."""
        assert self.session is not None and self.terms is not None
        expiry_s = packet.properties.get(properties.SESSION_EXPIRY)
        if isinstance(expiry_s, int):
            if expiry_s and not self.session.expiry_s:
                raise ProtocolViolation(reasons.PROTOCOL_ERROR, "the session was begun with an expiry of 0")
            self.session.expiry_s = min(expiry_s, self.broker.settings.session_expiry_max_s)
        self._end(with_will=packet.code != reasons.SUCCESS)                             # [MQTT-3.14.4-3]

    def _end(self, with_will: bool) -> None:
        """Close and leave the session. Nothing is sent after this.    [MQTT-3.14.4-1] [MQTT-3.14.4-2]"""
        if self.closed:
            return
        self.channel.close()
        self.closed = True
        self._to(State.CLOSED)
        if self._connect is not None and self._give_up_login is not None:
            self._give_up_login()
        self._early = self._connect = self._give_up_login = None
        self._door.leave(self, with_will)

    def eof(self) -> None:
        """The socket is gone. Without a DISCONNECT that is a failure: the will is due."""
        if not self.closed:
            self._end(with_will=True)
        self._reader.let_go()               # what refers to us: we are freed now, not by a collection some time
        self._inbound = self.outbound = None

    @property
    def identity(self) -> Identity:
        """Who is connected. Once there is a session."""
        assert self.session is not None
        return self.session.identity

    def rights_changed(self, identity: Identity) -> None:
        """Holder of routing/logins.py: other roles, or the login counts no more."""
        assert self.session is not None
        if identity == self.session.identity:
            return
        self.session.identity = identity
        if self.outbound is not None:
            self.outbound.identity = identity
        if identity.revoked:                                # its will is refused, as all that it publishes
            self.fail(reasons.NOT_AUTHORIZED, "the login does not hold any more")

    def taken_over(self) -> None:
        """The same client has connected again.                                         [MQTT-3.1.4-3]"""
        self.fail(reasons.SESSION_TAKEN_OVER, "the client id connected again")

    def pause_writing(self) -> None:
        self._slow = True
        if self.outbound is not None:
            self.outbound.pause()

    def resume_writing(self) -> None:
        self._slow = False
        if self.outbound is not None:
            self.outbound.resume()

    def describe(self) -> str:
        return f"MQTT client {self._who()}"

    # -- small things -----------------------------------------------------------------------------------------

    def _to(self, state: State) -> None:
        assert state in _NEXT[self._state], (self._state, state)
        self._state = state

    def _note(self, text: str) -> None:
        """One log line about this connection, unless there are too many of them."""
        if self.broker.log_limit.allows(self._last_in_s):
            log.info("! %s: %s", self._who(), text)

    def _who(self) -> str:
        return f"{self.session.client_id if self.session is not None else '?'!r} at {self.address}"


