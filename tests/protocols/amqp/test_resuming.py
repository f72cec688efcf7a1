"""Links that are resumed: unsettled maps, both ways, bounded by expiry, time, bytes and frames. AMQP 1.0 §2.6.13."""
from __future__ import annotations

import time

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.message import inner, list_of, split
from protocols.amqp.codec.performatives import ACCEPTED, RELEASED
from protocols.amqp.codec.types import Described, ULong
from protocols.amqp.settings import Amqp10Settings
from tests.protocols.amqp.raw import Raw, composed, data
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until

SETTINGS = Amqp10Settings(suspended_s=30.0, suspended_bytes_max=100_000)
KEPT = {"durable": 2, "expiry_policy": "never"}
_accepted = Described(ULong(0x24), [])
_released = Described(ULong(0x26), [])
_rejected = Described(ULong(0x25), [])


@pytest.fixture
def stand(tmp_path):
    started = Stand(tmp_path, settings=SETTINGS).start()
    yield started
    started.stop()


def client(stand, **options):
    raw = Raw(stand.port, container="c", **options)
    raw.begin()
    return raw


def lose(stand, raw):
    raw.socket.close()
    wait_until(lambda: not stand.do(lambda: stand.amqp.connections), "the connection is gone")


def states(attach):
    """What an attach says is unsettled."""
    return {tag: composed(state) for tag, state in (attach.unsettled or {}).items()}


def sends(raw, *, unsettled=None, mode=p.SECOND, name="in", address="queue://q", incomplete=None, **target):
    raw.send(p.Attach(name, 0, p.SENDER, p.UNSETTLED, mode, source=p.Source(),
                      target=p.Target(address, **(target or KEPT)), unsettled=unsettled,
                      incomplete_unsettled=incomplete, initial_delivery_count=0))
    attached = raw.expect(p.Attach)
    raw.expect(p.Flow)
    return attached


def reads(raw, *, unsettled=None, credit=0, name="out", incomplete=None, mode=p.FIRST, handle=1, address="queue://q",
          **source):
    raw.send(p.Attach(name, handle, p.RECEIVER, p.UNSETTLED, mode, source=p.Source(address, **(source or KEPT)),
                      target=p.Target(), unsettled=unsettled, incomplete_unsettled=incomplete))
    attached = raw.expect(p.Attach)
    if credit:
        raw.credit(credit, handle)
    return attached


def payload(message):
    start, stop = inner(message, split(message).value)
    return message[start:stop]


def filled(stand, count, size=1):
    raw = client(stand)
    raw.sender("queue://q")
    for number in range(count):
        raw.transfer(number, data(b"%d" % number * size))
    answered = 0
    while answered < count:
        found = raw.expect(p.Disposition)
        answered += (found.last if found.last is not None else found.first) - found.first + 1
    lose(stand, raw)


def taken(raw, count):
    """tag → payload, in order."""
    return {transfer.delivery_tag: payload(message) for transfer, message in (raw.delivery() for _ in range(count))}


def rest(stand):
    """All that the queue gives to somebody else."""
    raw = Raw(stand.port, container="other")
    raw.begin()
    raw.receiver("queue://q", credit=100, settled=p.SETTLED)
    raw.send(p.Flow(0, 10_000, 0, 10_000, 1, 0, 100, drain=True))
    found = []
    while True:
        transfer, message, _ = raw.frame()
        if isinstance(transfer, p.Flow) and transfer.handle == 1:
            raw.socket.close()
            return found
        if isinstance(transfer, p.Transfer):
            found.append(payload(message))


# -- what comes -----------------------------------------------------------------------------------------------------

def sent(stand, count=1, **target):
    """Messages whose outcome is known, and that the sender has not settled; its connection is lost."""
    raw = client(stand)
    sends(raw, **target)
    for number in range(count):
        raw.transfer(number, data(b"%d" % number))
        found = raw.expect(p.Disposition)
        assert not found.settled and found.state == ACCEPTED
    lose(stand, raw)


