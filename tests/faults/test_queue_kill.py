"""kill -9 under AMQP clients with confirms, transactions, nacks, rejects and times to live. pika, which is not ours.

    producers ─confirms─► work ──► workers: tx (publish to done, ack) · tx (nack) · tx (reject) ─► dead
              └─confirms─► short ── 300 ms ──► expired

5 rounds in the suite; 100 with MESHGATE_SOAK=1, or as many as MESHGATE_FAULT_ROUNDS says.
"""
from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pika
import pytest
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from routing.log.inspect import verify
from tests.support.node import Node
from tests.support.wait import wait_until

ROUNDS = int(os.environ.get("MESHGATE_FAULT_ROUNDS", "100" if os.environ.get("MESHGATE_SOAK") == "1" else "5"))
SEED = int(os.environ.get("MESHGATE_FAULT_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
logging.getLogger("pika").setLevel(logging.CRITICAL)
BROKEN = (AMQPError, AMQPConnectorException, OSError, AssertionError)       # pika asserts on one that breaks in a call
RETRY_S = 0.05


class Run:
    """The journals of all clients, and when they are to stop."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.lock = threading.Lock()
        self.sent: set[bytes] = set()
        self.confirmed: set[bytes] = set()
        self.committed: set[bytes] = set()
        self.seen: set[bytes] = set()
        self.unmarked: list[bytes] = []
        self.producing = self.working = True

    def connect(self) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.node.ports["amqp"], credentials=pika.PlainCredentials("guest", "guest"),
            socket_timeout=5, blocked_connection_timeout=5, stack_timeout=10))

    def declare(self) -> None:
        with self.connect() as connection:
            channel = connection.channel()
            for name in ("done", "dead", "expired"):
                channel.queue_declare(name, durable=True)
            channel.queue_declare("work", durable=True, arguments={
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
            channel.queue_declare("short", durable=True, arguments={
                "x-message-ttl": 300, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "expired"})

    def drained(self, name: str) -> Counter[bytes]:
        found: Counter[bytes] = Counter()
        with self.connect() as connection:
            channel = connection.channel()
            while True:
                method, _, body = channel.basic_get(name, auto_ack=True)
                if method is None:
                    return found
                found[body] += 1

    def is_empty(self, name: str) -> bool:
        """Nothing is ready, and nothing is out."""
        shown = self.node.get(f"/v1/consumers/{name}", listener="http").json
        return not shown["ready"] and not shown["unacked"]


def produce(run: Run, who: str) -> None:
    number = 0
    while run.producing:
        try:
            with run.connect() as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                while run.producing:
                    number += 1
                    key = "short" if number % 10 == 0 else "work"
                    body = f"{key}-{who}-{number}".encode()
                    with run.lock:
                        run.sent.add(body)
                    channel.basic_publish("", key, body, pika.BasicProperties(delivery_mode=2))
                    with run.lock:
                        run.confirmed.add(body)
        except BROKEN:
            time.sleep(RETRY_S)


def work(run: Run, dice: random.Random) -> None:
    while run.working:
        try:
            with run.connect() as connection:
                channel = connection.channel()
                channel.tx_select()
                channel.basic_qos(prefetch_count=5)
                for method, _, body in channel.consume("work", inactivity_timeout=0.1):
                    if not run.working:
                        break
                    if method is None:
                        continue
                    with run.lock:
                        if body in run.seen and not method.redelivered:
                            run.unmarked.append(body)
                        run.seen.add(body)
                    chance = dice.random()
                    if chance < 0.15:
                        channel.basic_nack(method.delivery_tag, requeue=True)
                    elif chance < 0.25:
                        channel.basic_reject(method.delivery_tag, requeue=False)
                    else:
                        channel.basic_publish("", "done", body, pika.BasicProperties(delivery_mode=2))
                        channel.basic_ack(method.delivery_tag)
                    channel.tx_commit()
                    if chance >= 0.25:
                        with run.lock:
                            run.committed.add(body)
        except BROKEN:
            time.sleep(RETRY_S)


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_kill_9_loses_nothing_of_confirms_transactions_nacks_and_times_to_live(tmp_path: Path) -> None:
    """What was confirmed is done or a dead letter; what a transaction published is there once; what expired, once."""
    dice = random.Random(SEED)
    node = Node(tmp_path, listeners=("amqp", "http", "console")).start()
    run = Run(node)
    run.declare()
    producers = [threading.Thread(target=produce, args=(run, who), daemon=True) for who in ("a", "b")]
    workers = [threading.Thread(target=work, args=(run, random.Random(dice.random())), daemon=True) for _ in range(2)]
    for thread in (*producers, *workers):
        thread.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(dice.uniform(0.3, 1.2))
            node.kill9()
            node.start()
        before = len(run.confirmed)
        wait_until(lambda: len(run.confirmed) > before, "clients are back")
        run.producing = False
        for thread in producers:
            thread.join(30)
        wait_until(lambda: run.is_empty("work") and run.is_empty("short"), "all of it is worked off",
                   deadline_s=60.0 + 5 * ROUNDS)
        run.working = False
        for thread in workers:
            thread.join(30)
        assert run.is_empty("work"), "nothing came back"
        done, dead, expired = run.drained("done"), run.drained("dead"), run.drained("expired")
    finally:
        run.producing = run.working = False
        node.stop()
    print(f"seed {SEED}: {ROUNDS} kills, {len(run.confirmed)} confirmed, {len(done)} done, {len(dead)} rejected, "
          f"{len(expired)} expired, {len(run.committed)} commits answered")
    everywhere = set(done) | set(dead) | set(expired)
    assert not run.confirmed - everywhere, ("LOST", SEED, sorted(run.confirmed - everywhere)[:10])
    assert not run.committed - set(done), ("LOST, though committed", SEED, sorted(run.committed - set(done))[:10])
    for name, found in (("done", done), ("expired", expired)):
        doubled = [body for body, count in found.items() if count > 1]
        assert not doubled, ("DUP", name, SEED, doubled[:10])
    assert not everywhere - run.sent, ("PHANTOM", SEED)
    assert not run.unmarked, ("DUP, not marked as redelivered", SEED, run.unmarked[:10])
    assert all(body.startswith(b"short") for body in expired) and expired and done and dead
    assert not [finding for finding in verify(node.data) if finding.level == "damage"]
