"""A log of many events on many topics: nothing that a client asks of it is paid for by the others.

200,000 events on 5,000 topics and a log of as many topics as events; MESHGATE_SOAK=1: 3,000,000 on 5,000, and 500,000
topics with 100 consumers.
"""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from functools import partial

import pytest

from routing.event import Event
from routing.settings import Durability, StreamSettings
from tests.fairness.harness import hold
from tests.support.node import Node
from tests.support.routing import Desk

pytestmark = pytest.mark.measured

SOAK = os.environ.get("MESHGATE_SOAK") == "1"
BATCH = 2_000
STREAM = '[[streams]]\nname = "events"\ncapture = ["#"]\n'


def filled(folder, events, topics):
    """A node that starts on a log of so many events."""
    node = Node(folder, extra=STREAM)
    desk = Desk(node.data, [StreamSettings("events", ("#",), durability=Durability.WRITE)])
    for start in range(0, events, BATCH):
        desk.publish(*(Event(f"plant/{number % topics}/temp", b"x" * 40, 1) for number in range(start, start + BATCH)))
    desk.close()
    node.start()
    return node


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = filled(tmp_path_factory.mktemp("big"), *((3_000_000, 5_000) if SOAK else (200_000, 5_000)))
    yield made
    made.process.kill9()


class Client:
    """One connection; the answer's body as JSON where it is."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(*address, timeout=60)

    def __call__(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = self.connection.getresponse()
        data = answer.read()
        return json.loads(data) if data[:1] == b"{" else {}


def for_some_time(seconds, work):
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        work(number)
        number += 1


def consumers(address, seconds, filters):
    """Made, looked at, moved and deleted again, each far behind."""
    ask = Client(address)

    def work(number):
        path = f"/v1/consumers/c{number % 20}"
        ask("PUT", path, {"filters": filters, "start": "earliest"})
        ask("GET", path)
        ask("GET", "/v1/consumers")
        ask("POST", path + "/seek", {"to": "2001-01-01T00:00:00Z"})
        ask("POST", path + "/seek", {"to": 1 + number % 1_000, "stream": "events", "partition": 0})
        if number % 3 == 0:
            ask("DELETE", path)

    for_some_time(seconds, work)


def leases(address, seconds, filters):
    """Pulled, renewed, given back, acked."""
    ask = Client(address)
    path = "/v1/consumers/leases"
    ask("PUT", path, {"filters": filters, "start": "earliest"})

    def work(number):
        events = ask("POST", path + "/pull", {"max": 300, "wait_s": 0}).get("events", [])
        tokens = [event["token"] for event in events]
        if tokens:
            for _ in range(3):
                ask("POST", path + "/extend", {"tokens": tokens, "seconds": 60})
            ask("POST", path + "/nack", {"tokens": tokens[:100], "delay_s": 1})
            ask("POST", path + "/ack", {"tokens": tokens[100:]})

    for_some_time(seconds, work)


def operators(console, seconds):
    """Lists and metrics, over and over."""
    ask = Client(console)

    def work(number):
        for path in ("/api/v1/consumers", "/api/v1/streams", "/metrics", "/api/v1/status"):
            ask("GET", path)

    for_some_time(seconds, work)


def readers(address, seconds, filters):
    """Event streams from the beginning, left after a while; and the log by time."""
    def work(number):
        query = "&".join(f"filter={pattern.replace('#', '%23')}" for pattern in filters)
        connection = http.client.HTTPConnection(*address, timeout=60)
        with contextlib.suppress(OSError):
            connection.request("GET", f"/v1/events?{query}&from=earliest")
            connection.getresponse().read(200_000)
        connection.close()
        ask = Client(address)
        ask("GET", "/v1/streams/events/events?limit=1000")

    for_some_time(seconds, work)


def cold_readers(address, data, seconds):
    """The same for a log of which nothing is in memory: whatever was read is forgotten by the system again."""
    def work(number):
        for file in data.glob("streams/events/*/*"):
            with contextlib.suppress(OSError):
                handle = os.open(file, os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)
        readers(address, 0.2, ["#"] if number % 2 else ["plant/77/temp", "plant/+/temp"])

    for_some_time(seconds, work)


FILTERS = {"all": ["#"], "some": ["plant/+/temp"], "one": ["plant/77/temp"], "none": ["shop/#", "plant/none/temp"]}


@pytest.mark.parametrize("which", FILTERS)
@pytest.mark.parametrize("attack", [consumers, leases, readers])
def test_calls_over_a_big_log(node, attack, which):
    if attack is readers and which in ("one", "none"):
        pytest.skip("such a stream waits, and so would the attack")
    hold(node, partial(attack, node.address("http"), filters=FILTERS[which]))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told to forget a file")
def test_a_log_that_is_not_in_memory(node):
    """Issue 9: cold reads leave the loop. tests/routing/log/test_cold.py says the same without a disk."""
    hold(node, partial(cold_readers, node.address("http"), node.data))


def test_lists_and_metrics(node):
    hold(node, partial(operators, node.address("console")))


def test_many_topics_and_consumers(tmp_path):
    """Issue 9: 500,000 distinct topics in the log and 100 consumers opened, listed, sought and deleted."""
    topics = 500_000 if SOAK else 40_000
    made = filled(tmp_path, topics, topics)
    try:
        ask = Client(made.address("http"))
        hold(made, partial(consumers, made.address("http"), filters=["plant/+/temp"]))
        for number in range(100):
            ask("PUT", f"/v1/consumers/n{number}", {"filters": [f"plant/{number}/temp"], "start": "earliest"})
        end = time.monotonic() + 120
        states = {}
        while time.monotonic() < end:
            states = {row["name"]: row["lag"] for row in ask("GET", "/v1/consumers")["consumers"]
                      if row["name"].startswith("n")}
            if all(lag["state"] == "exact" for lag in states.values()):
                break
            time.sleep(0.2)
        assert len(states) == 100 and {(lag["events"], lag["state"]) for lag in states.values()} == {(1, "exact")}
    finally:
        made.process.kill9()
