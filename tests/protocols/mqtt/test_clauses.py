"""Every normative clause of MQTT 5 stands in the code, or in docs/mqtt5-clauses.md among those that do not.

`python -m tests.protocols.mqtt.test_clauses` fills in the columns "where" and "test" of that page.
"""
from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "mqtt5-clauses.md"
# Section of the standard: number of its clauses (2.2.1 begins with 2). Source: MQTT 5, appendix B
SECTIONS = {
    "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2, "3.1.2": 30, "3.1.3": 12,
    "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1,
    "3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2,
    "3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3, "3.15.1": 1,
    "3.15.2": 3, "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2, "4.6.0": 6,
    "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2, "4.13.1": 1,
    "4.13.2": 1, "6.0.0": 4,
}
CLAUSES = [
    f"MQTT-{section}-{number}" for section, count in SECTIONS.items() for number in range(1, count + 1)
    if (section, number) != ("2.2.1", 1)
]
_MARK = re.compile(r"\[(MQTT-\d+\.\d+\.\d+-\d+)\]")
_ROW = re.compile(r"^\| (MQTT-\S+) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_OTHER = re.compile(r"^- (MQTT-[\d.-]+\d)", re.MULTILINE)


def marks(*folders: str) -> dict[str, list[str]]:
    """Clause → files that name it."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for clause in sorted(set(_MARK.findall(path.read_text(encoding="utf-8")))):
                found.setdefault(clause, []).append(str(path.relative_to(ROOT)))
    return found


def page() -> tuple[str, str]:
    """The page, cut into what is obeyed and what is not for us."""
    obeyed, rest = PAGE.read_text(encoding="utf-8").split("\n## Not in this code", 1)
    return obeyed, rest


def test_the_list_is_complete():
    assert len(CLAUSES) == len(set(CLAUSES)) == 251


def test_every_clause_is_in_the_code_or_on_the_page():
    in_code = marks("protocols", "routing")
    _, rest = page()
    elsewhere = set(_OTHER.findall(rest))
    assert [clause for clause in CLAUSES if clause not in in_code and clause not in elsewhere] == []
    assert set(in_code) <= set(CLAUSES)


def test_every_clause_stands_on_the_page_once():
    obeyed, rest = page()
    gaps = rest.split("\n### Gaps", 1)[1]
    listed = [row[0] for row in _ROW.findall(obeyed)] + _OTHER.findall(rest.split("\n### Gaps", 1)[0])
    assert sorted(listed) == sorted(CLAUSES)
    assert set(_OTHER.findall(gaps)) <= set(CLAUSES)
    assert len(_OTHER.findall(gaps)) <= 5, "the list of gaps is to be short"


def test_the_page_names_files_that_name_the_clause():
    in_code, in_tests = marks("protocols", "routing"), marks("tests")
    for clause, _, where, test in _ROW.findall(page()[0]):
        files = re.findall(r"`([^`]+)`", where)
        assert files, f"{clause} is said to be obeyed, but not where"
        assert set(files) <= set(in_code.get(clause, ())), f"{clause}: {where}"
        assert set(re.findall(r"`([^`]+)`", test)) <= set(in_tests.get(clause, ())), f"{clause}: {test}"


def test_every_clause_that_is_obeyed_has_a_test():
    without = [clause for clause, _, _, test in _ROW.findall(page()[0]) if "`" not in test]
    assert without == []


def fill_in() -> None:
    """Write the files into the columns."""
    in_code, in_tests = marks("protocols", "routing"), marks("tests")

    def row(found: re.Match[str]) -> str:
        clause, words = found[1], found[2]
        where = ", ".join(f"`{name}`" for name in in_code.get(clause, ()))
        test = ", ".join(f"`{name}`" for name in in_tests.get(clause, ())[:2])
        return f"| {clause} | {words} | {where} | {test} |"

    PAGE.write_text(_ROW.sub(row, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    fill_in()
