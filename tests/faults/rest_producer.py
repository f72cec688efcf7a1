"""A REST producer: POST /v1/events/{topic}, one request at a time, over broken connections. Own process.

Each message has its own Idempotency-Key, and a request without an answer is sent again with the same one, so the
node's dedupe window makes it exactly once. A 200 names stream, partition and offset, which the checker holds against
the log. 507 and 429 are refusals; the message is not sent again.
"""
from __future__ import annotations

import argparse
import json
import random

from tests.faults.client import Client, Pace, arguments
from tests.support.checker import Message, Place


class RestProducer(Client):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._keys = [f"k{number}" for number in range(options.keys)]
        self._sequences = dict.fromkeys(self._keys, 0)
        self._message: Message | None = None
        self._request = b""
        self._sent = False                                      # the request is out on this connection
        self._pace = Pace(options.rate)
        self._random = random.Random(options.name)

    @property
    def quiet(self) -> bool:
        return self._message is None

    def count(self) -> int:
        return sum(self._sequences.values())

    def connected(self) -> None:
        self._sent = False

    def lost(self) -> None:
        self._sent = False

    def work(self) -> None:
        if self._sent:
            return
        if self._message is None:
            if self.paused or not self._pace.take():
                return
            self._make()
        assert self._message is not None
        self.journal.sent(self._message)
        self.outbound += self._request
        self._sent = True

    def _make(self) -> None:
        key = self._random.choice(self._keys)
        self._sequences[key] += 1
        self._message = Message(self.name, key, self._sequences[key])
        body = self._message.payload(self._random.randrange(self.options.filler))
        head = (f"POST /v1/events/{self.options.topic}/{self.name}/{key} HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{self.options.port}\r\nContent-Type: text/plain\r\n"
                f"Idempotency-Key: {self.name}-{key}-{self._sequences[key]}\r\nContent-Length: {len(body)}\r\n\r\n")
        self._request = head.encode() + body

    def received(self) -> None:
        head_end = self.inbound.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self.inbound[:head_end]).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        end = head_end + 4 + int(fields.get("content-length", "0"))
        if len(self.inbound) < end:
            return
        body = bytes(self.inbound[head_end + 4:end])
        del self.inbound[:end]
        self._answered(int(head.split(" ", 2)[1]), body)
        if fields.get("connection") == "close":
            self.drop()

    def _answered(self, status: int, body: bytes) -> None:
        message = self._message
        if message is None or not self._sent:
            self.journal.note(f"an answer without a request: {status}")
            return
        if status == 503:                                       # stopping or just up: the same request again
            self.drop()
            return
        if 200 <= status < 300:
            told = json.loads(body)
            self.journal.acked(message, Place(told["stream"], int(told["partition"]), int(told["offset"])))
        else:
            self.journal.refused(message, f"{status}")
        self._message = None
        self._sent = False


if __name__ == "__main__":
    RestProducer(arguments("REST producer", topic="faults/rest", keys=3, rate=300.0, filler=200)).run()
