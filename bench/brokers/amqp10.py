"""Brokers for the rows of AMQP 1.0: ActiveMQ Artemis, and RabbitMQ with its plugin for it.

Artemis is embedded in java/Artemis.java; its jars come with `make peers`.
"""
from __future__ import annotations

import shutil
import socket
from pathlib import Path

from bench import PEERS, ROOT
from bench.brokers.broker import Broker, RabbitMq, free_port
from protocols.amqp.codec.frames import SASL_HEADER

JARS = PEERS / "artemis"
SOURCE = ROOT / "bench" / "java" / "Artemis.java"
HEAP = "-Xmx512m"


class Artemis(Broker):
    name = "artemis"
    configuration = f"{HEAP}, NIO journal with a sync per buffer, its time-out that of a sync, no security"
    has_amqp10 = True
    only_for = "amqp10"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.amqp_port = free_port()

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("javac") is not None and any(JARS.glob("artemis-server-*.jar"))

    def command(self) -> list[str]:
        return ["java", HEAP, "-cp", f"{JARS}/*", str(SOURCE), str(self.amqp_port), str(self.root / "data")]

    def _answers(self) -> bool:
        return answers_sasl(self.amqp_port)


class RabbitMq10(RabbitMq):
    name = "rabbitmq-1.0"
    configuration = "amqp1_0 plugin, classic queues, schedulers without busy wait"
    has_http = has_amqp = False
    has_amqp10 = True
    only_for = "amqp10"

    def command(self) -> list[str]:
        command = super().command()
        (self.root / "enabled_plugins").write_text("[rabbitmq_mqtt,rabbitmq_amqp1_0].\n")
        return command

    def amqp10_address(self, queue: str) -> str:
        return f"/queue/{queue}"


def answers_sasl(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.settimeout(5)
            sock.sendall(SASL_HEADER)
            return sock.recv(8) == SASL_HEADER
    except OSError:
        return False
