"""The commands of README.md, and of the beginnings of other pages, run as they stand there.

Nothing in them is changed: they have a network of their own (a namespace), in which the ports that they name are free.
What runs until Ctrl-C goes to the background, `sleep` waits until nodes are ready, xdg-open asks for the page.
"""
from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.support import netns
from tests.support.netns import Namespaces
from tests.support.node import ROOT
from tests.support.wait import DEADLINE_S, wait_until

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDLESS = re.compile(r"meshgate up|meshgate sub|mosquitto_sub|curl -N")
PASSWORD = "correct horse"


def blocks(page: str, language: str = "") -> list[str]:
    """The blocks of a page that have this language, "" for those with none: command lines."""
    return [text for found, text in FENCE.findall((ROOT / page).read_text()) if found == language]


def block(page: str, piece: str, language: str = "") -> str:
    """The one with this piece in it."""
    found = [text for text in blocks(page, language) if piece in text]
    assert len(found) == 1, f"{page} has {len(found)} blocks with {piece!r}"
    return found[0]


class Shell:
    """A terminal in a folder and a network of its own."""

    def __init__(self, net: Namespaces, folder: Path) -> None:
        self._net = net
        self.folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self._started = self._readers = 0
        tools = folder / "tools"
        tools.mkdir()
        (tools / "xdg-open").write_text('#!/bin/sh\nexec curl -sfL -o /dev/null -w "%{http_code} %{url}\\n" "$1"\n')
        (tools / "xdg-open").chmod(0o755)
        self._environment = {
            **os.environ, "PATH": os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"])),
            "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1", "MESHGATE_PASSWORD": PASSWORD, "MESHGATE_NEW_PASSWORD": PASSWORD,
        }

    def run(self, text: str) -> list[str]:
        """The lines of a block, one after the other. What each has said, in order; "" of those that run on."""
        said = []
        for line in text.splitlines():
            command = line.partition("   #")[0].strip()
            if ENDLESS.search(command):
                self._start(line.partition(" &")[0] if command.endswith("&") else line)
                said.append("")
            elif command:
                said.append(self._finish(["bash", "-c", line], line))
        return said

    def program(self, text: str) -> str:
        return self._finish([sys.executable, "-c", text], text)

    def _finish(self, command: list[str], shown: str) -> str:
        done = subprocess.run(self._net.command("host", command), cwd=self.folder, env=self._environment,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_S, check=False)
        text = (done.stdout + done.stderr).decode()
        assert done.returncode == 0 and "Traceback" not in text, f"{shown}\n{text}\n{self.all_said()}"
        return text

    def _start(self, line: str) -> None:
        self._started += 1
        output = self.folder / f"output-{self._started}"
        with output.open("wb") as file:
            process = subprocess.Popen(self._net.command("host", ["bash", "-c", f"exec {line.strip()}"]),
                                       cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=file, start_new_session=True)
        self._running.append((line, process, output))
        if "meshgate up" in line:
            self.ready()
        else:
            self._readers += 1
            wait_until(lambda: self._reading() >= self._readers, f"{line} reads", also=self.all_said)

    def ready(self) -> None:
        """Every node that was started."""
        nodes = [(process, output) for line, process, output in self._running if "meshgate up" in line]

        def all_are() -> bool:
            for process, output in nodes:
                assert process.poll() is None, output.read_text()
            return all(" is ready" in output.read_text() for _, output in nodes)

        wait_until(all_are, "the nodes are ready", also=self.all_said)

    def _figures(self, pattern: str) -> float:
        """The sum of the metrics that begin like this, of all nodes that let anybody look."""
        said = "".join(line for _, _, output in self._running for line in output.read_text().splitlines()
                       if "console" in line)
        found = 0.0
        for console in re.findall(r"https?://(127\.0\.0\.1:\d+)", said):
            with self._net.inside("host"), contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(
                    f"http://{console}/metrics", timeout=10) as answer:
                found += sum(float(line.rpartition(" ")[2]) for line in answer.read().decode().splitlines()
                             if re.match(pattern, line))
        return found

    def _reading(self) -> float:
        """Subscriptions and streams that were opened."""
        return self._figures('meshgate_mqtt_packets_in_total{kind="subscribe"}|meshgate_http_sse_readers_opened_total ')

    def said(self, start: str) -> str:
        """What the line that begins so has said until now."""
        return next(output.read_text() for line, _, output in self._running if line.strip().startswith(start))

    def says(self, start: str, *pieces: str) -> None:
        wait_until(lambda: all(piece in self.said(start) for piece in pieces), f"{start} … says {pieces}",
                   also=self.all_said)

    def all_said(self) -> str:
        return "\n".join(f"--- {line}\n{output.read_text()[-2_000:]}" for line, _, output in self._running)

    def stop(self, start: str = "") -> None:
        """Those that run on and whose line begins so."""
        kept = []
        for line, process, output in self._running:
            if line.strip().startswith(start):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait(DEADLINE_S)
            else:
                kept.append((line, process, output))
        self._running = kept
        self._readers = 0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    why = netns.missing()
    if why:
        pytest.skip(why)
    for tool in ("curl", "mosquitto_sub", "kcat"):
        require_peer(shutil.which(tool), tool)
    with Namespaces("host") as net:
        terminal = Shell(net, tmp_path)
        try:
            yield terminal
        finally:
            terminal.stop()


