"""What many links cost, and what one client's load costs the others."""
from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc

import pytest

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import encode_composite
from protocols.amqp.codec.message import inner, split
from protocols.amqp.settings import Amqp10Settings
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand

LINKS = 9_998 if os.environ.get("MESHGATE_SOAK") == "1" else 2_000
SESSIONS = 1_000
BYTES_MAX = 4 * 1024


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path, settings=Amqp10Settings(handles_max=10_000)).start()
    yield started
    started.stop()


def attached(client, performatives):
    """Attach all at once; returns when each has been answered."""
    client.send_raw(b"".join(frames.frame(0, encode_composite(one)) for one in performatives))
    for _ in performatives:
        client.expect(p.Attach)


def payload_of(message):
    """Of its only data section: a number as text."""
    start, stop = inner(message, split(message).value)
    return int(message[start:stop])


@pytest.mark.measured
def test_an_idle_link_takes_less_than_4_kib(stand):
    """Receivers of one queue without credit, and senders to one topic."""
    client = Raw(stand.port)
    client.begin()
    client.sender("queue://idle", 0)
    client.receiver("queue://idle", 1)
    links = [p.Attach(f"l{handle}", handle, p.RECEIVER, source=p.Source("queue://idle"), target=p.Target())
             if handle % 2 else
             p.Attach(f"l{handle}", handle, p.SENDER, source=p.Source(), target=p.Target("topic://t"),
                      initial_delivery_count=0) for handle in range(2, 2 + LINKS)]
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    attached(client, links)
    stand.do(gc.collect)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{(after - before) / LINKS:.0f} bytes for each of {LINKS} links")
    assert 200 < (after - before) / LINKS < BYTES_MAX
    began = time.process_time()
    for number in range(200):                           # a receiver with no credit costs nothing
        client.transfer(number, data(b"x"))
    answered = 0
    while answered < 200:
        found = client.expect(p.Disposition)
        answered += (found.last if found.last is not None else found.first) - found.first + 1
    assert time.process_time() - began < 2


def test_a_thousand_sessions_of_one_connection_send_and_read(stand):
    client = Raw(stand.port)
    every = range(SESSIONS)

    def all_say(performatives):
        client.send_raw(b"".join(
            frames.frame(channel, encode_composite(one)) for channel, one in enumerate(performatives)))

    all_say([p.Begin(None, 0, 100, 100)] * SESSIONS)
    assert {client.expect(p.Begin).remote_channel for _ in every} == set(every)
    all_say([p.Attach(f"in-{number}", 0, p.SENDER, source=p.Source(), target=p.Target(f"queue://q{number % 10}"),
                      initial_delivery_count=0) for number in every])
    for _ in every:
        client.expect(p.Attach)
    start = encode_composite(p.Transfer(0, 0, b"t", 0, True))
    client.send_raw(b"".join(frames.frame(number, start + data(b"%d" % number)) for number in every))
    all_say([p.Attach(f"out-{number}", 1, p.RECEIVER, p.SETTLED, source=p.Source(f"queue://q{number % 10}"),
                      target=p.Target()) for number in every])
    for _ in every:
        client.expect(p.Attach)
    all_say([p.Flow(0, 100, 0, 100, 1, 0, 1)] * SESSIONS)
    assert sorted(payload_of(client.delivery()[1]) for _ in every) == list(every)
    rows = stand.do(stand.amqp.clients_snapshot)
    assert [row["sessions"] for row in rows] == [SESSIONS]
    client.send(p.Begin(None, 0, 100, 100), channel=stand.amqp.bounds.sessions_max)
    assert client.closed() == "amqp:connection:framing-error"


@pytest.mark.measured
def test_one_who_only_sends_does_not_keep_the_others_waiting(stand):
    """hostile.md 87: settled transfers, the smallest there are, as fast as the socket takes them."""
    stop = threading.Event()
    flood = Raw(stand.port, container="flood")
    flood.begin(window=2**31 - 1)
    flood.sender("topic://flood", settled=p.SETTLED)
    start = hot.transfer_head(0)

    def send():
        number = 0
        try:
            while not stop.is_set():
                flood.send_raw(b"".join(frames.frame(
                    0, hot.transfer(start, number + step, b"t", True, False) + data(b"x")) for step in range(400)))
                number += 400
                while not isinstance(flood.frame()[0], p.Flow):
                    pass
        except OSError:
            assert stop.is_set()

    quiet = Raw(stand.port, container="quiet")
    quiet.begin()
    quiet.sender("queue://quiet")

    def p90(rounds=40):
        times = []
        for number in range(rounds):
            began = time.monotonic()
            quiet.transfer(number + p90.base, data(b"x"))
            quiet.expect(p.Disposition)
            times.append(time.monotonic() - began)
        p90.base += rounds
        return sorted(times)[int(rounds * 0.9)]

    p90.base = 0
    alone = p90()
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    time.sleep(0.3)
    beside = p90()
    stop.set()
    sender.join(5)
    flood.socket.close()
    assert beside < alone * 20 + 0.1, (alone, beside)
