"""Tables of the management API: rows filtered, sorted and cut into pages. Plain values in and out; no event loop.

    ?filter=state=blocked backlog.seconds>2m graz      every term must hold; a bare word is looked for in every text
    ?sort=-lag_events,name                             a minus sorts downwards; ties go by the key of the table
    ?limit=100&after=CURSOR&fields=name,lag_events     after: the "next" of the page before

Operators: = != > < >= <= and ~ (has this piece in it). A value with blanks stands in double quotes. Where a column's
name ends in seconds, _s, ms or bytes, "5m" and "2GiB" are understood. No regular expressions: a filter costs its length
times the rows, whoever writes it.
"""
from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mesh.values.units import parse_duration_ms, parse_size

Row = Mapping[str, Any]

LIMIT_DEFAULT = 1_000
LIMIT_MAX = 10_000
TERMS_MAX = 20                  # of one filter
FIELDS_MAX = 64
QUERY_CHARACTERS_MAX = 2_000    # of a filter, sort, field list or cursor
OPERATORS = ("!=", ">=", "<=", "=", ">", "<", "~")


class QueryError(ValueError):
    """The client's fault; the text says what is expected."""


class Term(msgspec.Struct, frozen=True):
    """column None: the value is looked for in every text of the row."""

    column: str | None
    operator: str
    value: str


