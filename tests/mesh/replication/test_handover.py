"""A durable consumer that is opened on another node goes on there: nothing is lost, repeats are marked."""
from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from mesh.replication.messages import Batch, Export, ExportAsk, Step, decode, encode
from mesh.replication.moving.handover import LOOKED_PER_TICK
from mesh.replication.settings import ReplicationSettings
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity
from routing.settings import StreamSettings
from tests.mesh.replication.consumers import attach, got, trio, write
from tests.mesh.replication.harness import World
from tests.support.routing import ANA

BOB = Identity(user="bob", protocol="test", client_id="bob-1")


def test_it_goes_on_where_it_was_whoever_published():
    world, graz, cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    write(world, graz, cloud, lyon)
    world.run(1)
    seen = got(first)
    first.ack_all(first.consumer)
    first.consumer.detach(first)
    graz.turn()
    everything = write(world, graz, cloud, lyon)        # while nobody reads
    world.run(1)
    second = attach(lyon)
    world.run(8)
    later = got(second)
    assert sorted(seen + later) == sorted(everything), "each once"
    assert "desk" not in graz.router.consumers
    assert lyon.replication.handover.moved_in == graz.replication.handover.departures.count == 1
    everything = write(world, graz, cloud, lyon)
    world.run(1)
    assert sorted(seen + got(second)) == sorted(everything)


