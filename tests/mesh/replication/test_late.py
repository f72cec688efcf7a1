"""A filter that is wanted while its origin is cut off counts from the wish: once, in order, over restarts."""
from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from mesh.replication.messages import BY_TIME, Pull, Want, decode, encode
from mesh.replication.settings import ReplicationSettings
from routing.consumers.consumer import ConsumerSpec
from routing.settings import StreamSettings
from tests.mesh.replication.harness import World, check
from tests.support.routing import ANA

LIMITS = ReplicationSettings(linger_s=5.0, window_bytes=4_096, batch_bytes=1_024)


def pair(**options):
    """cloud pulls `live/#` of graz already, so that a new filter has a flow to go into."""
    world = World(1, limits=LIMITS)
    graz = world.add("graz", **options)
    cloud = world.add("cloud", replicate=(("live/#", "latest"),))
    world.run(2)
    graz.publish("live/0", "a/0")
    world.run(2)
    return world, graz, cloud


def consume(node, pattern, name="audit"):
    node.router.open_consumer(ConsumerSpec(name, (pattern,), start="latest"), ANA)
    node.turn()


def write(world, node, *topics, count=20):
    for _ in range(count):
        node.publish(*topics)
        world.run(0.05)


def away(world, graz, cloud, wish):
    """Before the wish a/1 and b/1, after it a/2 and b/2."""
    world.cut("graz", "cloud")
    write(world, graz, "a/1", "b/1", "live/1")
    wish()
    world.run(0.1)
    write(world, graz, "a/2", "b/2", "live/2", count=40)


def back(world):
    world.mend("graz", "cloud")
    world.run(5)


def counts(node):
    """How many replicas of each topic."""
    found = {}
    for event in node.replicas():
        found[event.topic] = found.get(event.topic, 0) + 1
    return found


def assert_in_order(node):
    offsets = [event.origin_offset for event in node.replicas()]
    assert offsets == sorted(offsets)


EXPECTED = {"live/0": 1, "live/1": 20, "live/2": 40, "a/2": 40}


@pytest.mark.parametrize("kind", ["durable consumer", "live subscription"])
def test_a_wish_for_a_node_that_is_away_counts_from_the_wish(kind):
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: consume(cloud, "a/#") if kind == "durable consumer" else cloud.subscribe("a/#"))
    back(world)
    assert counts(cloud) == EXPECTED
    check(world, cloud, graz, ["live/#", "a/#"], complete=False)


def test_it_comes_in_the_order_of_its_origin_with_what_was_wanted_before():
    """No back-fill beside the live flow: that has not passed the moment of the wish yet."""
    world, graz, cloud = pair()
    reader = cloud.subscribe("live/#")
    away(world, graz, cloud, lambda: consume(cloud, "a/#"))
    back(world)
    assert_in_order(cloud)
    assert {event.flow for event in cloud.replicas()} == {0}
    assert counts(cloud) == EXPECTED and len(reader.direct) == 60


def test_a_question_that_is_lost_in_a_cut_that_nobody_noticed():
    world, graz, cloud = pair()
    world.tap = lambda source, to, body: []
    consume(cloud, "a/#")
    world.run(0.1)
    write(world, graz, "a/2", "live/2", count=40)
    world.tap = None
    world.run(5)
    assert counts(cloud) == {"live/0": 1, "live/2": 40, "a/2": 40}
    assert_in_order(cloud)


def one_way(world):
    """What cloud says is lost; what graz says is not."""
    world.tap = lambda source, to, body: [] if source == "cloud" else None


