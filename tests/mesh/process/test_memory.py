"""mesh/process/memory.py: freed memory goes back to the machine, when the process is calm, and not again and again."""
from __future__ import annotations

import threading

from mesh.process.memory import FreeMemory

MIB = 1024 * 1024


def watched(sizes: list[int]) -> tuple[list[int], FreeMemory]:
    """Calls of malloc_trim by the look at which they happened."""
    at = iter(sizes)
    calls: list[int] = []
    memory = FreeMemory(lambda: next(at) * MIB)
    memory._trim = lambda pad: calls.append(pad)  # type: ignore[assignment]
    return calls, memory


def look(memory: FreeMemory) -> None:
    memory.look()
    for thread in threading.enumerate():
        if thread.name == "memory":
            thread.join()


def test_a_process_that_grew_and_is_calm_gives_back_once() -> None:
    calls, memory = watched([60, 60, 60, 200, 260, 262, 262, 263])
    trimmed = []
    for _ in range(7):
        look(memory)
        trimmed.append(len(calls))
    assert trimmed == [0, 0, 0, 0, 1, 1, 1]


def test_what_came_back_is_the_new_ground_from_which_growth_counts() -> None:
    calls, memory = watched([60, 60, 200, 200, 70, 70, 110, 110])
    for _ in range(7):
        look(memory)
    assert len(calls) == 2


def test_it_is_there_on_this_machine() -> None:
    assert FreeMemory(lambda: 0)._trim is not None
