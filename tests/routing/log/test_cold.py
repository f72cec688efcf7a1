"""What is not in the page cache is read by a thread: whoever reads behind the tail never has the loop wait for a disk.

The file system here knows what was read before, as a page cache does, and writes down each read on the loop that would
have had to wait.
"""
import errno

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.event import Event
from routing.log.cold import AHEAD_BYTES, Cold
from routing.log.committing.workers import InlineWriter
from routing.log.fs import RealFileSystem
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.replicas.feed import Feed
from routing.settings import StreamSettings
from tests.support.routing import ANA, Desk, Reader

PAGE = 4096
COUNT = 3_000
SMALL = [StreamSettings("events", ("#",), segment_bytes=50_000)]


class ColdFile:
    def __init__(self, disk, path, file):
        self._disk, self._path, self._file = disk, path, file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def _pages(self, size, position):
        end = min(position + size, self._file.size())
        return {(self._path, page) for page in range(position // PAGE, -(-end // PAGE))}

    def pread(self, size, position):
        pages = self._pages(size, position)
        if self._disk.on_loop and not pages <= self._disk.warm:
            self._disk.waited.append((self._path.name, position, size))
        if self._disk.broken:
            raise OSError(errno.EIO, "broken")
        self._disk.warm |= pages
        return self._file.pread(size, position)

    def pread_cached(self, size, position):
        return self._file.pread(size, position) if self._pages(size, position) <= self._disk.warm else None


class ColdDisk(RealFileSystem):
    def __init__(self):
        super().__init__()
        self.warm, self.waited, self.asides = set(), [], []
        self.on_loop = self.broken = False

    def open(self, path, *, create=False, writable=False):
        return ColdFile(self, path, super().open(path, create=create, writable=writable))

    def spawn(self, name):
        return self if name.endswith("reader") else InlineWriter(name)

    def submit(self, work, told=None):
        self.asides.append(work)

    def close(self):
        pass


class ColdDesk(Desk):
    """Started on a log of which nothing is in memory."""

    def __init__(self, path, settings=SMALL):
        self.disk = ColdDisk()
        super().__init__(path, settings, fs=self.disk, spawn_writer=self.disk.spawn, tail_cache_bytes=0)
        self.disk.warm.clear()
        self.disk.on_loop = True

    def run(self):
        super().run()
        while self.disk.asides:
            work = self.disk.asides.pop(0)
            self.disk.on_loop = False
            work()
            self.disk.on_loop = True
            super().run()


@pytest.fixture
def desk(tmp_path):
    first = Desk(tmp_path, SMALL)
    for start in range(0, COUNT, 100):
        first.publish(*(Event(f"plant/{number % 50}", b"%d" % number, 1) for number in range(start, start + 100)))
    first.close()
    cold = ColdDesk(tmp_path)
    assert len(cold.router.own_partitions()[0].segments) > 2
    yield cold
    cold.disk.on_loop = False
    cold.close()


def test_a_consumer_that_catches_up_has_all_in_order_and_the_loop_never_waits(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), start="earliest", durable=False), ANA)
    reader = Reader(credit=COUNT)
    consumer.attach(reader)
    taken = []
    while len(taken) < COUNT:
        desk.run()
        assert reader.deliveries
        taken += [int(delivery.event.payload) for delivery in reader.ack_all(consumer)]
    assert taken == list(range(COUNT))
    assert desk.disk.waited == []


def test_one_topic_out_of_a_cold_log(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("plant/7",), start="earliest", durable=False), ANA)
    reader = Reader()
    consumer.attach(reader)
    desk.run()
    assert [int(payload) for payload in reader.payloads] == list(range(7, COUNT, 50))
    assert desk.disk.waited == []


def test_lag_is_counted_without_waiting(desk):
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("plant/7",), start="earliest"), ANA)
    consumer.lag()
    for _ in range(100):
        desk.tick(0.05)
    assert consumer.lag().exact and consumer.lag().events == COUNT // 50
    assert desk.disk.waited == []


def test_a_feed_is_told_when_it_may_go_on(desk):
    partition = desk.router.own_partitions()[0]
    feed = Feed(desk.router, partition, 0, lambda topic: True, lambda: None)
    taken, called, colds = [], [], 0
    while not feed.at_tail:
        try:
            events, _ = feed.take(max_events=500, max_bytes=1 << 20, max_scanned=500)
        except Cold as cold:
            colds += 1
            cold.when_read(called.clear)
            called.append(colds)
            desk.run()
            assert not called
        else:
            taken += [int(event.payload) for event in events]
    assert taken == list(range(COUNT)) and colds
    assert desk.disk.waited == []


def test_who_waits_for_the_same_place_waits_for_one_read(desk):
    partition = desk.router.own_partitions()[0]
    called = []
    for number in range(10):
        with pytest.raises(Cold) as caught:
            partition.scan(0, lambda topic: True, max_events=1, max_scanned=1, may_wait=True)
        caught.value.when_read(lambda number=number: called.append(number))
    assert len(desk.disk.asides) == 1
    desk.run()
    assert called == list(range(10))


def test_what_the_thread_cannot_read_the_loop_finds_out_about(desk):
    """As ever: a page that stays broken becomes damage, and readers go on behind it."""
    partition = desk.router.own_partitions()[0]
    desk.disk.broken = True
    for _ in range(3):
        with pytest.raises(Exception, match=r"not in memory|input/output error") as caught:
            partition.scan(0, lambda topic: True, max_events=1, max_scanned=1, may_wait=True)
        if isinstance(caught.value, Cold):
            caught.value.when_read(lambda: None)
            desk.run()
    desk.disk.broken = False
    consumer = desk.router.open_consumer(ConsumerSpec("c", ("#",), start="earliest", durable=False), ANA)
    reader = Reader(credit=1)
    consumer.attach(reader)
    desk.run()
    assert reader.payloads == [b"0"] and not partition.damage


def test_the_thread_reads_ahead(desk):
    """One wait brings so much that the next reads find it there."""
    assert AHEAD_BYTES >= 100_000                           # a whole segment here
    partition = desk.router.own_partitions()[0]
    waits = 0
    offset = 0
    while offset < partition.segments[1].base_offset:
        try:
            found = partition.scan(offset, lambda topic: True, max_events=50, max_scanned=50, may_wait=True)
            offset = found.next_offset
        except Cold as cold:
            waits += 1
            cold.when_read(lambda: None)
            desk.run()
    assert waits <= 2                                       # its sidecars, and the segment


def test_a_get_from_a_cold_queue_is_answered_when_it_has_been_read(tmp_path):
    """Whether it stands at its front or, after a start, nobody has read of it: a client's call hears of no disk."""
    first = Desk(tmp_path, SMALL)
    queue = first.router.queues.declare("work", QueueOptions(), ANA)
    assert queue.bind(Binding("plant/#"), ANA) is None
    first.run()
    for start in range(0, COUNT, 100):
        first.publish(*(Event("plant/1", b"%d" % number, 1) for number in range(start, start + 100)))
    first.close()
    desk = ColdDesk(tmp_path)
    queue = desk.router.queues.get("work")
    answers = []
    for number in range(COUNT):
        queue.get(Reader(), answers.append)
        desk.run()
        assert len(answers) == number + 1
        queue.ack([answers[-1]])
    queue.get(Reader(), answers.append)
    desk.run()
    assert answers.pop() is None
    assert [int(delivery.event.payload) for delivery in answers] == list(range(COUNT))
    assert desk.disk.waited == []
    desk.disk.on_loop = False
    desk.close()
