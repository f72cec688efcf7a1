"""A tiny blocking MQTT client on a raw socket, for conformance tests. Used by tests only.

It shares no code with the project: packets are built here from bytes and read back by hand, so that a mistake in
the project's codec cannot hide in its own mirror image. It does nothing by itself (no ping, no ack) unless a method
says so. Version 5 unless the client is made with version=4 (3.1.1).

Sources: MQTT 5 and MQTT 3.1.1, chapters 2 and 3.
"""
from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = range(1, 9)
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(9, 16)
NAMES = ("-", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
         "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")

# Property identifiers, MQTT 5 §2.2.2.2
PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION = 0x01, 0x02, 0x03, 0x08, 0x09
SUBSCRIPTION_ID, SESSION_EXPIRY, ASSIGNED_CLIENT_ID, SERVER_KEEP_ALIVE = 0x0B, 0x11, 0x12, 0x13
AUTH_METHOD, AUTH_DATA, REQUEST_PROBLEM, WILL_DELAY, REQUEST_RESPONSE = 0x15, 0x16, 0x17, 0x18, 0x19
RESPONSE_INFORMATION, SERVER_REFERENCE, REASON_STRING, RECEIVE_MAXIMUM = 0x1A, 0x1C, 0x1F, 0x21
TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS, MAXIMUM_QOS, RETAIN_AVAILABLE, USER_PROPERTY = 0x22, 0x23, 0x24, 0x25, 0x26
MAXIMUM_PACKET_SIZE, WILDCARD_AVAILABLE, SUBSCRIPTION_ID_AVAILABLE, SHARED_AVAILABLE = 0x27, 0x28, 0x29, 0x2A

_BYTE = {PAYLOAD_FORMAT, REQUEST_PROBLEM, REQUEST_RESPONSE, MAXIMUM_QOS, RETAIN_AVAILABLE, WILDCARD_AVAILABLE,
         SUBSCRIPTION_ID_AVAILABLE, SHARED_AVAILABLE}
_TWO = {SERVER_KEEP_ALIVE, RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS}
_FOUR = {MESSAGE_EXPIRY, SESSION_EXPIRY, WILL_DELAY, MAXIMUM_PACKET_SIZE}
_TEXT = {CONTENT_TYPE, RESPONSE_TOPIC, ASSIGNED_CLIENT_ID, AUTH_METHOD, RESPONSE_INFORMATION, SERVER_REFERENCE,
         REASON_STRING}
_BINARY = {CORRELATION, AUTH_DATA}

# Subscription options, MQTT 5 §3.8.3.1
NO_LOCAL, RETAIN_AS_PUBLISHED, RETAIN_IF_NEW, RETAIN_NEVER = 0x04, 0x08, 0x10, 0x20

Properties = Sequence[tuple[int, object]]
DEADLINE_S = 60.0           # generous: the machine is shared


def _deadline(deadline_s: float | None) -> float:
    return time.monotonic() + (DEADLINE_S if deadline_s is None else deadline_s)


class ConnectionClosed(Exception):
    """The server closed the connection; text lists the packets that came before."""


class NotReceived(AssertionError):
    """The awaited packet did not come before the deadline."""


