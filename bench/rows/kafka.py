"""Kafka rows: Apache's own load tools (kafka-producer-perf-test, kafka-consumer-perf-test) against every broker that
speaks the protocol. acks=all, batches of 16 KiB, linger 5 ms; the tools' own figures, the broker's CPU beside them,
and of a broker that speaks MQTT, too, how long small messages of an MQTT client take while the records are produced.
"""
from __future__ import annotations

import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext

from bench.beside import Beside
from bench.brokers.broker import Broker
from bench.brokers.kafka import JARS, answers_api_versions
from bench.load.clients import BenchError

PACED_RATE = 1_000              # records a second of the latency row
RESTART_TIMEOUT_S = 60.0
TOOL_TIMEOUT_S = 240
SENT = re.compile(r"^(\d+) records sent, ([\d.]+) records/sec.*?([\d.]+) ms avg latency.*?"
                  r"(\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th", re.MULTILINE)

Run = Callable[[Broker, bool], dict[str, float]]


def flow(size: int, partitions: int, codec: str = "none") -> Run:
    """Produce so many records of size bytes, then consume them again."""
    def run(broker: Broker, quick: bool) -> dict[str, float]:
        count = (200_000 if quick else 1_000_000) * 100 // max(size, 250 if size > 100 else 100)
        topic = _topic(broker, partitions)
        beside = Beside(broker.port) if broker.has_log else None
        before_s = broker.cpu_s()
        with beside or nullcontext():
            rate, _, _ = _produce(broker, topic, count, size, -1, "linger.ms=5", f"compression.type={codec}")
        between_s = broker.cpu_s()
        fetched = _consume(broker, topic, count)
        return {"rate": rate, "cpu_us": (between_s - before_s) / count * 1e6, "fetch_rate": fetched,
                "fetch_cpu_us": (broker.cpu_s() - between_s) / count * 1e6,
                **({"mqtt_p99_ms": beside.p99_ms} if beside is not None else {})}

    return run


def paced(broker: Broker, quick: bool) -> dict[str, float]:
    """Single records, 1,000 a second: how long an ack takes."""
    topic = _topic(broker, 1)
    rate, p50_ms, p99_ms = _produce(broker, topic, PACED_RATE * (8 if quick else 30), 100, PACED_RATE, "linger.ms=0")
    return {"rate": rate, "p50_ms": p50_ms, "p99_ms": p99_ms}


def restart(broker: Broker, quick: bool) -> dict[str, float]:
    """kill -9 after records were acked; ready when it answers again."""
    topic = _topic(broker, 12)
    _produce(broker, topic, 100_000, 100, -1, "linger.ms=5")
    broker.stop(signal.SIGKILL)
    begun_s = time.monotonic()
    broker.start()
    while not answers_api_versions(broker.kafka_port):
        if time.monotonic() - begun_s > RESTART_TIMEOUT_S:
            raise BenchError("it is not ready again")
        time.sleep(0.02)                                        # polling a condition, bounded by the deadline
    return {"ready_s": time.monotonic() - begun_s}


def _tool(broker: Broker, main: str, *arguments: str) -> str:
    if shutil.which("java") is None or not list(JARS.glob("kafka-tools-*.jar")):
        raise BenchError("Apache Kafka's tools are not installed: make peers")
    done = subprocess.run(
        ["java", "-Xmx256m", "-cp", f"{JARS}/*", f"org.apache.kafka.tools.{main}", *arguments], capture_output=True,
        text=True, timeout=TOOL_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise BenchError(f"{main}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout


def _topic(broker: Broker, partitions: int) -> str:
    name = f"bench-{secrets.token_hex(4)}"
    _tool(broker, "TopicCommand", "--bootstrap-server", _address(broker), "--create", "--topic", name, "--partitions",
          str(partitions), "--replication-factor", "1")
    return name


def _address(broker: Broker) -> str:
    return f"127.0.0.1:{broker.kafka_port}"


def _produce(broker: Broker, topic: str, count: int, size: int, throughput: int, *settings: str
             ) -> tuple[float, float, float]:
    """Records a second, p50 and p99 in ms."""
    said = _tool(broker, "ProducerPerformance", "--topic", topic, "--num-records", str(count), "--record-size",
                 str(size), "--throughput", str(throughput), "--producer-props",
                 f"bootstrap.servers={_address(broker)}", "acks=all",
                 "batch.size=16384", *settings)
    found = SENT.findall(said)
    if not found or int(found[-1][0]) != count:
        raise BenchError(f"it has not sent {count} records: {said[-300:]}")
    return float(found[-1][1]), float(found[-1][3]), float(found[-1][4])


def _consume(broker: Broker, topic: str, count: int) -> float:
    """Records a second, without the time that joining the group takes."""
    said = _tool(broker, "ConsumerPerformance", "--bootstrap-server", _address(broker), "--topic", topic, "--messages",
                 str(count), "--hide-header", "--timeout", "60000")
    fields = [field.strip() for field in said.strip().splitlines()[-1].split(",")]
    if len(fields) != 10 or int(fields[4]) < count:
        raise BenchError(f"it has not read {count} records: {said[-300:]}")
    return float(fields[9])
