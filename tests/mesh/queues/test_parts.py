"""A queue of one name on several nodes is one queue: each event goes to one member, wherever it was published."""
from __future__ import annotations

import pytest

from mesh.queues import shared
from mesh.queues.lending import Lender
from mesh.queues.shared import LOST_S, PIECE
from tests.mesh.queues.harness import acked, three


def drain(world, readers, rounds=40):
    """Everything that comes to the readers (node, reader), acked at once; payloads in order."""
    got = {id(reader): [] for _, reader in readers}
    for _ in range(rounds):
        for node, reader in readers:
            if node.alive:
                got[id(reader)] += node.ack(reader)
        world.run(0.05)
    return [got[id(reader)] for _, reader in readers]


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_each_event_goes_to_one_member_wherever_it_was_published(loss):
    world, graz, lyon, cloud = three(loss=loss, doubles=loss)
    graz.declare("work", "a/#")
    world.run(3)
    lyon.declare("work", "a/#")
    world.run(3)
    readers = [(graz, graz.read()), (lyon, lyon.read())]
    for number in range(30):
        for node in (graz, lyon, cloud):
            node.publish(f"a/{number}")
        world.run(0.02)
    first, second = drain(world, readers, 200)
    assert sorted(first + second) == acked(graz, lyon, cloud), "each once"
    assert first and second
    for node in (graz, lyon):
        depth = node.router.queues.get("work").depth()
        assert (depth.ready, depth.unacked) == (0, 0)


def test_work_goes_to_where_somebody_takes_it():
    world, graz, lyon, cloud = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    for number in range(50):
        graz.publish(f"a/{number}")
        cloud.publish(f"a/{number}")
    graz.publish("$queue/work", payload=b"straight")
    world.run(1)
    reader = lyon.read(credit=5)
    world.run(1)
    assert len(reader.deliveries) == 5
    (got,) = drain(world, [(lyon, reader)], 100)
    assert sorted(got) == sorted([*acked(graz, cloud), b"straight"])
    assert graz.router.queues.get("work").depth().ready == 0


def test_a_binding_on_one_node_holds_on_all():
    world, graz, lyon, cloud = three()
    graz.declare("work", "a/#")
    world.run(1)
    lyon.declare("work")
    world.run(2)
    lyon.publish("a/1")
    cloud.publish("a/2")
    world.run(1)
    (got,) = drain(world, [(graz, graz.read())])
    assert sorted(got) == acked(lyon, cloud)


def test_what_a_member_does_not_ack_is_given_out_again_there_or_here_and_counted():
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    far = lyon.read()
    graz.publish("a/1")
    world.run(1)
    assert [delivery.attempts for delivery in far.deliveries] == [1]
    far.queue.detach(far)
    lyon.turn()
    world.run(1)
    near = graz.read()
    world.run(1)
    assert [delivery.attempts for delivery in near.deliveries] == [2]


def test_a_get_finds_what_is_on_another_node():
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    graz.publish("a/1")
    world.run(1)
    from tests.support.routing import ANA, Reader
    answers = []
    member = Reader(credit=0, identity=ANA)
    queue = lyon.router.queues.get("work")
    for _ in range(2):
        queue.get(member, answers.append)
        lyon.turn()
        world.run(2)
    assert answers[0].event.payload == b"graz:1:1" and answers[1] is None
    queue.ack([answers[0]])
    lyon.turn()
    world.run(1)
    depth = graz.router.queues.get("work").depth()
    assert (depth.ready, depth.unacked) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_the_first_node_dies_and_the_queue_goes_on(seed):
    """What it had is on its disk: it comes when the node comes back. Nothing is lost; what was under way may repeat."""
    world, graz, lyon, cloud = three(seed)
    graz.declare("work", "a/#")
    world.run(2)
    lyon.declare("work", "a/#")
    world.run(2)
    reader = lyon.read()
    got = []
    for number in range(20):
        lyon.publish(f"a/{number}")
        cloud.publish(f"a/{number}")
        world.run(0.05)
        got += lyon.ack(reader)
    graz.kill()
    for number in range(20, 60):
        lyon.publish(f"a/{number}")
        cloud.publish(f"a/{number}")
        world.run(0.05)
        got += lyon.ack(reader)
    got += drain(world, [(lyon, reader)], 300)[0]
    missing = set(acked(lyon, cloud)) - set(got)
    assert missing <= {b"cloud:1:%d" % number for number in range(30)}, "only what the dead node had taken"
    later = [b"cloud:1:%d" % number for number in range(35, 61)]
    assert set(later) <= set(got), "and what comes later goes on"
    graz.start()
    got += drain(world, [(lyon, reader)], 400)[0]
    assert set(got) == set(acked(lyon, cloud, graz))
    repeated = len(got) - len(set(got))
    assert repeated <= 40


