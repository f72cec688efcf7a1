"""Transactions: what is committed is published and acked in one step, and what cannot be is not there in part."""
from __future__ import annotations

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import encode_composite
from protocols.amqp.settings import Amqp10Settings
from routing.queues.options import QueueOptions
from routing.rights.policy import INTERNAL
from routing.settings import Limits
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until

VALUE = b"\x00\x53\x77"
COORDINATOR = 9                     # handle of the link to it


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    started = Stand(tmp_path_factory.mktemp("amqp10-tx"), limits=Limits(payload_bytes_max=50_000),
                    settings=Amqp10Settings(transaction_bytes_max=300_000)).start()
    yield started
    started.stop()


class Client(Raw):
    """Counts its deliveries: handles 0 and up send, 9 is the coordinator."""

    def __init__(self, stand, container):
        super().__init__(stand.port, container=container)
        self.number = -1
        self.begin()
        self.send(p.Attach("tx", COORDINATOR, p.SENDER, target=p.Coordinator(), source=p.Source(),
                           initial_delivery_count=0))
        self.expect(p.Attach)

    def next(self):
        self.number += 1
        return self.number

    def outcome(self):
        return self.expect(p.Disposition).state

    def declare(self):
        self.transfer(self.next(), VALUE + encode_composite(p.Declare()), COORDINATOR)
        return self.outcome().txn_id

    def put(self, txn_id, payload, handle=0):
        self.transfer(self.next(), data(payload), handle, state=p.TransactionalState(txn_id))

    def accept(self, txn_id, number):
        self.send(p.Disposition(p.RECEIVER, number, settled=True, state=p.TransactionalState(txn_id, p.ACCEPTED)))

    def discharge(self, txn_id, *, fail=False):
        self.transfer(self.next(), VALUE + encode_composite(p.Discharge(txn_id, fail)), COORDINATOR)
        return self.outcome()


@pytest.fixture
def client(stand, request):
    opened = Client(stand, request.node.name)
    yield opened
    opened.socket.close()


def depth(stand, name):
    found = stand.do(lambda: stand.router.queues.get(name).depth())
    return found.ready, found.unacked


def taken(stand, client, name):
    """The number of the one message of a queue, which is not answered."""
    stand.do(lambda: stand.router.queues.declare(name, QueueOptions(), INTERNAL))
    stand.publish(f"$queue/{name}", b"task")
    client.receiver(f"queue://{name}", 7, credit=1)
    return client.delivery()[0].delivery_id


def test_what_is_committed_is_published_and_acked(stand, client):
    client.sender("queue://left", 0)
    client.sender("queue://right", 1)
    number = taken(stand, client, "work")
    txn_id = client.declare()
    for handle in (0, 1):
        client.put(txn_id, b"result", handle)
        assert isinstance(client.outcome().outcome, p.Accepted)
    client.accept(txn_id, number)
    assert depth(stand, "left") == (0, 0) and depth(stand, "work") == (0, 1)
    assert isinstance(client.discharge(txn_id), p.Accepted)
    assert depth(stand, "left") == depth(stand, "right") == (1, 0) and depth(stand, "work") == (0, 0)
    assert not stand.do(lambda: list(stand.router.state.items("together/")))
    stand.restart()
    assert depth(stand, "left") == depth(stand, "right") == (1, 0) and depth(stand, "work") == (0, 0)


def test_one_queue_that_is_full_refuses_all_of_it(stand, client):
    """Before, what the other queues got stayed there."""
    stand.do(lambda: stand.router.queues.declare(
        "full", QueueOptions(max_length=1, overflow="reject-publish"), INTERNAL))
    stand.publish("$queue/full")
    client.sender("queue://spared", 0)
    client.sender("queue://full", 1)
    number = taken(stand, client, "work-of-full")
    txn_id = client.declare()
    for handle in (0, 1):
        client.put(txn_id, b"result", handle)
        client.outcome()
    client.accept(txn_id, number)
    found = client.discharge(txn_id)
    assert isinstance(found, p.Rejected) and "rollback" in found.error.description, found
    assert depth(stand, "spared") == (0, 0)
    wait_until(lambda: sum(depth(stand, "work-of-full")) == 1, "the message is there again")


def test_a_message_that_is_too_large_for_a_temporary_queue_ends_the_transaction(stand, client):
    """It is not decided first and then tried for ever."""
    attached = client.sender(None, 0, dynamic=True)
    assert attached.target.address
    txn_id = client.declare()
    client.put(txn_id, b"x" * 60_000)
    client.outcome()
    found = client.discharge(txn_id)
    assert isinstance(found, p.Rejected) and "at most 50000" in found.error.description
    assert not stand.do(lambda: list(stand.router.state.items("together/")))


def test_an_empty_one_and_one_that_only_acks(stand, client):
    assert isinstance(client.discharge(client.declare()), p.Accepted)
    number = taken(stand, client, "only-acks")
    txn_id = client.declare()
    client.accept(txn_id, number)
    assert isinstance(client.discharge(txn_id), p.Accepted)
    stand.restart()
    assert depth(stand, "only-acks") == (0, 0)


def test_what_is_rolled_back_is_not_there_and_comes_again(stand, client):
    client.sender("queue://nothing", 0)
    number = taken(stand, client, "again")
    txn_id = client.declare()
    client.put(txn_id, b"result")
    client.outcome()
    client.accept(txn_id, number)
    assert isinstance(client.discharge(txn_id, fail=True), p.Accepted)
    assert depth(stand, "nothing") == (0, 0)
    assert sum(depth(stand, "again")) == 1


def test_commits_that_nobody_waits_for_do_not_heap_up(stand, client, monkeypatch):
    """Nothing is read while more is on its way to the disk than may be open at a time; all of it counts in the end."""
    commit, under_way, seen = stand.router.together.commit, set(), []

    def counted(events, *others):
        ticket = commit(events, *others)
        under_way.add(id(ticket))
        seen.append(len(under_way))
        ticket.on_done(lambda done: under_way.discard(id(done)))
        return ticket

    monkeypatch.setattr(stand.router.together, "commit", counted)
    client.sender("queue://many", 0)
    declared = [client.declare() for _ in range(30)]
    for txn_id in declared:
        client.put(txn_id, b"x" * 40_000)
        client.transfer(client.next(), VALUE + encode_composite(p.Discharge(txn_id, False)), COORDINATOR)
    accepted = 0
    while accepted < 30:
        found = client.expect(p.Disposition)
        if isinstance(found.state, p.Accepted):
            accepted += (found.first if found.last is None else found.last) - found.first + 1
    assert depth(stand, "many") == (30, 0)
    assert max(seen) <= 300_000 // 40_000 + 1