class Query(msgspec.Struct, frozen=True):
    """What of a table is wanted."""

    terms: tuple[Term, ...] = ()
    sort: tuple[tuple[str, bool], ...] = ()     # (column, downwards)
    limit: int = LIMIT_DEFAULT
    after: str = ""
    fields: tuple[str, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """rows; total of the table; matched by the filter; next: the cursor of the page behind, "" for the last."""

    rows: list[Row]
    total: int
    matched: int
    next: str


def parse_query(params: Mapping[str, str], key: str = "name") -> Query:
    """key: the column that ?name= has a piece of, and that ?id= is. Raises QueryError."""
    for name in ("filter", "sort", "fields", "after"):
        if len(params.get(name, "")) > QUERY_CHARACTERS_MAX:
            raise QueryError(f"{name} has at most {QUERY_CHARACTERS_MAX} characters")
    terms = parse_filter(params.get("filter", ""))
    piece = params.get("name", "")
    if piece:
        terms = (*terms, Term(key, "~", piece))
    exact = params.get("id", "")
    if exact:
        terms = (*terms, Term(key, "=", exact))
    sort = tuple((part.removeprefix("-"), part.startswith("-")) for part in _list(params.get("sort", "")))
    fields = _list(params.get("fields", ""))
    if len(fields) > FIELDS_MAX or len(sort) > FIELDS_MAX:
        raise QueryError(f"at most {FIELDS_MAX} columns")
    return Query(terms, sort, parse_limit(params.get("limit", "")), params.get("after", ""), fields)


def parse_limit(text: str) -> int:
    """Raises QueryError."""
    if not text:
        return LIMIT_DEFAULT
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= LIMIT_MAX:
        raise QueryError(f"limit is a number from 1 to {LIMIT_MAX}")
    return int(text)


def parse_filter(text: str) -> tuple[Term, ...]:
    """Raises QueryError."""
    terms = tuple(_term(word, quoted_from) for word, quoted_from in _words(text))
    if len(terms) > TERMS_MAX:
        raise QueryError(f"a filter has at most {TERMS_MAX} terms")
    return terms


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _words(text: str) -> list[tuple[str, int]]:
    """Words of a filter without their quotes, each with the place where its first quoted part begins."""
    words: list[tuple[str, int]] = []
    word, quoted_from, inside, begun = "", -1, False, False
    for char in text:
        if char == '"':
            inside = not inside
            begun = True
            if quoted_from < 0:
                quoted_from = len(word)
        elif char.isspace() and not inside:
            if begun:
                words.append((word, quoted_from))
            word, quoted_from, begun = "", -1, False
        else:
            word += char
            begun = True
    if inside:
        raise QueryError('a " in the filter has no end')
    if begun:
        words.append((word, quoted_from))
    return words


def _term(word: str, quoted_from: int) -> Term:
    reach = len(word) if quoted_from < 0 else quoted_from
    places = [(word.index(operator, 0, reach), -len(operator), operator)
              for operator in OPERATORS if operator in word[:reach]]
    if not places or min(places)[0] == 0:
        return Term(None, "~", word)
    place, _, operator = min(places)
    return Term(word[:place], operator, word[place + len(operator):])


def value_at(row: Row, path: str) -> Any:
    """A column, or what is inside of one: "backlog.seconds". None when there is no such thing."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def select(rows: Sequence[Row], query: Query, key: str) -> Page:
    """key: the column that is unique in the table, and its order when none is asked for."""
    wanted = [row for row in rows if all(holds(term, row) for term in query.terms)] if query.terms else list(rows)
    if not wanted:
        _check_columns(query.terms, rows)
    matched = len(wanted)
    order = order_of(query, key)
    sort_rows(wanted, order)
    if query.after:
        wanted = _behind(wanted, _read_cursor(query.after, len(order)), order)
    page = wanted[:query.limit]
    following = place_of(page[-1], order) if len(wanted) > len(page) else ""
    if query.fields:
        page = [{name: value_at(row, name) for name in query.fields} for row in page]
    return Page(page, len(rows), matched, following)


def _check_columns(terms: Iterable[Term], rows: Sequence[Row]) -> None:
    """A mistyped column finds nothing for ever; who waits for a row should hear of it. Raises QueryError."""
    for column in {term.column.partition(".")[0] for term in terms if term.column is not None and rows}:
        if not any(column in row for row in rows):
            raise QueryError(f"the filter asks for a column {column!r}, which no row has; "
                             f"there are: {', '.join(sorted(rows[0]))}")


def order_of(query: Query, key: str) -> list[tuple[str, bool]]:
    """(column, downwards), the key last or where it was asked for: nothing can be alike behind it."""
    return [*query.sort] if any(column == key for column, _ in query.sort) else [*query.sort, (key, False)]


def sort_rows(rows: list[Any], order: Sequence[tuple[str, bool]]) -> None:
    for column, downwards in reversed(order):
        rows.sort(key=_rank_of(column), reverse=downwards)


def holds(term: Term, row: Row) -> bool:
    """Does the row fulfil the term?"""
    if term.column is None:
        piece = term.value.lower()
        return any(piece in text.lower() for text in _texts(row.values()))
    value = value_at(row, term.column)
    if term.operator == "~":
        piece = term.value.lower()
        return any(piece in text.lower() for text in _texts((value,)))
    if term.operator in ("=", "!="):
        return _equals(value, term) is (term.operator == "=")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return isinstance(value, str) and _compare(value, term.value, term.operator)
    wanted = _number(term)
    return wanted is not None and _compare(value, wanted, term.operator)


def _equals(value: Any, term: Term) -> bool:
    if isinstance(value, bool):
        return term.value.lower() in (("true", "yes", "1") if value else ("false", "no", "0"))
    if isinstance(value, (int, float)):
        wanted = _number(term)
        return wanted is not None and value == wanted
    if isinstance(value, (list, tuple)):
        return term.value in value
    return term.value == ("" if value is None else str(value))


def _compare(left: Any, right: Any, operator: str) -> bool:
    if operator == ">":
        return bool(left > right)
    if operator == "<":
        return bool(left < right)
    return bool(left >= right) if operator == ">=" else bool(left <= right)


def _number(term: Term) -> float | None:
    """The value of a term as a number in the unit of its column. Raises QueryError when it is none."""
    column, text = term.column or "", term.value
    try:
        return float(text)
    except ValueError:
        pass
    try:
        if column.endswith(("seconds", "_s")):
            return parse_duration_ms(text) / 1000
        if column.endswith("ms"):
            return float(parse_duration_ms(text))
        if column.endswith("bytes"):
            return float(parse_size(text))
    except ValueError as error:
        raise QueryError(f"{column}: {error}") from None
    raise QueryError(f"{column} is a number, {text[:50]!r} is none")


def _texts(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
        elif value is not None and not isinstance(value, bool):
            yield str(value)


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers before texts before what is not known, so that mixed columns have an order."""
    if isinstance(value, (bool, int, float)):
        return (0, value)
    if value is None:
        return (2, "")
    return (1, value if isinstance(value, str) else str(value))


def _rank_of(column: str) -> Callable[[Row], tuple[int, Any]]:
    def rank(row: Row) -> tuple[int, Any]:
        value = row.get(column)
        if type(value) is str:                          # most are plain: 10,000 calls of each sort
            return (1, value)
        if type(value) is int:
            return (0, value)
        return _rank(value_at(row, column))

    return rank


def _behind(rows: list[Row], place: list[Any], order: list[tuple[str, bool]]) -> list[Row]:
    """The rows that come after a place in the order; the row itself need not be there any more."""
    for index, row in enumerate(rows):
        for (column, downwards), value in zip(order, place):
            mine, theirs = _rank(value_at(row, column)), _rank(value)
            if mine != theirs:
                if (mine > theirs) is not downwards:
                    return rows[index:]
                break
    return []


def place_of(row: Row, order: list[tuple[str, bool]]) -> str:
    """The cursor of what is behind a row."""
    values = [value_at(row, column) for column, _ in order]
    plain = [value if isinstance(value, (str, int, float, bool, type(None))) else str(value) for value in values]
    if len(plain) == 1 and isinstance(plain[0], str) and not plain[0].startswith("."):
        return plain[0]                 # a page by name goes on behind a name
    return "." + base64.urlsafe_b64encode(msgspec.json.encode(plain)).decode().rstrip("=")


def _read_cursor(text: str, count: int) -> list[Any]:
    if not text.startswith("."):
        if count != 1:
            raise QueryError("after is not of a page with this sort")
        return [text]
    try:
        raw = base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))
        values = msgspec.json.decode(raw, type=list[str | int | float | bool | None])
    except (binascii.Error, ValueError):
        values = []
    if len(values) != count:
        raise QueryError("after is not of a page with this sort")
    return values
