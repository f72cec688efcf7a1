"""A raw AMQP 1.0 client: any bytes, in any order."""
from __future__ import annotations

import socket

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import build, composed, encode_composite, kind_of
from protocols.amqp.codec.decode import decode
from protocols.amqp.codec.encode import encode
from tests.support.wait import DEADLINE_S

DATA = b"\x00\x53\x75"


def data(payload: bytes) -> bytes:
    """A message with one data section."""
    return DATA + encode(payload)


class Raw:
    def __init__(self, port, *, login=True, container="raw", **options):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.settimeout(DEADLINE_S)
        self.buffer = b""
        self.early = []             # transfers that came before the disposition that was looked for
        if login:
            self.sasl()
            self.open(container, **options)

    # -- out --------------------------------------------------------------------------------------------------

    def send_raw(self, raw):
        self.socket.sendall(raw)

    def send(self, performative, payload=b"", *, channel=0, kind=frames.AMQP):
        self.send_raw(frames.frame(channel, encode_composite(performative) + payload, kind))

    # -- in ---------------------------------------------------------------------------------------------------

    def bytes(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65_536)
            if not more:
                raise EOFError(self.buffer)
            self.buffer += more
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def frame(self):
        """Performative, payload and channel of the next frame that is not empty."""
        while True:
            size = int.from_bytes(self.bytes(4), "big")
            rest = self.bytes(size - 4)
            if size > 8:
                break
        body = rest[rest[0] * 4 - 4:]
        descriptor, position = decode(body, 1, len(body))
        found, end = hot.fields(body, position, len(body))
        return build(kind_of(descriptor), found), body[end:], int.from_bytes(rest[2:4], "big")

    def expect(self, kind):
        """The next frame that is of this kind; flows are passed over unless one is wanted. What was published may come
        before it is accepted, and is kept for delivery().
        """
        while True:
            whole = self.frame()
            found = whole[0]
            if isinstance(found, kind):
                return found
            if kind is p.Disposition and isinstance(found, p.Transfer):
                self.early.append(whole)
                continue
            assert isinstance(found, p.Flow), f"{found} in place of {kind.__name__}"

    def closed(self):
        """Condition of the close that follows, and that the stream ends."""
        while True:
            found = self.frame()[0]
            if isinstance(found, p.Close):
                return found.error.condition if found.error is not None else None

    def gone(self):
        """The stream ends without a word more."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        return True

    # -- steps ------------------------------------------------------------------------------------------------

    def sasl(self, mechanism="ANONYMOUS", response=b""):
        self.send_raw(frames.SASL_HEADER)
        assert self.bytes(8) == frames.SASL_HEADER
        self.mechanisms = self.expect(p.SaslMechanisms).mechanisms
        self.send(p.SaslInit(mechanism, response), kind=frames.SASL)
        return self.expect(p.SaslOutcome).outcome

    def open(self, container="raw", **options):
        self.send_raw(frames.AMQP_HEADER)
        assert self.bytes(8) == frames.AMQP_HEADER
        self.send(p.Open(container, **options))
        self.opened = self.expect(p.Open)

    def begin(self, channel=0, window=10_000):
        self.send(p.Begin(None, 0, window, window), channel=channel)
        return self.expect(p.Begin)

    def sender(self, address, handle=0, *, channel=0, settled=None, name=None, **target):
        """Attached and with credit."""
        self.send(p.Attach(name or f"s{handle}", handle, p.SENDER, settled, source=p.Source(),
                           target=p.Target(address, **target), initial_delivery_count=0), channel=channel)
        attached = self.expect(p.Attach)
        if attached.target is not None:
            self.expect(p.Flow)
        return attached

    def receiver(self, address, handle=1, *, channel=0, credit=0, name=None, settled=None, **source):
        self.send(p.Attach(name or f"r{handle}", handle, p.RECEIVER, settled, source=p.Source(address, **source),
                           target=p.Target()), channel=channel)
        attached = self.expect(p.Attach)
        if credit:
            self.credit(credit, handle, channel=channel)
        return attached

    def credit(self, credit, handle=1, *, channel=0, count=0, **options):
        self.send(p.Flow(0, 10_000, 0, 10_000, handle, count, credit, **options), channel=channel)

    def transfer(self, number, message, handle=0, *, channel=0, **options):
        self.send(p.Transfer(handle, number, b"%d" % number, 0, **options), message, channel=channel)

    def delivery(self):
        """Transfer and message of the next delivery, of however many frames."""
        first, whole, more = None, b"", True
        while more:
            found, payload, _ = self.early.pop(0) if self.early else self.frame()
            if isinstance(found, p.Flow):
                continue
            assert isinstance(found, p.Transfer), found
            first, whole, more = first or found, whole + payload, found.more
        return first, whole


__all__ = ["Raw", "composed", "data"]