def test_what_the_flow_has_passed_without_the_filter_comes_by_a_back_fill():
    """Only the questions are lost: the origin goes on with the filters that it knows, as far as the window lets it."""
    world, graz, cloud = pair()
    one_way(world)
    consume(cloud, "a/#")
    world.run(0.1)
    write(world, graz, "a/2", "live/2", count=40)
    assert counts(cloud)["live/2"] > 5
    world.tap = None
    world.run(8)
    assert counts(cloud) == {"live/0": 1, "live/2": 40, "a/2": 40}
    assert {event.flow for event in cloud.replicas() if event.topic == "live/2"} == {0}
    assert 0 < len([event for event in cloud.replicas() if event.topic == "a/2" and event.flow]) < 40
    check(world, cloud, graz, ["live/#", "a/#"], complete=False)
    branch = next(iter(cloud.replication.intake.branches.values()))
    number = branch._next_number
    assert not branch.late
    world.run(5)
    assert branch._next_number == number, "and it is not asked again and again"


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3, 0.6, 1.0, 1.3])
def test_a_back_fill_that_is_due_survives_a_crash(delay_s):
    world, graz, cloud = pair()
    one_way(world)
    consume(cloud, "a/#")
    world.run(0.1)
    write(world, graz, "a/2", "live/2", count=40)
    world.tap = None
    branch = next(iter(cloud.replication.intake.branches.values()))
    world.run_until(lambda: "a/#" in branch.live.history.open())
    world.run(delay_s)
    cloud.lights_out()
    world.run(1)
    cloud.start()
    world.run(8)
    assert counts(cloud) == {"live/0": 1, "live/2": 40, "a/2": 40}
    check(world, cloud, graz, ["live/#", "a/#"], complete=False)


@pytest.mark.parametrize("end", ["kill", "lights_out"])
def test_a_restart_between_the_wish_and_the_return(end):
    """The consumer is durable, and so is the moment of its wish."""
    world, graz, cloud = pair()

    def wish():
        consume(cloud, "a/#")
        world.run(0.5)                          # it is stored by then
        getattr(cloud, end)()

    away(world, graz, cloud, wish)
    cloud.start()
    write(world, graz, "a/3")
    back(world)
    assert counts(cloud) == {**EXPECTED, "a/3": 20}
    assert_in_order(cloud)


def test_a_wish_that_is_made_after_a_restart_while_the_node_is_still_away():
    world, graz, cloud = pair()

    def wish():
        cloud.kill()
        cloud.start()
        world.run(0.1)
        consume(cloud, "a/#")

    away(world, graz, cloud, wish)
    back(world)
    assert counts(cloud) == EXPECTED


def test_a_live_subscription_that_a_restart_ended_counts_from_the_next_one():
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: cloud.subscribe("a/#"))
    cloud.kill()
    cloud.start()
    world.run(0.1)
    cloud.subscribe("a/#")
    world.run(0.1)
    write(world, graz, "a/3")
    back(world)
    assert counts(cloud) == {"live/0": 1, "live/1": 20, "live/2": 40, "a/3": 20}


def test_what_the_configuration_wants_counts_from_when_it_came_there_over_restarts():
    world, graz, cloud = pair()

    def wish():
        cloud.kill()
        cloud.replicate = (("live/#", "latest"), ("a/#", "latest"))
        cloud.start()
        world.run(1)
        cloud.kill()
        cloud.start()

    away(world, graz, cloud, wish)
    back(world)
    assert counts(cloud) == EXPECTED


@pytest.mark.parametrize("before", [(), ("#",), ("#", "a/#"), ("#", "not durable")])
def test_a_node_that_was_never_seen_brings_what_it_has_from_the_wish_on_over_a_restart_too(before):
    """before: live subscriptions, which nobody makes again after the restart, or the consumer, not durable yet. They
    are no news to lyon when it becomes durable.
    """
    world = World(1, limits=LIMITS)
    cloud, _lyon = world.add("cloud"), world.add("lyon")
    world.cut("graz", "cloud")
    graz = world.add("graz")
    world.run(1)
    write(world, graz, "a/1", count=5)
    for pattern in before:
        if pattern == "not durable":
            cloud.router.open_consumer(ConsumerSpec("audit", ("a/#",), start="latest", durable=False), ANA)
        else:
            cloud.subscribe(pattern)
        world.run(2)
    consume(cloud, "a/#")
    world.run(1)
    write(world, graz, "a/2", count=5)
    cloud.kill()
    cloud.start()
    write(world, graz, "a/3", count=5)
    back(world)
    assert {topic: count for topic, count in counts(cloud).items() if topic != "a/1"} == {"a/2": 5, "a/3": 5}