def test_a_cut_line_stops_neither_side_and_doubles_nothing():
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    readers = [(graz, graz.read()), (lyon, lyon.read())]
    world.cut("graz", "lyon")
    for number in range(40):
        graz.publish(f"a/{number}")
        lyon.publish(f"a/{number}")
        world.run(0.5)
    got = drain(world, readers)
    assert all(got), "both went on"
    world.mend("graz", "lyon")
    more = drain(world, readers, 200)
    assert sorted(payload for part in got + more for payload in part) == acked(graz, lyon), "each once"


def test_what_was_lent_and_is_rejected_is_a_dead_letter_also_after_a_start():
    """Its place here is one in memory, and counts from 0 again: what comes to it later is not what was there before."""
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#", dead_letter="letters/{queue}")
    world.run(2)
    for number in range(3):
        reader = lyon.read()
        world.run(1)
        graz.publish("a/1", payload=b"%d" % number)
        world.run(1)
        reader.queue.reject(reader.deliveries)
        lyon.turn()
        world.run(0.5)
        lyon.kill()
        lyon.start()
        world.run(12)
    partition = lyon.router.streams.by_name["events"].partitions[0]
    found = partition.scan(0, lambda topic: topic == "letters/work", max_events=10, max_scanned=1_000).events
    assert [event.payload for event in found] == [b"0", b"1", b"2"]


def test_a_delete_on_one_node_deletes_the_queue_on_all():
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    lyon.router.queues.delete("work")
    lyon.turn()
    world.run(1)
    assert graz.router.queues.get("work") is None


def test_queues_of_different_users_are_different_queues():
    from routing.queues.bindings import Binding
    from routing.queues.options import QueueOptions
    from routing.rights.policy import Identity
    bob = Identity(user="bob", protocol="test", client_id="bob")
    world, graz, lyon, _ = three()
    graz.declare("work", "a/#")
    world.run(1)
    theirs = lyon.router.queues.declare("work", QueueOptions(), bob)
    theirs.bind(Binding("a/#"), bob)
    lyon.turn()
    world.run(2)
    graz.publish("a/1")
    world.run(2)
    assert graz.router.queues.get("work").depth().ready == theirs.depth().ready == 1


@pytest.mark.parametrize("first", ["queue", "message"])
def test_what_is_sent_straight_to_a_queue_of_another_node_gets_there(first):
    """As the answer to a remote call, whose queue is on the asker's node only."""
    world, graz, lyon, _ = three()
    if first == "queue":
        graz.declare("answers")
        world.run(1)
    lyon.publish("$queue/answers", payload=b"1")
    world.run(2)
    if first == "message":
        graz.declare("answers")
        world.run(2)
    lyon.publish("$queue/answers", payload=b"2")
    reader = graz.read("answers")
    (got,) = drain(world, [(graz, reader)])
    assert got == [b"1", b"2"]
    lyon.kill()
    lyon.start()
    world.run(12)
    lyon.publish("$queue/answers", payload=b"3")
    assert drain(world, [(graz, reader)]) == [[b"3"]]
    graz.router.queues.delete("answers")
    graz.turn()
    world.run(1)
    assert not lyon.router.queues.by_name and not lyon.queues.parts
    lyon.publish("$queue/nobody", payload=b"x")
    world.run(1)
    assert not lyon.router.queues.by_name


def test_a_guest_goes_with_the_queue_also_when_that_goes_by_itself():
    world, graz, lyon, _ = three()
    graz.declare("answers", auto_delete=True)
    reader = graz.read("answers")
    world.run(1)
    lyon.publish("$queue/answers", payload=b"1")
    world.run(1)
    assert len(reader.deliveries) == 1 and "answers" in lyon.queues.parts
    graz.ack(reader)
    reader.queue.detach(reader)
    graz.turn()
    world.run(1)
    assert not graz.queues.parts and not lyon.queues.parts


def test_what_a_lost_node_leaves_in_many_queues_is_taken_back_in_pieces(monkeypatch):
    """3,000 queues took 50 ms of one turn. Nothing goes to it meanwhile, and all is given out again."""
    count = 3 * PIECE
    world, one, two, _ = three()
    for number in range(count):
        for node in (one, two):
            node.declare(f"q{number}", f"q/{number}")
    world.run(6.0)
    for number in range(count):
        two.read(f"q{number}")
    world.run(2.0)
    one.publish(*(f"q/{number}" for number in range(count)))
    world.run(2.0)
    ends, pieces = [], []
    end = Lender.end

    def counted(lender):
        ends.append(lender)
        end(lender)

    def in_pieces(router, work):
        before = len(ends)
        more = next(work, work) is not work
        pieces.append(len(ends) - before)
        if more:
            router.call_soon(lambda: in_pieces(router, work))

    assert sum(len(part.lenders) for part in one.queues.parts.values()) == count
    monkeypatch.setattr(Lender, "end", counted)
    monkeypatch.setattr(shared, "in_steps", in_pieces)
    two.kill()
    world.run(LOST_S + 10)
    assert len(ends) == count and max(pieces) == PIECE
    readers = [one.read(f"q{number}") for number in range(count)]
    world.run(1.0)
    assert all(len(reader.deliveries) == 1 for reader in readers)
