"""Queues give events out before they are on disk: nothing confirmed is lost for that, no answer hits another event."""
import errno
import random
from pathlib import Path

import pytest

from routing.consumers.definition.spec import ConsumerSpec
from routing.errors import Reason
from routing.event import Event, Properties
from routing.log.committing.workers import InlineWriter
from routing.queues.bindings import Binding
from routing.queues.depth import Depth
from routing.queues.options import Cause, QueueOptions
from routing.settings import Limits, StreamSettings
from tests.support.disk import FaultyFileSystem, SimulatedDisk
from tests.support.routing import ANA, Desk, Reader


class HeldWriter:
    """The threads that commit: nothing is written before release()."""

    def __init__(self):
        self.held = []
        self.is_open = True

    def submit(self, work, told=None):
        self.held.append((work, told))
        if self.is_open:
            self.release()

    def release(self):
        while self.held:
            work, told = self.held.pop(0)
            work()
            if told is not None:
                told()

    def close(self):
        self.release()


class SlowDesk(Desk):
    """A desk whose disk waits for written(), once it is slow."""

    def __init__(self, path, fs=None, settings=None, **options):
        self.writer = HeldWriter()
        self.disk = fs or FaultyFileSystem(SimulatedDisk())
        super().__init__(path, settings, fs=self.disk, clock_s=lambda: self.now_s, spawn_writer=lambda name: self.writer
                         if name == "meshgate-log-writer" else InlineWriter(name), **options)

    def slow(self):
        self.run()
        self.writer.is_open = False
        return self

    def written(self):
        """Once: what waits for the disk is there. What comes of that waits again."""
        held, self.writer.held = self.writer.held, []
        for work, told in held:
            work()
            if told is not None:
                told()
        self.run()

    def settle(self):
        """All of it."""
        self.run()
        while self.writer.held:
            self.written()

    def close(self):
        self.writer.is_open = True
        self.writer.release()
        super().close()


@pytest.fixture
def desk():
    desk = SlowDesk(Path("/data"))
    yield desk
    desk.close()


def declared(desk, name="q", *filters, **options):
    queue = desk.router.queues.declare(name, QueueOptions(**options), ANA)
    for pattern in filters:
        assert queue.bind(Binding(pattern), ANA) is None
    desk.run()
    return queue


def attached(desk, queue, credit=1_000, *, early=True):
    reader = Reader(credit)
    assert queue.attach(reader, early=early) is None
    desk.run()
    return reader


def sent(desk, *payloads, topic="$queue/q", **properties):
    """Published, and not on disk yet."""
    made = [Event(topic, payload, 1, properties=Properties(**properties) if properties else None)
            for payload in payloads]
    ticket = desk.router.publish(made, desk.publisher)
    desk.run()
    return ticket


def test_a_member_has_it_before_the_disk_and_the_publisher_hears_after_it(desk):
    queue = declared(desk)
    reader = attached(desk, queue)
    desk.slow()
    ticket = sent(desk, b"1")
    assert reader.payloads == [b"1"] and not ticket.done
    assert queue.depth() == Depth(0, 1)
    desk.written()
    assert ticket.done and not ticket.refusals and reader.payloads == [b"1"]
    assert queue.depth() == Depth(0, 1)
    reader.ack_all(queue)
    assert queue.depth() == Depth(0, 0) and queue.consumer.in_flight_bytes == 0


@pytest.mark.parametrize("why", ["not asked for", "limit"])
def test_who_did_not_ask_for_it_gets_it_from_the_disk(why):
    limits = Limits(early_delivery=why != "limit")
    desk = SlowDesk(Path("/data"), limits=limits)
    queue = declared(desk)
    reader = attached(desk, queue, early=why == "limit")
    desk.slow()
    sent(desk, b"1")
    assert not reader.deliveries
    desk.written()
    assert reader.payloads == [b"1"]
    desk.close()