@pytest.mark.parametrize("again", [False, True])
def test_a_wish_that_is_withdrawn_before_the_return_brings_nothing(again):
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: cloud.unsubscribe(cloud.subscribe("a/#")))
    if again:                                   # while it lingers: from here on
        cloud.subscribe("a/#")
        world.run(0.1)
        write(world, graz, "a/3")
    back(world)
    assert counts(cloud) == {"live/0": 1, "live/1": 20, "live/2": 40, **({"a/3": 20} if again else {})}


def test_a_back_fill_that_nobody_wants_any_more_is_given_up():
    world, graz, cloud = pair()
    one_way(world)
    reader = cloud.subscribe("a/#")
    world.run(0.1)
    write(world, graz, "a/2", "live/2", count=40)
    cloud.unsubscribe(reader)
    world.run(6)                                # it has lingered
    world.tap = None
    world.run(8)
    assert counts(cloud) == {"live/0": 1, "live/2": 40}
    assert not next(iter(cloud.replication.intake.branches.values())).late


def test_a_node_that_is_wiped_meanwhile_brings_its_new_log_from_the_wish_on():
    world, graz, cloud = pair()
    world.cut("graz", "cloud")
    write(world, graz, "a/1", "live/1", count=5)
    consume(cloud, "a/#")
    world.run(0.5)
    graz.wipe()
    world.run(0.5)
    graz.start()
    write(world, graz, "a/2", "live/2")
    back(world)
    assert counts(cloud) == {"live/0": 1, "live/2": 20, "a/2": 20}
    check(world, cloud, graz, ["live/#", "a/#"])


def test_a_wider_wish_does_not_reach_back_to_a_narrower_one():
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: consume(cloud, "a/2"))
    consume(cloud, "#", "all")
    world.run(0.1)
    write(world, graz, "a/2", "b/3")
    back(world)
    assert counts(cloud) == {**EXPECTED, "a/2": 60, "b/3": 20}
    branch = next(iter(cloud.replication.intake.branches.values()))
    assert list(branch.live.history.open()) == ["#"], "the narrow one is asked for beside the wide one, then it goes"


def test_a_narrower_wish_under_a_wider_one_that_is_withdrawn_counts_from_its_own_moment():
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: None)
    reader = cloud.subscribe("a/#")
    world.run(0.1)
    write(world, graz, "a/3")
    cloud.unsubscribe(reader)
    consume(cloud, "a/+")
    world.run(0.1)
    write(world, graz, "a/4")
    world.run(10)
    back(world)
    assert counts(cloud) == {"live/0": 1, "live/1": 20, "live/2": 40, "a/4": 20}


def test_what_counts_already_is_not_asked_by_time():
    """A narrower filter takes the place of a wider one that has lingered: it begins where the wider one ends."""
    world, graz, cloud = pair()
    reader = cloud.subscribe("#")
    world.run(2)
    consume(cloud, "a/#")
    world.run(2)
    cloud.unsubscribe(reader)
    questions = []
    world.tap = lambda source, to, body: questions.append(decode(body)) if source == "cloud" else None
    for _ in range(10):
        write(world, graz, "a/2", "b/2")
    asked = [want for one in questions if isinstance(one, Pull) for want in one.wants or ()]
    assert [want for want in asked if want.filter == "a/#"] and not [want for want in asked if want.since == BY_TIME]
    branch = next(iter(cloud.replication.intake.branches.values()))
    assert set(branch.live.history.open()) == {"a/#", "live/#"} and not branch.late
    assert counts(cloud)["a/2"] == 200


@pytest.mark.parametrize("error_ms", [3_600_000, -3_600_000])
def test_clocks_that_differ(error_ms):
    world, graz, cloud = pair(wall_error_ms=error_ms)
    away(world, graz, cloud, lambda: consume(cloud, "a/#"))
    back(world)
    assert counts(cloud) == EXPECTED


