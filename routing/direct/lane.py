"""The direct lane: live events into the inboxes of those who want them, and out again at the end of the turn.

    send(run, targets) ──► inbox of each receiver ──► flush(), at the end of the turn ──► sink.flush_inbox()

A receiver is flushed once per turn, whatever came for it. Of thousands some in each turn; the others have the next one.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from routing.consumers.rights import Rights
from routing.direct.subscription import DirectTarget, Sink
from routing.event import Event, is_dead_letter
from routing.fairness.turns import Turns
from routing.rights.policy import Identity

log = logging.getLogger(__name__)

FLUSH_TURN_S = 0.008        # for live receivers, of one turn; the others have the next one
FLUSH_LOOK = 16             # of them, between two looks at the clock
SINK_S = 8e-6               # what one of them costs at the end of a turn, beside …
DIRECT_S = 1e-6             # … each event for it
PROMISED_SINKS = 16         # from so many, or …
PROMISED_EVENTS = 64        # … so many deliveries on it is worth telling


class Sender(Protocol):
    """Whose events they are: a Publisher."""

    identity: Identity


class Lane:
    """One per router. Loop thread only."""

    def __init__(self, rights: Rights, turns: Turns, clock_s: Callable[[], float],
                 request_turn: Callable[[], None]) -> None:
        self._rights = rights
        self._turns = turns
        self.clock_s = clock_s
        self._request_turn = request_turn
        self._sinks: list[Sink] = []                    # with something in their inbox

    def send(self, run: list[Event], targets: Sequence[DirectTarget], sender: Sender, plain: bool) -> None:
        """Events of one topic. plain: as in Router.publish(). A turn must have been asked for, or be asked for next."""
        every = run
        sinks = 0
        dead_letters = not plain and any(map(is_dead_letter, run))
        for target in targets:
            sink = target.sink
            if dead_letters:                            # the route knows their topic, not that of their original
                run = [event for event in every if self._rights.may_read_event(sink.identity, event)]
                if not run:
                    continue
            if target.no_local and sink.identity.client_id == sender.identity.client_id:
                continue
            sink.inbox.append((run, target, plain))
            if not sink.inbox_scheduled:
                sink.inbox_scheduled = True
                self._sinks.append(sink)
                sinks += 1
        if sinks >= PROMISED_SINKS or len(every) * len(targets) >= PROMISED_EVENTS:
            self._turns.promise(sinks * SINK_S + len(every) * len(targets) * DIRECT_S)

    def flush(self) -> float:
        """Returns about how long those will take that have the next turn."""
        sinks, self._sinks = self._sinks, []
        began_s = self.clock_s()
        for number, sink in enumerate(sinks, 1):
            sink.inbox_scheduled = False
            try:
                sink.flush_inbox()
            except Exception:                           # the fault of one receiver must not cost the others their turn
                log.exception("client %s: a fault of ours while delivering", sink.identity.client_id)
                sink.inbox.clear()
            if number % FLUSH_LOOK == 0 and number < len(sinks):
                took_s = self.clock_s() - began_s
                if took_s >= FLUSH_TURN_S:
                    self._sinks[:0] = sinks[number:]
                    self._request_turn()
                    return took_s / number * len(self._sinks)
        return 0.0
