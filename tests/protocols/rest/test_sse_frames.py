"""Readers that write the same share the text: what each gets is what it would have written alone."""
from __future__ import annotations

import asyncio
import re

import pytest

from protocols.formats.event_json import event_json
from protocols.formats.location import START_STEP_S, decode_position
from protocols.rest.counters import RestCounters
from protocols.rest.reading import frames as module
from protocols.rest.reading.frames import Frames
from protocols.rest.reading.positions import start_vector
from protocols.rest.reading.reader import SseReader
from protocols.rest.settings import RestSettings
from routing.consumers.consumer import ConsumerSpec
from routing.event import Event
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk


class Wire(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.data = b""

    def is_closing(self):
        return False

    def write(self, data):
        self.data += data


class Stand:
    def __init__(self, path, encode=event_json, **options):
        self.desk = Desk(path, **options)
        self.encoded = []

        def counted(event):
            self.encoded.append(event.offset)
            return encode(event)

        self.frames = Frames(counted)
        self.frames.lines.sharing = True

    def open(self, number, pattern="#", start="latest"):
        desk = self.desk
        vector = start_vector(start, desk.router.streams.holding((pattern,)), desk.router.store.epoch)
        places = [(stream, index, offset) for stream, offsets in vector.items() for index, offset in enumerate(offsets)]
        reader = SseReader(desk.router, ANA, vector, Wire(), chunked=False, settings=RestSettings(),
                           counters=RestCounters(), frames=self.frames)
        consumer = desk.router.open_consumer(
            ConsumerSpec(f"sse/{number}", (pattern,), start=places, durable=False, max_in_flight=1024), ANA)
        reader.start(consumer)
        consumer.attach(reader)
        desk.run()
        return reader


def read(reader):
    """(vector of the id, payload) of every event."""
    found = []
    for text in reader._transport.data.decode().split("\n\n"):
        match = re.fullmatch(r"id: (\S+)\ndata: (.*)", text)
        if match:
            found.append((decode_position(match[1])[2], re.search(r'"payload":"([^"]*)"', match[2])[1]))
    return found


async def test_readers_that_started_together_share_what_they_write(tmp_path):
    stand = Stand(tmp_path)
    readers = [stand.open(number) for number in range(5)]
    stand.desk.publish(*[Event("t", b"%d" % number, 1) for number in range(50)])
    expected = [({"events": [number + 1]}, str(number)) for number in range(50)]
    assert all(read(reader) == expected for reader in readers)
    assert len(stand.encoded) == 50
    assert len({reader._group for reader in readers}) == 1


async def test_readers_that_started_at_other_times_have_their_own_ids(tmp_path):
    stand = Stand(tmp_path)
    one = stand.open(1)
    stand.desk.tick(START_STEP_S)
    other = stand.open(2)
    stand.desk.publish("a", "b", "c")
    assert read(one) == read(other) and len(read(one)) == 3
    first, second = (re.search(rb"id: (\S+)", reader._transport.data)[1].decode() for reader in (one, other))
    assert decode_position(second)[1] - decode_position(first)[1] == START_STEP_S
    assert len(stand.encoded) == 3, "the line is shared all the same"


async def test_a_reader_of_several_partitions_names_all_of_them(tmp_path):
    stand = Stand(tmp_path, settings=[StreamSettings("a", ("a/#",)), StreamSettings("b", ("b/#",))])
    wide, narrow = stand.open(1), stand.open(2, "a/#")
    stand.desk.publish("a/1", "b/1", "a/2")
    vectors = [vector for vector, _ in read(wide)]
    assert len(vectors) == 3 and vectors[-1] == {"a": [2], "b": [1]}
    assert [vector for vector, _ in read(narrow)] == [{"a": [1]}, {"a": [2]}]


async def test_a_partition_that_comes_later_is_named_from_then_on(tmp_path):
    """A position that leaves it out would give its events again."""
    stand = Stand(tmp_path)
    reader = stand.open(1)
    stand.desk.publish("a", "b")
    assert reader._group is not None
    partition = stand.desk.router.own_partitions()[0]
    later = type("Later", (), {"stream": partition.stream, "index": 1})()
    reader._advance(later, 7)
    stand.desk.publish("c")
    assert read(reader)[-1][0] == {"events": [3, 7]}
    assert decode_position(reader._sent_position)[2] == {"events": [3, 7]}


async def test_what_is_kept_is_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES_MAX", 10_000)
    stand = Stand(tmp_path)
    readers = [stand.open(number) for number in range(3)]
    for _ in range(20):
        stand.desk.publish(*[Event("t", bytes(100), 1) for _ in range(20)])
        assert sum(map(len, readers[0]._group.kept.values())) <= 10_000
    assert [len(read(reader)) for reader in readers] == [400] * 3


@pytest.mark.parametrize("sharing", [False, True])
async def test_one_reader_keeps_nothing(tmp_path, sharing):
    stand = Stand(tmp_path)
    stand.frames.lines.sharing = sharing
    reader = stand.open(1)
    stand.desk.publish("a", "b", "c")
    assert len(read(reader)) == 3 and bool(reader._group.kept) is sharing