@pytest.mark.parametrize("with_payload", [True, False])
@pytest.mark.parametrize("settled", [True, False])
def test_what_has_an_outcome_is_told_and_not_stored_again(stand, with_payload, settled):
    sent(stand)
    raw = client(stand)
    assert states(sends(raw, unsettled={b"0": None})) == {b"0": ACCEPTED}
    raw.send(p.Transfer(0, 0, b"0", 0, settled, state=ACCEPTED if settled else None, resume=True),
             data(b"0") if with_payload else b"")
    if not settled:
        found = raw.expect(p.Disposition)
        assert (found.first, found.state, bool(found.settled)) == (0, ACCEPTED, False)
        raw.send(p.Disposition(p.SENDER, 0, None, True))
    raw.transfer(1, data(b"1"))
    raw.expect(p.Disposition)
    lose(stand, raw)
    raw = client(stand)
    assert states(sends(raw, unsettled={b"1": None})) == {b"1": ACCEPTED}, "what was settled is forgotten"
    assert rest(stand) == [b"0", b"1"]


def test_what_the_sender_has_settled_is_forgotten(stand):
    sent(stand, 2)
    raw = client(stand)
    assert states(sends(raw, unsettled={b"1": None})) == {b"1": ACCEPTED}
    lose(stand, raw)
    raw = client(stand)
    assert states(sends(raw)) == {}


def test_a_sender_that_knows_nothing_of_it_is_a_new_one(stand):
    sent(stand)
    raw = client(stand)
    assert states(sends(raw)) == {}
    raw.transfer(0, data(b"0"))
    assert raw.expect(p.Disposition).state == ACCEPTED
    assert rest(stand) == [b"0", b"0"]


def test_what_never_came_is_sent_again_with_its_tag_and_stored_once(stand):
    """The target keeps its state: what is not known comes with its tag, as this node may have been killed since."""
    sent(stand)
    raw = client(stand)
    assert states(sends(raw, unsettled={b"0": None, b"1": None})) == {b"0": ACCEPTED, b"1": None}
    for _ in range(2):
        raw.send(p.Transfer(0, 0, b"1", 0, False, state=p.Received(0, 0), resume=True), data(b"1"))
        assert raw.expect(p.Disposition).state == ACCEPTED
    assert rest(stand) == [b"0", b"1"]


def test_one_that_is_no_durable_target_tells_what_it_has_and_no_more(stand):
    sent(stand, expiry_policy="never")
    raw = client(stand)
    found = sends(raw, unsettled={b"0": None, b"1": None}, expiry_policy="never")
    assert states(found) == {b"0": ACCEPTED}


def test_a_tag_that_is_used_again_is_a_new_delivery(stand):
    raw = client(stand)
    sends(raw)
    for number in range(2):
        raw.send(p.Transfer(0, number, b"t", 0, False), data(b"same"))
        assert raw.expect(p.Disposition).state == ACCEPTED
        raw.send(p.Disposition(p.SENDER, number, None, True))
    assert rest(stand) == [b"same", b"same"]


def test_one_whose_sender_gives_it_up_is_forgotten(stand):
    raw = client(stand)
    sends(raw, unsettled={b"0": None})
    raw.send(p.Transfer(0, 0, b"0", 0, False, more=True, resume=True), data(b"0"))
    raw.send(p.Transfer(0, resume=True, aborted=True))
    raw.transfer(1, data(b"1"))
    raw.expect(p.Disposition)
    assert rest(stand) == [b"1"]


def test_in_the_first_settle_mode_what_is_answered_is_settled(stand):
    raw = client(stand)
    sends(raw, mode=p.FIRST)
    raw.transfer(0, data(b"0"))
    assert raw.expect(p.Disposition).settled
    lose(stand, raw)
    raw = client(stand)
    assert states(sends(raw, mode=p.FIRST, unsettled={b"0": None})) == {}


def test_a_map_that_does_not_fit_is_incomplete_and_nothing_new_is_taken_before_the_rest(stand):
    sent(stand, 60)
    raw = client(stand, max_frame_size=512)
    tags = {b"%d" % number: None for number in range(60)}
    found = sends(raw, unsettled=tags)
    assert found.incomplete_unsettled and 5 < len(found.unsettled) < 60
    raw.send(p.Disposition(p.SENDER, 0, None, True))
    for number, tag in enumerate(found.unsettled):
        raw.send(p.Transfer(0, number, tag, 0, True, state=ACCEPTED, resume=True))
    raw.send(p.Transfer(0, 100, b"new", 0, False), data(b"new"))
    assert raw.expect(p.Detach).error.condition == "amqp:illegal-state"
    raw.send(p.Detach(0, True))
    assert len(rest(stand)) == 60