README = "README.md"


def test_five_minutes(shell: Shell) -> None:
    said = shell.run(block(README, "meshgate consumers "))
    assert len(said) == 10
    assert any("All is well" in text for text in said), said
    shell.says("curl -N", '"payload":"on"', '"payload":"off"')
    shell.says("mosquitto_sub", "plant/graz/lamp on", "plant/graz/lamp off")
    shell.says("meshgate sub", "plant/graz/lamp on", "plant/graz/lamp off")
    assert [text for text in said if text.startswith("200 ")] == [
        "200 http://127.0.0.1:8080/v1/ws/example\n", "200 http://127.0.0.1:8090/\n"]
    assert any("CONSUMER" in text for text in said)

    assert shell.program(block(README, "import pika", "python")).rstrip().endswith("b'hello')")

    shell.stop("curl")
    said = shell.run(block(README, "kcat -P"))
    shell.says("mosquitto_sub -t 'orders", "orders world", "orders/eu again")
    assert said[1].startswith("hello\n"), said
    assert "again" in shell.run("kcat -C -b 127.0.0.1:9092 -t orders -e")[0]


def test_two_sites(shell: Shell) -> None:
    for name in ("cloud", "graz"):
        (shell.folder / f"{name}.toml").write_text(block(README, f'data = "{name}-data"', "toml"))
    said = shell.run(block(README, "--config cloud.toml"))
    assert " up " in said[3] and "cloud-eu ─ plant-graz     1  up" in said[4], said
    shell.says("mosquitto_sub -p 1884", "plant/graz/lamp on")
    shell.stop("meshgate up --config cloud")
    shell.run("mosquitto_pub -p 1883 -t plant/graz/lamp -m later -q 1")
    shell.run("meshgate up --config cloud.toml &")
    shell.run("meshgate sub --url http://127.0.0.1:8081 'plant/#' --from earliest &")
    shell.says("meshgate sub", "plant/graz/lamp on\nplant/graz/lamp later\n")


def test_users_and_rules(shell: Shell) -> None:
    said = shell.run(block(README, "meshgate passwd root"))
    assert any(text.startswith("yes: operators read") for text in said), said
    assert "logged in to http://127.0.0.1:8090 as root" in "".join(said)


def test_quick_starts_of_the_pages(shell: Shell) -> None:
    shell.run("meshgate up")
    shell.run(block("docs/kafka.md", "kcat -P"))
    shell.program(block("docs/amqp.md", "import pika", "python"))
