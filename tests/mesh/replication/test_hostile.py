"""Nodes that lie: refused with a reason, counted, nothing changed; and the honest flow goes on afterwards."""
from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest

from mesh.replication.bodies import BodyEncoder
from mesh.replication.incoming.syncing import OPEN_COST, PARTITIONS_MAX, SYNC_STEP
from mesh.replication.messages import BY_TIME, Batch, Problem, Pull, RetainedAsk, Trouble, Want, decode, encode
from mesh.replication.outgoing import hold
from mesh.replication.outgoing.lookups import LookUps
from mesh.replication.outgoing.outlet import TIMES_AT_ONCE
from mesh.replication.settings import ReplicationSettings
from routing.event import Event
from routing.settings import StreamSettings
from tests.mesh.replication.harness import World, check


def pair(**options):
    world = World(1, **options)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("a/#")
    world.run(1)
    graz.publish("a/1", "a/2")
    world.run(1)
    flow = next(iter(cloud.replication.intake.branches.values())).live
    return world, graz, cloud, flow


def body(*offsets, topic="a/1"):
    return BodyEncoder().encode([Event(topic, b"forged", 1, timestamp_ms=1, offset=offset) for offset in offsets])


def body_at(flow, *times_ms):
    return BodyEncoder().encode([
        Event("a/1", b"forged", 1, timestamp_ms=time_ms, offset=flow.expected + number)
        for number, time_ms in enumerate(times_ms)])


def batch(flow, **fields):
    given = {"token": flow.token, "attempt": flow._attempt, "version": flow.filters.version, "echo": 0,
             "start": flow.expected, "next": flow.expected + 2, "first": 0, "end": flow.expected + 2,
             **fields}
    return Batch(**given)


