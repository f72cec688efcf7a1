"""Slices: reads are worked off in pieces that cost little, in order, with nothing lost and nothing held for long."""
from __future__ import annotations

from collections import deque

import pytest

from protocols.transport.slices import ANSWER_BYTES_MAX, SLICE_BYTES_MAX, SLICE_BYTES_START, Slices
from routing.fairness.turns import Turns


class Loop:
    def __init__(self):
        self.now_s = 1.0
        self.ready = deque()
        self.turns = Turns(self.ready.append, lambda: self.now_s)

    def turn(self):
        for _ in range(len(self.ready)):
            self.ready.popleft()()

    def run(self):
        for _ in range(100_000):
            if not self.ready:
                return
            self.turn()
        raise AssertionError("it never ends")


class Stream(Slices):
    """Each byte costs byte_s."""

    def __init__(self, loop, byte_s=0.0):
        super().__init__(loop.turns)
        self.loop, self.byte_s = loop, byte_s
        self.got, self.longest_s = [], 0.0
        self.read, self.ended, self.waits_bytes = True, False, 0
        self.on_slice = lambda: None

    def _deliver(self, data):
        self.got.append(data)
        self.loop.now_s += len(data) * self.byte_s
        self.longest_s = max(self.longest_s, len(data) * self.byte_s)
        self.on_slice()

    def _stop_stream(self):
        assert self.read
        self.read = False

    def _start_stream(self):
        assert not self.read
        self.read = True

    def _worked_off(self):
        self.ended = True

    def buffered_bytes(self):
        return self.waits_bytes

    @property
    def bytes(self):
        return b"".join(self.got)


DATA = bytes(range(256)) * 1_000


def test_a_small_read_is_delivered_at_once_and_whole():
    loop = Loop()
    stream = Stream(loop, 1e-9)
    stream.take(b"hello")
    assert stream.got == [b"hello"] and stream.read and not loop.ready


def test_a_small_read_that_is_let_into_a_full_turn_stops_nothing():
    """Its stream would wait behind a hundred others to be read again, with nothing to read."""
    loop = Loop()
    loop.turns.charge(Stream(loop), 0.007)
    loop.turns.queue(Stream(loop))
    stream = Stream(loop, 1e-9)
    stream.take(b"hello")
    assert stream.got == [b"hello"] and stream.read and not stream.queued


def test_after_a_read_that_filled_its_buffer_a_full_turn_reads_no_more():
    loop = Loop()
    loop.turns.charge(Stream(loop), 0.007)
    loop.turns.queue(Stream(loop))
    stream = Stream(loop, 1e-9)
    stream.take(bytes(SLICE_BYTES_START))
    assert not stream.read and stream.queued


@pytest.mark.parametrize("byte_s", [1e-9, 1e-7, 1e-6, 1e-5, 1e-4])
def test_slices_adapt_to_what_bytes_cost(byte_s):
    """From 1 ns to 0.1 ms per byte no slice is much longer than the bound, after the first."""
    loop = Loop()
    stream = Stream(loop, byte_s)
    for _ in range(3):
        stream.take(DATA)
        loop.run()
    assert stream.bytes == DATA * 3 and stream.read
    late = stream.got[8:]
    assert max(map(len, late), default=0) * byte_s <= 0.008
    if byte_s < 1e-8:
        assert stream.slice_bytes == SLICE_BYTES_MAX


def test_the_stream_is_stopped_while_something_waits():
    loop = Loop()
    stream = Stream(loop, 1e-6)
    stream.take(DATA)
    assert not stream.read and len(stream._later) - stream._later_at == len(DATA) - SLICE_BYTES_START
    loop.run()
    assert stream.read and not stream.waits


def test_what_comes_although_it_is_stopped_keeps_its_place():
    """uvloop's TLS may still bring what it has decrypted."""
    loop = Loop()
    stream = Stream(loop, 1e-6)
    stream.take(DATA)
    loop.turn()
    stream.take(b"more")
    loop.run()
    assert stream.bytes == DATA + b"more"


def test_others_come_between_the_slices_of_one():
    loop = Loop()
    greedy, small = Stream(loop, 1e-6), Stream(loop, 1e-6)
    greedy.take(DATA)
    loop.turn()
    before = len(greedy.got)
    small.take(b"x" * 100)
    loop.turn()
    assert small.bytes == b"x" * 100 and len(greedy.got) - before < 10 and greedy.waits


def test_a_hundred_greedy_streams_share_a_turn():
    loop = Loop()
    streams = [Stream(loop, 1e-6) for _ in range(100)]
    for stream in streams:
        stream.take(DATA)
    longest_s, before_s = 0.0, loop.now_s
    while loop.ready:
        before_s = loop.now_s
        loop.turn()
        longest_s = max(longest_s, loop.now_s - before_s)
    assert all(stream.bytes == DATA and stream.read for stream in streams)
    assert longest_s <= 0.016


def test_the_handler_may_pause_and_nothing_comes_until_it_wants_more():
    loop = Loop()
    stream = Stream(loop, 1e-6)
    stream.on_slice = stream.pause_reading
    stream.take(DATA)
    loop.run()
    assert len(stream.got) == 1 and not stream.read
    stream.on_slice = lambda: None
    stream.resume_reading()
    stream.resume_reading()
    loop.run()
    assert stream.bytes == DATA and stream.read
    stream.pause_reading()
    assert not stream.read
    stream.resume_reading()
    assert stream.read


