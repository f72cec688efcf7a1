"""Senders to a queue that has fallen behind: no credit for a while, and answers all the same. See test_pacing.py of
routing for when that is.
"""
from __future__ import annotations

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.settings import Amqp10Settings
from routing.settings import Limits
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand
from tests.support.pacing import end_pace, set_pace

CREDIT = 10


@pytest.fixture
def stand(tmp_path):
    stand = Stand(tmp_path, settings=Amqp10Settings(link_credit=CREDIT), limits=Limits(pace_wait_ms=600_000)).start()
    yield stand
    stand.stop()


def frames_until(raw, is_last):
    """Performatives, up to the one that is_last of."""
    found = []
    while not found or not is_last(found[-1]):
        found.append(raw.frame()[0])
    return found


def test_a_sender_has_its_answers_and_no_new_credit_until_the_queue_has_caught_up(stand):
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    raw.receiver("queue://other", 1)
    set_pace(stand, "q")
    for number in range(CREDIT):
        raw.transfer(number, data(b"x"))
    answers = frames_until(raw, lambda one: isinstance(one, p.Disposition) and (one.last or one.first) == CREDIT - 1)
    assert not [one for one in answers if isinstance(one, p.Flow)]
    raw.send(p.Flow(0, 10_000, 0, 10_000, 0, CREDIT, 0, echo=True))
    assert raw.expect(p.Flow).link_credit == 0, "asking for it does not help"
    raw.credit(5, 1, echo=True)                         # whoever receives on the connection goes on
    assert raw.expect(p.Flow).link_credit == 5
    end_pace(stand, "q")
    assert raw.expect(p.Flow).link_credit == CREDIT
    assert not stand.errors


def test_a_sender_that_has_gone_meanwhile_is_forgotten(stand):
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    set_pace(stand, "q")
    raw.transfer(0, data(b"x"))
    raw.expect(p.Disposition)
    raw.send(p.Close())
    raw.closed()
    end_pace(stand, "q")
    assert not stand.errors
