"""Lag as operators see it: exact, in events and in seconds, also of a destination that is away."""
from __future__ import annotations

from mesh.replication.lag import Counter
from tests.mesh.replication.harness import World


def destination(node):
    found, = node.replication.snapshot()["destinations"]
    return found


def origin(node):
    found, = node.replication.snapshot()["origins"]
    return found


def test_lag_of_a_destination_that_is_away_counts_what_it_wants_only():
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud", replicate=(("a/#", "latest"),))
    world.run(1)
    graz.publish("a/1", "b", "a/2")
    world.run(1)
    assert (destination(graz)["lag_events"], destination(graz)["lag_seconds"]) == (0, 0.0)
    world.cut("graz", "cloud")
    world.run(1)
    for _ in range(1000):
        graz.publish("a/1", "b", "a/2")
    cloud.publish("a/x")
    world.run(10)
    seen = destination(graz)
    assert (seen["lag_events"], seen["lag_exact"]) == (2000, True)
    assert 9.9 < seen["lag_seconds"] < 10.2
    graz.kill()
    graz.start()
    world.run(1)
    seen = destination(graz)
    assert (seen["lag_events"], seen["pulling"]) == (2000, False), "it is remembered"
    world.mend("graz", "cloud")
    world.run(5)
    assert (destination(graz)["lag_events"], destination(graz)["lag_seconds"]) == (0, 0.0)


def test_lag_of_a_slow_way_and_rates_at_both_ends():
    world = World(2, delay_s=(0.2, 0.2))
    graz, cloud = world.add("graz"), world.add("cloud", replicate=(("#", "latest"),))
    world.run(3)
    for _ in range(200):
        graz.publish("a")
        world.run(0.05)
    seen = destination(graz)
    assert 4 <= seen["lag_events"] <= 20
    assert 0.2 <= seen["lag_seconds"] <= 1.0
    assert 10 < seen["events_per_s"] < 30
    assert 10 < origin(cloud)["events_per_s"] < 30
    assert origin(cloud)["rtt_ms"] > 390
    world.run(5)
    assert origin(cloud)["lag_offsets"] == 0 and origin(cloud)["lag_seconds"] == 0.0


def test_lag_at_the_destination_while_the_origin_cannot_be_reached():
    world = World(3)
    graz, cloud = world.add("graz"), world.add("cloud", replicate=(("#", "latest"),))
    world.run(1)
    graz.publish("a")
    world.run(1)
    world.cut("graz", "cloud")
    world.run(5)
    seen = origin(cloud)
    assert not seen["reachable"]
    assert seen["lag_offsets"] == 0, "as far as it has heard"


def test_a_forecast_of_the_full_disk():
    world = World(4)
    graz = world.add("graz")
    graz.replication.watch_disk(lambda: 1_000_000)
    assert graz.replication.snapshot()["disk"]["full_in_s"] is None
    for _ in range(3000):
        graz.publish(*["a"] * 10, payload=b"x" * 100)
        world.run(0.1)
    disk = graz.replication.snapshot()["disk"]
    assert 11_000 < disk["growth_bytes_per_s"] < 14_000
    assert 70 < disk["full_in_s"] < 92


def test_a_destination_that_is_away_is_counted_once_and_one_in_step_hardly_at_all(monkeypatch):
    """Somebody looks all the time: what is confirmed before it was counted is passed over."""
    looked = []
    count = Counter._count
    monkeypatch.setattr(Counter, "_count", lambda self, start, stop: looked.append(stop - start) or count(
        self, start, stop))
    world = World(5)
    graz, _ = world.add("graz"), world.add("cloud", replicate=(("#", "latest"),))
    world.run(1)
    published = 0
    for _ in range(20):
        for _ in range(200):
            graz.publish("a")
        published += 200
        world.run(0.5)
        assert destination(graz)["lag_events"] == 0
    assert sum(looked) < published / 2, (sum(looked), published)
    world.cut("graz", "cloud")
    world.run(1)
    looked.clear()
    for _ in range(20):
        for _ in range(200):
            graz.publish("a")
        world.run(0.5)
        assert destination(graz)["lag_events"] > 0
    assert sum(looked) == 4_000
