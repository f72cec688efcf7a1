"""Against real nodes: what the screen says is what the API says; a cut link, a restart, a real terminal."""
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.management.test_api import CONFIG, PASSWORDS
from tests.support.node import COMMAND, HOST, ROOT, Node, meshgate
from tests.support.rawmqtt import SESSION_EXPIRY, open_mqtt
from tests.support.wait import wait_until
from tests.tui.fake import Clock, FakeNode, Terminal, consumer
from tui import show
from tui.api.target import Target
from tui.app import Dashboard
from tui.views.table import TableView

LISTENERS = ("mqtt", "http", "console", "link")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """A cloud and a plant, with readers that are away and a hundred events."""
    folder = tmp_path_factory.mktemp("mesh")
    cloud = Node(folder / "cloud", name="cloud-eu", site="aws-eu", listeners=LISTENERS)
    plant = Node(folder / "plant", name="plant-graz", site="works-graz", listeners=LISTENERS,
                 extra=f'[[links]]\nto = "ws://{HOST}:{cloud.ports["link"]}"')
    cloud.start()
    plant.start()
    for number in range(5):
        with open_mqtt(cloud.mqtt, f"reader-{number}", clean=False, values=[(SESSION_EXPIRY, 3_600)]) as client:
            client.subscribe((f"plant/{number}/#" if number else "plant/#", 1))
    for number in range(100):
        cloud.publish(f"plant/{number % 5}/t", b'{"celsius": 71.4}')
    wait_until(lambda: len(cloud.get("/api/v1/nodes?filter=hops>=0").json["nodes"]) == 2, "the nodes have met")
    yield cloud, plant
    for node in (cloud, plant):
        node.kill9()


@contextlib.asynccontextmanager
async def looking(target: Target, first: str, size: tuple[int, int] = (160, 40)):      # type: ignore[no-untyped-def]
    app = Dashboard(target, first=first)
    async with app.run_test(size=size) as pilot:
        yield Terminal(app, pilot, Clock())


@pytest.mark.parametrize("name", ["consumers", "streams", "links", "nodes", "clients", "policies", "topics"])
async def test_every_figure_is_the_apis(mesh: tuple[Node, Node], name: str) -> None:
    """One answer of the node, frozen: each cell of the screen is a value of it."""
    cloud, _ = mesh
    async with looking(Target(cloud.url("console")), name) as at:
        await at.until("●" if name != "topics" else "as at", "▸")
        at.app.feed.paused = True
        view = at.app.view
        assert isinstance(view, TableView) and view.rows
        shown = "\n".join(at.body)
        answer = cloud.get(f"/api/v1/{name}?limit=1000").json[name]
        assert len([row for row in view.rows if not view.ACROSS or row["at"] == "cloud-eu"]) == len(answer)
        for row in answer:
            assert str(row[view.KEY]) in shown
            for column in ("lag_events", "events", "size_bytes", "below"):
                if column in row and column in view.fields():
                    text = show.size(row[column]) if column == "size_bytes" else show.number(row[column])
                    line = next(line for line in at.body if str(row[view.KEY]) in line)
                    assert f" {text} " in f"{line} ", (column, text, line)


async def test_the_pulse_says_what_the_overview_says(mesh: tuple[Node, Node]) -> None:
    cloud, _ = mesh
    async with looking(Target(cloud.url("console")), "pulse") as at:
        await at.until("● live")
        answer = cloud.get("/api/v1/overview").json
        assert answer["verdict"] in " ".join(" ".join(at.body).split())
        assert f"{answer['totals']['published']:,} published" in at.text


async def test_a_link_that_is_cut_and_one_that_comes_back(mesh: tuple[Node, Node]) -> None:
    cloud, plant = mesh
    async with looking(Target(cloud.url("console")), "map") as at:
        await at.until("○ cloud-eu", "○ plant-graz", "○ up")
        plant.kill9()
        await at.until("◌ plant-graz", "1 cannot be reached")
        plant.start()
        await at.until("○ plant-graz", "○ up", without="cannot be reached")