def variable_integer(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def properties(values: Properties) -> bytes:
    """The property block with its length in front. A value of type bytes for a number field is sent as it is."""
    out = bytearray()
    for name, value in values:
        out += variable_integer(name)
        if name == USER_PROPERTY:
            out += text(value[0]) + text(value[1])  # type: ignore[index]
        elif name in _TEXT or name in _BINARY:
            out += text(value)  # type: ignore[arg-type]
        elif isinstance(value, bytes):
            out += value
        elif name in _BYTE:
            out += bytes([value])  # type: ignore[list-item]
        elif name in _TWO:
            out += struct.pack("!H", value)
        elif name in _FOUR:
            out += struct.pack("!I", value)
        else:
            out += variable_integer(value)  # type: ignore[arg-type]
    return variable_integer(len(out)) + bytes(out)


def packet(first_byte: int, body: bytes = b"") -> bytes:
    return bytes([first_byte]) + variable_integer(len(body)) + body


@dataclass
class Will:
    topic: str | bytes
    payload: bytes = b"gone"
    qos: int = 0
    retain: bool = False
    properties: Properties = ()


def connect_packet(client_id: str | bytes, *, version: int = 5, clean: bool = True, keep_alive_s: int = 0,
                   values: Properties = (), will: Will | None = None, username: str | None = None,
                   password: bytes | None = None, flags: int | None = None, protocol: bytes = b"MQTT") -> bytes:
    bits = 0x02 if clean else 0
    if will is not None:
        bits |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
    bits |= (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text(protocol) + bytes([version, bits if flags is None else flags]) + struct.pack("!H", keep_alive_s)
    if version >= 5:
        body += properties(values)
    body += text(client_id)
    if will is not None:
        if version >= 5:
            body += properties(will.properties)
        body += text(will.topic) + text(will.payload)
    if username is not None:
        body += text(username)
    if password is not None:
        body += text(password)
    return packet(0x10, body)


def publish_packet(topic: str | bytes, payload: bytes = b"", *, qos: int = 0, packet_id: int = 0, retain: bool = False,
                   dup: bool = False, values: Properties = (), version: int = 5) -> bytes:
    body = text(topic)
    if qos:
        body += struct.pack("!H", packet_id)
    if version >= 5:
        body += properties(values)
    return packet(0x30 | (8 if dup else 0) | qos << 1 | int(retain), body + payload)


def subscribe_packet(packet_id: int, filters: Iterable[tuple[str | bytes, int]], *, values: Properties = (),
                     version: int = 5) -> bytes:
    body = struct.pack("!H", packet_id) + (properties(values) if version >= 5 else b"")
    return packet(0x82, body + b"".join(text(name) + bytes([options]) for name, options in filters))


def unsubscribe_packet(packet_id: int, filters: Iterable[str], *, version: int = 5) -> bytes:
    body = struct.pack("!H", packet_id) + (b"\x00" if version >= 5 else b"")
    return packet(0xA2, body + b"".join(text(name) for name in filters))


@dataclass
class Packet:
    """A packet from the server, read by hand. Fields that the type does not have keep their default."""

    kind: int
    flags: int
    body: bytes
    size: int = 0                                   # bytes on the wire, fixed header included
    packet_id: int = 0
    code: int = 0                                   # reason code, or return code of a v3 CONNACK
    codes: list[int] = field(default_factory=list)  # SUBACK and UNSUBACK
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    values: list[tuple[int, object]] = field(default_factory=list)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    def get(self, name: int, default: object = None) -> object:
        return next((value for key, value in self.values if key == name), default)

    def all(self, name: int) -> list[object]:
        return [value for key, value in self.values if key == name]

    @property
    def user_properties(self) -> list[object]:
        return self.all(USER_PROPERTY)

    def __repr__(self) -> str:
        detail = f" {self.topic} {self.payload[:24]!r} q{self.qos}" if self.kind == PUBLISH else ""
        codes = f" codes={self.codes}" if self.codes else f" code=0x{self.code:02x}"
        return f"<{NAMES[self.kind]} id={self.packet_id}{codes}{detail} {self.values}>"


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data), f"packet of the server ends early: {self.data.hex()}"
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def variable(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def text(self) -> str:
        return self.take(self.number(2)).decode()

    def properties(self) -> list[tuple[int, object]]:
        end = self.variable() + self.at
        out: list[tuple[int, object]] = []
        while self.at < end:
            name = self.variable()
            if name == USER_PROPERTY:
                out.append((name, (self.text(), self.text())))
            elif name in _TEXT:
                out.append((name, self.text()))
            elif name in _BINARY:
                out.append((name, self.take(self.number(2))))
            elif name == SUBSCRIPTION_ID:
                out.append((name, self.variable()))
            else:
                size = 1 if name in _BYTE else 2 if name in _TWO else 4 if name in _FOUR else 0
                assert size, f"the server sent an unknown property 0x{name:02x}"
                out.append((name, self.number(size)))
        assert self.at == end, "property length of the server is wrong"
        return out

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def decode(first: int, body: bytes, version: int) -> Packet:
    kind, flags = first >> 4, first & 15
    result = Packet(kind, flags, body)
    read = _Reader(body)
    five = version >= 5
    assert kind == PUBLISH or flags == (2 if kind == PUBREL else 0), f"reserved flags {flags} in {NAMES[kind]}"
    if kind == CONNACK:
        result.session_present = bool(read.number(1))
        result.code = read.number(1)
        result.values = read.properties() if five else []
    elif kind == PUBLISH:
        result.topic = read.text()
        result.packet_id = read.number(2) if result.qos else 0
        result.values = read.properties() if five else []
        result.payload = read.rest()
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        result.packet_id = read.number(2)
        if five and read.left:
            result.code = read.number(1)
            result.values = read.properties() if read.left else []
    elif kind in (SUBACK, UNSUBACK):
        result.packet_id = read.number(2)
        result.values = read.properties() if five else []
        result.codes = list(read.rest())
    elif kind in (DISCONNECT, AUTH) and read.left:
        result.code = read.number(1)
        result.values = read.properties() if read.left else []
    assert not read.left, f"{read.left} bytes too many in {NAMES[kind]} of the server"
    return result


class RawMqtt:
    """One connection. Packets that were read while another one was awaited wait in self.pending, in order."""

    def __init__(self, address: tuple[str, int], *, version: int = 5, tls: ssl.SSLContext | None = None) -> None:
        self.version = version
        plain = socket.create_connection(address, timeout=DEADLINE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self.pending: list[Packet] = []
        self.closed = False
        self.connack: Packet | None = None
        self._buffer = bytearray()
        self._ids = itertools.count(1)

    def __enter__(self) -> RawMqtt:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    # --- sending -------------------------------------------------------------------------------------------------
    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next_id(self) -> int:
        return next(self._ids)

    def publish(self, topic: str, payload: bytes = b"", *, qos: int = 0, retain: bool = False, values: Properties = (),
                packet_id: int | None = None, dup: bool = False) -> int:
        number = (self.next_id() if packet_id is None else packet_id) if qos else 0
        self.send(publish_packet(topic, payload, qos=qos, retain=retain, values=values, packet_id=number, dup=dup,
                                 version=self.version))
        return number

    def publish_acked(self, topic: str, payload: bytes = b"", *, qos: int = 1, retain: bool = False,
                      values: Properties = ()) -> Packet:
        """Publish at QoS 1 or 2 and wait for the last packet of the exchange, which is returned."""
        number = self.publish(topic, payload, qos=qos, retain=retain, values=values)
        if qos == 1:
            return self.expect(PUBACK, packet_id=number)
        received = self.expect(PUBREC, packet_id=number)
        if received.code >= 0x80:
            return received
        self.ack(PUBREL, number)
        return self.expect(PUBCOMP, packet_id=number)

    def ack(self, kind: int, packet_id: int, code: int | None = None) -> None:
        body = struct.pack("!H", packet_id) + (b"" if code is None else bytes([code]))
        self.send(packet(kind << 4 | (2 if kind == PUBREL else 0), body))

    def subscribe(self, *filters: tuple[str, int], values: Properties = ()) -> Packet:
        number = self.next_id()
        self.send(subscribe_packet(number, filters, values=values, version=self.version))
        return self.expect(SUBACK, packet_id=number)

    def unsubscribe(self, *filters: str) -> Packet:
        number = self.next_id()
        self.send(unsubscribe_packet(number, filters, version=self.version))
        return self.expect(UNSUBACK, packet_id=number)

    def ping(self) -> None:
        """Everything sent before has been read by the server when this returns."""
        self.send(b"\xc0\x00")
        self.expect(PINGRESP)

    def disconnect(self, code: int | None = None, values: Properties = ()) -> None:
        """Send DISCONNECT and wait for the server to close."""
        body = b"" if code is None and not values else bytes([code or 0]) + properties(values)
        self.send(packet(0xE0, body))
        self.expect_close()
        self.drop()

    def drop(self) -> None:
        """Close the socket without DISCONNECT."""
        with contextlib.suppress(OSError):
            self.socket.close()
        self.closed = True

    def reset(self) -> None:
        """Close the socket with a TCP reset, as a crashed machine's peer would see it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.drop()

    # --- receiving -----------------------------------------------------------------------------------------------
    def read(self, deadline: float) -> Packet:
        """The next packet from the wire (not from pending). Raises ConnectionClosed or NotReceived."""
        while True:
            found = self._cut()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReceived(f"no packet before the deadline; pending: {self.pending}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                data = b""
            if not data:
                self.closed = True
                raise ConnectionClosed(f"closed by the server; pending: {self.pending}")
            self._buffer += data

    def _cut(self) -> Packet | None:
        size = shift = 0
        for index in range(1, min(len(self._buffer), 5)):
            byte = self._buffer[index]
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                end = index + 1 + size
                if len(self._buffer) < end:
                    return None
                result = decode(self._buffer[0], bytes(self._buffer[index + 1:end]), self.version)
                result.size = end
                del self._buffer[:end]
                return result
        return None

    def next(self, deadline_s: float | None = None) -> Packet:
        """The next packet, whatever it is."""
        if self.pending:
            return self.pending.pop(0)
        return self.read(_deadline(deadline_s))

    def expect(self, *kinds: int, packet_id: int | None = None, deadline_s: float | None = None,
               where: Callable[[Packet], bool] = lambda found: True) -> Packet:
        """The first packet of one of these kinds; others stay pending. Raises ConnectionClosed or NotReceived."""
        def wanted(found: Packet) -> bool:
            return found.kind in kinds and packet_id in (None, found.packet_id) and where(found)

        for index, found in enumerate(self.pending):
            if wanted(found):
                return self.pending.pop(index)
        deadline = _deadline(deadline_s)
        while True:
            try:
                found = self.read(deadline)
            except NotReceived:
                names = "/".join(NAMES[kind] for kind in kinds)
                raise NotReceived(f"no {names} id={packet_id} in time; pending: {self.pending}") from None
            if wanted(found):
                return found
            self.pending.append(found)

    def message(self, *, ack: bool = True, deadline_s: float | None = None) -> Packet:
        """The next PUBLISH; with ack, its QoS 1 or 2 exchange is completed."""
        found = self.expect(PUBLISH, deadline_s=deadline_s)
        if ack and found.qos == 1:
            self.ack(PUBACK, found.packet_id)
        elif ack and found.qos == 2:
            self.ack(PUBREC, found.packet_id)
            self.expect(PUBREL, packet_id=found.packet_id)
            self.ack(PUBCOMP, found.packet_id)
        return found

    def messages(self, count: int, *, ack: bool = True) -> list[Packet]:
        return [self.message(ack=ack) for _ in range(count)]

    def messages_until(self, payload: bytes, *, ack: bool = True) -> list[Packet]:
        """Every PUBLISH before the one with this payload (a sentinel), which is taken too but not returned."""
        out = []
        while True:
            found = self.message(ack=ack)
            if found.payload == payload:
                return out
            out.append(found)

    def read_to_end(self) -> bytes:
        """Raw bytes until the server closes."""
        out = b""
        self.socket.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                out += data
        return out

    def expect_close(self, deadline_s: float | None = None) -> Packet | None:
        """Wait until the server closes; returns its DISCONNECT or CONNACK where one came before, else None."""
        deadline = _deadline(deadline_s)
        try:
            while True:
                self.pending.append(self.read(deadline))
        except ConnectionClosed:
            pass
        said = [found for found in self.pending if found.kind in (DISCONNECT, CONNACK)]
        return said[-1] if said else None


def open_mqtt(address: tuple[str, int], client_id: str = "", *, version: int = 5, clean: bool = True,
              keep_alive_s: int = 0, values: Properties = (), will: Will | None = None, username: str | None = None,
              password: bytes | None = None, tls: ssl.SSLContext | None = None, accept: bool = True) -> RawMqtt:
    """Connect and read CONNACK (kept in .connack). accept=True asserts that the server said yes."""
    client = RawMqtt(address, version=version, tls=tls)
    try:
        client.send(connect_packet(client_id, version=version, clean=clean, keep_alive_s=keep_alive_s, values=values,
                                   will=will, username=username, password=password))
        client.connack = client.expect(CONNACK)
        assert not accept or client.connack.code == 0, f"refused: {client.connack}"
    except BaseException:
        client.drop()
        raise
    return client