LIES = {
    "next before start": lambda flow: batch(flow, next=flow.expected - 1),
    "end before next": lambda flow: batch(flow, end=flow.expected),
    "a version that was never sent": lambda flow: batch(flow, version=flow.filters.version + 1),
    "an attempt that was never made": lambda flow: batch(flow, attempt=flow._attempt + 1),
    "an answer to no question": lambda flow: batch(flow, echo=flow._sequence + 1),
    "events without offsets": lambda flow: batch(flow, next=flow.expected, end=flow.expected, body=body(2)),
    "events from before": lambda flow: batch(flow, body=body(flow.expected - 1)),
    "events from beyond": lambda flow: batch(flow, body=body(flow.expected + 2)),
    "events out of order": lambda flow: batch(flow, body=body(flow.expected + 1) + body(flow.expected)),
    "topics not asked for": lambda flow: batch(flow, body=body(flow.expected, topic="b")),
    "a time that is none": lambda flow: batch(flow, body=body_at(flow, 2**63 - 1)),
    "a time that is none, late in a batch": lambda flow: batch(flow, body=body_at(flow, 1, 2**62)),
    "no record batch": lambda flow: batch(flow, body=b"x" * 100),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_batch_that_cannot_be_is_refused_whole(lie):
    world, graz, cloud, flow = pair()
    before, expected = len(cloud.replicas()), flow.expected
    cloud.do(lambda: cloud.replication.on_message("graz", encode(LIES[lie](flow))))
    world.run(0.01)
    assert len(cloud.replicas()) == before
    assert flow.refused == 1 and flow.trouble
    assert cloud.replication.snapshot()["refused"]["batches"] == {"graz": 1}
    assert expected in (flow.expected, flow.floor)
    graz.publish("a/3")
    world.run(3)
    assert check(world, cloud, graz, ["a/#"]) == 3
    assert not flow.trouble


def test_a_guessed_token_or_a_foreign_sender_moves_nothing():
    world, graz, cloud, flow = pair()
    lyon = world.add("lyon")
    world.run(1)
    good = batch(flow, body=body(flow.expected))
    cloud.do(lambda: cloud.replication.on_message("lyon", encode(good)))
    cloud.do(lambda: cloud.replication.on_message("graz", encode(msgspec.structs.replace(good, token=1))))
    world.run(1)
    assert check(world, cloud, graz, ["a/#"]) == 2
    assert not cloud.replicas("lyon") and lyon.alive
    assert cloud.replication.intake.refusals == {"graz": 1}


def test_offsets_that_run_backwards_are_dropped():
    world, graz, cloud, flow = pair()
    for start in range(flow.expected):
        lie = batch(flow, start=start, next=start + 1, body=body(start))
        cloud.do(lambda lie=lie: cloud.replication.on_message("graz", encode(lie)))
    world.run(1)
    assert check(world, cloud, graz, ["a/#"]) == 2


def test_a_log_that_ends_before_what_we_have_is_reported():
    """An origin whose log was put back to an older state under the same epoch."""
    world, graz, _, _ = pair()
    pull = Pull(9, 1, True, 0, "events", 0, graz.store.epoch, 1, 10_000, 10_000, 1_000, 1, 0, [Want("#", 0)])
    answers = []
    world.tap = lambda source, to, message: answers.append(decode(message)) if source == "graz" else None
    graz.do(lambda: graz.replication.on_message("cloud", encode(pull)))
    assert [answer.code for answer in answers if isinstance(answer, Problem)] == [Trouble.BAD_PULL]


def pull(graz, **fields):
    given = {"token": 77, "sequence": 1, "ask": True, "flow": 5, "stream": "events", "index": 0,
             "epoch": graz.store.epoch, "attempt": 1, "start": 0, "confirmed": 0, "window_bytes": 1_000, "version": 1,
             "rtt_ms": 0, "wants": [Want("#", 0)], **fields}
    return Pull(**given)


@pytest.mark.parametrize(("fields", "code"), [
    ({"epoch": "another"}, Trouble.WRONG_EPOCH), ({"stream": "../../x"}, Trouble.NO_PARTITION),
    ({"index": 10**9}, Trouble.NO_PARTITION), ({"wants": None}, Trouble.UNKNOWN_FLOW),
    ({"wants": [Want("a/#/b", 0)]}, Trouble.BAD_PULL), ({"wants": [Want("a" * 70_000, 0)]}, None),
    ({"wants": [Want("/".join("a" * 100), 0)] * 1_000}, Trouble.TOO_MUCH),
    ({"only": ["#/"]}, Trouble.BAD_PULL), ({"start": -3}, Trouble.BAD_PULL), ({"start": 10**9}, Trouble.BAD_PULL),
    ({"confirmed": 10**9}, Trouble.BAD_PULL),
])
def test_a_pull_that_cannot_be_is_answered_with_a_reason(fields, code):
    world, graz, _, _ = pair()
    answers = []
    world.tap = lambda source, to, message: answers.append(decode(message)) if source == "graz" else None
    message = encode(pull(graz, **fields))
    if code is None:
        assert graz.replication.counts["bad messages"] == 0
    graz.do(lambda: graz.replication.on_message("cloud", message))
    if code is None:
        assert graz.replication.counts["bad messages"] == 1 and not answers
    else:
        assert [answer.code for answer in answers if isinstance(answer, Problem)] == [code]
    assert not any(isinstance(answer, Batch) and answer.body for answer in answers)


def test_flows_of_others_are_bounded():
    world, graz, _, _ = pair(limits=ReplicationSettings(flows_max=20))
    for number in range(100):
        graz.do(lambda number=number: graz.replication.on_message("cloud", encode(
            pull(graz, flow=number + 10, token=number + 1))))
    assert len(graz.replication.outlets.by_key) == 10, "half of what others leave"
    world.run(70)
    assert len(graz.replication.outlets.by_key) <= 1, "and what nobody pulls is let go"


def test_noise_is_counted_and_nothing_else():
    world, graz, cloud, _ = pair()
    rng = random.Random(1)
    good = encode(pull(graz))
    for _ in range(2_000):
        noise = bytearray(good)
        noise[rng.randrange(len(noise))] = rng.randrange(256)
        for node in (graz, cloud):
            node.do(lambda node=node, noise=bytes(noise): node.replication.on_message("lyon", noise))
            node.do(lambda node=node: node.replication.on_message("lyon", rng.randbytes(40)))
    world.run(2)
    graz.publish("a/9")
    world.run(2)
    assert check(world, cloud, graz, ["a/#"]) == 3
    assert cloud.replication.counts["bad messages"] > 1_000


def test_a_question_for_retained_events_with_a_bad_filter_or_epoch_is_not_answered():
    world, graz, _, _ = pair()
    sent = world.sent
    for epoch, pattern in (("x", "#"), (graz.store.epoch, "#/a")):
        graz.do(lambda epoch=epoch, pattern=pattern: graz.replication.on_message(
            "cloud", encode(RetainedAsk(1, epoch, pattern))))
    assert world.sent == sent


def test_a_node_that_claims_any_number_of_partitions_opens_a_bounded_number_of_flows():
    world = World(1, limits=ReplicationSettings(flows_max=20))
    graz, cloud = world.add("graz"), world.add("cloud")
    graz.streams = [StreamSettings(f"s{number}", ("#",), partitions=100_000) for number in range(3)]
    cloud.subscribe("#")
    world.run(1)
    assert len(cloud.replication.intake.branches) == 20


def test_claims_of_hundreds_of_streams_are_followed_in_steps():
    """So many partitions per turn of the loop, however many a node has; all of them in the end."""
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    graz.streams = [StreamSettings(f"s{number}", ("#",), partitions=100_000) for number in range(256)]
    intake = cloud.replication.intake
    counts = [0]
    call_soon = cloud.router.call_soon
    cloud.router.call_soon = lambda work: call_soon(lambda: (work(), counts.append(len(intake.branches))))
    cloud.subscribe("#")
    world.run(1)
    assert counts[-1] == PARTITIONS_MAX
    assert max(after - before for before, after in pairwise(counts)) <= SYNC_STEP // OPEN_COST + 1


def test_a_node_that_is_gone_before_all_of_it_was_followed_is_let_go_of():
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    graz.streams = [StreamSettings(f"s{number}", ("#",), partitions=100_000) for number in range(256)]
    intake = cloud.replication.intake
    call_soon = cloud.router.call_soon

    def cut_in_the_middle(work):
        if len(intake.branches) >= 100:
            world.cuts.add(frozenset(("graz", "cloud")))
        call_soon(work)

    cloud.router.call_soon = cut_in_the_middle
    cloud.subscribe("#")
    world.run(2)
    cloud.router.call_soon = call_soon
    assert 100 <= len(intake.branches) < PARTITIONS_MAX and not intake.syncing.is_busy
    cloud.do(lambda: intake.nodes_changed({"graz"}))            # as the overlay tells it
    world.cuts.clear()
    cloud.do(lambda: intake.nodes_changed({"graz"}))
    world.run(2)
    assert len(intake.branches) == PARTITIONS_MAX


def test_times_of_filters_are_looked_up_once_each_and_in_steps(monkeypatch):
    _, graz, _, _ = pair()
    partition = graz.router.streams.partition("events", 0)
    looked_up, per_turn = [], []
    look_up = partition.offset_for_time
    partition.offset_for_time = lambda ms: looked_up.append(ms) or look_up(ms)
    step = LookUps.go_on
    monkeypatch.setattr(LookUps, "go_on", lambda self: (
        per_turn.append(len(looked_up)), step(self), per_turn.append(len(looked_up)))[1])

    def ask(sequence, wants):
        message = encode(pull(graz, sequence=sequence, version=sequence, wants=wants))
        graz.do(lambda: graz.replication.on_message("cloud", message))

    ask(1, [Want(f"x{number}", BY_TIME, since_ms=5) for number in range(1_000)])
    assert looked_up == [5]
    ask(2, [Want(f"y{number}", BY_TIME, since_ms=number) for number in range(1_000)])
    assert sorted(looked_up[1:]) == list(range(1_000))
    assert 0 < max(after - before for before, after in pairwise(per_turn)) <= TIMES_AT_ONCE
    outlet = graz.replication.outlets.by_key["cloud", "events", 0, 5]
    assert {want.filter for want in outlet.selection.wants} == {f"y{number}" for number in range(1_000)}


def test_of_pulls_that_come_while_times_are_looked_up_the_latest_counts():
    _, graz, _, _ = pair()

    def ask(sequence, wants):
        graz.replication.on_message("cloud", encode(pull(graz, sequence=sequence, version=sequence, wants=wants)))

    ask(1, [Want(f"y{number}", BY_TIME, since_ms=number) for number in range(1_000)])
    ask(3, [Want("three", 0)])
    ask(2, [Want("two", 0)])
    graz.turn()
    outlet = graz.replication.outlets.by_key["cloud", "events", 0, 5]
    assert [want.filter for want in outlet.selection.wants] == ["three"]


def test_a_window_without_end_is_cut_to_ours():
    world, graz, _, _ = pair(limits=ReplicationSettings(window_bytes=2_000, batch_bytes=500))
    for _ in range(100):
        graz.publish(*["a/1"] * 10)
    sent = []
    world.tap = lambda source, to, message: sent.append(decode(message)) or [] if source == "graz" else None
    graz.do(lambda: graz.replication.on_message("cloud", encode(pull(graz, window_bytes=1 << 60))))
    assert 0 < sum(len(one.body) for one in sent if isinstance(one, Batch)) < 6_000


def test_filters_of_one_neighbour_have_their_share_of_memory():
    """Whatever flows and nodes behind it they are for; what is closed gives its room back."""
    world, graz, _, _ = pair(limits=ReplicationSettings(filters_bytes=4_000_000))
    outlets = graz.replication.outlets

    def ask(number: int, count: int = 1_000) -> None:
        wants = [Want(f"f{number}/{index}", 0) for index in range(count)]
        graz.do(lambda: graz.replication.on_message("cloud", encode(
            pull(graz, flow=number + 10, token=number + 1, wants=wants))))

    for number in range(20):
        ask(number)
    assert len(outlets.by_key) == 1 + 3 and outlets.refusals["cloud"] == 17, "half of 4 MB, and the flow that was there"
    ask(30, 100)
    assert len(outlets.by_key) == 1 + 4, "what is small still fits"
    world.run(70)
    assert len(outlets.by_key) <= 1
    for number in range(50, 53):
        ask(number)
    assert outlets.refusals["cloud"] == 17
    for key, outlet in list(outlets.by_key.items()):
        outlets._close(key, outlet)
    assert outlets._filters.total == outlets._flows.total == 0


def test_what_is_stored_of_a_destinations_filters_is_bounded(monkeypatch):
    """Beyond it a flow is held as one that wants everything: nothing that it wants can be removed for that."""
    monkeypatch.setattr(hold, "FILTERS_BYTES_MAX", 50_000)
    world, graz, _, _ = pair()
    for number in range(10):
        wants = [Want(f"f{number}/{index}", 0) for index in range(1_000)]
        graz.do(lambda number=number, wants=wants: graz.replication.on_message("cloud", encode(
            pull(graz, flow=number + 10, token=number + 1, wants=wants, start=0, confirmed=0))))
    kept = graz.replication.outlets.hold
    mine = [held for _, (_, _, flow), held in kept.flows() if flow >= 10]
    assert len(mine) == 10 and sum(len(held.selection.wants) == 1_000 for held in mine) in range(2, 6)
    assert all(held.selection.wants_from("anything", 0) for held in mine if len(held.selection.wants) == 1)
    assert sum(held.filters_bytes for held in mine) <= 50_000 + 10 * 20
    world.run(70)
    assert sum(len(held.selection.wants) for _, (_, _, flow), held in kept.flows() if flow >= 10) < 6_000
    for name in list(kept.destinations):
        kept.forget(name)
    assert kept._filters_bytes == 0
