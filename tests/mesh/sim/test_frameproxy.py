"""The frame proxy between a real WebSocket client and server: what it is told to do, and nothing else."""
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.support.frameproxy import HANDSHAKE_MESSAGES, FrameProxy
from tests.support.wait import DEADLINE_S, wait_until

COUNT = 300


@contextlib.contextmanager
def collecting() -> Iterator[tuple[int, list[bytes]]]:
    """A server that writes down what it gets and echoes it."""
    got: list[bytes] = []

    def take(connection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                got.append(message)
                connection.send(message)

    with serve(take, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1], got
        finally:
            server.shutdown()
            thread.join()


def body(number: int) -> bytes:
    return b"%05d" % number + bytes(number % 700 * 100)


@pytest.fixture
def wire() -> Iterator[tuple[FrameProxy, list[bytes]]]:
    with collecting() as (port, got), FrameProxy(port, seed=3) as proxy:
        yield proxy, got


def send_all(proxy: FrameProxy, got: list[bytes]) -> None:
    """Send all, then read the echoes until every message has passed and nothing comes any more."""
    deadline_s = time.monotonic() + DEADLINE_S
    with connect(f"ws://127.0.0.1:{proxy.port}", close_timeout=1) as client:
        for number in range(COUNT):
            client.send(body(number))
        silent = False
        while not (silent and len(set(got)) == COUNT):
            assert time.monotonic() < deadline_s, f"{len(set(got))} of {COUNT} messages have passed"
            try:
                client.recv(timeout=0.5)
                silent = False
            except TimeoutError:
                silent = True


def test_without_faults_everything_passes_in_order(wire):
    proxy, got = wire
    send_all(proxy, got)
    assert got == [body(number) for number in range(COUNT)]


def test_doubled_and_reordered_but_never_lost_or_changed(wire):
    proxy, got = wire
    proxy.doubling = proxy.reorder = 0.2
    send_all(proxy, got)
    assert set(got) == {body(number) for number in range(COUNT)}
    assert len(got) > COUNT and got != sorted(got)
    assert got[:HANDSHAKE_MESSAGES] == [body(0), body(1)], "the handshake is left alone"


def test_delay_is_each_way_and_keeps_the_order(wire):
    proxy, got = wire
    proxy.delay_s = 0.2
    send_all(proxy, got)
    assert got == sorted(got) and len(got) == COUNT


def test_a_stall_holds_back_and_loses_nothing(wire):
    proxy, got = wire
    with connect(f"ws://127.0.0.1:{proxy.port}") as client:
        client.send(body(0))
        wait_until(lambda: len(got) == 1, "the first has passed")
        proxy.stall("up")
        client.send(body(1))
        with pytest.raises(TimeoutError):
            while True:
                client.recv(timeout=0.3)
        assert len(got) == 1
        proxy.resume()
        wait_until(lambda: len(got) == 2, "the second has passed")


@pytest.mark.parametrize("how", ["cut", "break_inside", "refuse"])
def test_a_broken_connection_is_noticed_at_both_ends(wire, how):
    proxy, got = wire
    with connect(f"ws://127.0.0.1:{proxy.port}") as client:
        for number in range(4):
            client.send(body(number))
        wait_until(lambda: len(got) == 4, "all have passed")
        getattr(proxy, how)()
        with pytest.raises((ConnectionClosed, OSError)):
            client.send(body(99))
            while True:
                client.recv(timeout=5)
    assert body(99) not in got
    wait_until(lambda: proxy.connections == 0, "no connection is left")
