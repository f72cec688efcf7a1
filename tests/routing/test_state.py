"""StateTable: what cannot be read is said, kept, and keeps nothing else from being read."""
import errno

import msgspec

from routing.consumers.consumer import ConsumerSpec
from routing.errors import Reason
from routing.log.fs import RealFileSystem
from routing.state import VALUE_BYTES_MAX, StateTable
from tests.support.disk import FaultyFileSystem
from tests.support.routing import ANA, Desk

BROKEN = b"\xc1"        # the one byte that MessagePack does not use


class Note(msgspec.Struct, array_like=True):
    text: str


def packed(text):
    return msgspec.msgpack.encode(Note(text))


def state_of(desk) -> StateTable:
    return desk.router.state


def test_a_broken_record_is_reported_and_passed_over(tmp_path, caplog):
    desk = Desk(tmp_path)
    for key, value in ("note/a", packed("x")), ("note/b", BROKEN), ("note/c", packed("y")), ("other/d", packed("z")):
        state_of(desk).put(key, value)
    assert list(state_of(desk).decoded("note/", Note, "note")) == [("a", Note("x")), ("c", Note("y"))]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "stored note note/b cannot be read and is left alone"]
    assert state_of(desk).get("note/b") == BROKEN
    desk.close()


def test_a_broken_consumer_does_not_keep_the_others_away(tmp_path):
    desk = Desk(tmp_path)
    desk.router.open_consumer(ConsumerSpec("c", ("#",)), ANA)
    desk.run()
    state_of(desk).put("consumer/b", BROKEN)
    desk.run()
    desk.close()
    again = Desk(tmp_path)
    assert list(again.router.consumers) == ["c"]
    assert state_of(again).get("consumer/b") == BROKEN
    again.close()


def test_a_value_that_is_too_large_is_refused_at_once_and_changes_nothing(tmp_path):
    """It was queued, failed together with all that was stored in the same turn, and was tried again for ever."""
    desk = Desk(tmp_path)
    state_of(desk).put("k", b"old")
    ticket = state_of(desk).put("k", b"x" * (VALUE_BYTES_MAX + 1))
    assert ticket.done and ticket.refusals[0].reason is Reason.QUOTA_EXCEEDED
    other = state_of(desk).put("other", b"1")
    desk.run()
    assert other.done and not other.refusals and state_of(desk).get("k") == b"old"
    desk.close()
    assert Desk(tmp_path).router.state.get("k") == b"old"


def test_what_a_full_disk_refused_is_tried_again_but_not_with_every_tick(tmp_path):
    files = FaultyFileSystem(RealFileSystem())
    desk = Desk(tmp_path, fs=files)
    files.faults.fail("pwrite", count=-1, code=errno.ENOSPC)
    appended = []
    append = state_of(desk)._partition.append
    state_of(desk)._partition.append = lambda events, ticket: (appended.append(len(events)), append(events, ticket))
    state_of(desk).put("k", b"1")
    desk.run()
    for _ in range(30):
        desk.tick(0.05)
    assert 1 <= len(appended) <= 4
    files.faults.clear()
    state_of(desk)._partition.shortage.full = None                # the partition has its own pause, by its own clock
    desk.tick(10)
    desk.close()
    assert Desk(tmp_path).router.state.get("k") == b"1"


def test_what_cannot_be_encoded_is_given_up(tmp_path):
    desk = Desk(tmp_path)
    state_of(desk).put("k", "not bytes")
    desk.run()
    desk.tick(10)
    assert not state_of(desk)._refused and not state_of(desk)._waiting
    assert not state_of(desk).put("other", b"1").refusals
    desk.run()
    desk.close()
    assert Desk(tmp_path).router.state.get("other") == b"1"
