"""What all nodes say to the same question: asked at once, waited for a moment, and shown with their age.

A node that does not answer never holds up a page: after WAIT_S its last answer is shown with its age, or a word
instead. Its answer is still taken when it comes, so the next page has it. What was answered less than FRESH_S ago is
not asked for again, however many look.
"""
from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from mesh.management.across.asking import Asking, NoAnswer
from mesh.management.acts.call import Call, Values
from mesh.management.paging.table import (
    Page,
    Query,
    QueryError,
    Row,
    Term,
    holds,
    order_of,
    parse_filter,
    parse_query,
    place_of,
    sort_rows,
    value_at,
)
from protocols.rest.problems import Problem

WAIT_S: Final = 1.0                 # for answers, of a page
FRESH_S: Final = 1.0
STALE_MAX_S: Final = 300.0          # an answer of before is shown so long
NODES_ASKED_MAX: Final = 200
ROWS_MAX: Final = 1_000             # asked of each node
PLACES_CHARACTERS_MAX: Final = 6_000
KEPT_MAX: Final = 500               # answers, the newest
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024

Key = tuple[str, str, str, tuple[str, ...], str]        # node, path, user, roles, query


class Heard(msgspec.Struct):
    """One node's last answer. word: "answered", or why not."""

    values: Values
    at_s: float
    word: str
    size: int = 0


class Said(msgspec.Struct, frozen=True):
    """values None: nothing is known.  age_s: of the answer.  word: answered, no answer, unreachable or refused."""

    node: str
    word: str
    values: Values | None
    age_s: float | None
    text: str = ""


class Collector:
    """One per node."""

    def __init__(self, asking: Asking, nodes: Callable[[], Iterable[str]], clock_s: Callable[[], float]) -> None:
        self._asking = asking
        self._nodes = nodes
        self._clock_s = clock_s
        self._heard: OrderedDict[Key, Heard] = OrderedDict()
        self._refused: dict[Key, tuple[str, str, float]] = {}
        self._bytes = 0
        self._under_way: dict[Key, asyncio.Task[None]] = {}

    async def gather(self, path: str, call: Call, queries: Mapping[str, Mapping[str, str]] | None = None,
                     wait_s: float = WAIT_S) -> list[Said]:
        """One Said per reachable node. queries: of those that are asked alone, a question for each."""
        names = sorted(name for name in self._nodes() if queries is None or name in queries)[:NODES_ASKED_MAX]
        keys = {}
        for name in names:
            query = dict(queries[name]) if queries is not None else dict(call.query)
            key = name, path, call.identity.user, call.identity.roles, repr(sorted({**call.names, **query}.items()))
            keys[name] = key
            heard = self._heard.get(key)
            if key not in self._under_way and (heard is None or self._clock_s() - heard.at_s >= FRESH_S):
                asked = msgspec.structs.replace(call, query=query)
                task = asyncio.get_running_loop().create_task(self._ask(key, name, path, asked))
                self._under_way[key] = task
        waited = [self._under_way[key] for key in keys.values() if key in self._under_way]
        if waited:
            await asyncio.wait(waited, timeout=wait_s)
        return [self._said(name, key) for name, key in keys.items()]

    async def _ask(self, key: Key, name: str, path: str, call: Call) -> None:
        try:
            values = await self._asking.ask(name, "GET", path, call)
            self._keep(key, Heard(values, self._clock_s(), "answered", len(msgspec.json.encode(values))))
            self._refused.pop(key, None)
        except NoAnswer as error:
            self._refused[key] = error.word, "", self._clock_s()
        except Problem as problem:
            self._refused[key] = "refused", problem.detail, self._clock_s()
        finally:
            self._under_way.pop(key, None)
            if len(self._refused) > KEPT_MAX:
                del self._refused[next(iter(self._refused))]

    def _keep(self, key: Key, heard: Heard) -> None:
        old = self._heard.pop(key, None)
        self._bytes += heard.size - (old.size if old is not None else 0)
        self._heard[key] = heard
        while len(self._heard) > KEPT_MAX or self._bytes > KEPT_BYTES_MAX:
            _, gone = self._heard.popitem(last=False)
            self._bytes -= gone.size

    def _said(self, name: str, key: Key) -> Said:
        now_s = self._clock_s()
        heard, refused = self._heard.get(key), self._refused.get(key)
        late = key in self._under_way or refused is not None
        word, text = (refused[0], refused[1]) if refused is not None else ("no answer" if late else "answered", "")
        if heard is None or now_s - heard.at_s > STALE_MAX_S or word == "refused":
            return Said(name, word if word != "answered" else "no answer", None, None, text)
        return Said(name, word, heard.values, now_s - heard.at_s, text)

    # -- tables -----------------------------------------------------------------------------------------------

    async def table(self, name: str, key: str, own: str, mine: Callable[[Mapping[str, str]], Any], call: Call,
                    default_order: str) -> tuple[Page, Values]:
        """A page of the tables of all nodes as one, each row with `at`, its node; and how each node answered.

        mine: (params) → (Page, age) of this node.  Raises QueryError.
        """
        query = parse_query({param: text for param, text in call.query.items() if param != "after"}, key)
        if not query.sort and default_order:
            query = msgspec.structs.replace(
                query, sort=((default_order.removeprefix("-"), default_order.startswith("-")),))
        limit = min(query.limit, ROWS_MAX)
        places = _read_places(call.query.get("after", ""))
        params = {param: text for param, text in call.query.items() if param not in ("scope", "fields", "after")}
        params["limit"] = str(limit)
        params["filter"], about_nodes = _split(call.query.get("filter", ""))
        nodes = [node for node in (own, *self._nodes()) if all(holds(term, {"at": node}) for term in about_nodes)]
        queries = {node: {**params, **({"after": places[node]} if node in places else {})} for node in nodes}
        said = asyncio.ensure_future(self.gather(name, call, queries))
        parts: dict[str, tuple[list[Row], str, int, int]] = {}
        told: list[Values] = []
        try:
            if own in queries:
                page, age_s = await mine(queries[own])
                parts[own] = list(page.rows), page.next, page.total, page.matched
                told.append({"node": own, "state": "answered", "age_s": round(age_s, 3), "rows": page.total})
            await said
        finally:
            said.cancel()
        for one in said.result():
            rows, total, matched, more = _rows(one.values)
            if one.values is not None:
                parts[one.node] = rows, more, total, matched
            told.append({"node": one.node, "state": one.word, "rows": total,
                         "age_s": round(one.age_s, 3) if one.age_s is not None else None,
                         **({"text": one.text} if one.text else {})})
        merged = _merge(parts, query, key, limit, places)
        return merged, {"nodes": told}


