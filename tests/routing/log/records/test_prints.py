"""Blocks of many topics: readers skip those that hold nothing of theirs, whatever their filters are."""
from __future__ import annotations

import random

import pytest

from routing.event import Event
from routing.log.records.batch import BatchHeader
from routing.log.records.prints import PROBED_MAX, add_prints, may_hold, probes_of
from routing.log.segments import summary as summaries
from routing.log.segments.summary import Block, Summary, decode_summary, encode_summary, freeze
from routing.topic import filter_matches
from tests.support.log import make_store, open_partition

PATTERNS = ["a/b/c", "a/b/+", "a/#", "a", "a/+/c/#", "x/y", "x/#", "+/b", "#", "a/b/c/d", "a//b", "a/", "/"]
TOPICS = ["a/b/c", "a/b", "a", "a/b/c/d", "x/y/z", "x", "a//b", "a/", "/", "/b", "q"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("topic", TOPICS)
def test_a_filter_never_misses_a_topic_that_it_matches(pattern, topic):
    prints: set[int] = set()
    add_prints(prints, [topic])
    block = Block(0, 0)
    block.prints = prints
    block.close()
    for form in (prints, block.prints):
        if filter_matches(pattern, topic):
            assert may_hold(form, probes_of([pattern]))


def test_others_are_told_apart():
    prints: set[int] = set()
    add_prints(prints, (f"plant/{number}/temp" for number in range(1_000)))
    assert not may_hold(prints, probes_of(["plant/1000/temp", "shop/#", "plant/1000/+"]))
    assert may_hold(prints, probes_of(["shop/#", "plant/7/+"]))
    assert may_hold(prints, probes_of(["+/7/temp"])) and may_hold(prints, probes_of(["x"] * (PROBED_MAX + 1)))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(summaries, "BLOCK_BYTES", 4_000)
    monkeypatch.setattr(summaries, "SEGMENT_TOPICS_MAX", 30)


@pytest.fixture
def filled(tmp_path, small):
    """Thousands of topics in a few segments, most without a number."""
    store = make_store(tmp_path, tail_cache_bytes=0)
    partition = open_partition(store, segment_bytes=40_000)
    rng = random.Random(3)
    sent = []
    for group in range(60):
        events = [Event(f"g{group // 6}/{rng.randrange(30)}/{rng.randrange(3)}", b"x" * 20, 1) for _ in range(50)]
        store.store_events(partition, events)
        sent += events
    assert partition.segment_count > 3
    yield partition, sent
    store.close()


FILTERS = [["g3/#"], ["g3/7/1"], ["g0/1/1", "g9/2/+"], ["+/7/1"], ["none/#"], ["#"], ["g4/5/+", "g4/6/2", "nope"]]


@pytest.mark.parametrize("patterns", FILTERS, ids=" ".join)
def test_scans_and_counts_with_filters_find_what_those_without_do(filled, patterns):
    partition, sent = filled

    def wanted(topic):
        return any(filter_matches(pattern, topic) for pattern in patterns)

    offset, found, counted = 0, [], 0
    while offset < partition.end_offset:
        step = partition.scan(offset, wanted, max_events=100, max_scanned=70, patterns=patterns)
        found += [event.offset for event in step.events]
        offset = step.next_offset
    expected = [offset for offset, event in enumerate(sent) if wanted(event.topic)]
    assert found == expected
    offset = 0
    while offset < partition.end_offset:
        tally = partition.tally(offset, until=partition.end_offset, max_scanned=70, patterns=patterns)
        counted += sum(count for topic, count in tally.counts.items() if wanted(topic))
        offset = tally.next_offset
    assert counted == len(expected)


def test_a_rare_topic_among_many_is_found_by_reading_little(filled):
    partition, _ = filled
    read = []
    batches = type(partition._reader)._batches

    def spy(reader, hint, reading):
        for found in batches(reader, hint, reading):
            read.append(found.header.record_count)
            yield found

    type(partition._reader)._batches = spy
    try:
        for patterns, most in ((["g9/1/1"], 600), (["none/x"], 0), (["none/#"], 0)):
            read.clear()
            partition.scan(0, lambda topic, patterns=patterns: filter_matches(patterns[0], topic),
                           max_events=10_000, max_scanned=1 << 40, patterns=patterns)
            assert sum(read) <= most, patterns
            read.clear()
            offset = 0
            while offset < partition.end_offset:
                offset = partition.tally(offset, until=partition.end_offset, max_scanned=1 << 40,
                                         patterns=patterns).next_offset
            assert sum(read) <= most, patterns
    finally:
        type(partition._reader)._batches = batches


def test_a_step_that_only_skips_is_bounded_too(filled):
    partition, _ = filled
    steps = offset = 0
    while offset < partition.end_offset:
        offset = partition.scan(offset, lambda topic: False, max_events=1, max_scanned=20).next_offset
        steps += 1
    assert steps > 30


def header(offset, count, size=500):
    return BatchHeader(**{**dict.fromkeys(BatchHeader.__struct_fields__, 0),
                          "base_offset": offset, "record_count": count, "length": size - 12})


def test_the_text_of_topics_and_the_count_of_prints_are_bounded(monkeypatch):
    monkeypatch.setattr(summaries, "SEGMENT_TOPIC_CHARS_MAX", 1_000_000)
    monkeypatch.setattr(summaries, "BLOCK_PRINTS_MAX", 100)
    one = Summary()
    for number in range(40):
        one.add(number * 500, header(number * 10, 10), [f"{number}/{index}/" + "x" * 60_000 for index in range(10)])
    assert sum(map(len, one.topics)) <= 1_000_000
    assert not one.is_complete and one.blocks[-1].numbers is None and one.blocks[-1].prints is None
    assert one.bytes < 1_200_000


def test_it_is_read_as_it_was_written_and_grows_on(small):
    rng = random.Random(5)
    one = Summary()
    batches = [[f"t/{rng.randrange(10 if number < 10 else 80)}" for _ in range(20)] for number in range(40)]
    for number, topics in enumerate(batches[:25]):
        one.add(number * 500, header(number * 20, 20), topics)
    two = decode_summary(encode_summary(freeze(one)))
    for summary in (one, two):
        for number, topics in enumerate(batches[25:], 25):
            summary.add(number * 500, header(number * 20, 20), topics)
    rows = [[(block.first_offset, block.position, block.records, list(block.numbers or ()), list(block.counts or ()),
              None if block.prints is None else sorted(block.prints)) for block in summary.blocks]
            for summary in (one, two)]
    assert rows[0] == rows[1] and one.topics == two.topics and one.bytes == two.bytes
    assert any(block.prints for block in one.blocks) and any(block.numbers for block in one.blocks)


def test_a_summary_of_an_older_build_is_read():
    import msgspec
    old = decode_summary(msgspec.msgpack.encode((["a", "b"], [[0, 0, 3, [0, 1], [2, 1]], [3, 500, 9, None, []]])))
    assert list(old.blocks[0].numbers) == [0, 1] and list(old.blocks[0].counts) == [2, 1]
    assert old.blocks[1].numbers is None and old.blocks[1].prints is None and not old.is_complete
    assert decode_summary(b"nonsense") is None and decode_summary(msgspec.msgpack.encode(([], [[1]]))) is None