def test_answers_count_when_it_is_on_disk(desk):
    queue = declared(desk, dead_letter="dead")
    grave = declared(desk, "grave", "dead")
    reader = attached(desk, queue, 4)
    desk.slow()
    sent(desk, b"acked", b"nacked", b"rejected", b"put back")
    acked, nacked, rejected, put_back = reader.deliveries
    queue.ack([acked])
    queue.nack([nacked])
    queue.reject([rejected])
    queue.put_back([put_back])
    queue.ack([nacked])                                 # too late: it was answered
    desk.run()
    assert (queue.consumer.acked, queue.depth()) == (0, Depth(0, 0))
    reader.deliveries.clear()
    reader.credit = 4
    desk.settle()
    assert [(one.event.payload, one.attempts) for one in reader.deliveries] == [(b"nacked", 2), (b"put back", 1)]
    assert grave.depth().ready == 1
    reader.ack_all(queue)
    desk.settle()
    assert queue.depth() == Depth(0, 0) and queue.consumer.acked == 4 and queue.consumer.in_flight == 0


def test_what_was_skipped_comes_before_what_is_behind_it(desk):
    queue = declared(desk)
    reader = attached(desk, queue, 1)
    desk.slow()
    sent(desk, b"1", b"2")
    assert reader.payloads == [b"1"]
    reader.credit = 5
    sent(desk, b"3")
    queue.consumer.ready()
    desk.run()
    assert reader.payloads == [b"1"]                    # 2 has to come first
    desk.settle()
    assert reader.payloads == [b"1", b"2", b"3"]
    sent(desk, b"4")
    assert reader.payloads[3:] == [b"4"]


def test_a_member_that_comes_gets_nothing_that_is_behind_what_waits(desk):
    queue = declared(desk)
    attached(desk, declared(desk, "other"))
    desk.slow()
    sent(desk, b"1")
    reader = Reader()
    assert queue.attach(reader, early=True) is None
    sent(desk, b"2")
    assert not reader.deliveries
    desk.settle()
    assert reader.payloads == [b"1", b"2"]


def test_a_dead_letter_on_its_way_to_the_disk_comes_before_what_was_published_after_it(desk):
    """What clients did not publish is not given out early: it would come twice after a loss of power."""
    queue = declared(desk, "q", "t")
    reader = attached(desk, queue)
    desk.slow()
    desk.router.publish([Event("t", b"1", 1)], desk.router.internal)
    sent(desk, b"2", topic="t")
    assert not reader.deliveries
    desk.settle()
    assert reader.payloads == [b"1", b"2"]


@pytest.mark.parametrize("properties, qos", [({"dedupe_id": "7"}, 1), ({"deliver_at_ms": 1}, 1), ({}, 2),
                                             ({"expires_at_ms": 1}, 1)])
def test_what_must_not_come_twice_or_is_looked_at_waits(desk, properties, qos):
    queue = declared(desk)
    reader = attached(desk, queue)
    desk.slow()
    desk.router.publish([Event("$queue/q", b"1", qos, properties=Properties(**properties))], desk.publisher)
    sent(desk, b"2")
    assert not reader.deliveries
    desk.settle()
    assert reader.payloads[-1] == b"2"


def test_a_queue_with_priorities_waits_for_the_disk(desk):
    queue = declared(desk, max_priority=5)
    reader = attached(desk, queue)
    desk.slow()
    made = [Event("$queue/q", b"low", 1), Event("$queue/q", b"high", 1, properties=Properties(priority=5))]
    desk.router.publish(made, desk.publisher)
    desk.run()
    assert not reader.deliveries
    desk.settle()
    assert reader.payloads == [b"high", b"low"]


def test_a_limit_counts_what_waits_and_not_what_is_out(desk):
    queue = declared(desk, max_length=1, overflow="reject-publish")
    reader = attached(desk, queue, 1)
    desk.slow()
    tickets = [sent(desk, b"%d" % number) for number in range(3)]
    assert reader.payloads == [b"0"]
    desk.settle()
    assert [list(ticket.refusals) for ticket in tickets] == [[], [], [0]]


