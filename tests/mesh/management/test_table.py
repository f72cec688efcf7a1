"""mesh/management/paging/table.py and formats.py: filter, sort, pages, CSV."""
from __future__ import annotations

import csv
import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.management.paging.table import QueryError, parse_filter, parse_query, select
from mesh.management.tables.formats import CSV, JSON, NDJSON, choose_format, csv_of, encode_page
from protocols.web.fields import members_of

ROWS = [
    {"name": "billing", "state": "up", "lag_events": 12, "backlog": {"seconds": 0.5}, "filters": ["orders/#"]},
    {"name": "archive", "state": "blocked", "lag_events": 3_000, "backlog": {"seconds": 130.0}, "filters": ["#"]},
    {"name": "cash desk", "state": "up", "lag_events": None, "backlog": {"seconds": None}, "filters": []},
]


def names(**params: str) -> list[str]:
    return [str(row["name"]) for row in select(ROWS, parse_query(params), "name").rows]


@pytest.mark.parametrize(("text", "expected"), [
    ("", ["archive", "billing", "cash desk"]),
    ("state=up", ["billing", "cash desk"]),
    ("state!=up", ["archive"]),
    ("lag_events>11", ["archive", "billing"]),
    ("lag_events>=12 lag_events<3000", ["billing"]),
    ("backlog.seconds>2m", ["archive"]),
    ("filters=orders/#", ["billing"]),
    ("filters~order", ["billing"]),
    ("BLOCK", ["archive"]),
    ('"cash desk"', ["cash desk"]),
    ('name="cash desk"', ["cash desk"]),
    ("state=gone", []),
    ('""', ["archive", "billing", "cash desk"]),
    ("=", []),
])
def test_a_filter_keeps_the_rows_for_which_every_term_holds(text: str, expected: list[str]) -> None:
    assert names(filter=text) == expected


@pytest.mark.parametrize("params", [
    {"filter": '"open'}, {"filter": "lag_events>many"}, {"filter": "backlog.seconds>2parsec"},
    {"filter": " ".join("abcdefghijklmnopqrstuvwxyz")}, {"filter": "x" * 2_001}, {"limit": "0"}, {"limit": "-1"},
    {"limit": "²"}, {"limit": str(2**63)}, {"after": ".$$$"}, {"after": ".bnVsbA"}, {"sort": "a", "after": "plain"},
    {"filter": "nothing=here"}, {"filter": "stat.x=up"},
])
def test_what_cannot_be_understood_is_refused_with_a_word(params: dict[str, str]) -> None:
    with pytest.raises(QueryError, match=r"\w"):
        names(**params)


def test_a_mistyped_column_is_said_with_those_that_there_are() -> None:
    with pytest.raises(QueryError, match="'lag', which no row has; there are: backlog, filters, lag"):
        names(filter="lag>5")
    assert select([], parse_query({"filter": "lag>5"}), "name").rows == [], "nobody knows the columns of nothing"


def test_a_filter_of_nested_repeats_costs_its_length() -> None:
    """hostile.md row 82: a text that would keep a regular expression busy for years is a literal piece here."""
    rows = [{"name": "a" * 1_000} for _ in range(1_000)]
    assert select(rows, parse_query({"filter": "name~(a+)+$"}), "name").matched == 0


def test_unknown_values_come_last_when_sorted_upwards_and_numbers_before_texts() -> None:
    assert names(sort="lag_events") == ["billing", "archive", "cash desk"]
    assert names(sort="-lag_events") == ["cash desk", "archive", "billing"]


def test_fields_may_reach_inside_of_a_column() -> None:
    page = select(ROWS, parse_query({"fields": "name,backlog.seconds", "limit": "1"}), "name")
    assert page.rows == [{"name": "archive", "backlog.seconds": 130.0}]
    assert (page.total, page.matched, page.next) == (3, 3, "archive")


VALUES = st.one_of(st.none(), st.integers(-5, 5), st.sampled_from(["", "a", "b", "."]), st.booleans())


@given(st.lists(VALUES, max_size=30), st.sampled_from(["", "value", "-value", "value,-name", "-value,name"]),
       st.integers(1, 7))
def test_pages_put_together_are_the_whole_table_once(values: list[object], sort: str, limit: int) -> None:
    rows = [{"name": f"n{number:02}", "value": value} for number, value in enumerate(values)]
    whole = select(rows, parse_query({"sort": sort}), "name").rows
    found, after = [], ""
    for _ in range(len(rows) + 2):
        page = select(rows, parse_query({"sort": sort, "limit": str(limit), "after": after}), "name")
        found += page.rows
        after = page.next
        if not after:
            break
    assert found == whole


def test_a_page_goes_on_although_its_last_row_has_gone() -> None:
    page = select(ROWS, parse_query({"sort": "-lag_events", "limit": "2"}), "name")
    left = [row for row in ROWS if row["name"] != "archive"]
    rest = select(left, parse_query({"sort": "-lag_events", "limit": "2", "after": page.next}), "name")
    assert [row["name"] for row in rest.rows] == ["billing"]


def test_csv_has_a_column_for_what_is_inside_and_no_formula() -> None:
    """A cell that begins with = or @ is a command to a spreadsheet."""
    first = {"name": "=1+1", "backlog": {"seconds": 1}, "up": True, "filters": ["a", "b"]}
    text = csv_of([first, {"name": "-x,\"y\""}])
    lines = list(csv.reader(io.StringIO(text.decode())))
    assert lines == [["name", "backlog.seconds", "up", "filters"], ["'=1+1", "1", "true", "a b"],
                     ["'-x,\"y\"", "", "", ""]]


@pytest.mark.parametrize(("accept", "asked", "expected"), [
    ("", "", JSON), ("*/*", "", JSON), ("text/csv", "", CSV), ("text/html, application/x-ndjson;q=0.5", "", NDJSON),
    ("text/csv;q=0.2, application/json", "", JSON), ("text/csv;q=much", "", JSON), ("text/csv", "ndjson", NDJSON),
])
def test_the_format_is_what_the_client_prefers(accept: str, asked: str, expected: str) -> None:
    assert choose_format(members_of(accept), asked) == expected


def test_json_and_ndjson_hold_the_same_rows() -> None:
    page = select(ROWS, parse_query({}), "name")
    body = msgspec.json.decode(encode_page("rows", page, {"age_s": 1}, JSON))
    lines = [msgspec.json.decode(line) for line in encode_page("rows", page, {}, NDJSON).splitlines()]
    assert body["rows"] == lines and (body["total"], body["next"], body["age_s"]) == (3, None, 1)


def test_an_unknown_operator_is_a_word_to_look_for() -> None:
    term, = parse_filter("a?b")
    assert (term.column, term.value) == (None, "a?b")
