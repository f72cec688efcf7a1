"""One listener, several protocols: the first bytes of a connection decide, however they come."""
from __future__ import annotations

import pytest

from protocols.transport.sharedport import SharedPort

OLD, NEW, SASL = b"AMQP\0\0\x09\x01", b"AMQP\0\x01\0\0", b"AMQP\x03\x01\0\0"


class Channel:
    address = "peer:1"

    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class Protocol:
    def __init__(self, name):
        self.name = name
        self.made = []

    def connection(self, channel, now_s):
        self.made.append(Handler(self.name, now_s))
        return self.made[-1]


class Handler:
    def __init__(self, name, began_s):
        self.name, self.began_s = name, began_s
        self.data, self.events = b"", []

    def receive_data(self, data, now_s):
        self.data += data
        self.events.append(now_s)

    def eof(self):
        self.events.append("eof")

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def describe(self):
        return self.name


@pytest.fixture
def port():
    port = SharedPort(Protocol("old"), 10.0)
    port.new = Protocol("new")
    port.register(NEW, port.new)
    port.register(SASL, port.new)
    return port


@pytest.mark.parametrize("step", [1, 3, 8, 100])
@pytest.mark.parametrize(("begin", "name"), [
    (OLD, "old"), (NEW, "new"), (SASL, "new"), (b"GET / HTTP/1.1\r\n\r\n", "old"),
    (b"AMQP\x03\x02\0\0", "old"), (b"\0" * 8, "old"),
])
def test_the_first_bytes_decide_and_nothing_of_them_is_lost(port, begin, name, step):
    channel = Channel()
    opening = port.connection(channel, 5.0)
    sent = begin + b"what follows"
    for place in range(0, len(sent), step):
        opening.receive_data(sent[place:place + step], 7.0)
    assert opening.describe() == name
    handler = (port.new.made or port._default.made)[0]
    assert handler.data == sent and handler.began_s == 5.0 and port.undecided == 0


def test_who_says_nothing_is_let_go_after_the_timeout(port):
    quiet, late, some = Channel(), Channel(), Channel()
    port.connection(quiet, 1.0)
    port.connection(some, 1.0).receive_data(b"AMQ", 1.5)
    port.connection(late, 9.0)
    port.tick(10.9)
    assert not quiet.closed
    port.tick(11.0)
    assert (quiet.closed, some.closed, late.closed, port.undecided) == (1, 1, 0, 1)


def test_an_end_and_a_slow_peer_reach_the_handler(port):
    opening = port.connection(Channel(), 0.0)
    opening.pause_writing()
    opening.receive_data(NEW, 2.0)
    opening.resume_writing()
    opening.eof()
    assert port.new.made[0].events == ["pause", 2.0, "resume", "eof"]
    early = port.connection(Channel(), 0.0)
    early.eof()
    assert port.undecided == 0 and len(port.new.made) == 1


def test_at_a_shutdown_nobody_is_left_waiting(port):
    channel = Channel()
    port.connection(channel, 0.0)
    port.shutdown()
    assert channel.closed and port.undecided == 0


def test_two_headers_that_cannot_be_told_apart_are_a_mistake(port):
    with pytest.raises(AssertionError):
        port.register(b"AMQP\0\x01", port.new)


def test_alone_on_its_port_a_protocol_has_no_one_before_it():
    owner = Protocol("old")
    assert isinstance(SharedPort(owner, 1.0).connection(Channel(), 0.0), Handler)
