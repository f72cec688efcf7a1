"""Keys of other nodes: who tells of ever new names uses up his own share of the table, and changes nobody's entry."""
from __future__ import annotations

import pytest

from mesh.identity.known_nodes import PINS_MAX, KnownNodes
from tests.support.routing import Desk


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def made(desk):
    return KnownNodes(desk.router.state, lambda: desk.now_ms)


def invent(known, rogue, count=PINS_MAX):
    for number in range(count):
        known.put(f"{rogue}-{number}", bytes(32), rogue)
    return sum(row["by"] == rogue for row in known.rows())


def test_rogues_use_up_their_shares_and_everybody_elses_names_are_kept(desk):
    known = made(desk)
    known.put("plant", b"p" * 32, "hub")
    taken = [invent(known, f"rogue{number}") for number in range(8)]
    assert taken[0] < PINS_MAX / 4 and taken == sorted(taken, reverse=True)
    assert known.get("plant") == b"p" * 32, "nobody's goes for another one"
    for number in range(200):
        known.put(f"behind-hub-{number}", bytes(32), "hub")
        assert known.get(f"behind-hub-{number}") is not None
    known.put("shop", b"s" * 32, "shop")
    assert known.get("shop") == b"s" * 32, "who has proven his name at a link is kept in any case"
    assert len(list(known.rows())) <= PINS_MAX


def test_shares_outlive_a_restart_and_what_is_dropped_makes_room(desk):
    known = made(desk)
    count = invent(known, "rogue")
    desk.run()
    again = made(desk)
    again.put("one-more", bytes(32), "rogue")
    assert again.get("one-more") is None
    for number in range(count):
        again.drop(f"rogue-{number}")
    again.put("one-more", bytes(32), "rogue")
    assert again.get("one-more") is not None


def test_a_key_that_changes_counts_for_who_told_of_the_new_one(desk):
    known = made(desk)
    changes = []
    known.on_change = lambda *change: changes.append(change)
    known.put("plant", b"a" * 32, "hub")
    known.put("plant", b"b" * 32, "plant")
    assert known.get("plant") == b"b" * 32 and changes == [("plant", (b"a" * 32).hex(), (b"b" * 32).hex(), "plant")]
    assert [(row["name"], row["by"]) for row in known.rows()] == [("plant", "plant")]
