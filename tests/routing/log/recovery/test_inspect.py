"""verify and dump: everything that is broken is named with file and position; nothing is changed by looking."""
from __future__ import annotations

import pytest

from routing.errors import StorageError
from routing.event import Event, Properties
from routing.log.inspect import dump, verify
from tests.support.log import make_store, open_partition


@pytest.fixture
def data(tmp_path):
    """A data directory with two streams, one of several segments, after a clean stop."""
    store = make_store(tmp_path)
    many, one = open_partition(store, name="many", segment_bytes=1_000), open_partition(store, name="one")
    for index in range(12):
        store.store_events(many, [Event("t", b"%d" % index + bytes(200), 1)])
    store.store_events(one, [Event("a/b", b"hello", 2, "c", b"k", (("h", 5),), Properties(priority=3))])
    store.close()
    return tmp_path


def levels(path):
    return {finding.level for finding in verify(path)}


def content(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_whole_log_is_ok_segment_by_segment(data):
    findings = list(verify(data))
    assert {finding.level for finding in findings} == {"ok"}
    assert len(findings) == len(list(data.rglob("*.log")))
    assert sum(int(finding.text.split()[0]) for finding in findings) == 13


def test_looking_changes_nothing_and_needs_no_lock(data):
    store = make_store(data)
    open_partition(store, name="many")
    before = content(data)
    assert levels(data) == {"ok"} and list(dump(data))
    assert content(data) == before
    store.close()


@pytest.mark.parametrize("where", ["", "streams", "streams/many", "streams/many/0"])
def test_any_directory_of_a_log_will_do(data, where):
    assert levels(data / where) == {"ok"}


def test_one_file_will_do(data):
    path = sorted(data.rglob("*.log"))[0]
    assert [(finding.level, finding.path) for finding in verify(path)] == [("ok", str(path))]


def test_damage_is_named_with_file_position_and_offsets(data):
    victim = sorted((data / "streams/many/0").glob("*.log"))[1]
    raw = bytearray(victim.read_bytes())
    raw[120] ^= 1
    victim.write_bytes(bytes(raw))
    damage, = [finding for finding in verify(data) if finding.level == "damage"]
    base = int(victim.stem)
    assert (damage.path, damage.position, damage.offset) == (str(victim), 0, base)
    assert "checksum mismatch" in str(damage) and f"offsets {base} to {base}" in str(damage)
    assert any("damage" in line for line in dump(data))


def test_broken_sidecars_are_notes(data):
    for path in data.rglob("*.timeindex"):
        path.write_bytes(path.read_bytes() + b"x")
    assert levels(data) == {"note", "ok"}


def test_a_torn_tail_is_a_note(data):
    path, = (data / "streams/one/0").glob("*.log")
    path.write_bytes(path.read_bytes() + b"torn")
    assert [finding.level for finding in verify(data / "streams/one")] == ["note", "ok"]
    path.write_bytes(path.read_bytes()[:-4] + bytes(4096))
    assert [finding.level for finding in verify(data / "streams/one")] == ["ok"]


def test_dump_shows_each_record(data):
    line, = dump(data / "streams/one")
    assert line.startswith("one/0 0 1700000000000 topic='a/b' key=b'k' value=5 bytes b'hello' meshgate-topic=b'a/b'")
    assert "meshgate-priority=b'3'" in line and "h;type=b'int'" in line
    lines = list(dump(data / "streams/many", offset=3, count=4))
    assert [int(line.split()[1]) for line in lines] == [3, 4, 5, 6]
    assert "meshgate-topic" not in next(dump(data / "streams/one", headers=False))


def test_what_is_no_log_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StorageError):
            list(verify(path))
        with pytest.raises(StorageError):
            list(dump(path))