def test_a_limit_of_bytes_forgets_what_the_disk_refused(desk):
    queue = declared(desk, max_length_bytes=10, overflow="reject-publish")
    reader = attached(desk, queue, 1)
    desk.slow()
    desk.disk.faults.fail("pwrite", code=errno.ENOSPC, stream="%24queues")
    ticket = sent(desk, b"x" * 9)
    desk.settle()
    assert ticket.refusals[0].reason is Reason.STORAGE_FULL and len(reader.deliveries) == 1
    assert queue.consumer.in_flight == queue.consumer.in_flight_bytes == 0
    desk.disk.faults.clear()
    desk.now_s += 2
    reader.credit = 1
    for _ in range(2):
        assert not sent(desk, b"y" * 9).refusals        # the first goes out, the second waits
    assert sent(desk, b"y" * 9).refusals[0].reason is Reason.QUOTA_EXCEEDED
    desk.settle()
    assert queue.depth().ready + queue.depth().unacked == 2


def test_what_the_disk_refused_is_gone_and_its_answers_hit_nobody_else(desk):
    """The member has seen it, as RabbitMQ's may. Whatever gets its offset is another event."""
    queue = declared(desk)
    reader = attached(desk, queue)
    desk.slow()
    desk.disk.faults.fail("pwrite", code=errno.ENOSPC, stream="%24queues")
    ticket = sent(desk, b"a1", b"a2", b"a3")
    first, second, third = reader.deliveries
    queue.ack([first])
    desk.settle()
    assert {refusal.reason for refusal in ticket.refusals.values()} == {Reason.STORAGE_FULL}
    assert queue.depth() == Depth(0, 0) and queue.consumer.in_flight == 0
    desk.disk.faults.clear()
    desk.now_s += 2
    sent(desk, b"b1", b"b2", b"b3")
    queue.ack([second])
    queue.nack([third])
    desk.settle()
    queue.ack([first])
    queue.reject([third])
    desk.settle()
    assert reader.payloads[3:] == [b"b1", b"b2", b"b3"] and queue.depth() == Depth(0, 3)
    assert reader.deliveries[3].event.offset == first.event.partition.high_watermark - 3
    assert queue.consumer.acked == 0


def test_a_read_only_partition_takes_back_what_is_out(desk):
    queue = declared(desk)
    reader = attached(desk, queue)
    sent(desk, b"kept")
    desk.slow()
    desk.disk.faults.fail("datasync", stream="%24queues")
    ticket = sent(desk, b"lost")
    desk.settle()
    assert ticket.refusals[0].reason is Reason.STORAGE_FAILED
    assert sent(desk, b"more").refusals
    assert reader.payloads == [b"kept", b"lost"] and queue.depth() == Depth(0, 1)
    queue.detach(reader)
    other = attached(desk, queue)
    desk.settle()
    assert other.payloads == [b"kept"] and other.deliveries[0].attempts == 2


def test_what_a_member_held_that_has_gone_comes_again_marked(desk):
    queue = declared(desk)
    first = attached(desk, queue)
    desk.slow()
    sent(desk, b"1", b"2")
    queue.ack(first.deliveries[:1])
    queue.detach(first)
    second = attached(desk, queue)
    sent(desk, b"3")
    assert not second.deliveries
    desk.settle()
    assert [(one.event.payload, one.attempts) for one in second.deliveries] == [(b"2", 2), (b"3", 1)]


def test_purge_takes_nothing_that_is_out_and_deletion_takes_all(desk):
    queue = declared(desk)
    reader = attached(desk, queue, 1)
    desk.slow()
    sent(desk, b"out", b"ready")
    queue.purge()
    desk.settle()
    assert queue.depth() == Depth(0, 1)
    reader.ack_all(queue)
    sent(desk, b"more")
    desk.router.queues.delete("q")
    queue.ack(reader.deliveries)
    desk.settle()
    assert queue.consumer.in_flight == 0 and queue.consumer.account.bytes == 0
    assert desk.router.registry.early.members == 0


