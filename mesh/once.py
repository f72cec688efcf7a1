"""Once: which numbered messages of a sender were seen, so that a frame that came twice counts once.

The window that IPsec keeps against replays: the highest number so far, and a bit for each of the numbers below it. What
is older than the window is taken for seen.                                                    Source: RFC 4303 §3.4.3
"""
from __future__ import annotations

WINDOW = 4_096              # numbers below the highest that may still come: frames on two paths of different length
NODES_MAX = 4_096           # the least recently heard goes first
RUNS_MAX = 4                # of one node: a process and its past. A node that invents runs loses its own windows only

_ALL = (1 << WINDOW) - 1


class Once:
    """The windows of all senders. A sender is a process: a node that starts again is a new one."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[int, tuple[int, int]]] = {}     # node → run → highest number, bits below it

    def is_new(self, node: str, run: int, number: int) -> bool:
        """True for the first time. Numbers of a run begin at 1 and rise by one."""
        runs = self._nodes.pop(node, None)
        if runs is None:
            runs = {}
            if len(self._nodes) >= NODES_MAX:
                del self._nodes[next(iter(self._nodes))]
        self._nodes[node] = runs                        # the newest stands last
        highest, seen = runs.pop(run, (0, 0))
        if number > highest:
            new, ahead = True, number - highest
            # Asked before the shift: the number is the sender's, and becomes the size of an integer here.
            seen = (seen << ahead | 1 << ahead - 1) & _ALL if ahead <= WINDOW else 0
            highest = number
        else:
            age = highest - number                      # 0: the highest itself
            bit = 1 << age - 1 if 0 < age <= WINDOW else 0
            new = bool(bit) and not seen & bit
            seen |= bit
        if len(runs) >= RUNS_MAX:
            del runs[next(iter(runs))]
        runs[run] = (highest, seen)
        return new
