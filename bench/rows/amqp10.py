"""AMQP 1.0 rows: durable messages through one queue, the same client for every broker (load/amqp10.py)."""
from __future__ import annotations

from collections.abc import Callable

from bench.brokers.broker import Broker
from bench.load import amqp10

WARM_S = 8.0                    # a virtual machine compiles what is hot
PACED_RATE = 1_000.0            # msg/s of the latency run, all publishers together

Run = Callable[[Broker, bool], dict[str, float]]


def row(queue: str, pairs: int) -> Run:
    """pairs: publishers and consumers on one queue."""
    def run(broker: Broker, quick: bool) -> dict[str, float]:
        def measure(name: str, warm_s: float, seconds: float, rate: float = 0.0) -> dict[str, float]:
            return amqp10.run(broker.amqp_port, broker.amqp10_address(name), ("queue",), pairs, warm_s, seconds,
                              broker.cpu_s, rate)

        figures = measure(queue, 4.0 if quick else WARM_S, 4.0 if quick else 10.0)
        slow = measure(f"{queue}-slow", 2.0, 4.0 if quick else 8.0, PACED_RATE)
        return {**figures, "p50_ms": slow["p50_ms"], "p99_ms": slow["p99_ms"], "slow_cpu_us": slow["cpu_us"]}

    return run