@pytest.mark.parametrize("loss", ["full disk", "power"])
def test_a_purge_passes_over_nothing_that_gets_the_place_of_what_was_lost(loss):
    """It goes beyond what is on disk: the cursor comes back to there with it, in memory and in what is stored."""
    fs = FaultyFileSystem(SimulatedDisk())
    desk = SlowDesk(Path("/data"), fs=fs)
    queue = declared(desk)
    desk.slow()

    def dark():
        nonlocal desk
        fs._inner.power_loss(random.Random(1))
        desk = SlowDesk(Path("/data"), fs=fs, start=(desk.now_s + 10, desk.now_ms + 10_000)).slow()
        return desk

    sent(desk, b"1", b"2", b"3")
    queue.purge()
    if loss == "power":
        desk.writer.held.clear()                        # it does not reach the disk, what is stored of the queue does
        queue.consumer.checkpoint()
        desk.router.state.flush()
        desk.router.state._partition._owner.kick()
        desk.writer.release()
        queue = dark().router.queues.by_name["q"]
    else:
        fs.faults.fail("pwrite", code=errno.ENOSPC, stream="%24queues")
        desk.settle()
        fs.faults.clear()
        desk.now_s += 2
    assert not sent(desk, b"4", b"5").refusals
    desk.settle()
    if loss == "power":
        queue = dark().router.queues.by_name["q"]
    assert queue.depth().ready == 2
    desk.close()


def lost(desk, fs, loss):
    """What waits for the disk of the stream does not come there; what is stored of queues and consumers does."""
    if loss == "power":
        held = [entry for entry in desk.writer.held if not is_of_events(entry)]
        desk.writer.held.clear()
        desk.router.state.flush()
        desk.router.state._partition._owner.kick()
        desk.writer.held[:0] = held
        while desk.writer.held:
            desk.writer.release()
            desk.router.store.take_done()
            desk.writer.held = [entry for entry in desk.writer.held if not is_of_events(entry)]
        fs._inner.power_loss(random.Random(1))
        return SlowDesk(Path("/data"), fs=fs, start=(desk.now_s + 10, desk.now_ms + 10_000)).slow()
    fs.faults.fail("pwrite", code=errno.ENOSPC, stream="events")
    desk.settle()
    fs.faults.clear()
    desk.now_s += 2
    return desk


def is_of_events(entry):
    task = getattr(entry[0], "__self__", None)
    return task is not None and task.partition.stream == "events"


@pytest.mark.parametrize("loss", ["full disk", "power"])
def test_a_binding_takes_all_that_gets_the_place_of_what_was_lost(loss):
    fs = FaultyFileSystem(SimulatedDisk())
    desk = SlowDesk(Path("/data"), fs=fs)
    queue = declared(desk, "q", "other")
    gone = declared(desk, "gone", "t")
    sent(desk, b"0", topic="other")
    desk.settle()
    desk.slow()
    ticket = sent(desk, b"1", b"2", b"3", topic="t")
    assert queue.bind(Binding("t"), ANA) is None
    assert gone.unbind(Binding("t"))
    desk = lost(desk, fs, loss)
    assert loss == "power" or len(ticket.refusals) == 3
    assert not sent(desk, b"4", topic="t").refusals
    desk.settle()
    assert not sent(desk, b"5", topic="t").refusals
    desk.settle()
    queue, gone = (desk.router.queues.by_name[name] for name in ("q", "gone"))
    assert gone.depth().ready == 0
    reader = attached(desk, queue)
    desk.settle()
    assert reader.payloads == [b"0", b"4", b"5"]
    desk.close()


@pytest.mark.parametrize("loss", ["full disk", "power"])
def test_a_filter_takes_all_that_gets_the_place_of_what_was_lost(loss):
    fs = FaultyFileSystem(SimulatedDisk())
    desk = SlowDesk(Path("/data"), fs=fs)
    consumer = desk.router.registry.open(ConsumerSpec("c", ("other",), start="latest"), ANA)
    consumer.checkpoint()
    desk.router.registry.changed(consumer)
    sent(desk, b"0", topic="other")
    desk.settle()
    desk.slow()
    sent(desk, b"1", b"2", b"3", topic="t")
    assert consumer.add_filter("t", ANA) is None
    consumer.checkpoint()
    late = desk.router.registry.open(ConsumerSpec("late", ("t",), start="latest", durable=False), ANA)
    desk = lost(desk, fs, loss)
    late_reader = Reader(10)
    if loss != "power":
        late.attach(late_reader)
    sent(desk, b"4", topic="t")
    desk.settle()
    sent(desk, b"5", topic="t")
    desk.settle()
    reader = Reader(10)
    desk.router.registry.by_name["c"].attach(reader)
    desk.settle()
    assert reader.payloads == [b"0", b"4", b"5"]
    assert loss == "power" or late_reader.payloads == [b"4", b"5"]
    desk.close()


