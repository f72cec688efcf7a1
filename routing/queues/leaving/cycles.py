"""Cycles of dead letters: an event that came back to a queue though no reader rejected it on its way would do so for
ever, so the queue does not take it. Work → retry after a time → work goes on, since a reader decides in every round.

Source: RabbitMQ, dead letter exchanges, "Automatic dead letter cycles".
"""
from __future__ import annotations

from routing.event import DeadLetter
from routing.queues.options import Cause


def is_cycle(queue: str, letter: DeadLetter) -> bool:
    """Has this queue let it go before, and nobody rejected it since, that time included?"""
    for death in reversed(letter.history):
        if death.reason == Cause.REJECTED.value:
            return False
        if death.consumer == queue:
            return True
    return False
