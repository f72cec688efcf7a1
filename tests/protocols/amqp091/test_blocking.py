"""connection.blocked: told when the disk is full and when it has room again, and not every two seconds for hours."""
from __future__ import annotations

from protocols.amqp091.blocking import BLOCKED_MAX_S, BLOCKED_MIN_S, QUIET_S, Blocking
from protocols.amqp091.codec import methods
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand


def test_a_disk_that_stays_full_is_tried_ever_more_rarely():
    """Clients publish the moment they may, and are refused."""
    blocking, times, now_s = Blocking(), 0, 0.0
    while now_s < 3_600:
        if not blocking.is_blocked(now_s):
            blocking.full(now_s)
            times += 1
        now_s += 0.5
    assert times <= 5 + 3_600 / BLOCKED_MAX_S


def test_refusals_of_what_was_on_the_way_prolong_nothing():
    blocking = Blocking()
    for tenth in range(10):
        blocking.full(tenth / 10)
    assert blocking.is_blocked(BLOCKED_MIN_S - 0.1) and not blocking.is_blocked(BLOCKED_MIN_S)


def test_after_a_quiet_minute_it_is_as_new():
    blocking = Blocking()
    blocking.full(0)
    blocking.full(3)
    assert blocking.is_blocked(6.9) and not blocking.is_blocked(7)
    blocking.full(7 + QUIET_S)
    assert not blocking.is_blocked(7 + QUIET_S + BLOCKED_MIN_S)


def test_clients_that_can_hear_it_are_told_both_and_newcomers_too(tmp_path):
    stand = Stand(tmp_path).start()
    try:
        early, deaf = Raw(stand.port), Raw(stand.port, capabilities=False)
        deaf.open(1)
        stand.do(stand.amqp.broker.storage_full)
        early.expect(methods.ConnectionBlocked)
        late = Raw(stand.port)
        late.expect(methods.ConnectionBlocked)
        early.expect(methods.ConnectionUnblocked)
        late.expect(methods.ConnectionUnblocked)
        deaf.open(2)                                    # the next it hears is the answer to this
        for client in (early, late, deaf):
            client.close()
    finally:
        stand.stop()
