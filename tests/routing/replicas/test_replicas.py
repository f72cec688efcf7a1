"""Events of other nodes: exactly once into our log, over crashes, refusals and repeats."""
from __future__ import annotations

import contextlib
import random

import pytest

from routing.consumers.consumer import ConsumerSpec
from routing.direct.subscription import Subscription
from routing.errors import Reason, Refusal
from routing.event import Event, Properties
from routing.replicas.feed import Feed
from routing.rights.policy import INTERNAL, Action, Identity, Rule
from routing.settings import Limits, StreamSettings
from tests.support.disk import PowerLoss, SimulatedDisk
from tests.support.routing import ANA, Desk, Reader

WIDE = [StreamSettings("events", ("#",), partitions=4)]


class Destination(Desk):
    def __init__(self, path, settings=None, **options):
        super().__init__(path, settings or WIDE, **options)
        self.origin = self.router.origins.of("graz", "e1", "events", 0)
        self.link = self.router.publisher(Identity("graz", protocol="link"))
        self.answers = []

    def open(self, flow=0, floor=0):
        found = []
        self.router.replicas.open(self.origin, flow, found.append)
        self.run()
        if found[0] is None:
            self.router.replicas.start(self.origin, flow, floor)
            self.run()
        return found[0]

    def batch(self, *offsets, flow=0, next_offset=None, run=True, **fields):
        events = [Event(f"t/{offset % 7}", b"%d" % offset, 1, timestamp_ms=self.now_ms, origin=self.origin,
                        origin_offset=offset, flow=flow, **fields) for offset in offsets]
        self.router.replicas.publish(self.origin, flow, events, next_offset or offsets[-1] + 1, self.link,
                                     self.answers.append)
        if run:
            self.run()

    def stored(self):
        """Origin offsets in the log, per partition, in order."""
        found = []
        for partition in self.router.own_partitions():
            events = partition.scan(0, lambda topic: True, max_events=10**6, max_scanned=10**6).events
            places = [(event.flow, event.origin_offset) for event in events if event.origin is not None]
            for flow in {flow for flow, _ in places}:
                offsets = [offset for other, offset in places if other == flow]
                assert offsets == sorted(offsets), "a flow is out of order"
                found += offsets
        assert len(found) == len(set(found)), "something is there twice"
        return sorted(found)


def test_a_batch_is_in_the_log_with_its_origin_and_moves_the_floor(tmp_path):
    desk = Destination(tmp_path)
    assert desk.open() is None
    desk.batch(3, 5, 9, next_offset=20)
    assert desk.answers == [None]
    assert desk.router.replicas.floor(desk.origin, 0) == 20
    assert desk.stored() == [3, 5, 9]


def test_a_repeat_changes_nothing(tmp_path):
    desk = Destination(tmp_path)
    desk.open()
    desk.batch(*range(50))
    desk.batch(*range(20, 60))
    assert desk.stored() == list(range(60))
    assert desk.router.replicas.snapshot()[0]["repeats"] == 30


def test_two_flows_have_positions_of_their_own(tmp_path):
    desk = Destination(tmp_path)
    desk.open()
    desk.batch(50, 51)
    desk.open(flow=1)
    desk.batch(1, 2, flow=1)
    assert desk.stored() == [1, 2, 50, 51]


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_at_any_moment_neither_loses_nor_doubles(tmp_path, seed):
    """Four partitions of which a power loss keeps some; pulled again from the floor each time."""
    rng = random.Random(seed)
    disk = SimulatedDisk()
    desk = Destination(tmp_path, fs=disk)
    floor = desk.open() or 0
    highest = 0
    for _ in range(6):
        position = floor
        disk.loss_at = rng.choice((None, rng.randrange(1, 60)))
        with contextlib.suppress(PowerLoss):
            for _ in range(rng.randrange(1, 12)):
                count = rng.randrange(1, 40)
                desk.batch(*range(position, position + count), run=False)
                position += count
                for _ in range(rng.randrange(0, 6)):
                    if desk.queue:
                        desk.queue.popleft()()
                if rng.random() < 0.3:
                    desk.tick(rng.choice((0.1, 1.1)))
        highest = max(highest, position)
        disk.power_loss(rng)
        desk = Destination(tmp_path, fs=disk)
        floor = desk.open()
        assert floor is not None and floor <= position
        assert set(range(floor)) <= set(desk.stored())
    desk.batch(*range(floor, highest + 10))
    assert desk.stored() == list(range(highest + 10))


