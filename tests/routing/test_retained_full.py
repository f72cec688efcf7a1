"""A retained event goes to two places; a disk that is full for one of them must not make the publisher double it."""
import errno

import pytest

from routing.errors import Reason
from routing.event import Event
from routing.log.fs import RealFileSystem
from tests.support.disk import FaultyFileSystem
from tests.support.routing import Desk


@pytest.fixture
def disk():
    return FaultyFileSystem(RealFileSystem())


@pytest.fixture
def faults(disk):
    return disk.faults


@pytest.fixture
def desk(tmp_path, disk, faults):
    desk = Desk(tmp_path, fs=disk)
    desk.store.clock_s = lambda: desk.now_s
    yield desk
    faults.clear()
    desk.close()


def full(desk, faults, count):
    """The disk has no room for the retained copy, count times."""
    faults.fail("pwrite", code=errno.ENOSPC, count=count, stream="_retained")


def publish(desk):
    ticket = desk.router.publish([Event("a", b"x", 1, retain=True)], desk.publisher)
    desk.run()
    return ticket


def stored(desk):
    return desk.router.own_partitions()[0].end_offset


def test_the_publisher_waits_until_its_copy_fits_too(desk, faults):
    full(desk, faults, 2)
    ticket = publish(desk)
    assert not ticket.done and stored(desk) == 1
    for _ in range(4):
        desk.tick(1.1)
    assert ticket.done and not ticket.refusals and stored(desk) == 1
    assert [event.payload for event in desk.router.retained.tree.match("a")] == [b"x"]


def test_it_is_refused_in_the_end(desk, faults):
    full(desk, faults, -1)
    ticket = publish(desk)
    for _ in range(15):
        desk.tick(1.1)
    assert ticket.done and ticket.refusals[0].reason is Reason.STORAGE_FULL
    assert not list(desk.router.retained.tree.match("a"))


def test_a_removal_that_was_refused_does_not_keep_an_older_value_of_another_node_out(desk, faults):
    full(desk, faults, -1)
    ticket = desk.router.publish([Event("a", b"", 1, retain=True)], desk.publisher)
    desk.run()
    for _ in range(15):
        desk.tick(1.1)
    assert ticket.refusals
    faults.clear()
    desk.tick(1.1)
    origin = desk.router.origins.of("graz", "e", "s", 0)
    older = Event("a", b"x", 1, retain=True, timestamp_ms=1_000, origin=origin, origin_offset=1)
    assert desk.router.retained.is_newest(older)


def test_a_copy_that_waited_for_room_is_not_stored_behind_a_newer_one(desk, faults, tmp_path):
    full(desk, faults, 1)
    waiting = publish(desk)
    desk.now_s += 1.1
    newer = desk.router.publish([Event("a", b"newer", 1, retain=True)], desk.publisher)
    desk.run()
    assert newer.done and not waiting.done
    desk.tick(1.1)
    assert waiting.done and not waiting.refusals
    desk.close()
    again = Desk(tmp_path)
    assert [event.payload for event in again.router.retained.tree.match("a")] == [b"newer"]
    again.close()
