"""Transfers that are like the one before are read without decoding them (engine/runs.py), and come to the same."""
from __future__ import annotations

import random

import pytest

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import encode_composite
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import inner, split
from protocols.amqp.codec.types import Described, ULong
from protocols.amqp.engine.runs import Run
from protocols.amqp.settings import Amqp10Settings
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand

HEADER = b"\x00\x53\x70\xc0\x02\x01\x41"        # durable
PROPERTIES = encode(Described(ULong(0x73), ["m", None, None, "subject"]))
NOTED = encode(Described(ULong(0x74), {"number": 1}))


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path, settings=Amqp10Settings(link_credit=40, session_window=60)).start()
    yield started
    started.stop()


@pytest.fixture
def ran(monkeypatch):
    """How many frames were read in runs."""
    counted = [0]
    go = Run.go

    def counting(self, raw, position):
        stop = go(self, raw, position)
        counted[0] += (stop - position) // self._size
        return stop

    monkeypatch.setattr(Run, "go", counting)
    return counted


def frame(number, message, *, settled=False, tag=None, handle=0):
    return frames.frame(0, hot.transfer(hot.transfer_head(handle), number, tag or b"%04d" % (number % 10_000), settled,
                                        False) + message)


def payload(message):
    start, stop = inner(message, split(message).value)
    return message[start:stop]


class Answers:
    """What has come back, and credit as it is told."""

    def __init__(self, raw, first):
        self.raw = raw
        self.allowed = first + 40
        self.answered = []

    def until(self, *, room_for=0, answered=0):
        while self.allowed < room_for or len(self.answered) < answered:
            found = self.raw.frame()[0]
            if isinstance(found, p.Disposition):
                assert isinstance(found.state, p.Accepted) and found.settled
                last = found.last if found.last is not None else found.first
                self.answered += [(found.first + step) % 2**32 for step in range((last - found.first) % 2**32 + 1)]
            elif isinstance(found, p.Flow):
                if found.handle is not None:
                    self.allowed = found.delivery_count + found.link_credit
            else:
                raise AssertionError(found)


def sent(raw, messages, *, first, chance):
    """Each (number, message, settled), in pieces of any size, never beyond the credit."""
    answers = Answers(raw, 0)
    count = 0
    while count < len(messages):
        answers.until(room_for=count + 1)
        burst = messages[count:answers.allowed]
        raw_bytes = b"".join(frame((first + count + step) % 2**32, message, settled=settled)
                             for step, (message, settled) in enumerate(burst))
        cuts = sorted(chance.randrange(len(raw_bytes)) for _ in range(3))
        for start, stop in zip([0, *cuts], [*cuts, len(raw_bytes)]):
            raw.send_raw(raw_bytes[start:stop])
        count += len(burst)
    wanted = [(first + step) % 2**32 for step, (_, settled) in enumerate(messages) if not settled]
    answers.until(answered=len(wanted))
    assert answers.answered == wanted, "each is answered, once and in order"


@pytest.mark.parametrize("seed", range(6))
def test_messages_come_as_they_were_sent_and_each_is_answered(stand, ran, seed):
    chance = random.Random(seed)
    kinds = [HEADER, HEADER + PROPERTIES, PROPERTIES, PROPERTIES + NOTED, b""]
    messages = []
    while len(messages) < 600:
        kind, size, settled = chance.choice(kinds), chance.choice((1, 5, 100, 254, 300)), chance.random() < 0.2
        for _ in range(chance.choice((1, 2, 30, 60))):
            content = b"%d " % len(messages)
            content += bytes(chance.randrange(256) for _ in range(size - len(content)))
            messages.append((kind + data(content), settled))
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    sent(raw, messages, first=chance.choice((0, 250, 2**32 - 50)), chance=chance)
    assert ran[0] > len(messages) // 6, "many were read so"
    raw.receiver("queue://q", credit=len(messages), settled=p.SETTLED)
    got = [raw.delivery()[1] for _ in messages]
    assert [payload(one) for one in got] == [payload(message) for message, _ in messages]
    assert [split(one).bare for one in got] == [split(message).bare for message, _ in messages]
    for one, (message, _) in zip(got, messages):
        assert one[split(one).bare:] == message[split(message).bare:]


