"""docs/rest.md lists every problem type and every header field that the code knows, and no other."""
from __future__ import annotations

import re
from pathlib import Path

from protocols.rest import app, convert, problems

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "rest.md").read_text()


def test_problem_types():
    source = "".join(path.read_text() for path in (ROOT / "protocols" / "rest").glob("*.py"))
    raised = re.findall(r'(?:Problem|_refuse|raw_problem)\(\s*(\d{3}), "([a-z-]+)"', source)
    known = {(kind, int(status)) for status, kind in raised}
    known |= {(kind, status) for status, kind in problems.REFUSALS.values()}
    known |= {(kind, status) for status, kind in app._KINDS.items()}
    listed = {(kind, int(status)) for kind, status in re.findall(r"\| `/problems/([a-z-]+)` \| (\d{3}) \|", TEXT)}
    assert listed == known


def test_fields():
    table = TEXT.split("| Field |")[1].split("\n\n")[0]
    listed = {name.lower() for name in re.findall(r"`([A-Za-z-]+)`", table.replace("Header-<name>", ""))}
    for name in convert._SETTERS:
        assert name in listed, name
