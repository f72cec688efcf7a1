"""Selectors: JMS 2.0 §3.8.1, three-valued logic, and bounds (hostile.md 47)."""
from __future__ import annotations

import random
import re
import time

import pytest

from routing.event import Event, Properties
from routing.queues.selecting.like import is_like, like_of
from routing.queues.selecting.selector import SelectorError, check, matches

EVENT = Event("t", b"", 1, headers=(
    ("color", "red"), ("weight", 5), ("price", 2.5), ("yes", True), ("no", False), ("nothing", None), ("raw", b"x"),
    ("under", "a_c"), ("x-y", 1)), properties=Properties(priority=7, message_id="ID:1"), timestamp_ms=1_000)


@pytest.mark.parametrize("text", [
    "color = 'red'", "color <> 'blue'", "weight = 5", "weight = 5.0", "weight > 4 AND weight < 6",
    "weight BETWEEN 5 AND 5",
    "weight NOT BETWEEN 6 AND 7", "color IN ('blue', 'red')", "color NOT IN ('blue')", "weight IN (4, 5)",
    "color LIKE 'r%'", "color LIKE '_ed'", "color NOT LIKE 'b%'", "under LIKE 'a\\_c' ESCAPE '\\'", "color LIKE '%e%'",
    "missing IS NULL", "color IS NOT NULL", "nothing IS NULL", "yes", "yes = TRUE", "NOT no", "no = FALSE",
    "weight + 1 = 6", "weight * 2 - 3 = 7", "-weight = -5", "weight / 2 = 2", "price / 2 = 1.25", "weight % 2 = 1",
    "(color = 'blue' OR weight = 5) AND yes", "color = 'blue' OR weight = 5 AND yes", "JMSPriority > 4",
    "JMSMessageID = 'ID:1'", "JMSTimestamp = 1000", "JMSDeliveryMode = 'PERSISTENT'", "weight = 5L", "price = 25e-1",
    "missing = 1 OR yes", "NOT (missing = 1 AND no)", "color = 'red' and not no", "\"x-y\" = 1", "x-y = 1",
    "'it''s' = 'it''s'", "weight >= 5 AND weight <= 5", "- - weight = 5", "missing IS NULL OR missing > 1",
])
def test_it_is_true(text):
    assert matches(text, EVENT)


@pytest.mark.parametrize("text", [
    "color = 'blue'", "color = 5", "weight = '5'", "yes = 1", "missing = 1", "NOT (missing = 1)", "missing <> 1",
    "missing BETWEEN 1 AND 2", "missing NOT BETWEEN 1 AND 2", "missing IN ('a')", "missing NOT IN ('a')",
    "missing LIKE '%'", "missing NOT LIKE '%'", "weight LIKE '5'", "color", "weight", "color > 'a'", "yes > no",
    "weight / 0 = 1", "color + 1 = 2", "raw = 'x'", "color LIKE ''", "color LIKE 're'",
    "under LIKE 'a\\%c' ESCAPE '\\'",
    "yes IN (1)", "'a' = 1", "NULL_ = 1", "weight * 1e300 * 1e300 = 1",
])
def test_it_is_not_true(text):
    assert not matches(text, EVENT)


@pytest.mark.parametrize("text", [
    "", "   ", "color =", "= 'red'", "color = 'red", "(color = 'red'", "color = 'red')", "color LIKE weight",
    "color IN ()",
    "color IN (weight)", "color IS", "color IS NOT", "weight BETWEEN 1", "AND", "color = 'a' color",
    "color LIKE 'a' ESCAPE 'ab'",
    "color LIKE 'a\\' ESCAPE '\\'", "color ; weight", "1 +", "NOT", "color NOT = 'red'", "x" * 10_000,
    "(" * 100 + "yes" + ")" * 100, " OR ".join(["weight = 1"] * 400), "weight = \x00",
    "color LIKE '%" + "a" * 40 + "_%'", " OR ".join(["color LIKE '%a_b%'"] * 17),
    "weight = " + "9" * 5_000,
])
def test_it_is_refused(text):
    with pytest.raises(SelectorError):
        check(text)


def test_like_says_what_a_search_of_everything_says():
    chance = random.Random(5)
    for _ in range(3_000):
        pattern = "".join(chance.choices("ab.%_\n", k=chance.randrange(7)))
        text = "".join(chance.choices("ab.\n", k=chance.randrange(9)))
        whole = "".join({"%": ".*", "_": "."}.get(char, re.escape(char)) for char in pattern)
        expected = re.fullmatch(whole, text, re.DOTALL) is not None
        assert is_like(text, like_of(pattern, "")) is expected, (pattern, text)


@pytest.mark.measured
def test_fifty_wildcards_cost_no_power_of_them():
    """hostile.md 47: at most as much as fifty searches of the text."""
    event = Event("t", b"", headers=(("s", "a" * 60_000),))
    text = "s LIKE '" + "%a" * 50 + "%b'"
    check(text)
    began = time.perf_counter()
    assert not matches(text, event)
    assert time.perf_counter() - began < 0.05
    eighty = " OR ".join(["s LIKE '%" + "a" * 8 + "b%'"] * 80)
    check(eighty)
    began = time.perf_counter()
    assert not matches(eighty, event)
    assert time.perf_counter() - began < 0.02, "all LIKEs of a selector have a bound together"
    event = Event("t", b"", headers=(("s", "a" * 4_000),))
    text = "s LIKE '%" + "a" * 30 + "_b%'"
    began = time.perf_counter()
    assert not matches(text, event)
    assert time.perf_counter() - began < 0.05


def test_what_likes_cost_counts_anew_for_each_event():
    text = "s LIKE '%b%' OR s LIKE '%c%'"
    for _ in range(10):
        assert matches(text, Event("t", b"", headers=(("s", "a" * 60_000 + "c"),)))
