"""A real node in a child process: `meshgate up --config FILE` on free loopback ports. Used by interop and e2e tests.

    node = Node(folder, extra='[[streams]]\n…')
    node.start()                  # returns when /readyz says yes
    node.kill9(); node.restart()  # same ports, same data
"""
from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.process import ServerProcess
from tests.support.wait import DEADLINE_S, wait_until

_SCRIPT = Path(sys.executable).with_name("meshgate")
COMMAND = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "mesh.cli"]
ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


@dataclass
class Answer:
    """An HTTP answer, also of an error status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def http(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *,
         tls: ssl.SSLContext | None = None, timeout_s: float = DEADLINE_S) -> Answer:
    """One HTTP request; an error status is an Answer, a connection error an exception."""
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=tls) as reply:
            return Answer(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


@dataclass
class Node:
    """folder holds the configuration, the data and the log; extra is TOML text after the listeners.

    tls names the listeners that get the certificate of the test authority; also_tls those that get a second address
    with it, whose port is ports["mqtts"], ports["https"].
    """

    folder: Path
    extra: str = ""
    name: str = "test-1"
    site: str = "test"
    listeners: tuple[str, ...] = ("mqtt", "http", "console")
    tls: tuple[str, ...] = ()
    also_tls: tuple[str, ...] = ()
    certificates: Any = None
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = tuple(COMMAND)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for listener in self.listeners:
            self.ports.setdefault(listener, free_port())
        for listener in self.also_tls:
            self.ports.setdefault(f"{listener}s", free_port())
        self.config = self.folder / "node.toml"
        self.data = self.folder / "data"
        self.write_config()
        self.process = ServerProcess([*self.command, "up", "--config", str(self.config)], self.folder / "node.log",
                                     self.folder, {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1",
                                                   **self.environment})

    # --- configuration -------------------------------------------------------------------------------------------
    def config_text(self) -> str:
        lines = ["[node]", f'name = "{self.name}"', f'site = "{self.site}"', f'data = "{self.data}"', "", "[listeners]"]
        for listener in self.listeners:
            entries = [self._listener_text(self.ports[listener], secure=listener in self.tls)]
            if listener in self.also_tls:
                entries.append(self._listener_text(self.ports[f"{listener}s"], secure=True))
            lines.append(f"{listener} = [{', '.join(entries)}]" if len(entries) > 1 else f"{listener} = {entries[0]}")
        return "\n".join(lines) + "\n\n" + self.extra + "\n"

    def _listener_text(self, port: int, *, secure: bool) -> str:
        tls = ""
        if secure:
            tls = f', tls = {{ cert = "{self.certificates.server_cert}", key = "{self.certificates.server_key}" }}'
        return f'{{ bind = "{HOST}:{port}"{tls} }}'

    def write_config(self, extra: str | None = None) -> None:
        if extra is not None:
            self.extra = extra
        self.config.write_text(self.config_text())

    # --- addresses -----------------------------------------------------------------------------------------------
    @property
    def mqtt(self) -> tuple[str, int]:
        return HOST, self.ports["mqtt"]

    def address(self, listener: str) -> tuple[str, int]:
        return HOST, self.ports[listener]

    def url(self, listener: str, path: str = "") -> str:
        host = "localhost" if listener in self.tls else HOST
        return f"http{'s' if listener in self.tls else ''}://{host}:{self.ports[listener]}{path}"

    # --- life ----------------------------------------------------------------------------------------------------
    def start(self, *, ready: bool = True) -> Node:
        self.process.start()
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, deadline_s: float = DEADLINE_S) -> None:
        def ready() -> bool:
            assert self.process.running, f"the node has stopped:\n{self.process.log_tail()}"
            try:
                context = self.certificates.client_context() if "console" in self.tls else None
                return http("GET", self.url("console", "/readyz"), timeout_s=2, tls=context).status == 200
            except OSError:
                return False

        wait_until(ready, "the node is ready", deadline_s=deadline_s, also=self.process.log_tail)

    def kill9(self) -> None:
        self.process.kill9()

    def restart(self) -> Node:
        """Stop (hard, if it still runs) and start again on the same ports and data."""
        self.process.kill9()
        return self.start()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self.process.terminate()

    def sighup(self) -> None:
        self.process.signal(signal.SIGHUP)

    @property
    def running(self) -> bool:
        return self.process.running

    # --- use -----------------------------------------------------------------------------------------------------
    def get(self, path: str, headers: Mapping[str, str] | None = None, *, listener: str = "console") -> Answer:
        return http("GET", self.url(listener, path), headers=headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *,
             listener: str = "http") -> Answer:
        return http("POST", self.url(listener, path), body, headers)

    def publish(self, topic: str, payload: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.post(f"/v1/events/{topic}", payload, headers)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics: name with labels → value."""
        out = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out


def meshgate(*arguments: str, input: bytes | None = None, deadline_s: float = 60.0, cwd: Path | None = None,
             environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command line tool to its end. Its output is bytes in .stdout and .stderr."""
    return subprocess.run([*COMMAND, *arguments], input=input, capture_output=True, timeout=deadline_s, cwd=cwd,
                          stdin=None if input is not None else subprocess.DEVNULL, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})})


def stop_all(nodes: Iterable[Node]) -> None:
    for node in nodes:
        node.process.kill9()
