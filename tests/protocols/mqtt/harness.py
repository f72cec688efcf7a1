"""MQTT clients and the server wired in memory, on a real router and a real log; the loop is turned by hand.

Packets of the clients are built by tests/support/rawmqtt.py, which shares no code with the project.
"""
from __future__ import annotations

import itertools
import struct

from protocols.mqtt.server import MqttServer
from protocols.mqtt.settings import MqttSettings
from routing.errors import Reason, Refusal
from routing.log.committing.workers import one_behind_the_other
from routing.rights.policy import ANONYMOUS, Identity
from tests.support import rawmqtt
from tests.support.rawmqtt import (  # noqa: F401    the tests import them from here
    AUTH,
    CONNACK,
    DISCONNECT,
    NO_LOCAL,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    RETAIN_AS_PUBLISHED,
    RETAIN_IF_NEW,
    RETAIN_NEVER,
    SUBACK,
    UNSUBACK,
    Packet,
    Will,
    connect_packet,
    packet,
    properties,
    publish_packet,
    subscribe_packet,
    text,
    unsubscribe_packet,
)
from tests.support.routing import Desk


class Users:
    """Authenticator of the tests: answers at once, or when told to."""

    def __init__(self):
        self.passwords = None           # None: everybody is anonymous, but a user name is believed
        self.waiting = None             # a list: answers wait in it
        self.on_users = []

    def authenticate(self, username, password, protocol, client_id, address, done, certificate_name=None):
        if self.passwords is not None and self.passwords.get(username) != password:
            answer = Refusal(Reason.BAD_CREDENTIALS, "user name or password is wrong")
        else:
            user = certificate_name or username or ANONYMOUS
            answer = Identity(user, (), protocol=protocol, client_id=client_id, address=address)
        if self.waiting is None:
            done(answer)
        else:
            self.waiting.append(lambda: done(answer))

    def mark_of(self, username):
        known = self.passwords is None or username in self.passwords
        return repr((self.passwords or {}).get(username)) if known else None

    def proven(self, username, good, protocol, client_id, address, done):
        known = good and self.mark_of(username) is not None
        done(Identity(username, (), protocol=protocol, client_id=client_id, address=address)
             if known else Refusal(Reason.BAD_CREDENTIALS, "user name or password is wrong"))


class SlowDisk:
    """A writer that works when told to."""

    def __init__(self):
        self.waiting = []

    def __call__(self, name):
        return self

    def submit(self, work, told=None):
        self.waiting.append(one_behind_the_other(work, told))

    def close(self):
        while self.waiting:
            self.waiting.pop(0)()

    def work(self, broker):
        broker.run()
        while self.waiting:
            self.waiting.pop(0)()
            broker.run()


class Channel:
    """The far end of a byte stream. stuck: the socket takes nothing."""

    def __init__(self, broker, number=1):
        self.broker = broker
        self.address = f"127.0.0.1:{50_000 + number}"
        self.tls_identity = None
        self.handler = None
        self.sent = bytearray()
        self.back = b""
        self.closed = False
        self.paused = False
        self.stuck = False
        self.buffered = 0
        self.high, self.low = 256 * 1024, 64 * 1024
        self._told = False

    def write(self, data):
        assert type(data) is bytes and data
        assert not self.closed, "written after close"
        self.sent += data
        if self.stuck:
            self.buffered += len(data)
            if self.buffered > self.high and not self._told:
                self._told = True
                self.handler.pause_writing()

    def unstick(self):
        self.stuck = False
        self.buffered = 0
        if self._told:
            self._told = False
            self.handler.resume_writing()

    def close(self):
        self.closed = True

    abort = close

    def buffered_bytes(self):
        return self.buffered

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False
        if self.back:
            self.broker.queue.append(lambda: self.bring(b""))

    def over(self):
        return False

    def put_back(self, data):
        self.back = data + self.back
        self.broker.queue.append(lambda: self.bring(b""))

    def bring(self, data):
        """Bytes from the client, behind what was put back."""
        if self.paused:
            self.back += data
            return
        data, self.back = self.back + data, b""
        if data and not self.closed:
            self.handler.receive_data(data, self.broker.now_s)


