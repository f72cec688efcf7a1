"""Clients of /v1/ws for the fault tests, one process each: a producer, a durable consumer, a live reader. Raw sockets.

    python -m tests.faults.ws_peer --role producer|consumer|live …

The producer sends what is unanswered again after a reconnect, under the same key. The consumer acks what it has
journalled. The live reader comes back with the position of its last event.
"""
from __future__ import annotations

import argparse
import json
import random

from tests.faults.client import Client, Pace, arguments
from tests.support.checker import Message, Place

MASK = b"\0\0\0\0"              # a mask of zeros leaves the payload as it is



class WsClient(Client):
    """Handshake and frames. Subclasses say hello() and take each message in heard()."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.open = False

    def connected(self) -> None:
        self.open = False
        self.outbound += (f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{self.options.port}\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()

    def lost(self) -> None:
        self.open = False

    def say(self, **message: object) -> None:
        self._frame(1, json.dumps(message).encode())

    def _frame(self, opcode: int, data: bytes) -> None:
        size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.outbound += bytes((0x80 | opcode,)) + size + MASK + data

    def received(self) -> None:
        if not self.open:
            end = self.inbound.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.inbound[:end])
            del self.inbound[:end + 4]
            if not head.startswith(b"HTTP/1.1 101"):
                if not head.startswith(b"HTTP/1.1 503"):
                    self.journal.note(f"answer {head[:60]!r} to a WebSocket handshake")
                self.drop()
                return
            self.open = True
        while self.sock is not None and (frame := self._take()) is not None:
            opcode, data = frame
            if opcode == 1:
                self._heard(json.loads(data))
            elif opcode == 9:
                self._frame(10, data)
            elif opcode == 8:
                self.drop()

    def _take(self) -> tuple[int, bytes] | None:
        if len(self.inbound) < 2:
            return None
        size, start = self.inbound[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(self.inbound[2:start], "big")
        if len(self.inbound) < start + size:
            return None
        frame = self.inbound[0] & 15, bytes(self.inbound[start:start + size])
        del self.inbound[:start + size]
        return frame

    def _heard(self, message: dict) -> None:
        if message["op"] == "welcome":
            self.hello()
        elif message["op"] == "goodbye":
            self.drop()
        else:
            self.heard(message)

    def hello(self) -> None:
        """The node knows who we are."""

    def heard(self, message: dict) -> None:
        """A message but welcome and goodbye."""


class WsProducer(WsClient):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._sequences = dict.fromkeys([f"k{number}" for number in range(options.keys)], 0)
        self._unanswered: dict[str, tuple[Message, dict]] = {}      # one per key, so that no retry overtakes
        self._pace = Pace(options.rate)
        self._random = random.Random(options.name)
        self._ready = False

    @property
    def quiet(self) -> bool:
        return not self._unanswered

    def count(self) -> int:
        return sum(self._sequences.values())

    def hello(self) -> None:
        self._ready = True
        for message, said in self._unanswered.values():
            self.journal.sent(message)
            self.say(**said)

    def lost(self) -> None:
        super().lost()
        self._ready = False

    def work(self) -> None:
        while self._ready and not self.paused and self._pace.take():
            free = [key for key in self._sequences if not any(m.key == key for m, _ in self._unanswered.values())]
            if not free:
                return
            key = self._random.choice(free)
            self._sequences[key] += 1
            message = Message(self.name, key, self._sequences[key])
            name = f"{self.name}-{key}-{self._sequences[key]}"
            said = {"op": "publish", "id": name, "topic": f"{self.options.topic}/{self.name}/{key}",
                    "payload": message.payload(self._random.randrange(200)).decode(), "idempotency_key": name}
            self._unanswered[name] = message, said
            self.journal.sent(message)
            self.say(**said)

    def heard(self, message: dict) -> None:
        if message["op"] == "refused" and message["problem"] in ("/problems/shutting-down", "/problems/quota-exceeded"):
            self.drop()
            return
        found = self._unanswered.pop(message.get("id"), None)
        if found is None:
            self.journal.note(f"an answer without a publish: {message}")
        elif message["op"] == "published":
            self.journal.acked(found[0], Place(message["stream"], message["partition"], message["offset"]))
        else:
            self.journal.refused(found[0], message.get("problem", "?"))


class WsConsumer(WsClient):
    """Durable, or live by position."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._live = options.role == "live"
        self._position = ""
        self._seen = 0
        self._subscribed = False

    @property
    def quiet(self) -> bool:
        return self._subscribed

    def count(self) -> int:
        return self._seen

    def hello(self) -> None:
        said = {"op": "subscribe", "id": "s", "subscription": "s", "from": self._position or "earliest"}
        if self._live:
            self.say(**said, filters=[self.options.filter])
        else:
            self.say(**said, filters=[self.options.filter], consumer=self.name, takeover=True)

    def lost(self) -> None:
        super().lost()
        self._subscribed = False

    def heard(self, message: dict) -> None:
        if message["op"] == "subscribed":
            self._subscribed = True
        elif message["op"] == "event":
            event = message["event"]
            self._seen += 1
            self.journal.got((event["payload"] or "").encode(), message.get("redelivered", False),
                             Place(event["stream"], event["partition"], event["offset"]))
            if self._live:
                self._position = message["position"]
            else:
                self.say(op="ack", subscription="s", deliveries=[message["delivery"]])
        elif message["op"] == "position":
            self._position = message["position"]
        elif message["op"] in ("refused", "closed"):
            self.journal.note(f"answer {message}")
            self.drop()


if __name__ == "__main__":
    found = arguments("WebSocket client", role="consumer", topic="faults/ws", filter="faults/#", keys=3, rate=100.0)
    (WsProducer if found.role == "producer" else WsConsumer)(found).run()
