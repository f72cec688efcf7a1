"""Kill rounds over AMQP 1.0: nothing that was accepted is lost, nothing is doubled without its delivery count."""
from __future__ import annotations

import os
import random
import threading
import time
from importlib.util import find_spec

import pytest

from tests.support.node import Node

if find_spec("proton") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("proton is not installed", allow_module_level=True)
from proton import Delivery, Message
from proton.handlers import MessagingHandler, TransactionHandler
from proton.reactor import Container

ROUNDS = 100 if os.environ.get("MESHGATE_SOAK") == "1" else 2
ROUND_S = 1.5


class Traffic(MessagingHandler, TransactionHandler):
    """Sends numbers, reads them and writes down what it has heard. Beside them go transactions of two."""

    def __init__(self, url, first):
        MessagingHandler.__init__(self, prefetch=50, auto_accept=False, auto_settle=True)
        self.url = url
        self.next = first
        self.accepted, self.sent, self.committed = set(), set(), set()
        self.got = []                       # number, delivery count
        self.pair = None                    # numbers of the transaction that is open

    def on_start(self, event):
        self.container = event.container
        connection = event.container.connect(self.url, reconnect=False)
        self.sender = event.container.create_sender(connection, "queue://kills")
        event.container.create_receiver(connection, "queue://kills")

    def on_sendable(self, event):
        if self.pair is None and event.sender == self.sender:   # not before there is credit: it would be overtaken
            self.pair = []
            self.container.declare_transaction(event.connection, handler=self)
        while event.sender.credit > 10 and len(self.sent) - len(self.accepted) < 100 and event.sender == self.sender:
            delivery = event.sender.send(Message(body=self.next, durable=True))
            delivery.number = self.next
            self.sent.add(self.next)
            self.next += 1

    def on_accepted(self, event):
        number = getattr(event.delivery, "number", None)
        if number is not None:
            self.accepted.add(number)
            self.on_sendable(event)

    def on_transaction_declared(self, event):
        self.pair = [self.next, self.next + 1]
        self.next += 2
        for number in self.pair:
            event.transaction.send(self.sender, Message(body=number, durable=True))
        event.transaction.commit()

    def on_transaction_committed(self, event):
        self.committed |= set(self.pair)
        self.container.declare_transaction(event.connection, handler=self)

    def on_message(self, event):
        self.got.append((event.message.body, event.message.delivery_count))
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()

    def on_disconnected(self, event):
        self.container.stop()

    on_transport_error = on_connection_error = on_disconnected


def run(node, first):
    traffic = Traffic(f"amqp://127.0.0.1:{node.ports['amqp']}", first)
    thread = threading.Thread(target=Container(traffic).run, daemon=True)
    thread.start()
    return traffic, thread


def test_nothing_accepted_is_lost_and_nothing_comes_twice_unmarked(tmp_path):
    node = Node(tmp_path, listeners=("amqp", "console")).start()
    chance = random.Random(7)
    promised, got, first = set(), [], 0
    try:
        for _ in range(ROUNDS):
            traffic, thread = run(node, first)
            time.sleep(ROUND_S * chance.uniform(0.5, 1.5))
            node.kill9()
            thread.join(20)
            promised |= traffic.accepted | traffic.committed
            got += traffic.got
            first = traffic.next
            node.start()
        from proton import Timeout
        from proton.utils import BlockingConnection
        connection = BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=20)
        receiver = connection.create_receiver("queue://kills", credit=100)
        while True:
            try:
                message = receiver.receive(timeout=1.5)
            except Timeout:
                break
            got.append((message.body, message.delivery_count))
            receiver.accept()
        connection.close()
    finally:
        node.kill9()
    assert len(promised) > 20
    lost = promised - {number for number, _ in got}
    assert not lost, sorted(lost)[:20]
    seen = set()
    for number, count in got:
        assert number not in seen or count > 0, f"{number} came twice without its delivery count"
        seen.add(number)
