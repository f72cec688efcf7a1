"""One seed, in any process: events refer to their partition and are not collected (gc=False), so a mesh stays in
memory as long as its process. Called by __main__.py.
"""
from __future__ import annotations

import logging
import time

from tests.mesh.sim.scenario import Result, Scenario


def run_seed(seed: int, nodes: int | None = None, topology: str | None = None) -> tuple[Result, float]:
    """The result and the seconds it took."""
    logging.disable(logging.ERROR)                              # nodes complain about their faults, rightly
    start_s = time.monotonic()
    result = Scenario(seed, nodes=nodes, topology=topology).run()
    return result, time.monotonic() - start_s
