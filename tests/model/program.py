"""Random programs: what clients and nodes do, one step after the other. A step that makes no sense does nothing, so any
part of a program is a program, and a failing one can be made smaller by leaving steps out.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

TOPICS = ["a", "a/b", "a/c", "b", "b/c"]
FILTERS = ["#", "a/#", "a", "+/c", "b/+", "a/b"]
CLIENTS = ["c0", "c1", "c2", "c3"]
STEPS = 40

Step = tuple[Any, ...]
Program = list[Step]


def make_program(seed: int, nodes: int) -> Program:
    rng = random.Random(seed)
    program: Program = [_connect(rng, client) for client in CLIENTS]
    for _ in range(STEPS):
        program.append(_step(rng, nodes))
    return program


def _connect(rng: random.Random, client: str) -> Step:
    version = rng.choice((4, 5, 5))
    clean = rng.random() < 0.25
    expiry_s = rng.choice((0, 2, 1000, 1000, 1000)) if version == 5 else (0 if clean else 86_400)
    return "connect", client, version, clean, expiry_s, rng.choice((1, 2, 1000)), rng.random() < 0.3


def _subscription(rng: random.Random) -> Step:
    share = rng.random() < 0.15
    pattern = ("$share/g/" if share else "") + rng.choice(FILTERS)
    return (pattern, rng.randint(0, 2), not share and rng.random() < 0.15, rng.random() < 0.3,
            rng.choice((0, 0, 0, 1, 2)))


def _step(rng: random.Random, nodes: int) -> Step:
    client = rng.choice(CLIENTS)
    publish = (rng.choice([*CLIENTS, "w", "w", "w"]), rng.randrange(nodes), rng.choice(TOPICS), rng.randint(0, 2),
               rng.random() < 0.5, rng.random() < 0.15, rng.choice((None, None, None, None, 1)))
    choices: list[tuple[int, Callable[[], Step]]] = [
        (10, lambda: ("subscribe", client, [_subscription(rng) for _ in range(rng.choice((1, 1, 2)))],
                      rng.choice((None, None, 1, 2)))),
        (3, lambda: ("unsubscribe", client, rng.choice(FILTERS))),
        (24, lambda: ("publish", *publish)),
        (4, lambda: ("twice", client, rng.choice(TOPICS), rng.randint(1, 2), rng.random() < 0.5)),
        (5, lambda: ("race", client, _subscription(rng), *publish[1:5], rng.randrange(30))),
        (7, lambda: ("ack", client, rng.randint(1, 3))),
        (3, lambda: ("lose", client)),
        (3, lambda: ("bye", client)),
        (8, lambda: _connect(rng, client)),
        (2, lambda: ("wait", rng.choice((0.5, 1.5, 2.5)))),
        (2, lambda: ("restart", rng.randrange(nodes))),
        (1, lambda: ("kill", rng.randrange(nodes))),
        (2, lambda: ("start", rng.randrange(nodes))),
    ]
    return rng.choices([make for _, make in choices], [weight for weight, _ in choices])[0]()


def shrink(program: Program, fails: Callable[[Program], bool], tries: int = 200) -> Program:
    """A smaller program that fails, by leaving out ever smaller parts."""
    size = max(1, len(program) // 2)
    while size and tries > 0:
        start = 0
        while start < len(program) and tries > 0:
            smaller = program[:start] + program[start + size:]
            tries -= 1
            if smaller and fails(smaller):
                program = smaller
            else:
                start += size
        size //= 2
    return program