def test_seek_forgets_what_is_out(desk):
    queue = declared(desk, "q", "t")
    reader = attached(desk, queue)
    sent(desk, b"1", topic="t")
    desk.slow()
    sent(desk, b"2", topic="t")
    (partition,) = [one for one in queue.consumer.cursors if one.stream == "events"]
    queue.consumer.seek({partition: 0})
    queue.ack(reader.deliveries)
    desk.settle()
    assert reader.payloads == [b"1", b"2", b"1", b"2"] and queue.consumer.in_flight == 2


def test_unbound_while_it_is_out(desk):
    queue = declared(desk, "q", "t")
    reader = attached(desk, queue)
    desk.slow()
    sent(desk, b"1", topic="t")
    assert queue.unbind(Binding("t"))
    desk.settle()
    assert queue.depth() == Depth(0, 1)
    reader.ack_all(queue)
    assert queue.depth() == Depth(0, 0)


def test_two_queues_of_one_topic_each_have_it(desk):
    one, two = declared(desk, "one", "t"), declared(desk, "two", "t")
    readers = attached(desk, one), attached(desk, two, early=False)
    desk.slow()
    sent(desk, b"1", topic="t")
    assert [reader.payloads for reader in readers] == [[b"1"], []]
    desk.settle()
    assert [reader.payloads for reader in readers] == [[b"1"], [b"1"]]


def test_a_single_active_member_alone_gets_it(desk):
    queue = declared(desk, single_active=True)
    first, second = attached(desk, queue), attached(desk, queue)
    desk.slow()
    sent(desk, b"1", b"2")
    assert (first.payloads, second.payloads) == ([b"1", b"2"], [])
    queue.detach(first)
    desk.settle()
    assert second.payloads == [b"1", b"2"] and {one.attempts for one in second.deliveries} == {2}


def test_a_transaction_that_acks_it_is_decided_once_it_is_on_disk(desk):
    queue = declared(desk)
    reader = attached(desk, queue)
    desk.slow()
    sent(desk, b"1")
    answer = desk.router.together.commit(
        [Event("out", b"2", 1)], desk.publisher, [(queue.consumer, list(reader.deliveries))])
    desk.run()
    assert not any(key.startswith("together/") for key, _ in desk.router.state.items("together/"))
    desk.settle()
    assert answer.done and not answer.refusals and queue.depth() == Depth(0, 0)


def test_a_transaction_that_acks_what_the_disk_refused_acks_nothing_else(desk):
    queue = declared(desk)
    reader = attached(desk, queue)
    desk.slow()
    desk.disk.faults.fail("pwrite", code=errno.ENOSPC, stream="%24queues")
    sent(desk, b"lost")
    answer = desk.router.together.commit([], desk.publisher, [(queue.consumer, list(reader.deliveries))])
    desk.settle()
    desk.disk.faults.clear()
    desk.now_s += 2
    sent(desk, b"new")
    desk.settle()
    assert answer.done and not answer.refusals and queue.depth() == Depth(0, 1) and reader.payloads[-1] == b"new"


def test_an_ack_timeout_runs_for_what_was_out_early(desk):
    queue = desk.router.queues.declare("q", QueueOptions(), ANA, ack_timeout_s=5.0)
    desk.run()
    reader = attached(desk, queue)
    desk.slow()
    sent(desk, b"1")
    desk.settle()
    desk.tick(6.0)
    desk.settle()
    assert [one.attempts for one in reader.deliveries] == [1, 2]