# -- what is sent ---------------------------------------------------------------------------------------------------

def test_each_delivery_goes_on_as_the_receiver_says(stand):
    filled(stand, 6)
    raw = client(stand)
    reads(raw, credit=6)
    tags = list(taken(raw, 6))
    lose(stand, raw)
    assert rest(stand) == [], "they are held for the link"
    raw = client(stand)
    found = reads(raw, unsettled={tags[0]: _accepted, tags[1]: None, tags[2]: _released, tags[3]: _rejected,
                                  tags[4]: Described(ULong(0x23), [0, 3])})
    assert states(found) == {tags[1]: None, tags[4]: None} and not found.incomplete_unsettled
    raw.credit(10)
    for tag, content in ((tags[1], b"1"), (tags[4], b"4")):
        transfer, message = raw.delivery()
        assert (transfer.delivery_tag, transfer.resume, transfer.state) == (tag, True, p.Received(0, 0))
        assert payload(message) == content and header(message) in (None, 0)
    again = [raw.delivery() for _ in range(2)]
    assert [(payload(message), header(message)) for _, message in again] == [(b"2", None), (b"5", 1)]
    assert not any(transfer.resume for transfer, _ in again)
    raw.send(p.Disposition(p.RECEIVER, 0, 3, True, ACCEPTED))
    lose(stand, raw)
    assert rest(stand) == []


def header(message):
    """delivery-count."""
    start, stop = split(message).header
    found = list_of(message, (start, stop)) if stop else []
    return found[4] if len(found) > 4 else None


def test_a_link_that_was_detached_is_resumed_on_its_session(stand):
    filled(stand, 2)
    raw = client(stand)
    reads(raw, credit=2)
    tags = list(taken(raw, 2))
    raw.send(p.Detach(1, False))
    assert not raw.expect(p.Detach).closed
    assert states(reads(raw, unsettled=dict.fromkeys(tags), credit=2)) == dict.fromkeys(tags)
    assert list(taken(raw, 2)) == tags
    raw.send(p.Disposition(p.RECEIVER, 2, 3, True, RELEASED))
    assert rest(stand) == [b"0", b"1"]


def test_one_that_is_closed_is_not(stand):
    filled(stand, 2)
    raw = client(stand)
    reads(raw, credit=2)
    tags = list(taken(raw, 2))
    raw.send(p.Detach(1, True))
    raw.expect(p.Detach)
    assert states(reads(raw, unsettled=dict.fromkeys(tags))) == {}
    assert rest(stand) == [b"0", b"1"]


def test_another_connection_takes_the_link_over(stand):
    filled(stand, 2)
    first = client(stand)
    reads(first, credit=2)
    tags = list(taken(first, 2))
    second = client(stand)
    assert states(reads(second, unsettled={tags[0]: _accepted, tags[1]: None})) == {tags[1]: None}
    assert first.expect(p.Detach).error.condition == "amqp:link:stolen"
    second.credit(5)
    assert taken(second, 1) == {tags[1]: b"1"}
    first.socket.close()


def test_a_sender_is_taken_over_too(stand):
    first = client(stand)
    sends(first)
    first.transfer(0, data(b"0"))
    first.expect(p.Disposition)
    second = client(stand)
    assert states(sends(second, unsettled={b"0": None})) == {b"0": ACCEPTED}
    assert first.expect(p.Detach).error.condition == "amqp:link:stolen"
    first.socket.close()


@pytest.mark.parametrize(("terminus", "held"), [
    ({}, False), ({"durable": 1}, False), ({"expiry_policy": "link-detach"}, False),
    ({"expiry_policy": "session-end"}, False), ({"expiry_policy": "connection-close"}, False),
    ({"expiry_policy": "link-detach", "timeout": 20}, True),
    ({"expiry_policy": "connection-close", "timeout": 20}, True),
    ({"expiry_policy": "never"}, True), ({"durable": 2}, True)])
