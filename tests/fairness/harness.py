"""hold(node, attack): a bystander keeps its latency beside an attack. grows(node, attack): what memory an attack takes.

The node, the bystander and the attack are processes of their own. An attack is anything that can be pickled and is
called with the seconds that it may last: a Flood, or a function of a test file with functools.partial around it.
"""
from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.node import Node

ROOT = Path(__file__).resolve().parents[2]
RATE = 25.0
SOAK = os.environ.get("MESHGATE_SOAK") == "1"
ALONE_S, BESIDE_S = (1.6, 3.0) if SOAK else (1.0, 1.2)
SLACK = 1.0 if SOAK else 4.0            # in the suite three files run at once on two cores: only what blocks shows
TRIES = 3
STRETCHED_MAX = 4.0
P99_S, LONGEST_S, TURN_CPU_S = 0.05, 0.25, 0.25
RSS_GROWTH_MAX = 128 * 1024 * 1024
RSS_LEFT_MAX = 32 * 1024 * 1024         # of it, a minute after the attack: what an allocator keeps in pieces
COMES_BACK_S = 60.0
PROCESS_S = 60.0                        # for a process to start or end on a busy machine

Attack = Callable[[float], None]


@dataclass
class Latencies:
    expected: int
    took_s: list[float]

    @property
    def p99_s(self) -> float:
        """Of a hundred one may be longer; of fewer, too."""
        ordered = sorted(self.took_s)
        return ordered[max(0, min(len(ordered) - 2, int(len(ordered) * 0.99)))]

    @property
    def longest_s(self) -> float:
        return max(self.took_s)

    def __str__(self) -> str:
        ordered = sorted(self.took_s)
        return (f"p50 {ordered[len(ordered) // 2] * 1000:.1f} p99 {self.p99_s * 1000:.1f} "
                f"longest {self.longest_s * 1000:.1f} ms of {len(ordered)}/{self.expected}")


class Child:
    """A program of this package, from the moment when it says "ready"."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.fairness.{module}", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
            stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self._module = module

    def ready(self) -> None:
        assert self.line() == b"ready", f"{self._module} did not get ready"

    def say(self, data: bytes, *, last: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        if last:
            self.process.stdin.close()

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Killed if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Bystander:
    """Of one node, for all attacks on it."""

    def __init__(self, node: Node) -> None:
        host, port = node.mqtt
        self._child = Child("bystander", host, str(port), str(RATE))
        self._child.ready()
        self.alone = self.measure(ALONE_S)

    def measure(self, seconds: float) -> Latencies:
        self._child.say(b"%f\n" % seconds)
        found = json.loads(self._child.line() or b"{}")
        if not found:
            end_bystander()                         # the next try has a new one
            raise AssertionError("the bystander lost its connection")
        return Latencies(found["expected"], found["took_s"])

    def end(self) -> None:
        self._child.end()


_current: list[tuple[Node, Bystander]] = []     # one at most: the file before is over


def bystander(node: Node) -> Bystander:
    for known, found in _current:
        if known is node:
            return found
    end_bystander()
    _current.append((node, Bystander(node)))
    return _current[0][1]


def end_bystander() -> None:
    while _current:
        _current.pop()[1].end()


atexit.register(end_bystander)


@contextlib.contextmanager
def attacking(attack: Attack, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    child = Child("floods")
    try:
        child.say(pickle.dumps((attack, seconds)), last=True)
        child.ready()
        yield child.process
    finally:
        child.end()


def long_turns(samples: dict[str, float]) -> dict[float, float]:
    """Upper bound → turns of the loop so far that used more CPU time than that."""
    found = {}
    total = 0.0
    for name, value in samples.items():
        if name.startswith("meshgate_loop_turn_cpu_seconds_bucket"):
            found[float(name.partition('le="')[2].partition('"')[0])] = value
        elif name == "meshgate_loop_turn_cpu_seconds_count":
            total = value
    return {bound: total - value for bound, value in found.items()}


def stretched(before: dict[str, float], after: dict[str, float]) -> float:
    """By how much the machine stretched the turns of the loop: their time to their CPU time, 1 on a quiet machine."""
    def spent(name: str) -> float:
        return after[name] - before[name]

    return max(1.0, min(STRETCHED_MAX, spent("meshgate_loop_turn_seconds_sum")
                        / max(spent("meshgate_loop_turn_cpu_seconds_sum"), 1e-3)))


def hold(node: Node, attack: Attack, *, seconds: float = BESIDE_S) -> None:
    """See the module's head. Asserts."""
    seen = []
    for number in range(TRIES):
        by = bystander(node)
        alone = by.measure(ALONE_S) if number else by.alone     # at a second try: what is it alone now?
        by.alone = min(alone, by.alone, key=lambda one: one.p99_s)
        before = node.metrics()
        with attacking(attack, seconds + 1.0):
            beside = by.measure(seconds)
        after = node.metrics()
        turns = long_turns(before)
        held = {bound: count - turns.get(bound, 0.0) for bound, count in long_turns(after).items()}
        factor = stretched(before, after)
        allowed = SLACK * factor
        text = (f"alone {alone}; beside the attack {beside}; turns above 25, 50, 100, 250 ms of CPU: "
                + ", ".join(f"{held.get(bound, 0):.0f}" for bound in (0.025, 0.05, 0.1, 0.25))
                + f"; time stretched by {factor:.1f}")
        print(text)
        seen.append(text)
        if (len(beside.took_s) == beside.expected and beside.p99_s <= allowed * max(P99_S, 3 * alone.p99_s)
                and beside.longest_s <= allowed * max(LONGEST_S, 3 * alone.longest_s) and not held.get(TURN_CPU_S)):
            return
    raise AssertionError("a bystander was held up:\n" + "\n".join(seen) + "\n" + node.process.log_tail(15))


def grows(node: Node, attack: Attack, *, seconds: float = BESIDE_S, most: int = RSS_GROWTH_MAX,
          left: int = RSS_LEFT_MAX) -> None:
    """The node's memory while the attack lasts, and what it has a while after. Asserts."""
    before = node.process.rss_bytes()
    longest = before
    with attacking(attack, seconds) as child:
        end = time.monotonic() + PROCESS_S + seconds
        while child.poll() is None and time.monotonic() < end:
            longest = max(longest, node.process.rss_bytes())
            time.sleep(0.02)
    end = time.monotonic() + COMES_BACK_S
    while node.process.rss_bytes() - before > left and time.monotonic() < end:
        time.sleep(0.2)
    after = node.process.rss_bytes()
    text = (f"{before >> 20} MiB before, {longest - before >> 20} MiB more during the attack, "
            f"{after - before >> 20} MiB more after it")
    print(text)
    assert longest - before <= most and after - before <= left, text