class World:
    """A queue, its members, a disk and a power supply, by one seed. Payloads are numbers, each published once."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.disk = SimulatedDisk()
        self.fs = FaultyFileSystem(self.disk)
        self.number = 0
        self.tickets = {}                               # number → its ticket
        self.confirmed = set()
        self.refused = set()
        self.settled = set()                            # acked or rejected, whether that has reached the disk or not
        self.now = 1_000.0, 1_700_000_000_000
        self.start()

    def start(self):
        self.desk = SlowDesk(Path("/data"), fs=self.fs, start=self.now,
                             settings=[StreamSettings("events", ("#",), partitions=2)])
        self.desk.slow()
        self.queue = self.desk.router.queues.by_name.get("q") or declared(self.desk, "q", "t/#")
        self.desk.settle()
        self.readers = []
        self.step_attach()

    def step_attach(self):
        if len(self.readers) < 3:
            reader = Reader(self.random.choice((1, 2, 20)))
            reader.was = reader.credit
            self.queue.attach(reader, early=self.random.random() < 0.8)
            self.readers.append(reader)

    def step_detach(self):
        if self.readers:
            self.queue.detach(self.readers.pop(self.random.randrange(len(self.readers))))

    def step_publish(self):
        events = []
        for _ in range(self.random.randint(1, 4)):
            self.number += 1
            topic = self.random.choice(("t/1", "t/2", "$queue/q"))
            events.append(Event(topic, b"%d" % self.number, 1))
        ticket = self.desk.router.publish(events, self.desk.publisher)
        numbers = [int(event.payload) for event in events]
        ticket.on_done(lambda done: self.heard(done, numbers))
        if self.random.random() < 0.7:
            self.desk.run()

    def heard(self, ticket, numbers):
        for index, number in enumerate(numbers):
            (self.refused if index in ticket.refusals else self.confirmed).add(number)

    def step_answer(self):
        held = [(reader, one) for reader in self.readers for one in reader.deliveries]
        for reader, one in self.random.sample(held, min(len(held), self.random.randint(1, 5))):
            reader.deliveries.remove(one)
            reader.credit += 1
            how = self.random.random()
            if how < 0.6:
                self.settled.add(int(one.event.payload))
                self.queue.ack([one])
            elif how < 0.8:
                self.queue.nack([one])
            else:
                self.settled.add(int(one.event.payload))
                self.queue.reject([one], Cause.REJECTED)
        self.queue.consumer.ready()

    def step_purge(self):
        self.queue.purge()
        self.settled.update(range(self.number + 1))

    def step_written(self):
        self.desk.written()

    def step_settle(self):
        self.desk.settle()

    def step_tick(self):
        self.desk.tick(0.3)

    def step_full(self):
        self.fs.faults.fail("pwrite", code=errno.ENOSPC, at=self.random.randint(1, 4))
        self.desk.settle()
        self.fs.faults.clear()
        self.desk.now_s += 2

    def step_power_loss(self):
        self.now = self.desk.now_s + 10, self.desk.now_ms + 10_000
        self.disk.power_loss(self.random)
        self.start()

    def check(self):
        """Whatever was confirmed and never settled is still to be had, and nothing that was refused."""
        self.desk.settle()
        for reader in self.readers:
            self.queue.detach(reader)
        self.desk.settle()
        last = Reader(10_000)
        self.queue.attach(last)
        for _ in range(3):
            self.queue.consumer.ready()
            self.desk.settle()
        came = [int(one.event.payload) for one in last.deliveries]
        assert len(came) == len(set(came)), "twice"
        assert not self.confirmed - self.settled - set(came), f"lost {self.confirmed - self.settled - set(came)}"
        assert not self.refused & set(came), "refused"
        assert self.queue.consumer.in_flight == len(came)
        last.ack_all(self.queue)
        assert self.queue.depth() == Depth(0, 0) and self.queue.consumer.in_flight_bytes == 0


@pytest.mark.parametrize("seeds", [range(0, 40), range(40, 80), range(80, 120)], ids=str)
def test_nothing_confirmed_is_lost_whenever_power_fails(seeds):
    """Power fails and disks fill between delivery, sync, answers and their checkpoint, in any order."""
    weights = {"publish": 8, "answer": 6, "written": 5, "settle": 1, "tick": 3, "attach": 2, "detach": 1, "full": 1,
               "purge": 0.3, "power_loss": 1.5}
    for seed in seeds:
        world = World(seed)
        for step in world.random.choices(list(weights), list(weights.values()), k=60):
            getattr(world, f"step_{step}")()
        try:
            world.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
