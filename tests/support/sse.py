"""Server-sent events as a user sees them: `curl -N` in a child process, its output parsed by the HTML standard."""
from __future__ import annotations

import json
import queue
import subprocess
import threading
from dataclasses import dataclass
from typing import Any

DEADLINE_S = 60


@dataclass
class ServerSent:
    id: str
    kind: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class CurlSse:
    """with CurlSse(url, "-u", "ana:secret") as stream: stream.next().json. Entered when the stream is open."""

    def __init__(self, url: str, *options: str) -> None:
        self.command = ["curl", "-sSN", "--no-buffer", "-i", *options, url]
        self.events: queue.Queue[ServerSent | None] = queue.Queue()
        self.opened = threading.Event()
        self.status = 0
        self.last_id = ""
        self.text = ""

    def __enter__(self) -> CurlSse:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        assert self.opened.wait(DEADLINE_S), f"no stream: {self.text}"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join(DEADLINE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        last_id, kind, data, head = "", "message", [], True
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.text += line + "\n"
            if head:
                if line.startswith("HTTP/"):
                    self.status = int(line.split()[1])
                head = line != "" or self.status == 100
                continue
            if line == "":
                self.opened.set()       # the greeting is an event without data
                if last_id:
                    self.last_id = last_id
                if data:
                    self.events.put(ServerSent(last_id, kind, "\n".join(data)))
                kind, data = "message", []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
        self.opened.set()
        self.events.put(None)

    def next(self, deadline_s: float = DEADLINE_S) -> ServerSent:
        """The next event. Fails when the stream ends or nothing comes."""
        found = self.events.get(timeout=deadline_s)
        assert found is not None, f"the stream ended: {self.text[-500:]}"
        return found

    def payloads(self, count: int) -> list[str]:
        return [self.next().json["payload"] for _ in range(count)]

    def wait_end(self, deadline_s: float = DEADLINE_S) -> list[ServerSent]:
        """Everything until the server ends the stream."""
        out = []
        while True:
            found = self.events.get(timeout=deadline_s)
            if found is None:
                return out
            out.append(found)
