"""An SSE reader whose socket is full."""
from __future__ import annotations

import asyncio

from protocols.formats.event_json import event_json
from protocols.rest.counters import RestCounters
from protocols.rest.reading.frames import Frames
from protocols.rest.reading.positions import start_vector
from protocols.rest.reading.reader import FAST_SOCKET_BYTES, SseReader
from protocols.rest.settings import RestSettings
from routing.consumers.consumer import ConsumerSpec
from routing.event import Event
from tests.support.routing import ANA, Desk


class Transport:
    """Full after the first bytes beyond the limit."""

    def __init__(self):
        self.data, self.waiting, self.reader = b"", 0, None

    def is_closing(self):
        return False

    def write(self, data):
        self.data += data
        self.waiting += len(data)
        if self.waiting > 16_384 and self.reader.blocked_since_s is None:
            self.reader.writing(True)


async def test_a_full_socket_gets_no_more_even_when_events_grow(tmp_path):
    desk = Desk(tmp_path, tail_cache_bytes=1)
    desk.publish(*[Event("t", b"x", 1) for _ in range(1000)])
    for _ in range(10):
        desk.publish(*[Event("t", bytes(65_536), 1) for _ in range(4)])
    vector = start_vector("earliest", desk.router.streams.holding(("#",)), desk.router.store.epoch)
    start = [(stream, index, offset) for stream, offsets in vector.items() for index, offset in enumerate(offsets)]
    transport = Transport()
    reader = SseReader(desk.router, ANA, vector, transport, chunked=False, settings=RestSettings(),
                       counters=RestCounters(), frames=Frames(event_json))
    transport.reader = reader
    consumer = desk.router.open_consumer(
        ConsumerSpec("sse/x", ("#",), start=start, durable=False, max_in_flight=1024), ANA)
    reader.start(consumer)
    consumer.attach(reader)
    desk.run()
    most, turns = 0, 0
    while reader.blocked_since_s is not None:
        assert reader.credit == 0
        most = max(most, transport.waiting)
        transport.waiting = 0
        reader.writing(False)
        desk.run()
        turns += 1
        assert turns < 1000
    assert most < 16_384 * 2 + 65_536 * 6 + 1_000      # a NUL is six bytes in JSON
    assert transport.data.count(b"data: ") == 1040
    assert reader.vector == {"events": [1040]}
    assert consumer.in_flight == 0
    desk.close()


async def test_the_kernel_holds_little_for_a_reader_that_takes_nothing_and_more_for_one_that_keeps_up(tmp_path):
    """SO_SNDBUF is set from the start, and raised after a full socket has drained at once."""
    sizes = []

    class Socket:
        def setsockopt(self, level, option, size):
            sizes.append(size)

    class Wire(asyncio.Transport):
        def get_extra_info(self, name, default=None):
            return Socket() if name == "socket" else default

        def is_closing(self):
            return False

        def write(self, data):
            pass

    desk = Desk(tmp_path)
    reader = SseReader(desk.router, ANA, {}, Wire(), chunked=True, settings=RestSettings(), counters=RestCounters(),
                       frames=Frames(event_json))
    reader.bound_socket(32_768)
    reader.writing(True)
    desk.now_s += 5.0
    reader.writing(False)
    assert sizes == [32_768]
    reader.writing(True)
    desk.now_s += 0.01
    reader.writing(False)
    assert sizes == [32_768, FAST_SOCKET_BYTES]