async def test_over_the_unix_socket_without_a_password_and_a_restart(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", extra=CONFIG).start()
    try:
        async with looking(Target(socket=node.data / "management.sock"), "consumers") as at:
            await at.until("● live", "$local:")
            assert at.app.base_url() == node.url("console")
            node.kill9()
            await at.until("⊠", "again in")
            await asyncio.to_thread(node.start)
            await at.until("● live", without="again in")
    finally:
        node.kill9()


def test_login_contexts_get_and_logout(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", extra=CONFIG).start()
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "MESHGATE_PASSWORD": PASSWORDS["viewer"]}

    def run(*arguments: str, code: int = 0) -> str:
        done = meshgate(*arguments, environment=home, cwd=tmp_path)
        assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr
        return (done.stdout + done.stderr).decode()
    try:
        url = node.url("console")
        assert "user name or password is wrong" in run("login", url, "--user", "nobody", code=1)
        assert run("contexts").startswith("no contexts yet")
        assert "as viewer; kept as context lab" in run("login", url, "--user", "viewer", "--context", "lab")
        assert "mgs_" not in run("contexts") and "kept" in run("contexts")
        assert json.loads(run("get", "listeners", "-o", "json", "--filter", "protocol=mqtt"))[0]["protocol"] == "mqtt"
        assert run("get", "listeners", "-o", "csv").splitlines()[0] == "address,protocol,tls"
        assert len(run("get", "listeners", "-o", "ndjson", "--limit", "2").splitlines()) == 2
        assert run("get", "streams").splitlines()[0].startswith("NAME")
        rising = run("get", "listeners", "-o", "csv", "--sort", "protocol").splitlines()
        falling = run("get", "listeners", "-o", "csv", "--sort", "-protocol").splitlines()
        assert falling[1:] == rising[:0:-1] != rising[1:]
        assert "All is well" in run("top") and "\x1b" not in run("top")
        assert "user viewer may not operate" in run("consumers", "pause", "x", code=1)
        assert "logged out of lab" in run("logout")
        assert f"meshgate login {url} --user viewer --context lab, or meshgate logout" in run("get", "streams", code=1)
        assert "needs a terminal" in run("tui", code=1)
    finally:
        node.kill9()


# --- figures ---------------------------------------------------------------------------------------------------------


def cpu_of(*arguments: str) -> float:
    """Processor seconds of a command, the least of five."""
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)       # in microseconds; os.times counts ticks of 10 ms
        subprocess.run(arguments, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.measured
def test_commands_load_only_what_they_need(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    """As ratios to an empty Python: --version 0.1 s and status 0.3 s where that takes 0.03 s."""
    cloud, _ = mesh
    python = cpu_of(COMMAND[0].replace("/meshgate", "/python") if COMMAND[0].endswith("/meshgate") else COMMAND[0],
                    "-c", "pass")
    assert cpu_of(*COMMAND, "--version") < 5 * python
    assert cpu_of(*COMMAND, "status", "--url", cloud.url("console")) < 12 * python


def opened(folder: Path, url: str) -> tuple[int, int]:
    """A dashboard in a terminal of 160×50: process, terminal."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT), LANG="C.UTF-8", XDG_CONFIG_HOME=str(folder))
        os.environ.pop("SSH_CONNECTION", None)
        os.execvp(COMMAND[0], [*COMMAND, "tui", "consumers", "--url", url])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    return process, terminal


def cpu_s_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.measured
def test_the_first_full_screen_is_there_soon(mesh: tuple[Node, Node], tmp_path: Path) -> None:
    """Processor time until rows and "● live" are there, as a ratio to an empty Python: 1.0 s where that takes 0.03."""
    cloud, _ = mesh
    python = cpu_of(sys.executable, "-c", "pass")
    process, terminal = opened(tmp_path, cloud.url("console"))
    seen = ""
    try:
        end_s = time.monotonic() + 60
        while not ("reader-0" in seen and "● live" in seen):
            assert time.monotonic() < end_s, seen[-2_000:]
            if select.select([terminal], [], [], 0.02)[0]:
                seen += os.read(terminal, 65_536).decode(errors="replace")
        used = cpu_s_of(process)
        print(f"{used:.2f} s of a processor, {used / python:.0f} times an empty Python")
        assert used < 33 * python
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)


class Load:
    """A node with a thousand consumers whose lag grows, once a second, in a thread."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.node.tables["consumers"] = [consumer(f"c-{number:04}", 1_000 + number) for number in range(1_000)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeNode:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.node.start(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._beat)
        return self.node

    def _beat(self) -> None:
        for row in self.node.tables["consumers"]:
            row["lag_events"] += 7
        self.node.beat()
        self._loop.call_later(1.0, self._beat)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.node.stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@pytest.mark.measured
def test_a_thousand_rows_each_second_cost_little(tmp_path: Path) -> None:
    """In a terminal of 160×50, over ten seconds: at most 5 % of a core, and 30 KB a second."""
    with Load() as node:
        process, terminal = opened(tmp_path, node.url)

        def read(seconds: float) -> int:
            end, size = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                if select.select([terminal], [], [], 0.1)[0]:
                    size += len(os.read(terminal, 65_536))
            return size

        try:
            assert read(8.0) > 5_000, "it draws"
            before = cpu_s_of(process)
            written = read(10.0)
            used = cpu_s_of(process) - before
            print(f"{used / 10:.1%} of a core, {written / 10_000:.1f} KB/s")
            assert 1_000 < written < 300_000, written
            assert used < 0.6, used
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(terminal)
