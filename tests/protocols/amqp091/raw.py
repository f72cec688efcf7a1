"""A raw AMQP 0-9-1 client: any bytes, in any order."""
from __future__ import annotations

import socket

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.codec.frames import Cutter, Frame, method_frame
from protocols.amqp091.codec.methods import decode_method, encode_method
from tests.support.wait import DEADLINE_S


class Raw:
    def __init__(self, port, *, login=True, user=b"guest", password=b"guest", capabilities=True):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.settimeout(DEADLINE_S)
        self.cutter = Cutter(1 << 20)
        self.data = b""
        self.position = 0
        self.capabilities = {"authentication_failure_close": True, "connection.blocked": True,
                             "consumer_cancel_notify": True} if capabilities else {}
        if login:
            self.send_raw(frames.PROTOCOL_HEADER)
            self.log_in(user, password)

    def log_in(self, user=b"guest", password=b"guest", *, mechanism="PLAIN", response=None, tune=None, vhost="/"):
        self.expect(methods.ConnectionStart)
        self.send(0, methods.ConnectionStartOk({"capabilities": self.capabilities}, mechanism,
                                               response or b"\0" + user + b"\0" + password, "en_US"))
        offered = self.expect(methods.ConnectionTune)
        self.send(0, tune or methods.ConnectionTuneOk(offered.channel_max, offered.frame_max, 0))
        self.send(0, methods.ConnectionOpen(vhost))
        self.expect(methods.ConnectionOpenOk)

    def open(self, number=1):
        self.send(number, methods.ChannelOpen())
        self.expect(methods.ChannelOpenOk)
        return number

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, channel, method):
        self.send_raw(method_frame(channel, encode_method(method)))

    def publish(self, channel, exchange, key, body=b"", properties=b"\0\0", **options):
        self.send_raw(method_frame(channel, encode_method(methods.BasicPublish(0, exchange, key, **options)))
                      + frames.content_frames(channel, properties, body, 4096))

    def frame(self):
        """(type, channel, payload); None at the end of the stream."""
        while True:
            found = self.cutter.next(self.data, 0)
            if isinstance(found, Frame):
                payload = self.data[found.position:found.end]
                self.data = self.data[found.end + 1:]
                return found.type, found.channel, payload
            try:
                more = self.socket.recv(65_536)
            except ConnectionError:
                return None
            if not more:
                return None
            self.data += more

    def method(self):
        """The next method, heartbeats left out; None at the end."""
        while True:
            frame = self.frame()
            if frame is None:
                return None
            if frame[0] == frames.METHOD:
                return decode_method(frame[2], 0, len(frame[2]))

    def expect(self, kind):
        found = self.method()
        assert isinstance(found, kind), found
        return found

    def closed(self):
        """(reply code, text) of the connection.close that comes now; None when the stream ends without one."""
        found = self.method()
        while found is not None and not isinstance(found, methods.ConnectionClose):
            found = self.method()
        return None if found is None else (found.reply_code, found.reply_text)

    def channel_closed(self):
        found = self.method()
        while found is not None and not isinstance(found, methods.ChannelClose):
            assert not isinstance(found, methods.ConnectionClose), found
            found = self.method()
        return None if found is None else (found.reply_code, found.reply_text)

    def close(self):
        self.socket.close()
