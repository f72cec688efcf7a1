"""A queue between protocols: machines publish over MQTT, two Python workers take the work over AMQP. What nobody can do
is kept as dead letters, until the fault is mended and an operator gives it out again.

    meshgate up                                     # in another terminal
    pip install pika amqtt
    python examples/workers.py

    MQTT plant/+/job ──► queue "machine-jobs" ──► worker one ─┬─ ack
                             ▲                └─► worker two ─┴─ reject ──► dead-letter/machine-jobs
                             └────────────── redrive ◄──────────────────────────┘
"""
from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
import urllib.request
from typing import Any

import pika
from amqtt.client import MQTTClient

QUEUE = "machine-jobs"
JOBS = 30                   # every third is odd
DEADLINE_S = 30.0


class Worker(threading.Thread):
    """Takes one job at a time. mended: can also do those that are odd; others it turns down."""

    def __init__(self, name: str, port: int, done: list[tuple[str, str]], mended: threading.Event,
                 ready: threading.Barrier) -> None:
        super().__init__(name=name, daemon=True)
        self._port = port
        self._done = done
        self._mended = mended
        self._ready = ready

    def run(self) -> None:
        channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self._port)).channel()
        channel.basic_qos(prefetch_count=1)
        self._ready.wait(DEADLINE_S)
        channel.basic_consume(QUEUE, self._work)
        channel.start_consuming()

    def _work(self, channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        time.sleep(0.01)
        if int(body) % 3 == 1 and not self._mended.is_set():
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        self._done.append((self.name, body.decode()))
        channel.basic_ack(method.delivery_tag)


def ask(method: str, url: str, body: object = None) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, method=method,
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


async def publish(port: int) -> None:
    """As machines do: MQTT, QoS 1. Each is on disk when it is acknowledged."""
    machine = MQTTClient(client_id="machine", config={"auto_reconnect": False})
    await machine.connect(f"mqtt://127.0.0.1:{port}/")
    for number in range(JOBS):
        await machine.publish(f"plant/m{number % 3}/job", str(number).encode(), qos=1)
    await machine.disconnect()


def wait(what: str, holds: Any) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"this has not come about: {what}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mqtt", type=int, default=1883)
    parser.add_argument("--amqp", type=int, default=5672)
    parser.add_argument("--http", type=int, default=8080)
    ports = parser.parse_args()
    queue = f"http://127.0.0.1:{ports.http}/v1/consumers/{QUEUE}"
    ask("PUT", queue, {"filters": ["plant/+/job"], "dead_letter_topic": f"dead-letter/{QUEUE}", "queue": {}})
    print(f"queue {QUEUE} takes plant/+/job")
    asyncio.run(publish(ports.mqtt))
    print(f"{JOBS} jobs published over MQTT; {ask('GET', queue)['ready']} wait in the queue")

    done: list[tuple[str, str]] = []
    mended = threading.Event()
    ready = threading.Barrier(2)
    for name in ("one", "two"):
        Worker(name, ports.amqp, done, mended, ready).start()
    wait("all jobs are done or turned down", lambda: ask("GET", queue)["ready"] + ask("GET", queue)["unacked"] == 0)
    dead = ask("GET", f"{queue}/dead-letters?limit=100")["dead_letters"]
    print(f"{len(done)} done, by {sorted({name for name, _ in done})}; {len(dead)} dead letters, the first: "
          f"{dead[0]['payload']}, which was on {dict(dead[0]['headers'])['dead-letter-topic']}")

    mended.set()
    ask("POST", f"{queue}/redrive", {})                 # or in the console, or the terminal dashboard
    wait("everything is done", lambda: len({job for _, job in done}) == JOBS)
    print(f"mended, redriven: {len(done)} of {JOBS} jobs done, each once" if len(done) == JOBS else
          f"some were done twice: {sorted(done)}")


if __name__ == "__main__":
    main()
