"""List-valued fields in one line or many, fields that are no list, and that no handler reads them another way."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest
from multidict import CIMultiDict

from protocols.web.fields import FieldRepeated, cookie_of, list_of, one_of, tokens_of

ROOT = Path(__file__).resolve().parents[2]
READERS = [path for room in ("protocols", "mesh/management", "console") for path in sorted((ROOT / room).rglob("*.py"))
           if path.name != "fields.py" and not {"mqtt", "amqp091"} & {*path.parts}]      # headers of messages
# what aiohttp makes of the first line of a field
SHORTCUTS = {"charset", "content_type", "cookies", "forwarded", "http_range", "if_match", "if_modified_since",
             "if_none_match", "if_range", "if_unmodified_since"}


@pytest.mark.parametrize("lines, members", [
    ([], []), (["a"], ["a"]), (["a, b"], ["a", "b"]), (["a", "b"], ["a", "b"]), (["a,b", " ,\tc,"], ["a", "b", "c"]),
    ([""], []), ([","], []), (['"a,b", W/"c"', "d"], ['"a,b"', 'W/"c"', "d"]),
    ([r'x="a\",b", c'], [r'x="a\",b"', "c"]), (['"not closed, a'], ['"not closed, a']),
])
def test_members_of_all_lines_in_order_without_empty_ones(lines, members):
    """RFC 9110 §5.3, §5.6.1: a recipient must take empty members and any number of lines."""
    headers = CIMultiDict([("X-List", line) for line in lines])
    assert list_of(headers, "x-list") == members


def test_tokens_have_no_case():
    assert tokens_of(CIMultiDict([("Connection", "Keep-Alive"), ("Connection", "UPGRADE")]), "Connection") == [
        "keep-alive", "upgrade"]


def test_a_field_that_is_no_list_stands_there_once():
    assert one_of(CIMultiDict(), "Origin") is None
    assert one_of(CIMultiDict({"Origin": "a, b"}), "Origin") == "a, b"
    with pytest.raises(FieldRepeated):
        one_of(CIMultiDict([("Origin", "a"), ("origin", "a")]), "Origin")


def reads(tree):
    """Source of every expression that reads a field of a request past protocols/web/fields.py."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target, word = node.func.value, node.func.attr
            if word in ("get", "getall", "getone", "keys", "values") and is_headers(target):
                yield ast.unparse(node)
        elif (
            (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and is_headers(node.value))
            or (isinstance(node, ast.Compare) and any(map(is_headers, node.comparators)))
            or (isinstance(node, ast.Attribute) and node.attr in SHORTCUTS and is_request(node.value))
        ):
            yield ast.unparse(node)


def is_request(node):
    return ast.unparse(node).endswith("request")


def is_headers(node):
    source = ast.unparse(node)
    return source.endswith(("request.headers", "message.headers")) or source == "headers"


@pytest.mark.parametrize("source", [
    "request.headers.get('Prefer')", "self._request.headers['Accept']", "'Upgrade' in request.headers",
    "headers.get('Connection', '')", "request.content_type", "message.headers.getall('Accept', ())",
])
def test_the_search_finds_what_it_looks_for(source):
    assert list(reads(ast.parse(source)))


@pytest.mark.parametrize("path", READERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_reads_a_field_another_way(path):
    found = list(reads(ast.parse(path.read_text())))
    assert not found, f"{path}: use protocols/web/fields.py for {found}"


@pytest.mark.parametrize(("lines", "value"), [
    ([], ""), (["a=1; s=2"], "2"), (["a=1", "s=2; s=3"], "2"), (["s"], ""), (["xs=1; s="], ""), (["s=a=b"], "a=b")])
def test_a_cookie_is_found_in_any_line(lines, value):
    assert cookie_of(CIMultiDict([("Cookie", line) for line in lines]), "s") == value