def test_a_stop_and_start_goes_on_at_the_floor(tmp_path):
    desk = Destination(tmp_path)
    desk.open()
    desk.batch(1, 2, 3, next_offset=100)
    desk.router.replicas.put_note(desk.origin, 0, b"filters")
    desk.close()
    again = Destination(tmp_path)
    assert again.open() == 100
    assert again.router.replicas.get_note(again.origin, 0) == b"filters"
    again.batch(2, 3, 101)
    assert again.stored() == [1, 2, 3, 101]
    again.close()


def test_what_the_log_refuses_is_pulled_again_and_later_batches_do_not_overtake_it(tmp_path):
    desk = Destination(tmp_path, limits=Limits(pending_commit_bytes=4_000))
    desk.open()
    for start in range(0, 200, 10):                     # more than may wait for the disk, in one turn
        desk.batch(*range(start, start + 10), run=False)
    desk.run()
    assert len(desk.answers) == 20
    refused = desk.answers.index(next(answer for answer in desk.answers if answer is not None))
    assert all(isinstance(answer, Refusal) for answer in desk.answers[refused:])
    floor = desk.router.replicas.restart(desk.origin, 0)
    assert floor == refused * 10
    for start in range(floor, 200, 10):
        desk.batch(*range(start, start + 10))
    assert desk.stored() == list(range(200))


def test_a_broken_flow_takes_nothing_until_it_is_restarted(tmp_path):
    desk = Destination(tmp_path, limits=Limits(pending_commit_bytes=4_000))
    desk.open()
    desk.batch(*range(100), run=False)
    desk.batch(*range(100, 200))
    assert desk.answers[-1] is not None
    desk.batch(500)
    assert desk.answers[-1] is not None and 500 not in desk.stored()


def test_events_of_other_nodes_pass_policy_and_limits(tmp_path):
    rules = (Rule(allow=(Action.PUBLISH,), to=("user:graz",), topics=("t/1",), name="graz"),)
    desk = Destination(tmp_path, rules=rules, limits=Limits(payload_bytes_max=3))
    desk.open()
    desk.batch(1, 2, 8, 10_000 * 7 + 1)                 # t/1, t/2, t/1, t/1 with five bytes
    assert desk.answers == [None]
    assert desk.stored() == [1, 8]
    assert desk.router.replicas.denied == 2
    assert desk.router.refused[Reason.NOT_AUTHORIZED] == 1


def test_live_readers_get_replicas_and_the_ids_of_other_nodes_count_for_nothing_here(tmp_path):
    desk = Destination(tmp_path)
    desk.open()
    properties = Properties(dedupe_id="same", mqtt_packet_id=7)
    desk.batch(1, publisher="ana-1", properties=properties)
    desk.batch(8, publisher="ana-1", properties=properties)
    assert desk.stored() == [1, 8], "a repeated message id is not this node's business"
    desk.close()
    again = Destination(tmp_path)
    assert again.router.recovered_qos2() == {}
    ticket = again.publish(Event("t/1", b"own", 1, "ana-1", properties=Properties(dedupe_id="same")))
    assert ticket.events[0].offset > 0 and again.router.drops == {}
    again.close()


