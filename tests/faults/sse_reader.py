"""A reader of GET /v1/events that resumes by Last-Event-ID over broken connections. Own process.

It holds its position itself, so every stored event comes to it once, over any number of restarts. Each event names its
place in the log, which the checker holds against the log and against what other clients were told.
"""
from __future__ import annotations

import argparse
import json
from urllib.parse import quote

from tests.faults.client import Client, arguments
from tests.support.checker import Place


class SseReader(Client):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._last_id = ""
        self._text = bytearray()                                # of the body, chunks taken apart
        self._open = False
        self._seen = 0

    @property
    def quiet(self) -> bool:
        return self._open

    def count(self) -> int:
        return self._seen

    def connected(self) -> None:
        self._open = False
        self._text.clear()
        resume = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
        self.outbound += (f"GET /v1/events?filter={quote(self.options.filter, safe='/')}&from=earliest HTTP/1.1\r\n"
                          f"Host: 127.0.0.1:{self.options.port}\r\nAccept: text/event-stream\r\n{resume}\r\n").encode()

    def received(self) -> None:
        if not self._open and not self._head():
            return
        self._dechunk()
        while (end := self._text.find(b"\n\n")) >= 0:
            block = bytes(self._text[:end])
            del self._text[:end + 2]
            self._event(block)

    def _head(self) -> bool:
        end = self.inbound.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.inbound[:end])
        del self.inbound[:end + 4]
        if not head.startswith(b"HTTP/1.1 200"):
            if not head.startswith(b"HTTP/1.1 503"):
                self.journal.note(f"SSE answer {head[:60]!r} to Last-Event-ID {self._last_id!r}")
            self.drop()
            return False
        self._open = True
        return True

    def _dechunk(self) -> None:
        while (line := self.inbound.find(b"\r\n")) >= 0:
            size = int(self.inbound[:line], 16)
            end = line + 2 + size + 2
            if len(self.inbound) < end:
                return
            self._text += self.inbound[line + 2:end - 2]
            del self.inbound[:end]
            if size == 0:                                       # the node said goodbye
                self.drop()
                return

    def _event(self, block: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line and line[0] != ":")
        if "data" not in fields:
            return
        told = json.loads(fields["data"])
        self._seen += 1
        self.journal.got((told["payload"] or "").encode(), False,
                         Place(told["stream"], told["partition"], told["offset"]))
        self._last_id = fields.get("id", self._last_id)


if __name__ == "__main__":
    SseReader(arguments("SSE reader", filter="faults/#")).run()
