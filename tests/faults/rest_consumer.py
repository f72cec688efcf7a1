"""A durable consumer over REST: PUT once, then pull, ack, pull … over broken connections. Own process.

Several of these may work on one consumer. What was pulled is journalled with its redelivered mark, then acked; some
tokens are kept for a later turn, so that a kill finds deliveries unanswered, and a token from before a kill is used
after it. An event that comes again although an answer said that it is acked is noted, which fails the run.
"""
from __future__ import annotations

import argparse
import json
import random

from tests.faults.client import Client, arguments
from tests.support.checker import Place, parse_payload


class RestConsumer(Client):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._path = f"/v1/consumers/{options.consumer}"
        self._made = False
        self._tokens: dict[str, str] = {}                       # not acked yet: event id → token
        self._sent: list[str] = []                              # event ids of the ack under way
        self._confirmed: set[str] = set()
        self._messages: set[object] = set()
        self._random = random.Random(options.name)
        self.under_way = ""

    @property
    def quiet(self) -> bool:
        return self._made

    def count(self) -> int:
        return len(self._messages)

    def connected(self) -> None:
        self.under_way = ""

    def lost(self) -> None:
        self.under_way = ""

    def work(self) -> None:
        if self.under_way:
            return
        if not self._made:
            self._request("put", "PUT", "", {
                "filters": [self.options.filter], "start": "earliest", "mode": self.options.mode, "ack_timeout_s": 1.0})
        elif self._tokens and self._random.random() < 0.9:
            self._sent = [event for event in self._tokens if self._random.random() < 0.9] or list(self._tokens)
            self._request("ack", "POST", "/ack", {"tokens": [self._tokens[event] for event in self._sent]})
        else:
            self._request("pull", "POST", "/pull", {
                "max": self._random.choice((1, 10, 100)), "wait_s": 0.5, "client": self.name})

    def _request(self, what: str, method: str, path: str, body: object) -> None:
        data = json.dumps(body).encode()
        self.outbound += (f"{method} {self._path}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.options.port}\r\n"
                          f"Content-Length: {len(data)}\r\n\r\n").encode() + data
        self.under_way = what

    def received(self) -> None:
        head_end = self.inbound.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self.inbound[:head_end]).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if fields.get("transfer-encoding") == "chunked":
            found = self._dechunked(head_end + 4)
            if found is None:
                return
            body, end = found
        else:
            end = head_end + 4 + int(fields.get("content-length", "0"))
            if len(self.inbound) < end:
                return
            body = bytes(self.inbound[head_end + 4:end])
        del self.inbound[:end]
        what, self.under_way = self.under_way, ""
        self._answered(what, int(head.split(" ", 2)[1]), body)
        if fields.get("connection") == "close":
            self.drop()

    def _dechunked(self, start: int) -> tuple[bytes, int] | None:
        """Body and where it ends in inbound; None when it is not all there."""
        body = b""
        while (line := self.inbound.find(b"\r\n", start)) >= 0:
            size = int(self.inbound[start:line], 16)
            end = line + 2 + size + 2
            if len(self.inbound) < end:
                return None
            body += self.inbound[line + 2:end - 2]
            start = end
            if size == 0:
                return body, end
        return None

    def _answered(self, what: str, status: int, body: bytes) -> None:
        if status in (503, 409):                                # stopping, just up, or the other client is at it
            if status == 503:
                self.drop()
            return
        if status >= 300:
            self.journal.note(f"answer 0x{status} to {what}: {body[:200]!r}")
            return
        told = json.loads(body)
        if what == "put":
            self._made = True
        elif what == "pull":
            for event in told["events"]:
                self._got(event)
        else:
            stale = set(told["stale"])
            for event in self._sent:
                if self._tokens.pop(event) not in stale:        # a stale one comes again
                    self._confirmed.add(event)

    def _got(self, event: dict[str, object]) -> None:
        name = str(event["id"])
        payload = str(event["payload"]).encode()
        if name in self._confirmed:
            self.journal.note(f"an answer without effect: {name} was acked and came again")
        self._tokens[name] = str(event["token"])
        self.journal.got(payload, bool(event["redelivered"]),
                         Place(str(event["stream"]), int(str(event["partition"])), int(str(event["offset"]))))
        self._messages.add(parse_payload(payload))


if __name__ == "__main__":
    RestConsumer(arguments("durable consumer over REST", filter="faults/#", consumer="faults", mode="exclusive")).run()
