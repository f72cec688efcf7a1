"""Apache Kafka (KRaft, one node) for the Kafka rows: as it comes, and with a sync per batch.

Its jars come with `make peers`. As it comes it acks what is in the page cache, which a power cut takes.
"""
from __future__ import annotations

import base64
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from bench import PEERS
from bench.brokers.broker import Broker, free_port

JARS = PEERS / "kafka"
HEAP = "-Xmx512m"


class ApacheKafka(Broker):
    name = "kafka"
    configuration = f"KRaft, one node, {HEAP}, as it comes: acks are for the page cache"
    has_kafka = True
    only_for = "kafka"
    flush_messages = ""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.kafka_port = free_port()

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("java") is not None and any(JARS.glob("kafka_2.13-*.jar"))

    def command(self) -> list[str]:
        controller = free_port()
        config = self.root / "server.properties"
        config.write_text(
            f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self.kafka_port},CONTROLLER://127.0.0.1:{controller}\n"
            "controller.listener.names=CONTROLLER\noffsets.topic.replication.factor=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
            f"log.dirs={self.root}/logs\n{self.flush_messages}")
        java = ["java", HEAP, "-cp", f"{JARS}/*"]
        if not (self.root / "logs").exists():
            cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            done = subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)],
                                  capture_output=True, text=True, timeout=120, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"kafka: {done.stdout[-500:]}{done.stderr[-500:]}")
        return [*java, "kafka.Kafka", str(config)]

    def _answers(self) -> bool:
        return answers_api_versions(self.kafka_port)


class ApacheKafkaSynced(ApacheKafka):
    name = "kafka-synced"
    configuration = f"KRaft, one node, {HEAP}, log.flush.interval.messages=1: a sync before each ack"
    flush_messages = "log.flush.interval.messages=1\n"


def answers_api_versions(port: int) -> bool:
    """An ApiVersions 0 is answered: it is ready, not only its port open."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\xff\xff")
            answer = sock.recv(10)
            return len(answer) == 10 and answer[4:8] == b"\0\0\0\1"
    except OSError:
        return False
