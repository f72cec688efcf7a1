"""A queue of a ServerStand whose publishers have no allowance, until it is ended."""
from __future__ import annotations

import time

from routing.publishing.pacing import Pace
from tests.support.wait import wait_until


def set_pace(stand, name):
    def begin():
        consumer = stand.router.queues.get(name).consumer
        stand.router.pacing.paces[consumer] = Pace(consumer.acked, time.monotonic())

    stand.do(begin)


def end_pace(stand, name):
    def end():
        stand.router.pacing.paces[stand.router.queues.get(name).consumer].hungry_s = -1e9

    stand.do(end)
    wait_until(lambda: not stand.router.pacing.paces, "the pace is over")
