"""docs/firm-ground.md: each test that it names is there."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "firm-ground.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)))
PLACES = sorted(set(re.findall(r"`((?:mesh|protocols|routing)/[\w/]+(?:\.py|/))`(?!::)", PAGE)))
ROWS = [*map(str, range(1, 12)), *(f"K{number}" for number in range(1, 11))]


def test_every_finding_has_its_row_with_a_test():
    for name in ROWS:
        row = re.search(rf"^\| {name} \|.*$", PAGE, re.MULTILINE)
        assert row is not None and "::test_" in row[0], name


@pytest.mark.parametrize("file, name", NAMED, ids=str)
def test_the_test_is_there(file, name):
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("place", PLACES)
def test_the_rule_is_there(place):
    assert (TESTS.parent / place).exists()