def test_a_frame_that_only_begins_alike_is_looked_at(stand, ran):
    """A state of a transaction, another tag, a body of another kind, an unknown section."""
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    same = [frame(300 + step, HEADER + data(b"x" * 20)) for step in range(6)]
    raw.send_raw(b"".join(same))
    body = encode_composite(p.Transfer(0, 306, b"0306", 0, False, state=p.TransactionalState(b"none", None)))
    answered = 0
    while answered < 6:
        found = raw.expect(p.Disposition)
        answered += (found.last if found.last is not None else found.first) - found.first + 1
    assert ran[0] > 0
    raw.send_raw(frames.frame(0, body + HEADER + data(b"x" * 20)))
    assert raw.expect(p.Detach).error.condition == "amqp:transaction:unknown-id"


def test_what_comes_in_a_run_after_the_queue_was_deleted_ends_the_link(stand, ran):
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    raw.send_raw(b"".join(frame(300 + step, HEADER + data(b"x")) for step in range(6)))
    answered = 0
    while answered < 6:
        found = raw.expect(p.Disposition)
        answered += (found.last if found.last is not None else found.first) - found.first + 1
    assert ran[0] > 0
    stand.do(lambda: stand.router.queues.delete("q"))
    raw.send_raw(b"".join(frame(306 + step, HEADER + data(b"x")) for step in range(3)))
    assert raw.expect(p.Detach).error.condition == "amqp:resource-deleted"


def test_the_sender_that_gives_itself_another_name_is_refused_within_a_run(stand, ran):
    """hostile.md 46: user-id is in what is compared."""
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    named = encode(Described(ULong(0x73), ["m", b"anna"]))
    raw.send_raw(b"".join(frame(300 + step, HEADER + named + data(b"x")) for step in range(20)))
    seen = 0
    while seen < 20:
        found = raw.expect(p.Disposition)
        seen += (found.last if found.last is not None else found.first) - found.first + 1
    assert ran[0] == 0


def test_more_than_the_credit_in_a_run_detaches(stand, ran):
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    raw.send_raw(b"".join(frame(300 + step, data(b"x" * 9)) for step in range(3)))
    raw.send_raw(b"".join(frame(303 + step, data(b"x" * 9), settled=False) for step in range(500)))
    while True:
        found = raw.frame()[0]
        if isinstance(found, (p.Detach, p.End)):
            assert found.error.condition in ("amqp:link:transfer-limit-exceeded", "amqp:session:window-violation")
            return


def test_alike_events_go_out_alike_and_others_as_they_are(stand):
    """Deliveries that failed, messages of other protocols and of other kinds among them."""
    raw = Raw(stand.port)
    raw.begin()
    raw.sender("queue://q")
    messages = [HEADER + data(b"a%d" % step) for step in range(8)]
    messages[3:3] = [HEADER + b"\x00\x53\x77" + encode("text"), PROPERTIES + data(b"plain")]
    raw.send_raw(b"".join(frame(300 + step, message) for step, message in enumerate(messages)))
    assert raw.expect(p.Disposition).last == 309
    raw.receiver("queue://q", credit=len(messages))
    got = []
    while len(got) < len(messages):
        found, message, _ = raw.frame()
        if isinstance(found, p.Transfer):
            got.append((found.delivery_tag, found.delivery_id, message))
    assert [message for *_, message in got] == messages
    assert len({tag for tag, *_ in got}) == len(messages)
    raw.send(p.Disposition(p.RECEIVER, got[0][1], got[-1][1], True, p.Modified(True)))
    raw.credit(len(messages), count=len(messages))
    again = []
    while len(again) < len(messages):
        found, message, _ = raw.frame()
        if isinstance(found, p.Transfer):
            again.append(message)
    assert [message[split(message).bare:] for message in again] == [
        message[split(message).bare:] for message in messages]
    assert all(message.startswith(b"\x00\x53\x70") for message in again), "each is counted"


