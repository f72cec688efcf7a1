"""The states of transactions as Kafka's tools call them."""
from __future__ import annotations

from routing.producers.transactions import State

_NAMES = {
    State.EMPTY: "Empty", State.ONGOING: "Ongoing", State.PREPARE_COMMIT: "PrepareCommit",
    State.PREPARE_ABORT: "PrepareAbort", State.COMPLETE_COMMIT: "CompleteCommit", State.COMPLETE_ABORT: "CompleteAbort"}
ALL = frozenset(_NAMES.values())


def name_of(state: State) -> str:
    return _NAMES[state]
