"""Rate limits: the bucket on a fake clock, and what clients are told."""
from __future__ import annotations

import pytest

from protocols.rest import ratelimit
from protocols.rest.ratelimit import Buckets, Per, RateLimit, check_rate_limits
from protocols.rest.settings import RestSettings
from protocols.transport.network import network_of

from .sse_client import Sse
from .stand import basic, stand

USERS = [("ana", "correct horse", ()), ("bob", "battery staple", ())]


def test_a_bucket_allows_a_burst_and_then_the_rate():
    buckets = Buckets(RateLimit("x", 10, 5.0))
    assert [buckets.take("a", 100.0).remaining for _ in range(10)] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    refused = buckets.take("a", 100.0)
    assert (refused.allowed, refused.retry_after_s, refused.full_in_s) == (False, 1, 5)
    assert buckets.take("a", 100.5).allowed and not buckets.take("a", 100.5).allowed, "2 per second"
    assert buckets.take("b", 100.0).allowed
    assert buckets.take("a", 200.0).remaining == 9, "not more than a burst"


def test_a_refused_request_costs_nothing_and_retry_after_is_true():
    buckets = Buckets(RateLimit("x", 1, 60.0))
    assert buckets.take("a", 0.0).allowed
    for second in range(1, 60):
        assert buckets.take("a", second).retry_after_s == 60 - second
    assert buckets.take("a", 60.0).allowed


def test_clients_are_bounded(monkeypatch):
    monkeypatch.setattr(ratelimit, "CLIENTS_MAX", 100)
    buckets = Buckets(RateLimit("x", 1, 60.0))
    for number in range(1_000):
        assert buckets.take(str(number), 0.0).allowed
    assert len(buckets._used) == 100


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1:5000", "192.0.2.1"), ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"),
    ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
    ("[fe80::1%eth0]:1", "fe80::"), ("", ""), ("nonsense", "nonsense"),
])
def test_what_counts_as_one_client(address, network):
    assert network_of(address) == network


async def test_the_limit_of_an_address_holds_before_the_login(tmp_path):
    settings = RestSettings(rate_limits=(RateLimit("all", 3, 60.0, Per.ADDRESS),))
    async with stand(tmp_path, settings=settings, users=USERS, rules=()) as it:
        for left in (2, 1, 0):
            async with it.http.post("/v1/events/a") as response:
                assert response.status == 401
                assert response.headers["RateLimit-Policy"] == '"all";q=3;w=60'
                assert response.headers["RateLimit"].startswith(f'"all";r={left};t=')
        async with it.http.post("/v1/events/a") as response:
            problem = await response.json()
            assert (response.status, problem["type"]) == (429, "/problems/rate-limited")
            assert 1 <= int(response.headers["Retry-After"]) <= 20 and '"all";r=0' in response.headers["RateLimit"]
        assert it.counters.snapshot()["problems.rate-limited"] == 1


async def test_the_limit_of_a_user_is_their_own_and_stands_on_every_answer(tmp_path):
    settings = RestSettings(rate_limits=(RateLimit("mine", 2, 60.0), RateLimit("all", 100, 60.0, Per.ADDRESS)))
    async with stand(tmp_path, settings=settings, users=USERS) as it:
        ana, bob = ({"Authorization": basic(*user[:2])} for user in USERS)
        async with it.http.post("/v1/events/a", headers=ana) as response:
            assert response.status == 200
            assert response.headers["RateLimit-Policy"] == '"all";q=100;w=60, "mine";q=2;w=60'
        reader = await Sse.open(it, "a", headers=f"Authorization: {ana['Authorization']}\r\n")
        assert reader.status == 200 and b'"mine";r=0' in reader.headers
        reader.close()
        for headers, status in ((ana, 429), (bob, 200)):
            async with it.http.post("/v1/events/a", headers=headers) as response:
                assert response.status == status


async def test_without_limits_nothing_is_said(tmp_path):
    async with stand(tmp_path) as it, it.http.post("/v1/events/a") as response:
        assert "RateLimit" not in response.headers and "Vary" not in response.headers


@pytest.mark.parametrize(("limit", "path"), [
    (RateLimit("", 1), "http.rate_limits[0].name"), (RateLimit('a"b', 1), "http.rate_limits[0].name"),
    (RateLimit("a", 0), "http.rate_limits[0].requests"), (RateLimit("a", 1, 0.0), "http.rate_limits[0].window_s"),
])
def test_bad_settings_name_their_path(limit, path):
    assert next(check_rate_limits((limit,))).startswith(path + ": ")
    assert "twice" in next(check_rate_limits((RateLimit("a", 1), RateLimit("a", 2))))
