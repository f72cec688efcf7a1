"""What a peer must not do, each with the specification's own condition: hostile.md 34-48, and orders that are none."""
from __future__ import annotations

import re
import time

import msgspec
import pytest

from protocols.amqp.codec import frames
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.types import Described, Symbol, ULong
from protocols.amqp.settings import Amqp10Settings
from routing.rights.policy import Action, Rule
from routing.settings import Limits
from tests.protocols.amqp.raw import Raw, data
from tests.protocols.amqp.stand import Stand
from tests.support.wait import wait_until

SETTINGS = Amqp10Settings(
    sessions_max=4, handles_max=8, session_window=10, link_credit=5, frame_bytes_max=4_096, partial_bytes_max=200_000,
    idle_timeout_s=60.0, open_bytes_max=1_024, close_timeout_s=0.5)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    started = Stand(tmp_path_factory.mktemp("amqp10"), settings=SETTINGS, limits=Limits(payload_bytes_max=50_000))
    yield started.start()
    started.stop()


@pytest.fixture
def raw(stand):
    client = Raw(stand.port)
    yield client
    client.socket.close()


@pytest.mark.parametrize("header", [b"AMQP\x02\x01\x00\x00", b"AMQP\x00\x01\x01\x00", b"AMQP\x00\x00\x09\x01",
                                    b"GET / HT", b"AMQP\x03\x02\x00\x00"])
def test_34_a_wrong_header_is_answered_with_ours(stand, header):
    client = Raw(stand.port, login=False)
    client.send_raw(header)
    assert client.bytes(8) == frames.SASL_HEADER and client.gone()


