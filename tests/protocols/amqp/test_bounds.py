"""What one peer can make the engine keep, below any socket: parts of messages, and transactions that grow too large."""
from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.conditions import RESOURCE_LIMIT, LinkFault
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.engine.sending import LinkState
from protocols.amqp.nodes.transactions import Transactions
from protocols.amqp.settings import Amqp10Settings
from routing.event import Event


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
    transactions = Transactions(None, None, count_max=1, bytes_max=1_000)
    txn_id = transactions.declare()
    holder = Holder()
    transactions.settle(txn_id, holder, "delivery", p.ACCEPTED)
    delivery = Incoming(None, 0, b"t", True, txn_id)
    with pytest.raises(LinkFault) as raised:
        transactions.publish(txn_id, Event("a", bytes(2_000), 1), delivery, internal=False)
    assert raised.value.condition == RESOURCE_LIMIT
    assert holder.concluded == [("delivery", p.Modified(True))]
    assert transactions.declare()                           # and its place is free
