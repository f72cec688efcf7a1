"""What is taken away from a link by SIGHUP has narrowed or ended within a second: what leaves, what enters, the link.

edge ──► hub, which says by [[link_peers]] what may leave for the edge and what may come from it.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import Node, stop_all
from tests.support.rawmqtt import ConnectionClosed, NotReceived, RawMqtt, open_mqtt
from tests.support.wait import wait_until

TOKEN = "a secret of sixteen and more"
WITHIN_S = 1.0
EVERY_S = 0.02


def peers(*, export: str = '["a/#", "b/#"]', imports: str = '["a/#", "b/#"]', token: str = TOKEN) -> str:
    return (f'[[link_peers]]\nnode = "edge"\ntoken = "{token}"\nexport = {export}\nimport = {imports}\n')


class Pair:
    """One subscriber and one publisher; every event says when it was published."""

    def __init__(self, folder: Path) -> None:
        listeners = ("mqtt", "http", "console", "link")
        self.hub = Node(folder / "hub", name="hub", listeners=listeners, extra=peers())
        self.edge = Node(folder / "edge", name="edge", listeners=listeners, extra=(
            f'[[links]]\nto = "ws://127.0.0.1:{self.hub.ports["link"]}"\ntoken = "{TOKEN}"\n'))
        self.hub.start()
        self.edge.start()
        wait_until(lambda: self.edge.get("/api/v1/routes").json["routes"], "the link is up")

    def reload(self, extra: str) -> float:
        """Returns when it was asked for."""
        before = self.hub.get("/api/v1/status").json["reloads"]["ok"]
        self.hub.write_config(extra)
        asked_s = time.monotonic()
        self.hub.sighup()
        wait_until(lambda: self.hub.get("/api/v1/status").json["reloads"]["ok"] > before, "taken")
        return asked_s


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("links"))
    yield pair
    stop_all([pair.edge, pair.hub])


@pytest.fixture
def pair(nodes: Pair) -> Iterator[Pair]:
    yield nodes
    nodes.reload(peers())
    wait_until(lambda: nodes.edge.get("/api/v1/routes").json["routes"], "the link is up again")


class Stream:
    """Publishes to a/n and b/n without end, and keeps when what came had been published."""

    def __init__(self, source: Node, target: Node, name: str) -> None:
        self.came: dict[str, float] = {"a": 0.0, "b": 0.0}
        self._stop = threading.Event()
        self._reader = open_mqtt(target.mqtt, f"reader-{name}")
        self._reader.subscribe(("a/#", 0), ("b/#", 0))
        self._writer = open_mqtt(source.mqtt, f"writer-{name}")
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: all(self.came.values()), "both come")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in (self._reader, self._writer):
            client.drop()

    def _write(self) -> None:
        while not self._stop.wait(EVERY_S):
            for topic in ("a", "b"):
                self._writer.publish(f"{topic}/n", repr(time.monotonic()).encode())

    def _read(self) -> None:
        reader: RawMqtt = self._reader
        while not self._stop.is_set():
            try:
                packet = reader.message(deadline_s=0.2)
            except (NotReceived, ConnectionClosed, TimeoutError):
                continue
            self.came[packet.topic[0]] = max(self.came[packet.topic[0]], float(packet.payload))


@pytest.mark.measured
@pytest.mark.parametrize("way", ["export", "import"])
def test_what_may_leave_or_enter_narrows_within_a_second(pair: Pair, way: str) -> None:
    source, target = (pair.hub, pair.edge) if way == "export" else (pair.edge, pair.hub)
    with Stream(source, target, way) as stream:
        asked_s = pair.reload(peers(**({"export": '["a/#"]'} if way == "export" else {"imports": '["a/#"]'})))
        wait_until(lambda: stream.came["a"] > asked_s + WITHIN_S + 1.0, "what is still allowed goes on")
        assert stream.came["b"] <= asked_s + WITHIN_S, "published a second after the reload, and it came"
        pair.reload(peers())
        wait_until(lambda: stream.came["b"] > asked_s + WITHIN_S, "allowed again, it comes again")


@pytest.mark.measured
def test_a_link_whose_secret_is_another_now_ends_within_a_second(pair: Pair) -> None:
    with Stream(pair.hub, pair.edge, "secret") as stream:
        asked_s = pair.reload(peers(token="another secret of sixteen"))
        wait_until(lambda: not pair.edge.get("/api/v1/routes").json["routes"], "the link is down")
        assert max(stream.came.values()) <= asked_s + WITHIN_S
        time.sleep(1.5)
        assert max(stream.came.values()) <= asked_s + WITHIN_S, "and it does not come back"
