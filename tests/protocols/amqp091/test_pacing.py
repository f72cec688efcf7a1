"""Publishers to a queue that has fallen behind: no more is read from them for a while, unless they have consumers."""
from __future__ import annotations

import pytest

from protocols.amqp091.codec import methods
from routing.settings import Limits
from tests.protocols.amqp091.raw import Raw
from tests.protocols.amqp091.stand import Stand
from tests.support.pacing import end_pace, set_pace


@pytest.fixture
def stand(tmp_path):
    stand = Stand(tmp_path, limits=Limits(pace_wait_ms=600_000)).start()
    yield stand
    stand.stop()


def publisher(stand):
    """A connection that gets confirms."""
    raw = Raw(stand.port)
    raw.open()
    raw.send(1, methods.QueueDeclare(0, "q"))
    raw.expect(methods.QueueDeclareOk)
    raw.send(1, methods.ConfirmSelect())
    raw.expect(methods.ConfirmSelectOk)
    return raw


def confirmed(raw):
    raw.publish(1, "", "q", b"x")
    return raw.expect(methods.BasicAck).delivery_tag


def test_a_publisher_has_its_confirm_and_is_not_read_until_the_queue_has_caught_up(stand):
    raw = publisher(stand)
    set_pace(stand, "q")
    assert confirmed(raw) == 1
    raw.publish(1, "", "q", b"y")
    raw.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        raw.method()
    raw.socket.settimeout(20)
    end_pace(stand, "q")
    assert raw.expect(methods.BasicAck).delivery_tag == 2
    assert confirmed(raw) == 3
    raw.close()
    assert not stand.errors


def test_a_connection_with_consumers_is_read_as_ever(stand):
    raw = publisher(stand)
    raw.send(1, methods.QueueDeclare(0, "other"))
    raw.expect(methods.QueueDeclareOk)
    raw.send(1, methods.BasicConsume(0, "other", "c"))
    raw.expect(methods.BasicConsumeOk)
    set_pace(stand, "q")
    assert [confirmed(raw) for _ in range(3)] == [1, 2, 3]
    raw.close()
    assert not stand.errors
