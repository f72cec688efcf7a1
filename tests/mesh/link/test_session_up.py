"""A link that is up: heartbeat, queues, rates, states, drain. The clock is the test's."""
from __future__ import annotations

import pytest

from mesh.link.protocol.bucket import Uplink
from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import Goodbye, Gossip, Hello, Pong, decode_message
from mesh.link.protocol.health import LinkState
from mesh.link.protocol.session import Phase
from tests.mesh.link.wires import START_MS, Pair, relay


def up(**options: object) -> Pair:
    pair = Pair(**options)  # type: ignore[arg-type]
    pair.pump()
    assert pair.up
    return pair


def test_round_trip_and_skew_are_measured() -> None:
    pair = Pair()
    pair.b.skew_ms = 5_000
    pair.run(30, one_way_s=0.1)
    trip = pair.a.session.health.round_trip
    assert trip.last_s == pytest.approx(0.2, abs=0.06)
    assert trip.smooth_s is not None and 0.15 < trip.smooth_s < 0.3
    assert trip.skew_ms == pytest.approx(5_000, abs=60)
    assert pair.b.session.health.round_trip.skew_ms == pytest.approx(-5_000, abs=60)


def test_a_quiet_link_pings_every_two_seconds() -> None:
    pair = up()
    before = pair.a.session.health.last_ping
    pair.run(20)
    assert 9 <= pair.a.session.health.last_ping - before <= 11


def test_silence_is_noticed_by_both_ends_and_by_measurement() -> None:
    pair = up()
    pair.cut = {"a", "b"}
    pair.run(2.5)
    assert pair.a.session.state(pair.now_s) is LinkState.UP
    pair.run(2.8)
    assert pair.a.session.state(pair.now_s) is LinkState.BLOCKED
    pair.run(3)
    assert pair.a.ended == pair.b.ended == (Code.TIMEOUT, False)


def test_a_link_that_is_cut_one_way_goes_down_at_both_ends() -> None:
    pair = up()
    pair.cut = {"a"}
    pair.run(5.3)
    assert pair.a.session.state(pair.now_s) is LinkState.BLOCKED
    pair.run(4)
    assert pair.b.ended == (Code.TIMEOUT, False)
    assert pair.a.ended == (Code.TIMEOUT, True)


def test_half_a_message_is_a_sign_of_life() -> None:
    pair = up()
    pair.cut = {"a", "b"}
    for _ in range(20):
        pair.run(1)
        pair.a.session.heard(pair.now_s)
    assert pair.a.ended is None


def test_frames_of_a_turn_share_messages_up_to_the_batch() -> None:
    pair = up()
    for _ in range(100):
        assert pair.a.session.send(relay(10_000), 3)
    pair.a.collect()
    assert [len(decode_message(message)) for message in pair.a.messages][:3] == [6, 6, 6]
    assert max(map(len, pair.a.messages)) <= 64 * 1024


def test_a_message_is_never_larger_than_the_largest_frame_of_the_peer() -> None:
    pair = Pair(dial=False)
    pair.b.take_frames(Hello(1, 1, "a", "s", "e", "b", "1", START_MS, "l1", frame_bytes_max=2_048))
    assert pair.b.session.phase is Phase.UP
    for _ in range(10):
        pair.b.session.send(relay(900), 3)
    assert not pair.b.session.send(relay(2_049), 3)
    assert pair.b.session.too_large == 1
    pair.b.collect()
    assert max(map(len, pair.b.messages)) <= 2_048


def test_a_full_queue_refuses_and_counts() -> None:
    pair = up(queue_data_bytes=10_000)
    sent = [pair.a.session.send(relay(1_000), 3) for _ in range(20)]
    assert sent.count(True) == 9 and pair.a.session.outbox.dropped[3] == 11
    assert pair.a.session.send(relay(1_000), 2)


def test_a_rate_holds_data_back_and_lets_heartbeats_pass() -> None:
    pair = up()
    pair.a.session.set_rules(100_000, 5)
    for _ in range(1_000):
        pair.a.session.send(relay(1_000), 3)
    pair.run(5)
    got = sum(len(frame.body) for frame in pair.b.frames if hasattr(frame, "body"))
    assert 450_000 <= got <= 560_000
    assert pair.a.session.state(pair.now_s) is LinkState.THROTTLED
    assert pair.a.session.health.round_trip.last_s is not None and pair.a.session.health.round_trip.last_s < 0.1
    assert pair.a.session.backlog_s(pair.now_s) == pytest.approx(5, rel=0.2)
    pair.run(10)
    assert pair.a.session.state(pair.now_s) is LinkState.UP
    assert len(pair.b.frames) == 1_000


