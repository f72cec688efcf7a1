"""Suspended links: how many at a time are looked at and given up, how many a user may have. AMQP 1.0 §3.5.6."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from protocols.amqp.resuming.suspended import (
    CONNECTION_CLOSE,
    DEAD_MIN,
    LINK_DETACH,
    NEVER,
    SESSION_END,
    TICK_S,
    Expiry,
    Key,
    Termini,
)
from routing.fairness.shares import Share

MANY = 5_000
PER_TICK = 100                  # of these fit into a tick
BYTES = 300
SUSPENDED_S = 120.0


class Connection:
    closed = False


class Session:
    """Counts who looks whether it has ended."""

    def __init__(self):
        self.looks = 0
        self.is_over = False
        self.connection = Connection()

    @property
    def ended(self):
        self.looks += 1
        return self.is_over


class Kept:
    """Giving up takes time."""

    size_bytes = BYTES

    def __init__(self, takes_time=lambda: None):
        self.given_up = 0
        self.takes_time = takes_time

    def give_up(self):
        self.given_up += 1
        self.takes_time()


class Stand:
    def __init__(self, **bounds):
        self.now_s = 1_000.0
        self.cost_s = TICK_S / (PER_TICK - 0.5)
        self.spent_s = 0.0
        self.links = Share("links", lambda: 0.5)
        self.bytes = Share("bytes", lambda: 0.5)
        bounds = {"links_max": 10 * MANY, "bytes_max": 1 << 30, **bounds}
        self.termini = Termini(
            self.links, self.bytes, lambda: self.now_s + self.spent_s, links_max=lambda: bounds["links_max"],
            bytes_max=lambda: bounds["bytes_max"], suspended_s=lambda: SUSPENDED_S)

    def suspend(self, session, number=0, *, policy=NEVER, timeout_s=0.0, user="u"):
        key, node, kept = Key(user, "c", True, f"link-{number}"), self.node(session), Kept(self.takes_time)
        assert self.termini.claim(key, node) is None
        self.termini.left(key, node, kept, Expiry(policy, timeout_s))
        return kept

    def takes_time(self):
        self.spent_s += self.cost_s

    def node(self, session):
        return SimpleNamespace(link=SimpleNamespace(session=session))

    def tick(self, seconds=0.0):
        self.now_s += seconds
        self.spent_s = 0.0
        self.termini.tick(self.now_s)

    def held(self):
        return len(self.termini), self.links.of("u"), self.bytes.of("u")


@pytest.mark.parametrize("policy", [NEVER, LINK_DETACH])
def test_of_many_whose_time_is_over_each_tick_gives_up_so_many(policy):
    stand = Stand()
    kept = [stand.suspend(Session(), number, policy=policy, timeout_s=60.0) for number in range(MANY)]
    stand.tick(59.0)
    assert not sum(one.given_up for one in kept)
    stand.tick(SUSPENDED_S)
    assert sum(one.given_up for one in kept) == PER_TICK
    for _ in range(MANY // PER_TICK):
        stand.tick()
    assert {one.given_up for one in kept} == {1}
    assert stand.held() == (0, 0, 0)


@pytest.mark.parametrize("policy", [SESSION_END, CONNECTION_CLOSE])
def test_those_that_wait_for_an_end_are_not_looked_at_before(policy):
    stand, session, other = Stand(), Session(), Session()
    kept = [stand.suspend(session, number, policy=policy, timeout_s=10.0) for number in range(MANY)]
    stays = stand.suspend(other, MANY, policy=policy)
    looks = session.looks
    for _ in range(20):
        stand.tick(1.0)
    assert session.looks == looks and not sum(one.given_up for one in kept)
    stand.termini.session_ended(session if policy == SESSION_END else session.connection)
    for _ in range(MANY // PER_TICK + 1):
        stand.tick()
    assert not sum(one.given_up for one in kept), "they have a time-out"
    stand.tick(10.0)
    assert sum(one.given_up for one in kept) == PER_TICK
    for _ in range(MANY // PER_TICK):
        stand.tick()
    assert {one.given_up for one in kept} == {1}
    assert not stays.given_up and stand.held() == (1, 1, BYTES)
    stand.tick(SUSPENDED_S)
    for _ in range(MANY // PER_TICK):                   # times of those that are no more stand before it
        stand.tick()
    assert stays.given_up == 1, "the node's own bound"


def test_one_that_takes_longer_than_a_tick_has_it_to_itself():
    stand = Stand()
    kept = [stand.suspend(Session(), number) for number in range(3)]
    stand.cost_s = 2 * TICK_S
    stand.tick(SUSPENDED_S)
    assert [one.given_up for one in kept].count(1) == 1
    stand.tick()
    stand.tick()
    assert [one.given_up for one in kept] == [1, 1, 1]


def test_one_whose_session_has_ended_before_is_given_up_at_once():
    stand, session = Stand(), Session()
    session.is_over = True
    assert stand.suspend(session, policy=SESSION_END).given_up == 1
    assert stand.held() == (0, 0, 0)


def test_a_link_that_was_resumed_does_not_wait_for_its_first_session():
    stand, first, second = Stand(), Session(), Session()
    kept = stand.suspend(first, policy=SESSION_END)
    key, node = Key("u", "c", True, "link-0"), stand.node(second)
    stand.termini.session_ended(first)
    assert stand.termini.claim(key, node) is kept
    assert stand.held() == (0, 0, 0)
    stand.termini.left(key, node, kept, Expiry(SESSION_END, 0.0))
    stand.tick()
    stand.tick(SUSPENDED_S - 1)
    assert not kept.given_up
    stand.termini.session_ended(second)
    stand.tick()
    assert kept.given_up == 1


def test_a_user_has_his_share_of_the_links():
    stand = Stand(links_max=8)
    kept = [stand.suspend(Session(), number) for number in range(5)]
    assert [one.given_up for one in kept] == [0, 0, 0, 0, 1]
    assert not stand.suspend(Session(), user="v").given_up
    assert stand.held() == (5, 4, 4 * BYTES)


def test_one_that_has_no_room_for_its_bytes_is_not_counted():
    stand = Stand(bytes_max=2 * BYTES)
    assert [stand.suspend(Session(), number).given_up for number in range(2)] == [0, 1]
    assert stand.held() == (1, 1, BYTES)


def test_links_that_come_and_go_leave_nothing_behind():
    stand, session = Stand(), Session()
    node = stand.node(session)
    for number in range(3 * DEAD_MIN):
        kept = stand.suspend(session, number % 7, policy=SESSION_END)
        assert stand.termini.claim(Key("u", "c", True, f"link-{number % 7}"), node) is kept
        stand.termini.left(Key("u", "c", True, f"link-{number % 7}"), node, kept, None)
    assert stand.held() == (0, 0, 0)
    assert len(stand.termini._times) <= DEAD_MIN + 1 and not stand.termini._waiting