def test_a_feed_gives_own_events_only_and_wakes_when_there_is_more(tmp_path):
    desk = Destination(tmp_path, [StreamSettings("events", ("#",))])
    desk.open()
    desk.publish("a/1", "b/1")
    desk.batch(1, 2)
    woken = []
    feed = Feed(desk.router, desk.router.own_partitions()[0], 0, lambda topic: topic.startswith("a"), lambda:
                woken.append(1))
    events, next_offset = feed.take(max_events=10, max_bytes=10**6, max_scanned=10**6)
    assert [event.topic for event in events] == ["a/1"] and next_offset == 4 and feed.at_tail
    desk.publish("a/2", "a/3")
    assert woken == [1]
    events, next_offset = feed.take(max_events=10, max_bytes=3, max_scanned=10**6)
    assert [event.topic for event in events] == ["a/2"] and next_offset == 5, "bytes are bounded, one event at least"
    feed.close()
    desk.publish("a/4")
    assert woken == [1] and not desk.router.feeds


def test_filters_that_appear_and_go_are_told(tmp_path):
    desk = Desk(tmp_path)
    told = []
    desk.router.on_wanted.append(lambda pattern, appeared: told.append((pattern, appeared)))
    desk.router.open_consumer(ConsumerSpec("c", ("a/#",)), ANA)
    one, two = Subscription("a/#", Reader()), Subscription("b", Reader())
    desk.router.subscribe(one)
    desk.router.subscribe(two)
    assert desk.router.wanted == {"a/#": 2, "b": 1}
    desk.router.unsubscribe(one)
    desk.router.delete_consumer("c")
    assert told == [("a/#", True), ("b", True), ("a/#", False)]


class Lane:
    def __init__(self, *topics):
        self.topics = topics
        self.sent = []

    def wants(self, topic):
        return topic in self.topics

    def send(self, events):
        self.sent += [event.topic for event in events]


def test_what_no_stream_captures_goes_to_other_nodes_that_want_it(tmp_path):
    desk = Desk(tmp_path, [StreamSettings("orders", ("orders/#",))])
    lane = desk.router.routes.remote = Lane("live/1", "orders/1", "$SYS/x")
    desk.router.routes.changed()
    desk.publish("live/1", "live/2", "orders/1", "$SYS/x")
    assert lane.sent == ["live/1"]
    lane.topics = ("live/2",)
    desk.router.routes.changed()
    desk.publish("live/1", "live/2")
    assert lane.sent == ["live/1", "live/2"]


def test_a_direct_frame_reaches_live_readers_and_goes_no_further(tmp_path):
    desk = Desk(tmp_path)
    lane = desk.router.routes.remote = Lane("a/1")
    reader = Reader()
    desk.router.subscribe(Subscription("a/#", reader))
    desk.router.deliver_direct([Event("a/1", b"x")], desk.router.publisher(INTERNAL))
    desk.run()
    assert [event.topic for event in reader.direct] == ["a/1"]
    assert lane.sent == [] and desk.router.own_partitions()[0].end_offset == 0


# -- retained events between nodes ---------------------------------------------------------------------------------

def retained(desk, topic, payload, at_ms, node="graz"):
    return Event(topic, payload, 1, retain=True, timestamp_ms=at_ms, origin=desk.router.origins.of(node, "e", "s", 0),
                 origin_offset=1)


def merge(desk, *events, pattern="#", complete=False, node="graz"):
    changed = desk.router.retained.merge(events)
    place = "" if complete else None
    while place is not None:
        place = desk.router.retained.remove_others(
            pattern, place, None, {event.topic for event in events}, node, "e", 1 << 62)
    desk.run()
    return changed


def own(desk, pattern):
    return desk.router.retained.own_page(pattern, "", 100, 10**6)[0]


def shown(desk):
    return {event.topic: event.payload for event in desk.router.retained.tree.match("#")}


def test_the_last_writer_of_a_retained_event_wins_in_any_order(tmp_path):
    for index, order in enumerate(((0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1))):
        desk = Desk(tmp_path / str(index))
        versions = [("old", 1_000, "graz"), ("new", 2_000, "graz"), ("newest", 2_000, "lyon")]
        for number in order:
            payload, at_ms, node = versions[number]
            merge(desk, retained(desk, "a", payload.encode(), at_ms, node), node=node)
        assert shown(desk) == {"a": b"newest"}
        desk.close()