class Client:
    """One connection of a client. Every call runs the loop until nothing is left to do."""

    def __init__(self, broker, version=5):
        self.broker = broker
        self.version = version
        self.channel = Channel(broker, next(broker.numbers))
        self.channel.handler = self.handler = broker.server.connection(self.channel, broker.now_s)
        self.connack = None
        self.ids = itertools.count(1)
        self.stash = []                 # came before the SUBACK was taken

    # -- sending

    def feed(self, data, run=True):
        self.channel.bring(data)
        if run:
            self.broker.run()

    def connect(self, client_id="c", **options):
        self.feed(connect_packet(client_id, version=self.version, **options))
        got = self.take()
        assert got and got[0].kind == CONNACK, got
        self.connack = got[0]
        self.rest = got[1:]
        return self.connack

    def publish(self, topic, payload=b"", *, qos=0, packet_id=None, run=True, **options):
        number = (next(self.ids) if packet_id is None else packet_id) if qos else 0
        self.feed(publish_packet(topic, payload, qos=qos, packet_id=number, version=self.version, **options), run)
        return number

    def subscribe(self, *filters, values=()):
        """filters: text (QoS 1) or (text, options). Returns the SUBACK; what followed it stays to be taken."""
        pairs = [(name, 1) if isinstance(name, str) else name for name in filters]
        self.feed(subscribe_packet(next(self.ids), pairs, values=values, version=self.version))
        found, self.stash = None, []
        for one in self.take():
            if one.kind == SUBACK and found is None:
                found = one
            else:
                self.stash.append(one)
        assert found is not None, self.stash
        return found

    def unsubscribe(self, *filters):
        self.feed(unsubscribe_packet(next(self.ids), filters, version=self.version))
        return self.one(UNSUBACK)

    def ack(self, kind, packet_id, code=None):
        body = struct.pack("!H", packet_id) + (b"" if code is None else bytes([code]))
        self.feed(packet(kind << 4 | (2 if kind == PUBREL else 0), body))

    def ping(self):
        self.feed(b"\xc0\x00")
        return self.take()

    def disconnect(self, code=None, values=()):
        body = b"" if code is None and not values else bytes([code or 0]) + properties(values)
        self.feed(packet(0xE0, body))
        self.lose()

    def lose(self):
        """The stream is gone."""
        self.channel.closed = True
        self.handler.eof()
        self.broker.run()

    # -- receiving

    def take(self):
        """Everything that has come."""
        self.broker.run()
        found, self.stash = list(self.stash), []
        data = bytes(self.channel.sent)
        self.channel.sent.clear()
        while data:
            size = shift = 0
            for index in range(1, 5):
                size |= (data[index] & 0x7F) << shift
                shift += 7
                if data[index] < 0x80:
                    break
            end = index + 1 + size
            assert len(data) >= end, "half a packet from the server"
            one = rawmqtt.decode(data[0], data[index + 1:end], self.version)
            one.size = end
            found.append(one)
            data = data[end:]
        return found

    def one(self, kind):
        """The only packet that has come, of this kind."""
        found = self.take()
        assert [entry.kind for entry in found] == [kind], found
        return found[0]

    def payloads(self, ack=False):
        """Payloads of the PUBLISHes that have come, in order; ack: answer QoS 1."""
        found = [entry for entry in self.take() if entry.kind == PUBLISH]
        if ack:
            for entry in found:
                if entry.qos == 1:
                    self.ack(PUBACK, entry.packet_id)
        return [entry.payload for entry in found]

    @property
    def closed(self):
        return self.channel.closed


class Broker(Desk):
    """The server on a router; crash() brings up a new one on what is on the disk."""

    def __init__(self, path, mqtt=None, users=None, **options):
        super().__init__(path, **options)
        self.path, self.mqtt_settings, self.options = path, mqtt or MqttSettings(), options
        self.users = users or Users()
        self.numbers = itertools.count(1)
        names = itertools.count(1)
        self.server = MqttServer(self.router, self.users, self.mqtt_settings,
                                 new_client_id=lambda: f"auto-{next(names)}")

    def client(self, client_id=None, version=5, **options):
        """A connection; connected when a client id is given."""
        client = Client(self, version)
        if client_id is not None:
            connack = client.connect(client_id, **options)
            assert connack.code == 0, connack
        return client

    def tick(self, seconds=0.0):
        super().tick(seconds)
        self.server.tick(self.now_s)
        self.run()

    def crash(self, later_s=0.0):
        """Kill -9: what has been committed is there, nothing else."""
        self.queue.clear()
        self.store.close()
        reborn = Broker(self.path, self.mqtt_settings, self.users, **self.options)
        reborn.now_s = self.now_s + later_s
        reborn.now_ms = self.now_ms + round(later_s * 1000)
        return reborn