def test_the_borders_of_the_link_hold_for_what_is_late():
    """A prefix before all that enters, not everything may enter, and not everything may leave."""
    world, graz, cloud = pair()
    cloud.edges["graz"] = SimpleNamespace(exports=("#",), imports=("a/#", "live/#"), prefix="graz")
    graz.edges["cloud"] = SimpleNamespace(exports=("a/+", "b/+", "live/+"), imports=("#",), prefix="")
    world.cut("graz", "cloud")
    write(world, graz, "a/1", count=5)
    consume(cloud, "graz/#")
    world.run(0.1)
    write(world, graz, "a/2", "b/2", "a/x/y")
    back(world)
    assert counts(cloud) == {"live/0": 1, "graz/a/2": 20}


def test_every_partition_of_every_stream_that_can_hold_it():
    world, graz, cloud = pair(streams=[
        StreamSettings("events", ("#",), partitions=3), StreamSettings("orders", ("a/orders/#",), partitions=2)])
    world.cut("graz", "cloud")
    write(world, graz, "a/1", "a/orders/1", count=5)
    consume(cloud, "a/#")
    world.run(0.1)
    for number in range(30):
        graz.publish("a/2", "a/orders/2", "live/2", key=str(number).encode())
        world.run(0.05)
    back(world)
    assert counts(cloud) == {"live/0": 1, "a/2": 30, "a/orders/2": 30, "live/2": 30}
    check(world, cloud, graz, ["a/#", "live/#"], complete=False)


def test_more_late_filters_than_may_be_asked_for_count_from_the_first_of_them():
    """Joined: more comes than was wanted, but nothing is missing."""
    world = World(1, limits=ReplicationSettings(filters_max=8))
    graz, cloud = world.add("graz"), world.add("cloud", replicate=(("live/#", "latest"),))
    world.run(2)
    graz.publish("live/0")
    world.run(1)
    world.cut("graz", "cloud")
    graz.publish("a/0", "live/1")
    world.run(1)
    for number in range(12):
        consume(cloud, f"a/{number}/+", f"c{number}")
        world.run(0.1)
        graz.publish(f"a/{number}/x")
    world.run(2)
    back(world)
    found = counts(cloud)
    assert all(found[f"a/{number}/x"] == 1 for number in range(12)) and found["live/1"] == 1
    assert "a/0" not in found, "not from before the first wish"
    flow = next(iter(cloud.replication.intake.branches.values())).live
    assert len(flow.history.open()) <= 8


def test_what_is_noted_of_wishes_goes_when_it_is_told_and_stored_when_it_is_not_wanted_any_more():
    world, _, cloud = pair()
    reader = cloud.subscribe("a/#")
    wishes = cloud.replication.intake.wishes
    assert wishes.untold == ["graz"]
    world.run(2)
    assert wishes.untold == []
    state = cloud.router.state
    assert [key for key, _ in state.items("wanted/")] == ["wanted/live/#", "wanted/a/#"]
    cloud.unsubscribe(reader)
    world.run(15)
    assert [key for key, _ in state.items("wanted/")] == ["wanted/live/#"]


def test_an_origin_that_cannot_go_back_by_time_is_asked_for_the_rest():
    """A node one version older counts a new filter of a running flow from its end."""
    world, graz, cloud = pair()
    away(world, graz, cloud, lambda: consume(cloud, "a/#"))

    def older(source, to, body):
        message = decode(body)
        if isinstance(message, Pull) and message.start >= 0 and message.wants and not message.flow:
            message = msgspec.structs.replace(message, wants=[
                Want(want.filter) if want.since == BY_TIME else want for want in message.wants])
            return [encode(message)]
        return None

    world.tap = older
    back(world)
    world.run(5)
    assert counts(cloud) == EXPECTED


def test_a_stored_moment_that_cannot_be_read_keeps_no_node_from_starting():
    world, graz, cloud = pair()

    def wish():
        consume(cloud, "a/#")
        cloud.router.state.put("wanted/a/#", b"\xc1")
        world.run(0.5)
        cloud.kill()
        cloud.start()

    away(world, graz, cloud, wish)
    back(world)
    assert counts(cloud) == EXPECTED, "it counts from the restart"