def test_an_own_retained_event_is_newer_than_what_it_replaces_even_when_our_clock_is_behind(tmp_path):
    desk = Desk(tmp_path)
    merge(desk, retained(desk, "a", b"theirs", desk.now_ms + 60_000))
    desk.publish(Event("a", b"ours", 1, retain=True))
    assert shown(desk) == {"a": b"ours"}
    assert own(desk, "#")[0].timestamp_ms == desk.now_ms + 60_001


def test_a_removed_retained_event_is_not_brought_back_by_an_older_one(tmp_path):
    desk = Desk(tmp_path)
    merge(desk, retained(desk, "a", b"x", 1_000))
    desk.publish(Event("a", b"", 1, retain=True))
    assert merge(desk, retained(desk, "a", b"x", 1_500)) == []
    desk.close()
    again = Desk(tmp_path)
    assert merge(again, retained(again, "a", b"x", 1_500)) == []
    assert shown(again) == {}
    again.close()


def test_a_retained_event_published_here_is_newer_than_a_removal_elsewhere(tmp_path):
    desk = Desk(tmp_path)
    merge(desk, retained(desk, "a", b"x", desk.now_ms + 1_000))
    merge(desk, pattern="a", complete=True)             # removed there; it was of now + 1,000 by their clock
    desk.publish(Event("a", b"ours", 1, retain=True))
    assert own(desk, "a")[0].timestamp_ms == desk.now_ms + 1_001


def test_a_complete_snapshot_removes_what_was_removed_there(tmp_path):
    desk = Desk(tmp_path)
    for topic, payload in (("a/1", b"1"), ("a/2", b"2"), ("b", b"3")):
        merge(desk, retained(desk, topic, payload, 1_000))
    merge(desk, retained(desk, "a/3", b"4", 1_000, "lyon"), node="lyon")
    desk.publish(Event("a/4", b"own", 1, retain=True))
    assert merge(desk, retained(desk, "a/1", b"1", 1_000), pattern="a/#", complete=True) == []
    assert shown(desk) == {"a/1": b"1", "b": b"3", "a/3": b"4", "a/4": b"own"}
    desk.close()
    again = Desk(tmp_path)
    assert shown(again) == {"a/1": b"1", "b": b"3", "a/3": b"4", "a/4": b"own"}
    assert [event.topic for event in own(again, "#")] == ["a/4"]
    again.close()


def test_a_quiet_flow_does_not_make_a_start_read_the_whole_log(tmp_path, monkeypatch):
    desk = Destination(tmp_path)
    desk.open()
    desk.batch(1)
    desk.publish(*(f"own/{number}" for number in range(500)))
    desk.tick(1.1)
    desk.tick(1.1)
    desk.batch(2)
    read = []
    monkeypatch.setattr("routing.replicas.replicas.events_from", lambda partition, offset: read.extend(
        range(offset, partition.end_offset)) or ())
    desk.close()
    again = Destination(tmp_path)
    assert len(read) <= 1
    again.close()


def test_a_retained_copy_that_a_crash_took_is_found_in_its_stream(tmp_path):
    """The event is in its stream, its copy in the retained partition was not written; then the flow goes on."""
    desk = Destination(tmp_path)
    desk.open()
    desk.batch(1, retain=True)
    desk.batch(8)
    desk.close()
    for file in (tmp_path / "streams" / "%24retained" / "0").iterdir():
        file.unlink()
    again = Destination(tmp_path)
    assert shown(again) == {"t/1": b"1"}
    again.batch(1, retain=True)
    again.now_ms += 1
    again.batch(8, retain=True)
    assert shown(again) == {"t/1": b"8"} and again.stored() == [1, 8]
    assert again.router.replicas.snapshot()[0]["repeats"] == 2
    again.close()
