"""Many small publishers share a sync; those who wait for each answer never wait longer for it."""
import pytest

from routing.event import Event
from routing.log.committing.gather import ENOUGH_BYTES, WINDOW_S, Gather
from routing.log.committing.workers import InlineWriter
from routing.log.store import LocalStore
from routing.settings import StreamSettings
from routing.ticket import Ticket


class Someone:
    window = -1


class Clock:
    def __init__(self):
        self.now_s = 100.0
        self.timers = []

    def __call__(self):
        return self.now_s

    def call_later(self, delay_s, work):
        self.timers.append((self.now_s + delay_s, work))

    def run_until(self, now_s):
        while due := [timer for timer in self.timers if timer[0] <= now_s]:
            self.timers.remove(due[0])
            self.now_s = max(self.now_s, due[0][0])
            due[0][1]()
        self.now_s = now_s


def gather_after(publishers, each_per_s, gather_s=0.003):
    """A Gather that has seen one window of this load, and its clock."""
    clock = Clock()
    gather = Gather(gather_s, clock, clock.call_later)
    crowd = [Someone() for _ in range(publishers)]
    for _ in range(round(each_per_s * WINDOW_S)):
        for someone in crowd:
            gather.published(someone)
    clock.now_s += WINDOW_S
    gather.tick(clock.now_s)
    return gather, clock


@pytest.mark.parametrize(("publishers", "each_per_s", "interval_s"), [
    (50, 200, 0.0025),          # half of the 5 ms after which each comes again
    (500, 40, 0.003),           # no longer than asked for
    (50, 800, 0.000625),        # closed loop at 40,000/s: below the 1.2 ms that a commit and its answers take
    (1, 3_000, 0.0),            # one that waits for each answer: nobody to wait for
    (8, 200, 0.0),              # too few to gain
    (50, 20, 0.0),              # too rare to gain
])
def test_how_far_apart_commits_start(publishers, each_per_s, interval_s):
    gather, clock = gather_after(publishers, each_per_s)
    assert gather.wait_s(clock.now_s, 1_000) == pytest.approx(interval_s)
    assert gather.wait_s(clock.now_s - 0.001, 1_000) == pytest.approx(max(interval_s - 0.001, 0.0))
    assert gather.wait_s(clock.now_s - 0.01, 1_000) == 0.0


def test_a_large_group_goes_at_once_and_0_switches_it_off():
    gather, clock = gather_after(50, 200)
    assert gather.wait_s(clock.now_s, ENOUGH_BYTES) == 0.0
    gather, clock = gather_after(50, 200, gather_s=0.0)
    assert gather.wait_s(clock.now_s, 1) == 0.0


def test_a_quiet_window_ends_the_waiting():
    gather, clock = gather_after(50, 200)
    clock.now_s += WINDOW_S
    gather.tick(clock.now_s)
    assert gather.wait_s(clock.now_s, 1) == 0.0


def test_the_store_starts_the_next_commit_when_the_time_has_come_and_loses_none(tmp_path):
    gather, clock = gather_after(50, 200)
    store = LocalStore(tmp_path, call_on_loop=lambda work: work(), clock_ms=lambda: 1, clock_s=clock, gather=gather,
                       spawn_writer=InlineWriter)
    partition, = store.open_stream(StreamSettings("events", ("#",)))

    def publish():
        ticket = Ticket([Event("t", b"x", 1)])
        partition.append(ticket.events, ticket)
        ticket.part_done()
        store.kick()
        return ticket

    first = publish()
    assert first.done
    second, third = publish(), publish()
    assert not second.done and len(clock.timers) == 1
    clock.run_until(clock.now_s + 0.003)
    assert second.done and third.done and partition.end_offset == 3
    last = publish()
    publish_again = publish()
    store.close()
    assert last.done and publish_again.done and partition.end_offset == 5


def test_a_stream_on_disk_that_nobody_opens_is_named(tmp_path):
    for streams in (["a", "b/ü"], ["a"]):
        store = LocalStore(tmp_path, call_on_loop=lambda work: work(), clock_ms=lambda: 1, spawn_writer=InlineWriter)
        for name in streams:
            store.open_stream(StreamSettings(name, ("#",)))
        unserved = store.unserved()
        store.close()
    assert unserved == ["b/ü"]