def test_what_outlives_a_connection(stand, terminus, held):
    filled(stand, 1)
    raw = client(stand)
    reads(raw, credit=1, **{"durable": 0, **terminus})
    taken(raw, 1)
    lose(stand, raw)
    assert rest(stand) == ([] if held else [b"0"])


def test_a_suspended_link_outlives_its_session_no_longer_than_it_says(stand):
    filled(stand, 1)
    raw = client(stand)
    reads(raw, credit=1, expiry_policy="session-end")
    taken(raw, 1)
    raw.send(p.Detach(1, False))
    raw.expect(p.Detach)
    assert rest(stand) == []
    raw.send(p.End())
    raw.expect(p.End)
    wait_until(lambda: rest(stand) == [b"0"], "it is given back")


def test_a_time_out_ends_it(stand):
    filled(stand, 1)
    raw = client(stand)
    reads(raw, credit=1, expiry_policy="link-detach", timeout=1)
    taken(raw, 1)
    lose(stand, raw)
    wait_until(lambda: rest(stand) == [b"0"], "it is given back")


def test_what_has_no_room_is_given_back_at_once(stand):
    filled(stand, 1, size=80_000)
    raw = client(stand)
    reads(raw, credit=1)
    taken(raw, 1)
    raw.socket.close()
    filled(stand, 1, size=80_000)
    raw = client(stand)
    reads(raw, credit=1, name="another")
    taken(raw, 1)
    lose(stand, raw)
    assert len(rest(stand)) == 1


def test_what_a_link_too_many_holds_is_given_back_at_once(tmp_path):
    stand = Stand(tmp_path, settings=Amqp10Settings(suspended_links_max=1)).start()
    try:
        filled(stand, 2)
        raw = client(stand)
        for name in ("one", "two"):
            reads(raw, credit=1, name=name)
            taken(raw, 1)
            raw.send(p.Detach(1, False))
            raw.expect(p.Detach)
        assert rest(stand) == [b"1"]
    finally:
        stand.stop()


def test_a_map_of_the_receiver_that_is_incomplete_stops_what_is_new(stand):
    filled(stand, 3)
    raw = client(stand)
    reads(raw, credit=2)
    tags = list(taken(raw, 2))
    lose(stand, raw)
    raw = client(stand)
    assert states(reads(raw, unsettled={tags[0]: None}, incomplete=True)) == {tags[0]: None}
    raw.credit(5, drain=True)
    assert taken(raw, 1) == {tags[0]: b"0"}
    flow = raw.frame()[0]
    assert isinstance(flow, p.Flow) and flow.link_credit == 0 and flow.drain
    raw.send(p.Disposition(p.RECEIVER, 0, None, True, ACCEPTED))
    raw.send(p.Detach(1, False))
    raw.expect(p.Detach)
    assert states(reads(raw, unsettled={tags[1]: None}, credit=5)) == {tags[1]: None}
    assert list(taken(raw, 2).values()) == [b"1", b"2"]


def test_a_map_of_ours_that_does_not_fit_is_incomplete(stand):
    filled(stand, 60)
    raw = client(stand)
    reads(raw, credit=50)
    tags = list(taken(raw, 50))
    lose(stand, raw)
    raw = client(stand, max_frame_size=1_024)
    unsettled, got = dict.fromkeys(tags), []
    for _ in range(20):
        found = reads(raw, unsettled=unsettled)
        assert list(found.unsettled or {}) == list(unsettled)[:len(found.unsettled or {})]
        raw.credit(50)
        count = len(found.unsettled or {}) if found.incomplete_unsettled else 60 - len(got)
        got += taken(raw, count).values()
        raw.send(p.Disposition(p.RECEIVER, 0, 10_000, True, ACCEPTED))
        unsettled = {tag: None for tag in unsettled if tag not in (found.unsettled or {})}
        raw.send(p.Detach(1, False))
        raw.expect(p.Detach)
        if not found.incomplete_unsettled:
            break
    assert got == [b"%d" % number for number in range(60)]
    assert rest(stand) == []