@pytest.mark.parametrize("raw_frame", [
    b"\x00\x00\x00\x07\x02\x00\x00\x00", b"\x00\x00\x00\x10\x01\x00\x00\x00" + bytes(8), b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff", b"\x00\x00\x10\x01", b"\x00\x00\x00\x08\x03\x00\x00\x00"])
def test_35_a_frame_that_is_none_closes_with_framing_error(raw, raw_frame):
    raw.send_raw(raw_frame)
    assert raw.closed() == "amqp:connection:framing-error"
    assert raw.gone()


def test_36_a_first_frame_beyond_the_bound_closes_with_framing_error(stand):
    client = Raw(stand.port, login=False)
    client.sasl()
    client.send_raw(frames.AMQP_HEADER)
    client.bytes(8)
    client.send(p.Open("x" * 2_000))
    assert client.closed() == "amqp:connection:framing-error"


def test_37_an_array_without_end_is_a_decode_error(raw):
    body = b"\x00\x53\x11\xc0\x0f\x06\x40\x43\x43\x43\x43\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40"
    raw.send_raw(frames.frame(0, body))
    assert raw.closed() == "amqp:decode-error"


def test_38_lists_in_lists_are_a_decode_error(raw):
    nested = b"\x45"
    for _ in range(300):
        nested = b"\xd0" + (len(nested) + 4).to_bytes(4, "big") + b"\x00\x00\x00\x01" + nested
    raw.send_raw(frames.frame(0, b"\x00\x53\x11" + nested))
    assert raw.closed() == "amqp:decode-error"


def server_side(stand, container):
    """The connection, as the server has it."""
    return next(one for one in stand.amqp.connections if one.container_id == container)


def test_39_a_transfer_without_credit_detaches(stand):
    client = Raw(stand.port, container="no-credit")
    client.begin()
    client.sender("topic://t")
    stand.do(lambda: setattr(server_side(stand, "no-credit").sessions[0].links[0], "credit", 0))
    client.transfer(0, data(b"x"))
    found = client.expect(p.Detach)
    assert found.closed and found.error.condition == "amqp:link:transfer-limit-exceeded"
    client.transfer(1, data(b"x"))                      # it was on the way: no more is said of it
    client.send(p.Detach(0, True))
    client.sender("topic://t")
    client.transfer(2, data(b"x"))
    assert isinstance(client.expect(p.Disposition).state, p.Accepted)


def test_40_more_than_the_window_ends_the_session(stand):
    client = Raw(stand.port, container="no-window")
    client.begin()
    client.sender("topic://t")
    stand.do(lambda: setattr(server_side(stand, "no-window").sessions[0], "_incoming_left", 0))
    client.transfer(0, data(b"x"))
    assert client.expect(p.End).error.condition == "amqp:session:window-violation"
    client.send(p.End())
    client.begin()


def test_41_handles_that_are_not_there_or_taken_end_the_session(stand):
    for performative, payload, condition in (
            (p.Transfer(7, 0, b"0", 0), data(b"x"), "unattached-handle"),
            (p.Detach(7), b"", "unattached-handle"),
            (p.Flow(0, 10, 0, 10, 7), b"", "unattached-handle")):
        client = Raw(stand.port)
        client.begin()
        client.send(performative, payload)
        assert client.expect(p.End).error.condition == f"amqp:session:{condition}"
        client.send(p.End())
        client.begin()                                  # the channel is free again
    client = Raw(stand.port)
    client.begin()
    client.sender("topic://t", 0)
    client.send(p.Attach("again", 0, p.SENDER, target=p.Target("topic://t"), initial_delivery_count=0))
    assert client.expect(p.End).error.condition == "amqp:session:handle-in-use"


def test_41_a_handle_above_the_bound_closes_with_framing_error(raw):
    raw.begin()
    raw.send(p.Attach("x", 8, p.SENDER, target=p.Target("topic://t"), initial_delivery_count=0))
    assert raw.closed() == "amqp:connection:framing-error"


def test_42_a_channel_above_channel_max_closes_with_framing_error(raw):
    assert raw.opened.channel_max == 3
    raw.send(p.Begin(None, 0, 10, 10), channel=4)
    assert raw.closed() == "amqp:connection:framing-error"


@pytest.mark.parametrize("frame_bytes", [3_000, 4_000])
def test_43_a_message_beyond_max_message_size_detaches(stand, frame_bytes):
    client = Raw(stand.port, container="large")
    client.begin(window=100_000)
    attached = client.sender("topic://t")
    assert attached.max_message_size == 50_000 + SETTINGS.sections_bytes_max
    number = 0
    with pytest.raises((BrokenPipeError, ConnectionResetError, StopIteration)):
        for _ in range(1_000):
            client.send(p.Transfer(0, number, b"0", 0, False, True), b"x" * frame_bytes)
            client.socket.settimeout(0.002)
            try:
                found = client.frame()[0]
                if isinstance(found, p.Detach):
                    assert found.error.condition == "amqp:link:message-size-exceeded"
                    raise StopIteration
            except TimeoutError:
                pass
    assert stand.do(lambda: server_side(stand, "large").partial_bytes) == 0
    client.socket.close()
    wait_until(lambda: not stand.do(lambda: [one for one in stand.amqp.connections if one.container_id == "large"]),
               "it is gone")


def test_44_silence_closes_with_resource_limit_exceeded(tmp_path):
    stand = Stand(tmp_path, settings=Amqp10Settings(idle_timeout_s=0.4)).start()
    client = Raw(stand.port)
    assert client.opened.idle_time_out == 200
    assert client.closed() == "amqp:resource-limit-exceeded"
    alive = Raw(stand.port)
    for _ in range(12):
        alive.send_raw(frames.EMPTY_FRAME)
        time.sleep(0.1)
    alive.begin()
    stand.stop()


def test_44_we_send_signs_of_life_as_often_as_the_peer_wants(stand):
    client = Raw(stand.port, idle_time_out=1_000)
    assert client.bytes(8) == frames.EMPTY_FRAME


def test_45_only_mechanisms_that_were_offered_log_in(tmp_path):
    stand = Stand(tmp_path, users=[("ana", "secret", ())]).start()
    for mechanism, response in (("ANONYMOUS", b""), ("EXTERNAL", b""), ("SCRAM-SHA-256", b"n,,n=ana,r=x"),
                                ("PLAIN", b"\0ana\0wrong"), ("PLAIN", b"nonsense"), ("PLAIN", b"eve\0ana\0secret"),
                                ("PLAIN", b"\xff\0\xff\0\xff"), ("OAUTHBEARER", b"n,,\x01\x01")):
        client = Raw(stand.port, login=False)
        assert client.sasl(mechanism, response) == 1, mechanism
        assert client.gone()
    assert "ANONYMOUS" not in client.mechanisms and "EXTERNAL" not in client.mechanisms
    client = Raw(stand.port, login=False)
    client.send_raw(frames.AMQP_HEADER)                 # without SASL
    assert client.bytes(8) == frames.SASL_HEADER and client.gone()
    client = Raw(stand.port, login=False)
    assert client.sasl("PLAIN", b"\0ana\0secret") == 0
    client.open()
    stand.stop()


def test_45_passwords_do_not_go_without_tls_where_the_setting_says_so(tmp_path):
    settings = Amqp10Settings(passwords_need_tls=True)
    stand = Stand(tmp_path / "users", users=[("ana", "secret", ())], settings=settings).start()
    for mechanism, response in (("PLAIN", b"\0ana\0secret"), ("OAUTHBEARER", b"n,,\x01auth=Bearer x\x01\x01"),
                                ("XOAUTH2", b"user=ana\x01auth=Bearer x\x01\x01"), ("ANONYMOUS", b""),
                                ("EXTERNAL", b""), ("EXTERNAL", b"ana")):
        client = Raw(stand.port, login=False)
        assert client.sasl(mechanism, response) == 1, mechanism
        assert client.gone()
    assert client.mechanisms == ("EXTERNAL",)
    stand.stop()
    stand = Stand(tmp_path / "nobody", settings=settings).start()       # nobody's password: any will do
    assert Raw(stand.port, login=False).sasl("PLAIN", b"\0guest\0guest") == 0
    stand.stop()


def test_46_a_forged_user_id_is_rejected(tmp_path):
    stand = Stand(tmp_path, users=[("ana", "secret", ())]).start()
    client = Raw(stand.port, login=False)
    client.sasl("PLAIN", b"\0ana\0secret")
    client.open()
    client.begin()
    client.sender("topic://t")
    for number, (user, outcome) in enumerate(((b"eve", p.Rejected), (b"ana", p.Accepted))):
        properties = b"\x00\x53\x73" + encode([None, user])
        client.transfer(number, properties + data(b"x"))
        found = client.expect(p.Disposition)
        assert isinstance(found.state, outcome) and found.settled
        if outcome is p.Rejected:
            assert found.state.error.condition == "amqp:unauthorized-access"
    stand.stop()


@pytest.mark.parametrize("selector", ["x LIKE '" + "%_" * 500, "(" * 3_000, "x =", 7])
def test_47_a_selector_that_is_none_is_refused_at_once(raw, selector):
    raw.begin()
    began = time.monotonic()
    attached = raw.receiver("topic://t", filter={Symbol("s"): Described(ULong(0x0000468C00000004), selector)})
    assert attached.source is None
    assert raw.expect(p.Detach).error.condition == "amqp:invalid-field"
    assert time.monotonic() - began < 2


def test_48_a_node_that_is_not_there_and_one_that_is_foreign_look_the_same(tmp_path):
    rules = (Rule(allow=(Action.CONNECT,), to=("*",)),
             Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:boss",)),
             Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:ana",), topics=("$queue/mine",)))
    stand = Stand(tmp_path, rules=rules, users=[("ana", "secret", ()), ("boss", "boss", ())]).start()
    boss = Raw(stand.port, login=False)
    boss.sasl("PLAIN", b"\0boss\0boss")
    boss.open("boss")
    boss.begin()
    boss.sender("queue://there")
    client = Raw(stand.port, login=False)
    client.sasl("PLAIN", b"\0ana\0secret")
    client.open()
    client.begin()
    answers = set()
    for handle, address in enumerate(("queue://there", "queue://nowhere", "/queues/there", "/queues/nowhere")):
        client.receiver(address, handle)
        error = client.expect(p.Detach).error
        answers.add((error.condition, re.sub(r"\d+", "N", error.description.replace("nowhere", "there"))))
        client.send(p.Detach(handle, True))
    assert {condition for condition, _ in answers} == {"amqp:unauthorized-access"} and len(answers) == 1
    client.receiver("/queues/mine", 5)
    assert client.expect(p.Detach).error.condition == "amqp:not-found"
    stand.stop()


def test_93_what_a_rule_takes_away_ends_the_reading_and_rejects_the_sending(tmp_path):
    allowed = Rule(allow=(Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE), to=("*",))
    stand = Stand(tmp_path, rules=(allowed,), users=[("ana", "secret", ()), ("boss", "boss", ())]).start()
    boss = Raw(stand.port, login=False)
    boss.sasl("PLAIN", b"\0boss\0boss")
    boss.open("boss")
    boss.begin()
    boss.sender("queue://shared")
    boss.receiver("queue://shared", 1)                  # it is the owner
    client = Raw(stand.port, login=False)
    client.sasl("PLAIN", b"\0ana\0secret")
    client.open()
    client.begin()
    client.sender("queue://shared")
    client.receiver("queue://shared", 1)
    stand.do(lambda: stand.router.apply_rules([
        Rule(allow=(Action.CONNECT,), to=("*",)),
        Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:boss",))]))
    assert client.expect(p.Detach).closed
    client.transfer(0, data(b"x"))
    assert client.expect(p.Disposition).state.error.condition == "amqp:unauthorized-access"
    stand.stop()


def test_93_a_token_that_has_expired_closes(stand):
    client = Raw(stand.port, container="token")
    stand.do(lambda: server_side(stand, "token").take_identity(
        msgspec.structs.replace(server_side(stand, "token").identity, expires_ms=1)))
    assert client.closed() == "amqp:connection:forced"


ORDERS = [
    (p.Open("again"), "amqp:illegal-state"), (p.Begin(0, 0, 1, 1), "amqp:not-allowed"), (p.End(), "amqp:not-allowed"),
    (p.Attach("x", 0, True), "amqp:not-allowed"), (p.Transfer(0, 0, b"0", 0), "amqp:not-allowed"),
    (p.SaslInit("PLAIN"), "amqp:not-allowed"), (p.Accepted(), "amqp:not-allowed"),
]


@pytest.mark.parametrize(("performative", "condition"), ORDERS, ids=lambda one: type(one).__name__)
def test_what_comes_out_of_order_closes_with_its_condition(raw, performative, condition):
    raw.send(performative)
    assert raw.closed() == condition


def test_a_session_that_begins_twice_closes(raw):
    raw.begin()
    raw.send(p.Begin(None, 0, 1, 1))
    assert raw.closed() == "amqp:illegal-state"


def test_a_message_that_is_none_is_rejected_and_the_next_one_taken(raw):
    raw.begin()
    raw.sender("topic://t")
    wrong = (b"\x00\x53\x75\xa0\x09x", b"\x00\x53\x99\x40", b"nonsense", data(b"x") + b"\x00")
    for number, message in enumerate(wrong):
        raw.transfer(number, message)
        assert raw.expect(p.Disposition).state.error.condition == "amqp:decode-error"
    raw.transfer(9, data(b"fine"))
    assert isinstance(raw.expect(p.Disposition).state, p.Accepted)


def test_an_aborted_transfer_leaves_nothing_and_costs_no_answer(raw, stand):
    raw.begin()
    raw.receiver("topic://aborted", 1, credit=10)
    raw.sender("topic://aborted")
    raw.transfer(0, data(b"x")[:3], more=True)
    raw.send(p.Transfer(0, aborted=True, more=True))
    raw.transfer(1, data(b"whole"))
    assert raw.expect(p.Disposition).first == 1
    assert raw.delivery()[1].endswith(b"whole")
    assert stand.do(lambda: server_side(stand, "raw").partial_bytes) == 0


def test_a_message_in_many_frames_comes_out_in_as_many_as_the_peer_takes(stand):
    client = Raw(stand.port, max_frame_size=512)
    client.begin()
    client.sender("queue://frames")
    client.receiver("queue://frames", 1, credit=10)
    message = data(bytes(range(256)) * 60)
    for start in range(0, len(message), 400):
        client.send(p.Transfer(0, 0 if not start else None, b"t" if not start else None, 0 if not start else None,
                               more=start + 400 < len(message)), message[start:start + 400])
    client.expect(p.Disposition)
    assert client.delivery()[1].endswith(message)


def test_drain_is_answered_whatever_the_credit(raw):
    """go-amqp drains with credit 0; JMS waits 60 s for the answer."""
    raw.begin()
    raw.receiver("queue://drained", 1)
    raw.credit(0, drain=True)
    found = raw.expect(p.Flow)
    assert (found.link_credit, found.drain) == (0, True)
    raw.credit(10, drain=True)
    found = raw.expect(p.Flow)
    assert (found.link_credit, found.delivery_count, found.drain) == (0, 10, True)


def test_dispositions_of_four_billion_deliveries_cost_what_is_there(raw):
    raw.begin()
    raw.sender("queue://range")
    raw.transfer(0, data(b"x"))
    raw.expect(p.Disposition)
    raw.receiver("queue://range", 1, credit=1)
    raw.delivery()
    began = time.monotonic()
    for _ in range(50):
        raw.send(p.Disposition(True, 0, (1 << 31) - 2, True, p.Accepted()))
        raw.send(p.Disposition(True, 5, 1, True, p.Accepted()))
    raw.credit(1, count=1, drain=True)
    assert raw.expect(p.Flow).link_credit == 0
    assert time.monotonic() - began < 5


def test_windows_at_the_edge_of_serial_arithmetic_deliver(stand):
    """proton's windows are 2^31 - 1; others say 2^32 - 1."""
    for window in (0x7FFFFFFF, 0xFFFFFFFF):
        client = Raw(stand.port)
        client.send(p.Begin(None, 0xFFFFFFFE, window, window))
        client.expect(p.Begin)
        client.sender("queue://edge")
        for number in range(3):
            client.transfer((0xFFFFFFFE + number) & 0xFFFFFFFF, data(b"x"))
            client.expect(p.Disposition)
        client.receiver("queue://edge", 1)
        client.send(p.Flow(0, window, 0, window, 1, 0, 3))
        for number in range(3):
            assert client.delivery()[0].delivery_id == number
        client.send(p.Disposition(True, 0, 2, True, p.Accepted()))
        client.send(p.Close())
        assert client.closed() is None


def test_a_closed_window_holds_deliveries_back_and_an_open_one_lets_them_go(stand):
    client = Raw(stand.port)
    client.begin(window=2)
    client.sender("queue://window")
    for number in range(5):
        client.transfer(number, data(b"%d" % number))
        client.expect(p.Disposition)
    client.receiver("queue://window", 1)
    client.send(p.Flow(0, 2, 0, 10, 1, 0, 10))
    assert [client.delivery()[0].delivery_id for _ in range(2)] == [0, 1]
    client.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.delivery()
    client.socket.settimeout(10)
    client.send(p.Flow(2, 10, 0, 10))
    assert [client.delivery()[0].delivery_id for _ in range(3)] == [2, 3, 4]


def test_a_connection_that_ends_gives_everything_back(stand):
    client = Raw(stand.port)
    client.begin()
    client.sender("queue://back")
    client.transfer(0, data(b"x"))
    client.expect(p.Disposition)
    client.receiver("queue://back", 1, credit=1)
    client.delivery()
    client.socket.close()
    queue = stand.router.queues.get("back")
    wait_until(lambda: stand.do(lambda: queue.depth().ready) == 1, "it is ready again")
    wait_until(lambda: stand.do(lambda: len(queue.consumer.members.all)) == 0, "nobody reads it")
