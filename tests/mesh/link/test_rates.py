"""Token buckets, throughput, round trip, back-off: with a clock that is an argument."""
from __future__ import annotations

import random

import pytest

from mesh.link.dialling.backoff import Backoff
from mesh.link.protocol.bucket import TokenBucket, Uplink
from mesh.link.protocol.meter import Meter
from mesh.link.protocol.roundtrip import RoundTrip


def sent_in(bucket: TokenBucket, seconds: float, size: int) -> int:
    total, now_s = 0, 0.0
    while now_s < seconds:
        while bucket.room(now_s) > 0:
            bucket.spend(size)
            total += size
        now_s += 0.05
    return total


@pytest.mark.parametrize("size", [100, 10_000, 100_000])
def test_a_bucket_lets_its_rate_through_whatever_the_size_of_messages(size: int) -> None:
    rate = 100_000
    assert rate * 10 <= sent_in(TokenBucket(rate), 10, size) <= rate * 10 + rate // 4 + size


def test_no_rate_is_no_bound() -> None:
    bucket = TokenBucket(0)
    bucket.spend(10**12)
    assert bucket.room(0) > 10**12


def test_a_new_rate_holds_at_once() -> None:
    bucket = TokenBucket(1_000_000)
    bucket.room(0)
    bucket.set_rate(10_000)
    assert bucket.room(0) <= 4_096


def test_a_clock_that_runs_backwards_gives_nothing_away() -> None:
    bucket = TokenBucket(10_000)
    bucket.room(100)
    bucket.spend(5_000)
    assert bucket.room(50) == bucket.room(50) < 0


def test_the_uplink_serves_the_higher_priority_first() -> None:
    uplink = Uplink(10_000)
    assert uplink.room("data", 5, 0.0) > 0
    assert uplink.room("alarms", 9, 0.0) > 0
    assert uplink.room("data", 5, 0.0) == 0
    uplink.done("alarms")
    assert uplink.room("data", 5, 0.0) > 0


def test_a_meter_shows_the_rate_of_the_last_seconds() -> None:
    meter = Meter()
    for step in range(400):
        meter.add(1_000, step * 0.1)
    assert meter.rate(39.9) == pytest.approx(10_000, rel=0.05)
    assert meter.rate(60.0) < 300
    assert meter.total == 400_000


def test_the_skew_is_that_of_the_fastest_exchange() -> None:
    trip = RoundTrip()
    trip.sample(0.010, 1_000, 1_505)            # the peer is 500 ms ahead
    trip.sample(2.000, 2_000, 4_400)            # its answer waited in a queue
    assert trip.skew_ms == pytest.approx(500)
    assert trip.smooth_s == pytest.approx(0.010 + (2.0 - 0.010) / 8)


def test_a_lost_link_that_was_good_is_dialled_again_at_once() -> None:
    backoff = Backoff(0.25, 5.0, random.Random(1))
    for _ in range(10):
        backoff.after_failure()
    assert backoff.after_good() <= 0.1
    assert backoff.after_failure() <= 0.25


def test_failures_wait_longer_and_longer_with_jitter_up_to_a_bound() -> None:
    backoff = Backoff(0.25, 5.0, random.Random(1))
    waits = [backoff.after_failure() for _ in range(50)]
    for number, wait_s in enumerate(waits):
        bound = min(5.0, 0.25 * 2**number)
        assert bound / 2 <= wait_s <= bound
    assert len({round(wait_s, 6) for wait_s in waits[-10:]}) == 10
