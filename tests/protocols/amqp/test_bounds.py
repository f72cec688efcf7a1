"""What one peer can make the engine keep, below any socket: parts of messages, and transactions that grow too large."""
from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.conditions import RESOURCE_LIMIT, LinkFault
from protocols.amqp.engine.link import LinkState
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.nodes.transactions import Transactions
from protocols.amqp.settings import Amqp10Settings
from routing.event import Event
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until


def receiving_link():
    settings = Amqp10Settings()
    container = SimpleNamespace(link_credit=10, message_bytes_max=1 << 20, partial_bytes_max=settings.partial_bytes_max)
    session = SimpleNamespace(connection=SimpleNamespace(container=container, partial_bytes=0), ended=False)
    link = ReceivingLink(session, p.Attach("s", 0, p.SENDER, initial_delivery_count=0))
    link.state, link.credit = LinkState.ATTACHED, 10
    return link


@pytest.mark.parametrize("payload", [b"", b"ab"])
def test_parts_of_a_message_cost_their_bytes_however_small_they_are(payload):
    """100,000 frames of nothing, or of two bytes: as objects in a list that was 1 to 5 MiB, and without end."""
    link = receiving_link()
    taken = []
    link.node = SimpleNamespace(take=lambda incoming, message: taken.append(message))
    first, more = p.Transfer(0, 0, b"t", 0, more=True), p.Transfer(0, more=True)
    link.transfer(first, payload)
    tracemalloc.start()
    for _ in range(100_000):
        link.transfer(more, bytes(bytearray(payload)))      # an object of its own each time
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600_000
    assert link.session.connection.partial_bytes == 100_001 * len(payload)
    link.transfer(p.Transfer(0, more=False), payload)
    assert taken == [payload * 100_002] and link.session.connection.partial_bytes == 0


class Holder:
    def __init__(self):
        self.concluded = []

    def conclude(self, held, state):
        self.concluded.append((held, state))


def test_what_was_answered_in_a_transaction_that_grows_too_large_goes_out_again():
    work = SimpleNamespace(long_work=list)                  # all of it at once
    transactions = Transactions(None, work, count_max=1, bytes_max=1_000)
    txn_id = transactions.declare()
    holder = Holder()
    transactions.settle(txn_id, holder, "delivery", p.ACCEPTED)
    delivery = Incoming(None, 0, b"t", True, txn_id)
    with pytest.raises(LinkFault) as raised:
        transactions.publish(txn_id, Event("a", bytes(2_000), 1), delivery, internal=False)
    assert raised.value.condition == RESOURCE_LIMIT
    assert holder.concluded == [("delivery", p.Modified(True))]
    assert transactions.declare()                           # and its place is free


def test_messages_that_windows_cut_off_are_bounded_over_all_sessions_and_go_on_with_them(tmp_path):
    """Each session held a message of up to 1 MiB behind a window of one frame: 1,024 of them are 1 GiB."""
    stand = Stand(tmp_path, settings=Amqp10Settings(waiting_bytes_max=50_000)).start()
    client = Raw(stand.port, max_frame_size=512)
    client.begin()
    client.sender("queue://wide")
    payload = bytes(range(256)) * 160
    client.transfer(0, data(payload))
    client.expect(p.Disposition)
    for channel in range(1, 5):
        client.begin(channel, window=1)
        client.receiver("queue://wide", 1, channel=channel, name=f"r{channel}", distribution_mode="copy")
    for channel in range(1, 5):
        client.send(p.Flow(0, 1, 0, 10, 1, 0, 10), channel=channel)
    waiting = lambda: stand.do(lambda: next(iter(stand.amqp.connections)).waiting_bytes)  # noqa: E731
    wait_until(lambda: waiting() > 50_000, "two sessions to hold what their windows cut off")
    assert [client.frame()[2] for _ in range(2)] == [1, 2]              # the others were not begun
    assert waiting() < 2 * len(payload) + 10_000
    for channel in range(1, 5):
        client.send(p.Flow(1 if channel < 3 else 0, 10_000, 0, 10, 1, 1 if channel < 3 else 0, 9), channel=channel)
    got = dict.fromkeys(range(1, 5), 0)
    while sum(got.values()) < 4:
        found, _, channel = client.frame()
        if isinstance(found, p.Transfer) and not found.more:
            got[channel] += 1
    assert waiting() == 0
    client.socket.close()
    stand.stop()


@pytest.mark.parametrize("credit", [2**31 - 1, 2**31, 2**32 - 1])
def test_all_the_credit_that_can_be_said_is_credit(tmp_path, credit):
    """Serial numbers turn round at half of it."""
    stand = Stand(tmp_path).start()
    try:
        raw = Raw(stand.port)
        raw.begin()
        raw.sender("queue://q")
        raw.receiver("queue://q", credit=credit)
        for number in range(3):
            raw.transfer(number, data(b"%d" % number))
        seen = 0
        while seen < 3:
            seen += isinstance(raw.frame()[0], p.Transfer)
    finally:
        stand.stop()
