"""The file of contexts: nobody else reads it, and it is whole or it is refused."""
from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tui import contexts
from tui.api.errors import ApiError
from tui.contexts import Context, Contexts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_what_was_saved_is_loaded_and_nobody_else_may_read_it() -> None:
    known = Contexts()
    known.put("graz", Context("https://graz:8090", "ana", "mgs_secret", "/ca.pem"))
    before = os.umask(0)
    try:
        contexts.save(known)
    finally:
        os.umask(before)
    file = contexts.path()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert contexts.load() == known
    assert [entry.name for entry in file.parent.iterdir()] == ["contexts.json"]
    target = contexts.load().find("graz").target("graz")
    assert (target.authorization, target.user, str(target.ca)) == ("Bearer mgs_secret", "ana", "/ca.pem")


def test_a_file_that_others_can_read_is_refused() -> None:
    contexts.save(Contexts())
    contexts.path().chmod(0o640)
    with pytest.raises(ApiError, match="can be read by others"):
        contexts.load()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"current": 1, "contexts": {}}', '{"current": "", "contexts": []}',
                                  '{"current": "", "contexts": {"a": {"url": 1}}}',
                                  '{"current": "", "contexts": {"a": 1}}',
                                  "[" * 100_000])
def test_a_damaged_file_is_one_line(text: str) -> None:
    contexts.save(Contexts())
    contexts.path().write_text(text)
    with pytest.raises(ApiError, match="is damaged: remove it and log in again"):
        contexts.load()


def test_without_a_file_there_is_nothing_and_unknown_names_are_told() -> None:
    assert contexts.load() == Contexts()
    with pytest.raises(ApiError, match="there is no context lyon: make one"):
        contexts.load().find("lyon")
    for bad in ("", "a" * 65, "a\nb", " a"):
        with pytest.raises(ApiError):
            Contexts().put(bad, Context("http://a"))
    assert json.dumps(contexts.load().contexts) == "{}"