def test_two_links_share_the_uplink_by_priority() -> None:
    uplink = Uplink(100_000)
    low, high = up(uplink=uplink), up(uplink=uplink)
    low.a.session.set_rules(0, 1)
    high.a.session.set_rules(0, 9)
    for pair in (low, high):
        for _ in range(300):
            pair.a.session.send(relay(1_000), 3)
    for _ in range(40):                     # two seconds
        low.run(0.05)
        high.run(0.05)
    assert len(high.b.frames) > 180 and len(low.b.frames) < 40
    for _ in range(120):
        low.run(0.05)
        high.run(0.05)
    assert len(high.b.frames) == len(low.b.frames) == 300


def test_a_link_that_cannot_send_or_is_gone_does_not_hold_back_others() -> None:
    uplink = Uplink(100_000)
    low, high = up(uplink=uplink), up(uplink=uplink)
    low.a.session.set_rules(0, 1)
    high.a.session.set_rules(0, 9)
    for leave in (high.a.session.step_aside, high.a.session.gone):
        for pair in (low, high):
            for _ in range(100):
                pair.a.session.send(relay(1_000), 3)
        high.a.collect()                    # spends what there is and waits for more
        low.pass_time(0.5)
        assert not low.a.session.message(low.now_s)
        leave()
        assert low.a.session.message(low.now_s)
        low.a.session.outbox.clear()
        low.pass_time(10)
        high.pass_time(10)


def test_a_process_that_stood_still_does_not_blame_its_peers() -> None:
    pair = up()
    pair.run(1)
    pair.pass_time(60)                      # the machine was suspended, or the loop was blocked
    pair.tick()
    assert pair.a.ended is None and pair.a.session.state(pair.now_s) is LinkState.UP
    pair.cut = {"a", "b"}
    pair.run(8.1)
    assert pair.a.ended == (Code.TIMEOUT, False)


def test_blocked_is_nothing_confirmed_and_throttled_is_too_slow() -> None:
    pair = up()
    pair.cut = {"b"}                        # what a sends arrives, no answer comes back
    pair.a.session.send(relay(), 3)
    for _ in range(40):
        pair.run(0.1)
        pair.a.session.heard(pair.now_s)
    assert pair.a.session.state(pair.now_s) is LinkState.BLOCKED
    pair.cut = set()
    pair.run(2.5)
    assert pair.a.session.state(pair.now_s) is LinkState.UP
    assert pair.a.session.unconfirmed_bytes == 0


def test_throughput_is_what_the_peer_confirmed() -> None:
    pair = up()
    for _ in range(100):
        pair.a.session.send(relay(5_000), 3)
        pair.run(0.2)
    assert pair.a.session.health.confirmed.rate(pair.now_s) == pytest.approx(25_000, rel=0.15)
    pair.run(0.5)
    assert pair.a.session.health.confirmed.total == pair.a.session.outbox.taken_bytes


def test_endless_gossip_is_bounded_and_then_ended() -> None:
    pair = up(gossip_rate_bytes=10_000, gossip_burst_bytes=20_000)
    for _ in range(60):
        pair.b.take_frames(Gossip([b"x" * 1_000]))
    assert len(pair.b.frames) == 20 and pair.b.session.gossip_dropped == 40
    pair.run(3)
    for _ in range(400):
        pair.b.take_frames(Gossip([]))      # tiny ones count as well
    assert pair.b.ended == (Code.FLOOD, False)


def test_a_goodbye_comes_with_its_reason() -> None:
    pair = up()
    pair.a.session.send(relay(), 3)
    pair.a.session.close(Code.KICKED)
    assert pair.a.sent_frames() == [Goodbye(Code.KICKED, "closed by an operator")]
    pair.pump()
    assert pair.b.ended == (Code.KICKED, True)
    assert not pair.a.session.send(relay(), 3)


def test_a_drain_sends_what_is_queued_first() -> None:
    pair = up()
    pair.a.session.set_rules(50_000, 5)
    for _ in range(100):
        pair.a.session.send(relay(1_000), 3)
    pair.a.session.drain(Code.PAUSED, pair.now_s)
    assert not pair.a.session.send(relay(), 3)
    pair.run(4)
    assert len(pair.b.frames) == 100
    assert pair.a.ended == (Code.PAUSED, False) and pair.b.ended == (Code.PAUSED, True)


def test_a_drain_ends_in_bounded_time() -> None:
    pair = up()
    pair.cut = {"a"}
    pair.a.session.send(relay(), 3)
    pair.a.session.drain(Code.PAUSED, pair.now_s)
    pair.run(4.9)
    assert pair.a.ended is None
    pair.run(0.2)
    assert pair.a.ended == (Code.PAUSED, False)


def test_nobody_is_kept_alive_by_answers_that_were_not_asked_for() -> None:
    pair = up()
    for number in range(100):
        pair.a.take_frames(Pong(10_000 + number, START_MS))
    assert pair.a.session.health.answered <= pair.a.session.health.last_ping
    assert pair.a.ended is None
