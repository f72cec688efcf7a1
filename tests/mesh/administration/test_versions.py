"""Versions of documents: nodes that have seen the same agree, and what was made at the same time is named."""
from __future__ import annotations

import random

import pytest

from mesh.administration.documents import Stored
from mesh.administration.versions import merged, next_version


def version(current: Stored | None, node: str, text: str | None) -> Stored:
    body = None if text is None else {"description": text}
    return next_version(current, "policy", "p", body, node=node, author=f"admin of {node}", time_ms=0, reason="")


def test_a_version_that_knew_the_other_takes_its_place_without_a_conflict() -> None:
    first = version(None, "a", "1")
    second = version(first, "b", "2")
    assert merged(first, second, 0) == (second, None)
    assert merged(second, first, 0) == (second, None)
    assert merged(None, second, 0) == (second, None)


def test_two_made_at_the_same_time_are_a_conflict_and_both_nodes_keep_the_same_one() -> None:
    first = version(None, "a", "1")
    left, right = version(first, "a", "left"), version(first, "b", "right")
    kept_here, conflict_here = merged(left, right, 5)
    kept_there, conflict_there = merged(right, left, 6)
    assert kept_here.version == kept_there.version and kept_here.body == kept_there.body
    assert conflict_here is not None and conflict_there is not None
    assert conflict_here.gave_way.author != kept_here.author
    after = version(kept_here, "a", "settled")          # who has seen both settles it
    assert merged(left, after, 0)[1] is None and merged(right, after, 0)[1] is None


def test_the_same_content_is_no_conflict() -> None:
    left, right = version(None, "a", "same"), version(None, "b", "same")
    assert merged(left, right, 0)[1] is None


def test_a_wiped_node_that_uses_a_number_again_does_not_split_the_mesh() -> None:
    before, wiped = version(None, "a", "old"), version(None, "a", "new")
    assert before.version == wiped.version
    assert merged(before, wiped, 0)[0].body == merged(wiped, before, 0)[0].body


@pytest.mark.parametrize("seed", range(60))
def test_three_nodes_that_exchange_in_any_order_agree(seed: int) -> None:
    dice = random.Random(seed)
    nodes: dict[str, Stored | None] = dict.fromkeys("abc")
    for step in range(40):
        name = dice.choice("abc")
        if dice.random() < 0.3:
            nodes[name] = version(nodes[name], name, None if dice.random() < 0.2 else f"{name} {step}")
        else:
            theirs = nodes[dice.choice("abc")]
            if theirs is not None:
                nodes[name] = merged(nodes[name], theirs, step)[0]
    for _ in range(2):
        for name in "abc":
            for other in "abc":
                theirs = nodes[other]
                if theirs is not None:
                    nodes[name] = merged(nodes[name], theirs, 99)[0]
    assert len({None if one is None else (one.rank, str(one.body)) for one in nodes.values()}) == 1
