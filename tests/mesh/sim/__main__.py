"""python -m tests.mesh.sim --seeds 1000 --from 0 [--nodes N] [--topology line|star|ring|full] [--verbose]
        [--jobs N]

Runs seeded histories of a simulated mesh and prints a line per seed, then the figures of all. One seed is one run, to
the last frame: PYTHONHASHSEED is set to 0 for that. Exit code 1 when any seed found a fault; --verbose prints its
journal.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from functools import partial

from tests.mesh.sim.run import run_seed
from tests.mesh.sim.scenario import TOPOLOGIES, Result
from tests.support.mesh_checker import lines, summary

SEEDS_PER_PROCESS = 25


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mesh.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--nodes", type=int, choices=(2, 3, 4, 5))
    parser.add_argument("--topology", choices=TOPOLOGIES)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--verbose", action="store_true", help="print what happened in a run with a fault")
    parser.add_argument("--quiet", action="store_true", help="no line for a clean seed")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if os.environ.get("PYTHONHASHSEED") != "0":                 # sets iterate in one order
        os.execve(sys.executable, [sys.executable, "-m", "tests.mesh.sim", *sys.argv[1:]],
                  {**os.environ, "PYTHONHASHSEED": "0"})
    start_s = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    results = []
    with multiprocessing.Pool(options.jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        for result, took_s in pool.imap(partial(run_seed, nodes=options.nodes, topology=options.topology), seeds):
            report(options, result, took_s)
            results.append(result)
    print_all(results, time.monotonic() - start_s)
    return 0 if all(result.ok for result in results) else 1


def report(options: argparse.Namespace, result: Result, took_s: float) -> None:
    seed = result.seed
    number = seed - options.first + 1
    if not (options.quiet and result.ok) or number % 100 == 0:
        print(f"seed {seed}: {result.shape}, acked {result.figures.acked}, converged after {result.converged_s:.0f} s, "
              f"{'clean' if result.ok else 'FAULT'} [{took_s:.2f} s]", flush=True)
    if not result.ok:
        for kind, count in result.figures.faults.items():
            for example in result.figures.examples[kind] if count else ():
                print(f"    {kind} {count}: {example}")
        if options.verbose:
            print("\n".join(f"      {line}" for line in result.journal))


def print_all(results: list[Result], seconds: float) -> None:
    counts: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for result in results:
        counts.update(result.counts)
        shapes[result.shape] += 1
    bad = [result.seed for result in results if not result.ok]
    print(f"\n{len(results)} seeds from {results[0].seed} in {seconds:.0f} s, {len(bad)} with a fault: {bad[:20]}")
    print(f"meshes: {', '.join(f'{shape} {count}' for shape, count in sorted(shapes.items()))}")
    print(f"faults and frames: {', '.join(f'{name} {count:,}' for name, count in sorted(counts.items()))}")
    print("\n".join(lines(summary(result.figures for result in results))))


if __name__ == "__main__":
    sys.exit(main())
