"""A retained event goes to two places, its stream and the retained partition: it is in both or in none."""
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


def fail(faults, code, count=-1, stream="%24retained"):
    """Writes of the retained copy fail, -1: all from now on."""
    faults.fail("pwrite", code=code, count=count, stream=stream)


def publish(desk, payload=b"x"):
    ticket = desk.router.publish([Event("a", payload, 1, retain=True)], desk.publisher)
    desk.run()
    return ticket


def stored(desk):
    return desk.router.own_partitions()[0].end_offset


def shown(desk):
    return [event.payload for event in desk.router.retained.tree.match("#")]


def crash(desk, faults):
    """Kill -9, and a disk that is well again."""
    faults.clear()
    desk.queue.clear()
    desk.store.close()
    return Desk(desk.path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_its_stream_has_taken_is_retained_whatever_becomes_of_the_copy(desk, faults, code):
    fail(faults, code)
    ticket = publish(desk)
    assert ticket.done and not ticket.refusals and stored(desk) == 1
    assert shown(desk) == [b"x"]
    for _ in range(15):
        desk.tick(1.1)
    again = crash(desk, faults)
    assert shown(again) == [b"x"]
    again.tick(1.1)
    again.close()
    third = Desk(again.path)
    assert shown(third) == [b"x"] and third.router.retained.event_at(0) is not None
    third.close()


def test_a_removal_is_kept_alike(desk, faults):
    publish(desk)
    fail(faults, errno.EIO)
    assert not publish(desk, b"").refusals
    assert shown(desk) == []
    again = crash(desk, faults)
    assert shown(again) == []
    again.close()


def test_once_the_copy_cannot_be_kept_nothing_of_the_next_one_is(desk, faults):
    fail(faults, errno.EIO)
    publish(desk)
    ticket = publish(desk, b"y")
    assert ticket.refusals[0].reason is Reason.STORAGE_FAILED
    assert stored(desk) == 1 and shown(desk) == [b"x"]
    again = crash(desk, faults)
    assert shown(again) == [b"x"]
    again.close()


def test_what_its_stream_refused_is_not_retained(desk, faults):
    publish(desk)
    fail(faults, errno.EIO, stream="events")
    assert publish(desk, b"y").refusals[0].reason is Reason.STORAGE_FAILED
    assert shown(desk) == [b"x"]
    again = crash(desk, faults)
    assert shown(again) == [b"x"]
    again.close()


def test_a_removal_that_was_refused_does_not_keep_an_older_value_of_another_node_out(desk, faults):
    fail(faults, errno.EIO, stream="events")
    assert publish(desk, b"").refusals
    origin = desk.router.origins.of("graz", "e", "s", 0)
    older = Event("a", b"x", 1, retain=True, timestamp_ms=1_000, origin=origin, origin_offset=1)
    assert desk.router.retained.is_newest(older)


def test_a_copy_that_waited_for_room_is_not_stored_behind_a_newer_one(desk, faults):
    fail(faults, errno.ENOSPC, 1)
    publish(desk)
    desk.now_s += 1.1
    publish(desk, b"newer")
    desk.tick(1.1)
    assert desk.router.streams.by_name["events"] and desk.router.retained.end == 1
    again = crash(desk, faults)
    assert shown(again) == [b"newer"]
    again.close()