@pytest.mark.parametrize("writer", ["lyon", "cloud"])
def test_what_the_old_node_has_not_pulled_yet_is_not_lost(writer):
    """Its site was cut off, and the consumer is faster than the backlog."""
    world, graz, _cloud, lyon = trio()
    first = attach(graz)
    attach(lyon, "other")                               # so that lyon has what cloud writes
    world.run(2)
    write(world, graz, world.nodes[writer])
    world.run(1)
    first.ack_all(first.consumer)
    first.consumer.detach(first)
    graz.turn()
    world.run(1)
    world.tap = lambda source, to, body: [] if to == "graz" and isinstance(decode(body), Batch) else None
    missed = write(world, world.nodes[writer])[10:]
    world.run(30)
    second = attach(lyon)
    world.run(3)
    assert lyon.replication.handover.moved_in == 1
    world.tap = None
    world.run(10)
    assert sorted(got(second)) == sorted(missed)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("moment_s", [0.0, 0.3, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["earliest", "late"])
def test_history_that_was_still_on_its_way_to_the_old_node_comes_to_the_new_one(kind, moment_s, restart):
    """moment_s: when the flood of its back-fill is cut off, from before it began until it is under way."""
    world = World(3, limits=ReplicationSettings(linger_s=0.5, window_bytes=1_024, batch_bytes=256))
    graz, lyon = world.add("graz", replicate=(("b", "latest"),)), world.add("lyon")
    cloud = world.add("cloud", streams=[StreamSettings("events", ("#",), partitions=1)])
    world.run(2)
    write(world, cloud, count=5)                        # before the wish: of a late one it is not wanted
    if kind == "late":                                  # what graz asks is lost
        world.tap = lambda source, to, body: [] if source == "graz" and to == "cloud" else None
        first = attach(graz, start="latest")
        world.run(0.1)
    for _ in range(15):
        write(world, cloud)
        world.run(0.1)
    if kind == "earliest":
        first = attach(graz, start="earliest")
    expected = [event.payload for event in cloud.acked if event.topic.startswith("a/")][5 if kind == "late" else 0:]
    batches = 0

    def cut_off(source, to, body):
        nonlocal batches
        message = decode(body)
        if (source, to) == ("cloud", "graz") and isinstance(message, Batch) and message.body:
            branch = next(branch for branch in graz.replication.intake.branches.values()
                          if branch.origin.node == "cloud")
            if branch.live.token != message.token:      # some of the back-fill comes, the rest does not
                batches += 1
                return [] if batches > 3 else None
        return None

    world.tap = cut_off
    world.run(moment_s)
    seen = [delivery.event.payload for delivery in first.ack_all(first.consumer)]
    first.consumer.detach(first)
    graz.turn()
    world.run(0.5)
    if restart:
        graz.kill()
        graz.start()
        world.run(0.2)
    second = attach(lyon)                               # where it begins was said when it was made
    world.run(12)
    assert lyon.replication.handover.moved_in == 1 and (batches or moment_s < 1)
    assert sorted({*seen, *got(second)}) == sorted(expected)
    assert not lyon.replication.intake.arrived.needs(()), "and it has caught up"
    fresh = [delivery.event.payload for delivery in second.deliveries if delivery.attempts == 1]
    assert not set(fresh) & set(seen) and len(fresh) == len(set(fresh)), "twice without a mark"
    write(world, cloud)
    world.run(1)
    assert set(got(second)) >= {event.payload for event in cloud.acked[-20:] if event.topic.startswith("a/")}


def test_what_was_delivered_and_not_acked_comes_again_marked():
    world, graz, _, lyon = trio()
    first = attach(graz)
    world.run(2)
    write(world, graz)
    world.run(1)
    first.consumer.ack(first.deliveries[:6])
    graz.turn()
    unacked = [delivery.event.payload for delivery in first.deliveries[6:]]
    second = attach(lyon)
    world.run(40)
    assert first.closed is None and not got(second), "nobody takes it from under a reader"
    first.consumer.detach(first)
    graz.turn()
    world.run(4)
    assert sorted(got(second)) == sorted(unacked)
    assert all(delivery.attempts > 1 for delivery in second.deliveries)


def test_a_consumer_that_is_nowhere_begins_here_after_one_round_trip():
    world, _graz, _cloud, lyon = trio(delay_s=(0.05, 0.05))
    reader = attach(lyon)
    world.run(0.15)
    assert not reader.consumer.paused
    write(world, lyon)
    assert len(reader.deliveries) == 10


def test_where_no_answer_can_matter_nobody_is_asked():
    """A new consumer waited for all nodes in sight, also for those whose links may bring nothing of it."""
    world, _graz, _cloud, lyon = trio()
    for node in ("graz", "cloud"):
        lyon.edges[node] = SimpleNamespace(exports=("#",), imports=("plant/#",), prefix="")
    asks = []
    world.tap = lambda source, to, body: asks.append(to) if isinstance(decode(body), ExportAsk) else None
    assert not attach(lyon).consumer.paused
    assert attach(lyon, "plant", "plant/1").consumer.paused
    world.run(0.1)
    assert sorted(asks) == ["cloud", "graz"]


def test_a_node_that_is_silent_holds_up_one_consumer_for_seconds_and_not_the_next():
    world, _graz, _cloud, lyon = trio()
    silent = True
    world.tap = lambda source, to, body: [] if silent and (source, to) == ("cloud", "lyon") else None
    first = attach(lyon)
    world.run(4.9)
    assert first.consumer.paused
    world.run(0.2)
    assert not first.consumer.paused
    second = attach(lyon, "second")
    world.run(0.45)
    assert second.consumer.paused
    world.run(0.1)
    assert not second.consumer.paused
    silent = False
    attach(lyon, "third")               # its answer to this one says that it is there again
    world.run(0.1)
    silent = True
    fourth = attach(lyon, "fourth")
    world.run(4.9)
    assert fourth.consumer.paused


def test_a_consumer_is_found_on_a_node_that_was_silent():
    world, graz, _cloud, lyon = trio()
    first = attach(graz)
    world.run(1)
    first.consumer.detach(first)
    silent = True
    world.tap = lambda source, to, body: [] if silent and (source, to) == ("graz", "lyon") else None
    attach(lyon, "other")
    world.run(6)
    silent = False
    attach(lyon)
    world.run(2)
    assert lyon.replication.handover.moved_in == 1 and "desk" not in graz.router.consumers


def test_a_shared_consumer_with_readers_and_one_of_somebody_else_stay():
    world, graz, _, lyon = trio()
    stays = attach(graz, mode=Mode.SHARED)
    world.run(1)
    other = attach(lyon, mode=Mode.SHARED)
    world.run(3)
    assert stays.closed is None and not other.consumer.paused
    mine = attach(graz, "mine")
    world.run(1)
    attach(lyon, "mine", identity=BOB)
    world.run(3)
    assert mine.closed is None


def test_filters_come_along():
    world, graz, _, lyon = trio()
    first = attach(graz)
    assert first.consumer.add_filter("b", ANA) is None
    world.run(1)
    first.consumer.detach(first)
    graz.turn()
    world.run(0.5)
    second = attach(lyon, pattern=None)
    world.run(4)
    assert list(second.consumer.filters) == ["a/#", "b"]
    write(world, graz)
    world.run(1)
    assert len(got(second)) == 20


@pytest.mark.parametrize("seed", range(10))
def test_neither_loss_of_messages_nor_crashes_of_either_node_lose_an_event(seed):
    world, graz, cloud, lyon = trio(seed, loss=0.15, doubles=0.1, delay_s=(0.001, 0.03))
    rng = world.rng
    first = attach(graz)
    world.run(3)
    write(world, graz, cloud, lyon)
    world.run(2)
    acked = [delivery.event.payload for delivery in first.deliveries[:9]]
    first.consumer.ack(first.deliveries[:9])
    graz.turn()
    world.run(0.5)                      # stored
    everything = write(world, graz, cloud, lyon)
    first.consumer.detach(first)
    graz.turn()
    reader, life = attach(lyon), lyon.life
    for _ in range(3):
        world.run(rng.uniform(0.0, 0.5))
        node = rng.choice((graz, lyon))
        rng.choice((node.kill, node.lights_out))()
        world.run(rng.uniform(0.0, 0.3))
        node.start()
    for _ in range(100):
        world.run(0.5)
        if lyon.life != life or reader.closed:
            reader, life = attach(lyon), lyon.life
        if not reader.consumer.paused and set(acked) | set(got(reader)) >= set(everything):
            break
    missing = set(everything) - set(acked) - set(got(reader))
    assert not missing, f"lost: {sorted(missing)}"
    fresh = [delivery.event.payload for delivery in reader.deliveries if delivery.attempts == 1]
    assert len(fresh) == len(set(fresh)), "twice without a mark"


@pytest.mark.parametrize(("exports", "moves"), [(("a/#", "c/#"), True), (("a/+/x", "c/#"), False)])
def test_a_consumer_goes_only_where_all_of_its_events_may_go(exports, moves):
    world, graz, _cloud, lyon = trio()
    graz.edges["lyon"] = SimpleNamespace(exports=exports, imports=("#",), prefix="")
    first = attach(graz)
    world.run(2)
    first.consumer.detach(first)
    graz.turn()
    attach(lyon)
    world.run(8)
    assert ("desk" in graz.router.consumers) is not moves
    assert lyon.replication.handover.moved_in == int(moves)


def test_a_node_whose_link_may_bring_nothing_of_it_does_not_keep_a_consumer_from_its_reader():
    """It said that it has every consumer that is opened here, and the consumers waited for it for ever."""
    world, _graz, _cloud, lyon = trio()
    lyon.edges["graz"] = SimpleNamespace(exports=("#",), imports=("rogue/#",), prefix="")

    def lie(source, to, body):
        message = decode(body)
        if source == "graz" and isinstance(message, Export):
            return [encode(msgspec.structs.replace(message, found=True, used_ms=2**52))]
        return None

    world.tap = lie
    reader = attach(lyon)
    world.run(1)
    assert not reader.consumer.paused
    write(world, lyon)
    assert len(got(reader)) == 10


def test_what_has_left_for_one_node_does_not_go_to_another_that_may_not_read_it():
    world, graz, cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    first.consumer.detach(first)
    graz.turn()
    world.tap = lambda source, to, body: (
        [] if isinstance(found := decode(body), ExportAsk) and found.step == Step.DONE else None)
    attach(lyon)
    world.run(4)
    assert graz.replication.handover.departures.gone
    graz.edges["cloud"] = SimpleNamespace(exports=("rogue/#",), imports=("#",), prefix="")
    world.run(70)
    answers = []
    world.tap = lambda source, to, body: answers.append(decode(body)) if (source, to) == ("graz", "cloud") else None
    graz.do(lambda: graz.replication.on_message("cloud", encode(ExportAsk(9, "desk", "ana", 2))))
    world.run(1)
    assert [(one.found, one.state) for one in answers if isinstance(one, Export)] == [(False, b"")] and cloud.alive


def test_a_consumer_that_could_not_be_stored_as_gone_is_given_to_nobody():
    """A full disk at the old node: until its leaving is on disk, a kill would leave the consumer on both."""
    world, graz, _cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    first.consumer.detach(first)
    graz.turn()
    partition = graz.router.state._partition
    partition.failed = Refusal(Reason.STORAGE_FULL, "no room")
    attach(lyon)
    world.run(8)
    assert lyon.replication.handover.moved_in == 0
    partition.failed = None
    world.run(20)
    assert lyon.replication.handover.moved_in == 1


def test_a_broken_record_does_not_keep_a_node_down(caplog):
    world, graz, _, _ = trio()
    attach(graz)
    world.run(2)
    for key in ("handover/out/gone", "handover/in/desk"):
        graz.router.state.put(key, b"\xc1")
    graz.turn()
    world.run(1)
    graz.kill()
    graz.start()
    world.run(2)
    assert len([record for record in caplog.records if "cannot be read" in record.getMessage()]) == 2
    reader = attach(graz)
    graz.publish("a/1")
    world.run(1)
    assert got(reader)


def test_a_node_that_is_cut_off_in_the_middle_of_a_move_is_waited_for(caplog):
    """It may have let go of the consumer already."""
    world, graz, _cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    first.consumer.detach(first)
    everything = write(world, graz)
    world.tap = lambda source, to, body: [] if isinstance(found := decode(body), Export) and found.state else None
    second = attach(lyon)
    world.run(2)
    assert graz.replication.handover.departures.count == 1
    world.cut("graz", "lyon")
    world.tap = None
    world.run(90)
    assert not got(second)
    assert "waits for node graz" in caplog.text and "delete the consumer" in caplog.text
    world.mend("graz", "lyon")
    world.run(5)
    assert sorted(got(second)) == sorted(everything)


def test_of_many_consumers_each_tick_looks_at_some_and_those_that_are_gone_are_forgotten():
    """100,000 took 10 ms of each tick."""
    world, node, *_ = trio()
    handover = node.replication.handover
    for number in range(1_200):
        node.router.open_consumer(ConsumerSpec(f"c{number}", durable=True), ANA)
    world.run(0.5)
    assert len(handover._known) >= 1_200
    for number in range(1_200):
        node.router.delete_consumer(f"c{number}")
    before = len(handover._known)
    handover.tick(node.clock_s())
    assert 0 < before - len(handover._known) <= LOOKED_PER_TICK
    world.run(2.0)
    assert not [name for name in handover._known if name.startswith("c")]
