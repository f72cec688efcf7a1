"""Random programs, 34 on one node and 26 on three; `python -m tests.model --seeds 1000` runs more of them."""
from __future__ import annotations

import pytest

from tests.model.driver import run
from tests.model.program import make_program

PROGRAMS = [(1, range(start, min(start + 5, 34))) for start in range(0, 34, 5)]
PROGRAMS += [(3, range(start, start + 4)) for start in range(34, 50, 4)]
PROGRAMS += [(3, (441, 470, 556, 886, 1133, 1164, 1212, 1850, 2423, 2996))]   # each went wrong once, see docs/faults.md


@pytest.mark.parametrize("nodes, seeds", PROGRAMS, ids=str)
def test_clients_get_what_the_rules_say(nodes, seeds):
    for seed in seeds:
        program = make_program(seed, nodes)
        try:
            run(program, seed, nodes)
        except Exception as error:
            steps = "\n".join(f"    {step!r}," for step in program)
            raise AssertionError(f"seed {seed} on {nodes} nodes: {error!r}\n{steps}") from error
