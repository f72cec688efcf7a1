"""mesh/system/limits.py: open files are kept back for the log."""
from __future__ import annotations

from pathlib import Path

import pytest

from mesh.system import limits as process
from mesh.system.limits import OpenFiles, open_file_count


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_connections_are_refused_before_open_files_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    really_open = 10
    monkeypatch.setattr(process, "open_file_count", lambda: really_open)
    files = OpenFiles(100, clock)
    accepted = sum(files.may_accept() for _ in range(200))
    assert accepted == 65, "of 100 a quarter is kept back, 10 were open"
    assert files.refused == 135
    really_open = 40                                # half of them have left
    assert not files.may_accept(), "it does not look at the process for every connection"
    clock.now_s += 0.2
    assert files.may_accept()


def test_a_large_limit_keeps_back_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "open_file_count", lambda: 0)
    files = OpenFiles(20_000, Clock())
    assert sum(files.may_accept() for _ in range(20_000)) == 19_000


def test_the_count_is_that_of_this_process(tmp_path: Path) -> None:
    before = open_file_count()
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        assert open_file_count() == before + 2
