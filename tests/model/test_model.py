"""Fifty random programs, on one node and on three; `python -m tests.model --seeds 1000` runs more of them."""
from __future__ import annotations

import pytest

from tests.model.driver import run
from tests.model.program import make_program


@pytest.mark.parametrize("seeds", [range(start, start + 5) for start in range(0, 25, 5)], ids=str)
@pytest.mark.parametrize("nodes", [1, 3])
def test_clients_get_what_the_rules_say(seeds, nodes):
    for seed in seeds:
        program = make_program(seed, nodes)
        try:
            run(program, seed, nodes)
        except Exception as error:
            steps = "\n".join(f"    {step!r}," for step in program)
            raise AssertionError(f"seed {seed} on {nodes} nodes: {error!r}\n{steps}") from error
