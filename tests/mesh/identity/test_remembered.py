"""mesh/identity/remembered.py: what was proven outlives a restart, and nothing else does."""
from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mesh.identity.remembered import Remembered

DAY_S = 86_400.0
NOW_MS = 1_800_000_000_000


def opened(folder: Path | None, *, now_ms: int = NOW_MS, room: int = 100, seconds: float = 7 * DAY_S) -> Remembered:
    remembered = Remembered(folder, room, seconds)
    remembered.load(0.0, now_ms)
    return remembered


def test_what_was_stored_is_there_after_a_restart_and_only_that(tmp_path: Path) -> None:
    before = opened(tmp_path)
    digest = before.digest("ana", b"correct horse", "$argon2id$1")
    before.store(digest, NOW_MS)
    after = opened(tmp_path, now_ms=NOW_MS + 1_000)
    assert after.has(after.digest("ana", b"correct horse", "$argon2id$1"), 0.0)
    for other in (("ana", b"wrong", "$argon2id$1"), ("bob", b"correct horse", "$argon2id$1"),
                  ("ana", b"correct horse", "$argon2id$2"), ("anac", b"orrect horse", "$argon2id$1")):
        assert not after.has(after.digest(*other), 0.0)


def test_its_files_are_for_the_node_alone_and_hold_no_password(tmp_path: Path) -> None:
    remembered = opened(tmp_path)
    remembered.store(remembered.digest("ana", b"correct horse", "x"), NOW_MS)
    for name in ("logins", "logins.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert b"horse" not in (tmp_path / name).read_bytes()


def test_it_ends_by_time_whatever_the_file_says(tmp_path: Path) -> None:
    remembered = opened(tmp_path)
    digest = remembered.digest("ana", b"p", "x")
    remembered.store(digest, NOW_MS + int(1_000 * DAY_S * 1000))        # written while the clock was far ahead
    assert opened(tmp_path).has(digest, 5 * DAY_S)
    assert not opened(tmp_path).has(digest, 8 * DAY_S)
    remembered.add(digest, 0.0)
    assert remembered.has(digest, 5 * DAY_S) and not remembered.has(digest, 7.1 * DAY_S)


def test_room_is_bounded_in_memory_and_on_disk(tmp_path: Path) -> None:
    remembered = opened(tmp_path, room=10)
    for number in range(100):
        digest = remembered.digest(f"u{number}", b"p", "x")
        remembered.add(digest, 0.0)
        remembered.store(digest, NOW_MS)
    assert len(remembered) == 10
    assert (tmp_path / "logins").stat().st_size <= 20 * 40
    after = opened(tmp_path, room=10)
    assert len(after) == 10 and after.has(digest, 0.0)


@pytest.mark.parametrize("broken", [b"", b"x", b"\0" * 17])
def test_a_torn_file_or_a_lost_key_costs_what_was_remembered_and_no_more(tmp_path: Path, broken: bytes) -> None:
    before = opened(tmp_path)
    digest = before.digest("ana", b"p", "x")
    before.store(digest, NOW_MS)
    with (tmp_path / "logins").open("ab") as file:
        file.write(broken)
    after = opened(tmp_path)
    assert after.has(digest, 0.0)
    after.store(after.digest("bob", b"p", "x"), NOW_MS)
    again = opened(tmp_path)
    assert again.has(again.digest("bob", b"p", "x"), 0.0)
    (tmp_path / "logins.key").write_bytes(b"short")
    fresh = opened(tmp_path)
    assert len(fresh) == 0 and fresh.digest("ana", b"p", "x") != digest


def test_a_disk_that_cannot_be_written_is_said_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    remembered = opened(tmp_path)
    (tmp_path / "logins").mkdir()
    for number in range(3):
        digest = remembered.digest(f"u{number}", b"p", "x")
        remembered.store(digest, NOW_MS)
        remembered.add(digest, 0.0)
    assert remembered.has(digest, 0.0)
    assert sum("not remembered" in record.message for record in caplog.records) == 1


def test_without_time_or_folder_it_is_memory_of_an_hour(tmp_path: Path) -> None:
    remembered = opened(tmp_path, seconds=0)
    digest = remembered.digest("ana", b"p", "x")
    remembered.store(digest, NOW_MS)
    remembered.add(digest, 0.0)
    assert not list(tmp_path.iterdir())
    assert remembered.has(digest, 3_599.0) and not remembered.has(digest, 3_600.0)
