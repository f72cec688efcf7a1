"""A real node whose wall clock jumps: acked events, a session and a message with expiry outlive it."""
from __future__ import annotations

import pytest

from tests.support import rawmqtt as m
from tests.support.clockshim import ClockShim, compiler
from tests.support.node import Node, meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until

DAY_MS = 86_400_000

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")


def test_a_clock_that_is_eight_days_ahead_deletes_nothing_and_an_operator_may_confirm_it(tmp_path):
    shim = ClockShim(tmp_path / "clock")
    node = Node(tmp_path / "node", environment=shim.environment, extra=(
        '[[streams]]\nname = "events"\ncapture = ["#"]\nsegment_age = "1s"\nretention = { age = "1h" }\n')).start()

    def clock() -> dict:
        return node.get("/api/v1/status").json["clock"]

    def unread() -> int:
        return node.get("/api/v1/streams").json["streams"][0]["events"]

    try:
        with open_mqtt(node.mqtt, "away", clean=False, values=[(m.SESSION_EXPIRY, 3_600)]) as client:
            client.subscribe(("a/#", 1))
        for number in range(3):
            assert node.publish("a/b", b"%d" % number, {"Meshgate-TTL": "600000"}).status == 200
        assert clock()["trusted"]
        for jump_ms in (8 * DAY_MS, -16 * DAY_MS, 3_660 * DAY_MS):
            shim.jump(jump_ms)
            wait_until(lambda: not clock()["trusted"], "the jump is noticed", also=node.process.log_tail)
            node.restart()
            assert not clock()["trusted"] and unread() == 3
            assert node.metrics()["meshgate_clock_trusted"] == 0
            shim.jump(-shim.offset_ms)
            wait_until(lambda: clock()["trusted"], "the clock is right again", also=node.process.log_tail)
        with open_mqtt(node.mqtt, "away", clean=False, values=[(m.SESSION_EXPIRY, 3_600)]) as client:
            assert client.connack.session_present
            assert [one.payload for one in client.messages(3)] == [b"0", b"1", b"2"]

        shim.jump(8 * DAY_MS + 3_600_000)
        wait_until(lambda: not clock()["trusted"], "the jump is noticed", also=node.process.log_tail)
        shown = meshgate("clock", "--url", node.url("console")).stdout.decode()
        assert "8d" in shown and "not trusted" in shown
        assert "taken as right" in meshgate("clock", "confirm", "--url", node.url("console")).stdout.decode()
        assert clock()["trusted"] and clock()["jumps_taken"] == 1 and unread() == 3
    finally:
        node.kill9()