def test_tags_of_nobody_and_of_others_do_nothing(stand):
    filled(stand, 2)
    raw = client(stand)
    reads(raw, credit=1)
    tag, = taken(raw, 1)
    other = Raw(stand.port, container="c")
    other.begin()
    forged = [tag[:8] + bytes(len(tag) - 8), tag[:-1], b"", b"x" * 24, bytes(8) + tag[8:]]
    assert states(reads(other, name="other", unsettled=dict.fromkeys(forged, _accepted))) == {}
    raw.send(p.Disposition(p.RECEIVER, 0, None, True, RELEASED))
    other.socket.close()
    assert rest(stand) == [b"0", b"1"]


@pytest.mark.parametrize("state", [_accepted, _rejected], ids=["accepted", "rejected"])
@pytest.mark.parametrize("is_counted_up", [False, True])
def test_a_tag_does_not_settle_what_somebody_else_has_in_flight(stand, state, is_counted_up):
    """Who may read may write such a tag himself: it says nothing about what another member is busy with."""
    filled(stand, 3)
    raw = client(stand)
    reads(raw, credit=2)
    tags = list(taken(raw, 2))
    lost = client(stand)
    reads(lost, credit=1, name="lost")
    third, = taken(lost, 1)
    lost.socket.close()                                 # suspended: held for that link
    told = [tags[0], tags[1], third]
    if is_counted_up:
        told = [tags[0][:12] + number.to_bytes(8, "big") + tags[0][20:] for number in range(3)]
    wait_until(lambda: stand.do(lambda: len(stand.amqp.connections)) == 1, "the connection is gone")
    other = Raw(stand.port, container="another")
    other.begin()
    assert states(reads(other, name="other", unsettled=dict.fromkeys(told, state))) == {}
    raw.send(p.Disposition(p.RECEIVER, 0, 1, True, RELEASED))
    back = client(stand)
    assert states(reads(back, name="lost", unsettled={third: None}, credit=1)) == {third: None}
    assert taken(back, 1) == {third: b"2"}
    back.send(p.Disposition(p.RECEIVER, 0, None, True, RELEASED))
    for one in (raw, other, back):
        one.send(p.Close())
    wait_until(lambda: not stand.do(lambda: stand.amqp.connections), "the connections are gone")
    assert rest(stand) == [b"0", b"1", b"2"]


def test_a_tag_of_nobody_settles_what_nobody_has(stand):
    """As after a kill: what the tag stands for waits in the queue."""
    filled(stand, 3)
    raw = client(stand)
    reads(raw, credit=3, name="first")
    tags = list(taken(raw, 3))
    raw.send(p.Disposition(p.RECEIVER, 0, 2, True, RELEASED))
    raw.send(p.Detach(1, True))
    raw.expect(p.Detach)
    assert states(reads(raw, unsettled={tags[0]: _accepted, tags[1]: _accepted})) == {}
    assert rest(stand) == [b"2"]


def test_a_tag_that_is_none_closes_the_connection(stand):
    raw = client(stand)
    raw.send(p.Attach("x", 0, p.SENDER, source=p.Source(), target=p.Target("queue://q", **KEPT),
                      unsettled={"text": None}, initial_delivery_count=0))
    assert raw.closed() == "amqp:decode-error"


@pytest.mark.measured
def test_a_large_map_takes_no_long_turn(stand):
    filled(stand, 1)
    raw = client(stand)
    reads(raw, credit=1)
    tag, = taken(raw, 1)
    tags = {tag[:12] + number.to_bytes(8, "big") + tag[20:]: _accepted for number in range(4_000)}
    began = time.monotonic()
    assert states(reads(raw, name="other", handle=2, unsettled=tags)) == {}
    assert time.monotonic() - began < 1


