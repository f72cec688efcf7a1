"""`meshgate up` in a process of its own, on the default ports where they are free."""
from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
from screen import DemoError, show

HOST = "127.0.0.1"
PORTS = {"mqtt": 1883, "amqp": 5672, "kafka": 9092, "http": 8080, "console": 8090, "link": 7420}
START_S = 30.0                  # a slow machine, and three of them at once
MESHGATE = os.path.relpath(Path(sys.executable).with_name("meshgate"))


class Node:
    """One node: its configuration, its process, its ports."""

    def __init__(self, folder: Path, name: str, *, ports: dict[str, int], more: str = "") -> None:
        """ports: listener → wanted port; another is taken where it is in use. more: TOML behind the listeners."""
        self.name = name
        self.ports = {listener: free_port(wanted) for listener, wanted in ports.items()}
        self.config = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        lines = ["[node]", f'name = "{name}"', f'site = "{name}"', f'data = "{name}"', "[listeners]"]
        lines += [f'{listener} = {{ bind = "{HOST}:{port}" }}' for listener, port in self.ports.items()]
        self.config.write_text("\n".join(lines) + "\n" + more)
        self.process: asyncio.subprocess.Process | None = None

    def url(self, listener: str) -> str:
        scheme = {"mqtt": "mqtt", "amqp": "amqp", "link": "ws"}.get(listener, "http")
        return f"{scheme}://{HOST}:{self.ports[listener]}"

    async def start(self) -> None:
        start = time.monotonic()
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                MESHGATE, "up", "--config", str(self.config), stdout=log, stderr=log, start_new_session=True)
        async with aiohttp.ClientSession() as http:
            while True:
                if self.process.returncode is not None or time.monotonic() - start > START_S:
                    raise DemoError(f"{self.name} did not start:\n{self.last_lines()}")
                try:
                    async with http.get(self.url("console") + "/readyz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        show("NODE", "=", f"{self.name} is ready after {time.monotonic() - start:.1f} s, process {self.process.pid}")

    def last_lines(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    async def kill(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


def free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise DemoError("no free port")


def fresh_folder() -> Path:
    """An empty folder, unless nodes of an earlier demo still live in it."""
    folder = Path("demo-data")
    for lock in folder.glob("*/lock"):
        with lock.open("rb+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                sys.exit(f"A node of an earlier demo still runs on {lock.parent}. Stop it first:\n"
                         f"  pkill -f 'up --config {folder}'")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