def _split(text: str) -> tuple[str, list[Term]]:
    """A filter without its terms about `at`, which no row has yet where it is; and those. Raises QueryError."""
    terms = parse_filter(text)
    others = [f'{term.column}{term.operator}"{term.value}"' if term.column is not None else f'"{term.value}"'
              for term in terms if term.column != "at"]
    return " ".join(others), [term for term in terms if term.column == "at"]


def _rows(values: Values | None) -> tuple[list[Row], int, int, str]:
    """Of an answer, whatever it holds: rows, total, matched, the cursor of what follows."""
    if values is None:
        return [], 0, 0, ""
    rows: list[Row] = [row for row in values.get("rows", []) if isinstance(row, dict)] if isinstance(
        values.get("rows"), list) else []
    total, matched, more = values.get("total"), values.get("matched"), values.get("next")
    return (rows, total if isinstance(total, int) else len(rows), matched if isinstance(matched, int) else len(rows),
            "more" if more or values.get("cut") else "")


def _merge(parts: Mapping[str, tuple[list[Any], str, int, int]], query: Query, key: str, limit: int,
           places: Mapping[str, str]) -> Page:
    order = order_of(query, key)
    rows: list[Row] = [{**row, "at": node} for node, (found, _, _, _) in parts.items() for row in found]
    sort_rows(rows, [*order, ("at", False)])
    until = limit
    for node, (found, more, _, _) in parts.items():
        if more and found:              # what this node has behind its last row may come before the others' rows
            last = max(index for index, row in enumerate(rows) if row["at"] == node)
            until = min(until, last + 1)
    taken = rows[:until]
    places = dict(places)
    for row in taken:
        places[row["at"]] = place_of(row, order)
    left = len(taken) < len(rows) or any(more for _, more, _, _ in parts.values())
    following = _write_places(places) if left and taken else ""
    if query.fields:
        taken = [{name: value_at(row, name) for name in (*query.fields, "at")} for row in taken]
    return Page(taken, sum(part[2] for part in parts.values()), sum(part[3] for part in parts.values()), following)


def _write_places(places: Mapping[str, str]) -> str:
    """ "" where it would be too long for an address: hundreds of nodes that all have rows on one page."""
    text = base64.urlsafe_b64encode(msgspec.json.encode(places)).decode().rstrip("=")
    return text if len(text) <= PLACES_CHARACTERS_MAX else ""


def _read_places(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        if len(text) > PLACES_CHARACTERS_MAX:
            raise ValueError(text)
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=dict[str, str])
    except (ValueError, msgspec.MsgspecError):
        raise QueryError("after is not of a page of the whole mesh") from None
