"""AMQP 0-9-1 rows: RabbitMQ's own load tool, PerfTest, against every broker that speaks the protocol.

PerfTest prints a line per second; the first seconds, in which its virtual machine warms up, do not count. Its jars come
with `make peers` (tests/interop/rabbitmq_tools/pom.xml).
"""
from __future__ import annotations

import re
import shutil
import statistics
import subprocess
from collections.abc import Callable

from bench import PEERS
from bench.brokers.broker import Broker
from bench.load.clients import BenchError

JARS = PEERS / "rabbitmq"
WARM_S = 5                      # lines that do not count
UNCONFIRMED = 1_000             # per publisher
PREFETCH = 1_000                # per consumer
PACED_RATE = 1_000              # msg/s of the latency run, all publishers together
LINE = re.compile(r"time:? ?([\d.]+) ?s,.*?received: ?([\d.,]+) msg/s(?:.*?consumer latency: ?([\d./]+) ?[µu]s)?")

Run = Callable[[Broker, bool], dict[str, float]]


def row(queue: str, *, durable: bool, pairs: int) -> Run:
    """pairs: publishers and consumers on one queue. durable: persistent messages, each confirmed; else neither."""
    def run(broker: Broker, quick: bool) -> dict[str, float]:
        flags = ["-f", "persistent", "-c", str(UNCONFIRMED)] if durable else []
        common = ["-x", str(pairs), "-y", str(pairs), "-q", str(PREFETCH), "-s", "100", *flags]
        figures = _measure(broker, f"{queue}-{'d' if durable else 't'}", common, 4 if quick else 10)
        slow = _measure(broker, f"{queue}-slow", [*common, "-r", str(PACED_RATE // pairs)], 3 if quick else 8)
        return {**figures, "p50_ms": slow["p50_ms"], "p99_ms": slow["p99_ms"], "slow_cpu_us": slow["cpu_us"]}

    return run


def _measure(broker: Broker, queue: str, options: list[str], seconds: int) -> dict[str, float]:
    if shutil.which("java") is None or not list(JARS.glob("perf-test-*.jar")):
        raise BenchError("PerfTest is not installed: make peers")
    command = ["java", "-cp", f"{JARS}/*", "com.rabbitmq.perf.PerfTest", "-h",
               f"amqp://guest:guest@127.0.0.1:{broker.amqp_port}/%2f", "-u", queue, "-ad", "false",
               "-z", str(WARM_S + seconds), *options]
    rates: list[float] = []
    p50s: list[float] = []
    p99s: list[float] = []
    cpu_s = begun_cpu_s = 0.0
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            found = LINE.search(line)
            if found is None:
                continue
            if float(found[1]) < WARM_S:
                begun_cpu_s = broker.cpu_s()
                continue
            cpu_s = broker.cpu_s()
            rates.append(_number(found[2]))
            if found[3]:
                steps = [float(one) for one in found[3].split("/")]
                p50s.append(steps[1])
                p99s.append(steps[4])
    if len(rates) < 2:
        raise BenchError(f"PerfTest has measured nothing: {''.join(said)[-500:]}")
    count = sum(rates)
    return {"rate": statistics.median(rates), "cpu_us": (cpu_s - begun_cpu_s) / count * 1e6,
            "p50_ms": statistics.median(p50s) / 1000 if p50s else float("nan"),
            "p99_ms": statistics.median(p99s) / 1000 if p99s else float("nan")}


def _number(text: str) -> float:
    return float(text.replace(",", ""))
