"""StateTable: what cannot be read is said, kept, and keeps nothing else from being read."""
import msgspec

from routing.consumer import ConsumerSpec
from routing.state import StateTable
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
