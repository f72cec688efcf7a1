"""docs/problems.md lists every problem type, docs/rest.md every header field that the code knows, and no other."""
from __future__ import annotations

import re
from pathlib import Path

from protocols.rest import app, problems
from protocols.rest.problem_types import ON_WEBSOCKET, TYPES
from protocols.rest.translation import convert
from protocols.websocket.problems import PROBLEMS

from .stand import stand

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "rest.md").read_text()


def raised_types():
    """(kind, status) of every problem that the code can answer with."""
    source = "".join(path.read_text() for path in (ROOT / "protocols" / "rest").rglob("*.py"))
    raised = re.findall(r'(?:Problem|_refuse|raw_problem)\(\s*(\d{3}), "([a-z-]+)"', source)
    known = {(kind, int(status)) for status, kind in raised}
    known |= {(kind, status) for status, kind in problems.REFUSALS.values()}
    known |= {(kind, status) for status, kind in app._KINDS.items()}
    return known


def test_the_table_of_problem_types_is_what_the_code_raises():
    assert {(found.kind, found.status) for found in TYPES} == raised_types()


def test_problem_types_are_documented():
    text = (ROOT / "docs" / "problems.md").read_text()
    listed = re.findall(r"\| `/problems/([a-z-]+)` \| (\d{3}) \| (.*) \|", text)
    assert [(found.kind, str(found.status), found.advice) for found in TYPES] == listed


def test_what_the_websocket_says_can_be_looked_up():
    """Every text there that has the form of a kind is one."""
    source = "".join(path.read_text() for path in (ROOT / "protocols" / "websocket").rglob("*.py"))
    said = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', source)) | set(PROBLEMS.values())
    known = {found.kind for found in TYPES}
    assert {found.kind for found in ON_WEBSOCKET} <= said
    assert said & {kind for kind in said if kind.endswith(("-invalid", "-lost", "-exceeded"))} <= known | {
        found.kind for found in ON_WEBSOCKET}
    assert set(PROBLEMS.values()) <= known


async def test_a_type_can_be_looked_up(tmp_path):
    async with stand(tmp_path) as it:
        async with it.http.get("/problems/topic-invalid") as response:
            assert response.status == 200 and "grammar" in await response.text()
        async with it.http.get("/problems/nonsense") as response:
            assert response.status == 404


def test_fields():
    table = TEXT.split("| Field |")[1].split("\n\n")[0]
    listed = {name.lower() for name in re.findall(r"`([A-Za-z-]+)`", table.replace("Header-<name>", ""))}
    for name in convert._SETTERS:
        assert name in listed, name