def test_a_handler_that_pauses_and_goes_on_within_a_slice():
    loop = Loop()
    stream = Stream(loop, 1e-6)

    def both():
        stream.pause_reading()
        stream.resume_reading()

    stream.on_slice = both
    stream.take(DATA)
    loop.run()
    assert stream.bytes == DATA and stream.read


def test_who_asks_without_taking_the_answers_is_not_read():
    loop = Loop()
    stream = Stream(loop, 1e-9)
    stream.write_buffer_full(True)
    stream.take(b"little waits")
    assert stream.read
    stream.waits_bytes = ANSWER_BYTES_MAX + 1
    stream.take(b"ask")
    assert not stream.read
    stream.take(b"under way")
    loop.run()
    assert stream.got[-1] == b"ask"
    stream.waits_bytes = 0
    stream.write_buffer_full(False)
    loop.run()
    assert stream.got[-1] == b"under way" and stream.read


def test_nobody_wants_it_any_more():
    loop = Loop()
    stream = Stream(loop, 1e-6)
    stream.take(DATA)
    stream.drop_later()
    loop.run()
    assert not stream.waits and len(stream.got) == 1


def test_a_handler_may_put_back_what_it_has_not_looked_at():
    """Bytes that cost nothing, then bytes that cost 0.1 ms each: no slice is long, whatever came before."""
    loop = Loop()

    class Looks(Stream):
        def _deliver(self, data):
            start_s = self.loop.now_s
            for at, byte in enumerate(data):
                if at and not at % 16 and self.over():
                    self.got.append(data[:at])
                    self.put_back(data[at:])
                    break
                self.loop.now_s += 1e-4 if byte else 1e-9
            else:
                self.got.append(data)
            self.longest_s = max(self.longest_s, self.loop.now_s - start_s)

    stream = Looks(loop)
    data = (b"\0" * 300_000 + b"\1" * 5_000) * 3
    for start in range(0, len(data), 250_000):
        stream.take(data[start:start + 250_000])
        loop.run()
    assert stream.bytes == data and stream.read
    assert stream.longest_s < 0.008, "a turn: nobody else waits"


def test_an_interruption_is_no_reason_for_short_slices():
    """Another process, or a thread, had the processor for 50 ms: the bytes cost no more than before."""
    loop = Loop()
    cpu_s = [0.0]
    loop.turns.cpu_s = lambda: cpu_s[0]
    stream = Stream(loop, 1e-8)
    for _ in range(3):
        stream.take(DATA)
        loop.run()
    before = stream.slice_bytes
    stream.byte_s = 2e-7
    stream.take(DATA[:before])
    loop.run()
    assert stream.longest_s > 0.02 and stream.slice_bytes >= before
    stream.on_slice = lambda: cpu_s.__setitem__(0, cpu_s[0] + 0.05)
    stream.take(DATA[:before])
    loop.run()
    assert stream.slice_bytes < before / 4


def test_a_slice_of_little_that_looks_long_is_measured_before_it_makes_slices_short():
    """A request of 100 bytes was interrupted for 50 ms: it costs no more than before."""
    loop = Loop()
    cpu_s = [0.0]
    loop.turns.cpu_s = lambda: cpu_s[0]
    stream = Stream(loop, 5e-4)
    for _ in range(20):
        stream.take(b"x" * 100)
        loop.run()
    assert stream.slice_bytes == SLICE_BYTES_START
    stream.on_slice = lambda: cpu_s.__setitem__(0, cpu_s[0] + 0.05)
    for _ in range(20):
        stream.take(b"x" * 100)
        loop.run()
    assert stream.slice_bytes < 100, "and this one was not interrupted"


def test_a_slice_may_be_as_long_as_the_turn_while_nobody_waits_and_the_turn_stays_short_beside_others():
    loop = Loop()
    streams = [Stream(loop, 2e-8) for _ in range(6)]     # 256 KiB are 5 ms
    for stream in streams:
        for _ in range(12):
            stream.take(bytes(stream.slice_bytes))
            loop.run()
    assert {stream.slice_bytes for stream in streams} == {SLICE_BYTES_MAX}
    for _ in range(5):
        for stream in streams:
            stream.take(bytes(SLICE_BYTES_MAX))
        while loop.ready:
            before_s = loop.now_s
            loop.turn()
            assert loop.now_s - before_s < 0.014
    assert all(stream.read for stream in streams)


def test_what_a_slice_has_caused_keeps_it_from_growing_and_makes_it_shorter():
    loop = Loop()
    stream = Stream(loop)
    stream._last_s = 0.001
    size = stream.slice_bytes = 64 * 1024
    stream.byte_s = 0.001 / size
    stream.caused(0.0065, 0.001)
    assert stream.slice_bytes == size
    stream.take(bytes(size))
    loop.run()
    assert stream.slice_bytes == size, "more than 4 ms in all: twice as much would be too long"
    stream.caused(0.012, 0.001)
    assert stream.slice_bytes < size / 2
    stream.byte_s = 1e-9
    for _ in range(10):
        stream.caused(0.0, 0.001)
        stream.take(bytes(stream.slice_bytes))
        loop.run()
    assert stream.slice_bytes > size


def test_what_a_slice_will_cause_counts_when_it_asks_whether_it_is_over():
    loop = Loop()
    stream = Stream(loop)
    for _ in range(30):
        stream.caused(0.00901, 0.001)
    seen = []

    def on_slice():
        for _ in range(8):
            loop.now_s += 0.0001
            seen.append(stream.over())

    stream.on_slice = on_slice
    stream.take(b"x")
    assert seen.index(True) == 5, "0.6 ms, and 5.4 ms at the end of the turn"
