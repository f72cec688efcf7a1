"""One small frame that answers 10,000 deliveries takes many short turns, on both AMQPs; what follows it waits."""
from __future__ import annotations

import gc
import time

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp091.codec import methods
from protocols.scheduling.longwork import LongWork
from routing.event import Event
from routing.fairness.turns import Turns
from tests.protocols.amqp.raw import Raw as Raw10
from tests.protocols.amqp.stand import Stand as Stand10
from tests.protocols.amqp091.raw import Raw as Raw091
from tests.protocols.amqp091.stand import Stand as Stand091

MANY = 10_000
TURN_S = 0.015          # a slice and its end; all in one turn they took 34 to 60 ms


class Line:
    def __init__(self):
        self.closed = False
        self.holds = 0

    def hold(self):
        self.holds += 1

    def release(self):
        self.holds -= 1

    def describe(self):
        return "line"


class Loop:
    """Each look at the clock takes 0.3 ms."""

    def __init__(self):
        self.now_s, self.queue = 0.0, []
        self.turns = Turns(self.queue.append, self.clock_s)

    def clock_s(self):
        self.now_s += 0.0003
        return self.now_s

    def turn(self):
        queue, self.queue[:] = list(self.queue), []
        for work in queue:
            work()


def test_a_little_is_done_at_once_and_much_in_slices():
    loop, line, done = Loop(), Line(), []
    LongWork(loop.turns, line, (done.append(number) for number in range(3)), lambda work: work()).start()
    assert done == [0, 1, 2] and line.holds == 0
    LongWork(loop.turns, line, (done.append(number) for number in range(3, 100)), lambda work: work()).start()
    assert len(done) < 20 and line.holds == 1
    turns = 0
    while line.holds:
        loop.turn()
        turns += 1
    assert done == list(range(100)) and turns > 5


def test_what_raises_ends_it_and_a_connection_that_goes_ends_it():
    loop, line, raised = Loop(), Line(), []

    def work():
        for _ in range(100):
            yield
        raise ValueError

    def guarded(step):
        try:
            step()
        except ValueError as error:
            raised.append(error)

    LongWork(loop.turns, line, work(), guarded).start()
    while line.holds:
        loop.turn()
    assert len(raised) == 1
    LongWork(loop.turns, line, work(), guarded).start()
    line.closed = True
    while line.holds:
        loop.turn()
    assert len(raised) == 1


def worst_s(stand):
    """CPU time of the longest piece of work on the loop since the last call."""
    def take():
        turns = stand.router.turns
        turns.cpu_s, (worst, turns.worst_s) = time.thread_time, (turns.worst_s, 0.0)
        turns.ask_cpu_s()
        return worst

    return stand.do(take)


def fill(stand):
    def publish():
        stand.router.publish([Event("$queue/many", b"%d" % number, 1) for number in range(MANY)],
                             stand.router.internal)

    stand.do(publish)


@pytest.fixture
def amqp10(tmp_path):
    stand = Stand10(tmp_path).start()
    yield stand
    stand.stop()


@pytest.fixture
def amqp091(tmp_path):
    stand = Stand091(tmp_path).start()
    yield stand
    stand.stop()


@pytest.mark.measured
@pytest.mark.parametrize("outcome", [p.ACCEPTED, p.RELEASED, p.Modified(True), p.Rejected()], ids=str)
def test_a_disposition_of_amqp_1_0(amqp10, outcome):
    client = Raw10(amqp10.port)
    client.begin(window=2**31 - 1)
    client.receiver("queue://many")
    fill(amqp10)
    client.send(p.Flow(0, 2**31 - 1, 0, 10_000, 1, 0, MANY))
    for _ in range(MANY):
        client.delivery()
    worst_s(amqp10)
    client.send(p.Disposition(p.RECEIVER, 0, MANY - 1, settled=True, state=outcome))
    client.send(p.Flow(0, 2**31 - 1, 0, 10_000, 1, MANY, 3, echo=True))
    if isinstance(outcome, (p.Released, p.Modified)):
        again = [client.delivery()[1] for _ in range(3)]
        assert [one[-1:] for one in again] == [b"0", b"1", b"2"], "none behind them came before them"
    else:
        client.frame()
    assert worst_s(amqp10) < TURN_S
    client.socket.close()


@pytest.mark.measured
@pytest.mark.parametrize("kind", ["ack", "nack", "reject", "recover"])
def test_answers_to_many_of_amqp_0_9_1(amqp091, kind):
    client = Raw091(amqp091.port)
    channel = client.open()
    client.send(channel, methods.QueueDeclare(0, "many"))
    client.expect(methods.QueueDeclareOk)
    fill(amqp091)
    client.send(channel, methods.BasicQos(0, MANY))
    client.expect(methods.BasicQosOk)
    client.send(channel, methods.BasicConsume(0, "many", "me"))
    client.expect(methods.BasicConsumeOk)
    for _ in range(MANY):
        client.expect(methods.BasicDeliver)
    worst_s(amqp091)
    if kind == "ack":
        client.send(channel, methods.BasicAck(0, True))
    elif kind == "recover":
        client.send(channel, methods.BasicRecover(True))
    else:
        client.send(channel, methods.BasicNack(MANY, True, kind == "nack"))
    client.send(channel, methods.BasicQos(0, MANY))     # looked at behind it
    if kind in ("nack", "recover"):
        found = [client.method() for _ in range(MANY + 1 + (kind == "recover"))]
        tags = [one.delivery_tag for one in found if isinstance(one, methods.BasicDeliver)]
        assert tags == list(range(MANY + 1, 2 * MANY + 1)) and all(
            one.redelivered for one in found if isinstance(one, methods.BasicDeliver))
    else:
        client.expect(methods.BasicQosOk)
    assert worst_s(amqp091) < TURN_S
    client.close()


@pytest.mark.measured
def test_a_commit_of_many_of_amqp_0_9_1(amqp091):
    """10,000 acks and 10,000 messages in one transaction took turns of 60 ms and more."""
    client = Raw091(amqp091.port)
    channel = client.open()
    client.send(channel, methods.QueueDeclare(0, "many"))
    client.expect(methods.QueueDeclareOk)
    fill(amqp091)
    client.send(channel, methods.BasicQos(0, MANY))
    client.expect(methods.BasicQosOk)
    client.send(channel, methods.BasicConsume(0, "many", "me"))
    client.expect(methods.BasicConsumeOk)
    for _ in range(MANY):
        client.expect(methods.BasicDeliver)
    client.send(channel, methods.BasicCancel("me"))
    client.expect(methods.BasicCancelOk)
    client.send(channel, methods.TxSelect())
    client.expect(methods.TxSelectOk)
    client.send(channel, methods.BasicAck(MANY // 2, True))
    for _ in range(MANY):
        client.publish(channel, "", "many", b"later")
    client.send(channel, methods.BasicNack(MANY, True, True))
    client.send(channel, methods.QueueDeclare(0, "many", passive=True))
    client.expect(methods.QueueDeclareOk)
    worst_s(amqp091)
    gc.disable()                        # a node collects the young ones only, as a rule
    try:
        client.send(channel, methods.TxCommit())
        client.expect(methods.TxCommitOk)
    finally:
        gc.enable()
    assert worst_s(amqp091) < TURN_S
    client.send(channel, methods.QueueDeclare(0, "many", passive=True))
    assert client.expect(methods.QueueDeclareOk).message_count == MANY + MANY // 2
    client.close()
