"""Too many strangers at the link listener: an honest neighbour gets through."""
from __future__ import annotations

import random
from dataclasses import dataclass

from mesh.link.proof.strangers import choose


@dataclass
class One:
    remote: str = "192.0.2.1:5"
    is_open: bool = False
    is_proven: bool = False
    is_ending: bool = False


def goes(strangers, newcomer="192.0.2.1:9", seed=1):
    return choose(strangers, newcomer, random.Random(seed))


def test_who_is_about_to_end_goes_first_then_who_has_sent_nothing_the_oldest_first():
    assert goes([One(is_open=True), One(), One(is_ending=True)]) == 2
    assert goes([One(is_open=True), One(), One()]) == 1


def test_who_has_proven_himself_and_who_waits_longest_with_progress_stay():
    for seed in range(50):
        assert goes([One(is_open=True, is_proven=True), One(is_open=True), One(is_open=True)], seed=seed) == 2
    assert goes([One(is_open=True, is_proven=True), One(is_open=True)]) is None


def test_a_flood_from_one_address_does_not_reach_those_of_another():
    flood = [One("198.51.100.7:1", is_open=True) for _ in range(10)]
    for seed in range(50):
        assert goes([One(is_open=True), One(), *flood], newcomer="198.51.100.7:2", seed=seed) >= 2


def test_in_a_flood_of_600_a_second_a_neighbour_from_the_same_address_is_admitted():
    """It opens at once, says Hello a round trip of 50 ms later, and comes again when it was turned away."""
    rng = random.Random(7)
    tries = []
    for _ in range(20):
        strangers, tried, mine, since = [One(is_open=rng.random() < 0.9) for _ in range(64)], 0, None, 0
        for _ in range(6_000):
            index = choose(strangers, "192.0.2.1:9", rng)
            if index is None:
                continue
            if strangers.pop(index) is mine:
                mine = None
            comes = One(is_open=rng.random() < 0.9)
            if mine is None:
                mine, since, tried = One(is_open=True), 0, tried + 1
                comes = mine
            strangers.append(comes)
            since += 1
            if since >= 30:                             # connections that came in 50 ms
                break
        assert mine is not None and since >= 30
        tries.append(tried)
    assert max(tries) <= 12 and sum(tries) / len(tries) < 4
