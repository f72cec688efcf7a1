"""Data directories of earlier versions open as they are. The archives in data/ were made by the code of their date."""
from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from routing.log.inspect import verify
from routing.settings import StreamSettings
from tests.support.log import everything, scan_all
from tests.support.routing import Desk

DATA = Path(__file__).parent / "data"
STREAMS = [
    StreamSettings("events", ("#",), segment_bytes=1500, retention_ms=7 * 86_400_000),
    StreamSettings("orders", ("orders/#",), partitions=2, compact=True, segment_bytes=1500),
]


@pytest.mark.parametrize("name", ["log-2026-11-stopped", "log-2026-11-killed"])
def test_a_directory_of_2026_11_is_served_whole(tmp_path, name):
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert not [finding for finding in verify(tmp_path) if finding.level == "damage"]
    desk = Desk(tmp_path, settings=STREAMS)
    assert desk.store.epoch == "7e84579b5e7c9011"
    events, first, second = (part for stream in desk.router.streams for part in stream.partitions)
    assert [event.payload for event in scan_all(events) if not event.retain] == [b"event %d" % n for n in range(60)]
    orders = {event.key: event.payload for part in (first, second) for event in scan_all(part)}
    assert sorted(orders.values()) == [b"order %d" % n for n in range(53, 60)]
    assert events.count(0, everything) == 66 and events.count(0, lambda topic: topic == "plant/3") == 12
    assert desk.router.retained.tree.count == 6 and desk.router.consumers["billing"].lag().events >= 7
    assert not any(part.damage for part in desk.store.partitions)
    desk.publish("plant/new")
    assert scan_all(events)[-1].offset == 66

    desk.now_ms += 6 * 86_400_000           # what was there before ages from when it was written
    desk.store.maintain(desk.now_ms)
    assert events.start_offset == 0
    desk.now_ms += 86_400_001
    desk.store.maintain(desk.now_ms)
    assert events.start_offset > 0
    desk.close()


def test_the_nodes_own_streams_get_their_new_names_and_keep_what_is_in_them(tmp_path):
    """Until 2026-12 their names began with an underscore, which belongs to clients now."""
    import json

    from routing.log.catalog import RENAMED, read_checked, write_checked
    from routing.log.fs import RealFileSystem
    from routing.log.inspect import verify
    from tests.support.routing import Desk

    desk = Desk(tmp_path)
    desk.router.state.put("x", b"1")
    desk.run()
    desk.close()
    fs, streams = RealFileSystem(), tmp_path / "streams"
    catalog = read_checked(fs, tmp_path / "catalog", dict)
    for old, new in RENAMED.items():
        if (streams / new).exists():
            (streams / new).rename(streams / old)
            note = read_checked(fs, streams / old / "0" / "partition", dict)
            write_checked(fs, streams / old / "0" / "partition", json.dumps({**note, "stream": old}).encode(),
                          durable=False)
            catalog["streams"][old] = catalog["streams"].pop(new)
    write_checked(fs, tmp_path / "catalog", json.dumps(catalog).encode(), durable=False)
    again = Desk(tmp_path)
    assert again.router.state.get("x") == b"1" and not list(streams.glob("_*")) and not again.store.missing()
    assert not [finding for finding in verify(tmp_path) if finding.level == "damage"], "notes may have the old name"
    again.router.lifecycle.create(StreamSettings("_state", ("_state",)))
    again.run()
    again.publish("_state")
    again.close()
    once_more = Desk(tmp_path)
    assert once_more.router.state.get("x") == b"1"
    assert once_more.router.streams.by_name["_state"].partitions[0].end_offset == 1
    once_more.close()
