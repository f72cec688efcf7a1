"""What an inward route does with records, on a real router: repeats, circles, what cannot be taken now or ever."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from mesh.connectors.kafka.inward import Inward
from mesh.connectors.kafka.places import Place, Places
from mesh.connectors.kafka.route import Home
from mesh.connectors.kafka.settings import InwardRoute, KafkaBridge
from routing.errors import Reason, Refusal
from tests.protocols.rest.stand import stand

AT = TopicPartition("orders", 2)


class Consumer:
    """What a route tells the library."""

    def __init__(self):
        self.told = []

    def pause(self, at):
        self.told.append(("pause", at))

    def seek(self, at, offset):
        self.told.append(("seek", at, offset))


def records(*offsets, **fields):
    return [SimpleNamespace(**{"key": b"k", "value": b"%d" % offset, "timestamp": 1, "headers": (), "offset": offset,
                               **fields}) for offset in offsets]


def make(router, **options):
    settings = KafkaBridge("erp", ("kafka:9092",), retry_initial_s=0.05, retry_max_s=0.05)
    route = Inward(Home(router, "n", lambda: [("other", "e")]), "erp", SimpleNamespace(settings=settings),
                   InwardRoute("orders", ("orders",), **options))
    route.cluster_id = "x"
    route._places = {AT: Place(0)}
    return route


def stored(router):
    """Payloads, in order."""
    found = []
    for partition in router.own_partitions():
        found += [event.payload for event in partition.scan(
            partition.start_offset, lambda topic: topic == "orders", max_events=1_000, max_scanned=100_000).events]
    return found


async def test_what_was_taken_and_not_noted_is_known(tmp_path):
    async with stand(tmp_path) as it:
        route = make(it.router)
        await route._take(Consumer(), AT, records(0, 1, 2))
        route._places[AT] = Place(0)                    # as after a crash between the events and their place
        await route._take(Consumer(), AT, records(0, 1, 2, 3))
        assert stored(it.router) == [b"0", b"1", b"2", b"3"]
        again = make(it.router)                         # a topic made anew begins at 0, too
        again._places = {AT: Place(0, generation=1)}
        await again._take(Consumer(), AT, records(0))
        assert stored(it.router)[4:] == [b"0"]


async def test_a_place_is_noted_behind_what_is_durable(tmp_path):
    async with stand(tmp_path) as it:
        route = make(it.router)
        await route._take(Consumer(), AT, records(4, 5, 9))
        noted = Places(it.router.state, "erp", "orders", "x").get("orders", 2)
        assert noted.next_offset == 10 and noted.done == []
        await route._take(Consumer(), AT, records(5, 9))
        assert route.counts["repeats"] == 2 and route.counts["moved"] == 3


@pytest.mark.parametrize("way", ["OWN", "mesh:other/e", "kafka:y mesh:other/e kafka:z", " ".join(["kafka:y"] * 40)])
async def test_what_has_been_here_is_left_alone(tmp_path, way):
    async with stand(tmp_path) as it:
        route = make(it.router)
        text = route.home.place if way == "OWN" else way
        await route._take(Consumer(), AT, records(0, headers=(("bridge-path", text.encode()),)) + records(1))
        assert stored(it.router) == [b"1"] and route.counts["looped"] == 1


async def test_another_mesh_may_send_over_a_cluster(tmp_path):
    async with stand(tmp_path) as it:
        await make(it.router)._take(Consumer(), AT, records(0, headers=(("bridge-path", b"mesh:far/e kafka:x"),)))
        assert stored(it.router) == [b"0"]


async def test_what_can_never_be_taken_stops_its_partition_there(tmp_path):
    async with stand(tmp_path) as it:
        route, consumer = make(it.router), Consumer()
        big = records(1, value=b"x" * (it.router.limits.payload_bytes_max + 1))
        await route._take(consumer, AT, records(0) + big + records(2))
        assert stored(it.router) == [b"0"] and route.state == "stopped" and "orders/2, offset 1" in route.last_problem
        assert consumer.told == [("pause", AT), ("seek", AT, 1)]
        skipping = make(it.router, refused="skip", topic="orders")
        skipping._places = {AT: Place(1)}
        await skipping._take(consumer, AT, big + records(2))
        assert stored(it.router) == [b"0", b"2"] and skipping.counts["refused"] == 1


async def test_what_cannot_be_taken_now_is_tried_again_alone(tmp_path, monkeypatch):
    """A disk or a queue that is full refuses some of a batch: those come later, the others are not there twice."""
    async with stand(tmp_path) as it:
        router, publish, calls = it.router, it.router.publish, []

        def sometimes(events, publisher):
            calls.append([event.payload for event in events])
            if len(calls) > 1:
                return publish(events, publisher)
            ticket = publish([event for event in events if event.payload not in (b"1", b"3")], publisher)
            ticket.refusals.update(dict.fromkeys((1, 3), Refusal(Reason.QUOTA_EXCEEDED, "full")))
            return ticket

        route = make(router)
        monkeypatch.setattr(router, "publish", sometimes)
        await route._take(Consumer(), AT, records(0, 1, 2, 3))
        assert calls == [[b"0", b"1", b"2", b"3"], [b"1", b"3"]]
        assert sorted(stored(router)) == [b"0", b"1", b"2", b"3"] and route.counts["moved"] == 4
