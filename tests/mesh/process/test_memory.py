"""loop/memory.py: freed memory goes back to the machine, when the process is calm, and not again and again."""
from __future__ import annotations

import threading

from mesh.process.loop.memory import FreeMemory

MIB = 1024 * 1024


def watched(sizes: list[int]) -> tuple[list[int], FreeMemory]:
    """Calls of malloc_trim by the look at which they happened."""
    at = iter(sizes)
    calls: list[int] = []
    memory = FreeMemory(lambda: next(at) * MIB, clock_s=iter(range(1_000)).__next__, cpu_s=iter(range(1_000)).__next__)
    memory._trim = lambda pad: calls.append(pad)  # type: ignore[assignment]
    return calls, memory


def look(memory: FreeMemory) -> None:
    memory.look()
    for thread in threading.enumerate():
        if thread.name == "memory":
            thread.join()


def test_a_process_that_grew_and_is_calm_gives_back_and_tries_again_ever_less_often_while_nothing_comes_of_it() -> None:
    """What was in use the first time may be free later, and the size of the process does not tell."""
    calls, memory = watched([60, 60, 60, 200, 260, 262] + [262] * 40)
    trimmed = []
    for _ in range(40):
        look(memory)
        trimmed.append(len(calls))
    assert [number for number in range(1, 40) if trimmed[number] > trimmed[number - 1]] == [4, 5, 7, 11, 19, 35]


def test_more_growth_is_tried_at_once() -> None:
    calls, memory = watched([60] + [262] * 12 + [300, 300, 300])
    for _ in range(12):
        look(memory)
    before = len(calls)
    look(memory)
    look(memory)
    assert len(calls) == before + 1


def test_what_came_back_is_the_new_ground_from_which_growth_counts() -> None:
    calls, memory = watched([60, 60, 200, 200, 65, 65, 110, 110])
    for _ in range(7):
        look(memory)
    assert len(calls) == 2


def test_what_is_remembered_only_to_be_quick_goes_once_when_there_is_nothing_to_do() -> None:
    """And what that has freed is given back; at work nothing is forgotten."""
    used = [0.0, 4.0, 8.0, 8.1, 8.2, 8.3, 8.4, 8.5, 8.6, 12.0, 12.1, 12.2, 12.3, 12.4]
    at, sizes = iter(used), iter([60, 60, 100, 100, 100, 100, 100, 70, 70, 100, 100, 100, 100, 100, 100])
    forgotten: list[int] = []
    calls: list[int] = []
    number = 0
    memory = FreeMemory(lambda: next(sizes) * MIB, lambda: forgotten.append(number),
                        clock_s=iter(range(0, 1_000, 5)).__next__, cpu_s=lambda: next(at))
    memory._trim = lambda pad: calls.append(pad)  # type: ignore[assignment]
    for number in range(1, 14):
        look(memory)
        if forgotten == [5] and number == 6:
            assert len(calls) >= 2, "tried anew at the next look"
    assert forgotten == [5, 12]


def test_it_is_there_on_this_machine() -> None:
    assert FreeMemory(lambda: 0)._trim is not None
