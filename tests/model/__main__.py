"""python -m tests.model [--seeds 1000] [--first 0] [--nodes 1 3]: random programs against the oracle, a line per seed.

The first program that goes wrong on each number of nodes is made smaller and printed.
"""
from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.model.driver import digest, run
from tests.model.program import Program, make_program, shrink


def failure(program: Program, seed: int, nodes: int) -> Exception | None:
    try:
        run(program, seed, nodes)
    except Exception as error:
        return error
    return None


def kind(error: Exception | None) -> str:
    """What went wrong, the same in a smaller program."""
    return "" if error is None else f"{type(error).__name__} {getattr(error, 'rule', '')}"


def smaller(program: Program, seed: int, nodes: int) -> Program:
    known = kind(failure(program, seed, nodes))
    return shrink(program, lambda part: kind(failure(part, seed, nodes)) == known)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3])
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began_s = time.monotonic()
    failed = 0
    for nodes in options.nodes:
        shown = False
        for seed in range(options.first, options.first + options.seeds):
            program = make_program(seed, nodes)
            error = failure(program, seed, nodes)
            print(f"seed {seed} nodes {nodes} program {digest(program)} "
                  f"{'ok' if error is None else f'FAILED {type(error).__name__}: {error}'}", flush=True)
            if error is not None:
                failed += 1
                if not shown:
                    shown = True
                    for step in smaller(program, seed, nodes):
                        print(f"    {step!r},")
    print(f"{failed} of {options.seeds * len(options.nodes)} failed, {time.monotonic() - began_s:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
