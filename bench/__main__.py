"""python -m bench [rows] [--quick] [--brokers a,b] [--rounds N] [--json FILE] [--list]

Starts the node and every installed peer on loopback in a temporary directory, gives each the same work, in alternating
rounds, and prints a table per row and the targets. Exit code 1 when a target is missed or the node failed in a row.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.brokers.amqp10 import Artemis, RabbitMq10
from bench.brokers.broker import ALL, Broker
from bench.brokers.kafka import ApacheKafka, ApacheKafkaSynced
from bench.load.clients import BenchError
from bench.table import ROWS, Figures, Results, Row


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help="names of rows; none: all")
    parser.add_argument("--quick", action="store_true", help="one short round per row; the figures are rough")
    parser.add_argument("--rounds", type=int, help="alternating rounds per row (default 3, quick 1)")
    parser.add_argument("--brokers", help="comma-separated; none: the node and every installed peer")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--dir", type=Path, help="directory for data; none: the system's temporary directory")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    return parser.parse_args(arguments)


def chosen_rows(names: list[str]) -> list[Row]:
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        sys.exit(f"unknown row {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if not names or row.name in names]


def start_brokers(root: Path, names: str | None, rows: list[Row]) -> list[Broker]:
    """Start what is wanted and installed; say what is missing and how each is configured."""
    started: list[Broker] = []
    needs = {row.needs for row in rows}
    for kind in (*ALL, Artemis, RabbitMq10, ApacheKafkaSynced, ApacheKafka):
        if kind.only_for and kind.only_for not in needs:
            continue
        if names is not None and kind.name not in names.split(","):
            continue
        if not kind.installed():
            print(f"{kind.name}: not installed, left out", flush=True)
            continue
        broker = kind(root)
        try:
            broker.start()
        except RuntimeError as error:
            print(f"{kind.name}: FAILED TO START: {error}", flush=True)
            continue
        started.append(broker)
        print(f"{kind.name}: {broker.configuration}", flush=True)
    return started


def run_row(row: Row, running: list[Broker], rounds: int,
            quick: bool) -> tuple[dict[str, Figures], dict[str, str]]:
    """Medians per broker, and what failed. Rounds alternate, so that a slow moment of the machine hits all alike."""
    has = {"": lambda _: True, "v5": lambda one: one.has_v5, "link": lambda one: one.has_link,
           "http": lambda one: one.has_http, "amqp": lambda one: one.has_amqp,
           "amqp10": lambda one: one.has_amqp10, "kafka": lambda one: one.has_kafka}
    takers = [broker for broker in running if has.get(row.needs, lambda one: one.has_log)(broker)]
    samples: dict[str, list[Figures]] = {broker.name: [] for broker in takers}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for broker in takers:
            if broker.name in failures:
                continue
            try:
                samples[broker.name].append(row.run(broker, quick))
            except (OSError, RuntimeError, ValueError, BenchError) as error:
                failures[broker.name] = f"{type(error).__name__}: {error}"
    medians = {name: {key: statistics.median(sample[key] for sample in taken) for key in taken[0]}
               for name, taken in samples.items() if taken}
    for name, taken in samples.items():
        if taken and "lost" in taken[0]:
            medians[name]["lost"] = max(sample["lost"] for sample in taken)     # a loss must not hide in a median
    return medians, failures


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{row.name:12} {row.title}" for row in ROWS))
        return 0
    rows = chosen_rows(options.rows)
    results: Results = {}
    all_failures: dict[str, dict[str, str]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that finally stops the brokers
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, loopback, 100-byte payloads. "
          "p50/p99: publish to delivery at 1,000 msg/s. CPU: user + system of the broker per delivered message. "
          "load: the generator's own.", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.dir, ignore_cleanup_errors=True) as root:
        running: list[Broker] = []
        try:
            running = start_brokers(Path(root), options.brokers, rows)
            for row in rows:
                rounds = options.rounds or (1 if options.quick else row.rounds)
                results[row.name], all_failures[row.name] = run_row(row, running, rounds, options.quick)
                print("\n" + report.row_text(row, results[row.name], all_failures[row.name]), flush=True)
        finally:
            for broker in running:
                broker.stop()
    text, missed = report.targets_text(results)
    print(f"\nTargets{' (quick run: rough)' if options.quick else ''}\n{text}")
    if options.json:
        out = {"results": results, "failures": all_failures, "quick": options.quick}
        options.json.write_text(json.dumps(out, indent=1))
    return 1 if missed or any("meshgate" in failed for failed in all_failures.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
