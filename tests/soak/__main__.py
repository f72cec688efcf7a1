"""python -m tests.soak [--short] [--only NAME]: the long forms, one after the other, and one table at the end.

Each is a program that can be run alone; its last words are the result. --short is for a quarter of an hour. Exit code 1
when one has failed; what it wrote is then in the folder that is named.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTEST = ("pytest", "-q", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Stage:
    """One program: what it is called with in full and in short, and which of its last lines says the result."""

    name: str
    what: str
    full: tuple[str, ...]
    short: tuple[str, ...]
    says: str = ""                  # a pattern; without one the last line


STAGES = (
    Stage("model", "MQTT's rules against an oracle, random programs on one node",
          ("tests.model", "--seeds", "1000", "--nodes", "1"), ("tests.model", "--seeds", "200", "--nodes", "1")),
    Stage("model of three", "the same on three nodes",
          ("tests.model", "--seeds", "1000", "--nodes", "3"), ("tests.model", "--seeds", "60", "--nodes", "3")),
    Stage("queues", "queues against a model, programs that are new each time",
          (*PYTEST, "tests/routing/queues/test_queue_model.py"), (*PYTEST, "tests/routing/queues/test_queue_model.py")),
    Stage("large queues", "10,000,000 behind, 100,000 queues, a minute of direct reply-to",
          ("tests.soak.queues",),
          ("tests.soak.queues", "--behind", "200000", "--many", "3000", "--requests", "10")),
    Stage("queue kills", "kill -9 under confirms, transactions, nacks, rejects and times to live of AMQP 0-9-1",
          (*PYTEST, "-s", "tests/faults/test_queue_kill.py"), (*PYTEST, "-s", "tests/faults/test_queue_kill.py"),
          r"seed \d+: .*"),
    Stage("RabbitMQ", "the same scripts against RabbitMQ and a node: the same answers",
          (*PYTEST, "tests/interop/test_rabbitmq_differential.py"),
          (*PYTEST, "tests/interop/test_rabbitmq_differential.py")),
    Stage("simulated mesh", "2 to 5 nodes, kills, cuts, full disks, clocks that jump",
          ("tests.mesh.sim", "--seeds", "1000", "--quiet"), ("tests.mesh.sim", "--seeds", "100", "--quiet"),
          r"\d+ seeds from .*"),
    Stage("real mesh", "nodes of their own behind proxies that cut, stall, double and reorder",
          ("tests.faults.mesh", "--rounds", "100"), ("tests.faults.mesh", "--rounds", "5"), r"\d+ rounds in [^;]*"),
    Stage("kills", "kill -9 at random moments under load, in one data directory",
          ("tests.faults", "--rounds", "200"), ("tests.faults", "--rounds", "20"), r"round \d+: .*"),
    Stage("AMQP 1.0", "transfers and transactions through kills; links in random orders against a model",
          (*PYTEST, "tests/faults/test_amqp10_kills.py", "tests/fuzz/test_amqp10_links.py", "--timeout", "3600"),
          (*PYTEST, "tests/faults/test_amqp10_kills.py", "tests/fuzz/test_amqp10_links.py")),
    Stage("comeback", "after a restart: 2,000 devices with passwords in 90 s, 10,000 with tokens or certificates in 60",
          (*PYTEST, "-s", "tests/e2e/test_comeback.py"), (*PYTEST, "-s", "tests/e2e/test_comeback.py"),
          r"\d+ (?:users|tokens|certificates).*"),
    Stage("Kafka kills", "kill -9 under idempotent and transactional Kafka producers, MQTT beside them",
          (*PYTEST, "tests/faults/test_kafka_kills.py"), (*PYTEST, "tests/faults/test_kafka_kills.py")),
    Stage("Kafka groups", "six members of Java and librdkafka that join, leave and are killed, in both protocols",
          (*PYTEST, "tests/interop/test_kafka_rebalances.py"), (*PYTEST, "tests/interop/test_kafka_rebalances.py")),
    Stage("Kafka exactly once", "such members that copy a topic in transactions: every record stands once in the copy",
          (*PYTEST, "tests/interop/test_kafka_exactly_once.py"), (*PYTEST, "tests/interop/test_kafka_exactly_once.py")),
    Stage("Kafka bridge", "1,000,000 records each way to Apache Kafka, with kills of the node and of Kafka",
          (*PYTEST, "tests/interop/test_kafka_bridge.py"), (*PYTEST, "tests/interop/test_kafka_bridge.py")),
    Stage("connects", "clients that connect and leave: less than 20 MiB stay behind",
          ("tests.soak.connects",), ("tests.soak.connects", "--connects", "20000"), r"[\d,]+ connects .*"),
    Stage("mixed load", "MQTT, HTTP, Kafka and AMQP at once, guests that come and go: nothing lost, memory flat",
          ("tests.soak.mixed", "--minutes", "30"), ("tests.soak.mixed", "--minutes", "3"), r"[\d,]+ acked, .*"),
)


@dataclass
class Result:
    stage: Stage
    fine: bool
    took_s: float
    said: str


def run(stage: Stage, folder: Path, *, short: bool) -> Result:
    output = folder / f"{stage.name.replace(' ', '-')}.txt"
    began_s = time.monotonic()
    environment = {**os.environ, **({} if short else {"MESHGATE_SOAK": "1"})}
    with output.open("w") as file:
        code = subprocess.run([sys.executable, "-m", *(stage.short if short else stage.full)], cwd=ROOT, stdout=file,
                              stderr=subprocess.STDOUT, env=environment, check=False).returncode
    said = result_of(output.read_text(errors="replace"), stage.says)
    return Result(stage, code == 0, time.monotonic() - began_s, said)


def result_of(text: str, pattern: str) -> str:
    """The last line that fits a pattern; the last line when there is none, as after a fault."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fitting = [found[0] for line in lines if pattern and (found := re.search(pattern, line))]
    return (fitting or lines or ["it said nothing"])[-1]


def table(results: list[Result]) -> str:
    """As Markdown."""
    rows = [f"| {one.stage.name} | {one.stage.what} | {'holds' if one.fine else 'FAILED'} "
            f"| {one.took_s / 60:.1f} min | {one.said} |" for one in results]
    return "\n".join(("| | What | | Took | Result |", "|---|---|---|---|---|", *rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a quarter of an hour instead of some hours")
    parser.add_argument("--only", action="append", choices=[stage.name for stage in STAGES])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    results = []
    for stage in STAGES:
        if not options.only or stage.name in options.only:
            print(f"{stage.name}: {stage.what} …", flush=True)
            result = run(stage, folder, short=options.short)
            results.append(result)
            print(f"    {'holds' if result.fine else 'FAILED'} after {result.took_s:.0f} s: {result.said}", flush=True)
    print(f"\n{table(results)}\n\nwhat each wrote is in {folder}")
    return 0 if all(result.fine for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