def test_what_was_answered_in_a_transaction_is_not_held(stand):
    filled(stand, 1)
    raw = client(stand)
    raw.send(p.Attach("tx", 5, p.SENDER, source=p.Source(), target=p.Coordinator(), initial_delivery_count=0))
    raw.expect(p.Attach)
    raw.expect(p.Flow)
    raw.send(p.Transfer(5, 0, b"d", 0, False), b"\x00\x53\x77\x00\x53\x31\x45")
    txn_id = raw.expect(p.Disposition).state.txn_id
    reads(raw, credit=1)
    taken(raw, 1)
    raw.send(p.Disposition(p.RECEIVER, 0, None, True, p.TransactionalState(txn_id, ACCEPTED)))
    lose(stand, raw)
    assert rest(stand) == [b"0"]


def test_a_durable_subscription_keeps_what_its_reader_has_for_it(stand):
    raw = client(stand)
    reads(raw, name="sub", credit=5, address="topic://t", capabilities=("topic",), **KEPT)
    raw.sender("topic://t")
    raw.transfer(0, data(b"0"))
    tag, = taken_past(raw)
    lose(stand, raw)
    raw = client(stand)
    found = reads(raw, name="sub", unsettled={tag: _accepted}, credit=5, address="topic://t", capabilities=("topic",),
                  **KEPT)
    assert states(found) == {}
    raw.sender("topic://t")
    raw.transfer(0, data(b"1"))
    assert list(taken_past(raw).values()) == [b"1"]


def taken_past(raw):
    """The next delivery, whatever comes before it."""
    while True:
        found, message, _ = raw.frame()
        if isinstance(found, p.Transfer):
            return {found.delivery_tag: payload(message)}



def test_a_link_that_takes_the_place_of_one_on_its_connection_has_what_that_had(stand):
    filled(stand, 2)
    raw = client(stand)
    reads(raw, credit=2)
    tags = list(taken(raw, 2))
    sends(raw)
    raw.transfer(0, data(b"2"))
    raw.expect(p.Disposition)
    for handle, role, unsettled in ((7, p.RECEIVER, {tags[0]: _accepted, tags[1]: None}), (8, p.SENDER, {b"0": None})):
        raw.send(p.Attach("out" if role is p.RECEIVER else "in", handle, role, p.UNSETTLED,
                          p.FIRST if role is p.RECEIVER else p.SECOND, source=p.Source("queue://q", **KEPT),
                          target=p.Target("queue://q", **KEPT), unsettled=unsettled,
                          initial_delivery_count=None if role is p.RECEIVER else 0))
        assert raw.expect(p.Detach).error.condition == "amqp:link:stolen"
        assert states(raw.expect(p.Attach)) == ({tags[1]: None} if role is p.RECEIVER else {b"0": ACCEPTED})


def test_a_transfer_that_wants_to_be_settled_first_is(stand):
    raw = client(stand)
    sends(raw)
    raw.transfer(0, data(b"0"), rcv_settle_mode=p.FIRST)
    assert raw.expect(p.Disposition).settled
    raw.transfer(1, data(b"1"))
    assert not raw.expect(p.Disposition).settled
    lose(stand, raw)
    assert states(sends(client(stand), unsettled={b"1": None, b"0": p.Accepted()})) == {b"1": ACCEPTED}


def test_one_who_never_settles_has_his_oldest_forgotten(tmp_path):
    """Per connection as many tags are kept as deliveries may be unsettled in a session."""
    stand = Stand(tmp_path, settings=Amqp10Settings(unsettled_max=50)).start()
    try:
        raw = client(stand)
        for link in range(4):
            raw.send(p.Attach(f"in-{link}", link, p.SENDER, p.UNSETTLED, p.SECOND, source=p.Source(),
                              target=p.Target("queue://q", **KEPT), initial_delivery_count=0))
            raw.expect(p.Attach)
            raw.expect(p.Flow)
            for number in range(30):
                raw.transfer(30 * link + number, data(b"x"), link)
                raw.expect(p.Disposition)

        def kept():
            connection = next(iter(stand.amqp.connections))
            links = connection.sessions[0].links.values()
            return connection.tags, sum(len(one.unsettled.states) for one in links)

        assert stand.do(kept) == (50, 50)
        raw.send(p.Disposition(p.SENDER, 0, 200, True))
        raw.transfer(120, data(b"x"), 3)
        raw.expect(p.Disposition)
        assert stand.do(kept) == (1, 1)
    finally:
        stand.stop()
