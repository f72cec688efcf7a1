"""Apache Kafka (KRaft, one broker) as the outside cluster of a bridge. It can be killed, and comes back as it was."""
from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from pathlib import Path

from routing.log.records.batch import CODEC_MASK, batch_at
from tests.conftest import require_peer
from tests.support.certificates import Certificates
from tests.support.kafka_tools import JARS
from tests.support.ports import free_port
from tests.support.process import ServerProcess
from tests.support.wait import wait_until

USER, PASSWORD = "bridge", "bridge-secret"
HEAP = ("-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
PARTITIONS = 3


class ApacheKafka:
    """plain: PLAINTEXT, secure: SASL over TLS, scram: SASL without."""

    def __init__(self, root: Path, certificates: Certificates) -> None:
        require_peer(shutil.which("java"), "java")
        require_peer(any(JARS.glob("kafka_2.13-*.jar")), "Apache Kafka (make peers)")
        root.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in ("PLAIN", "SCRAM", "SECURE", "CONTROLLER")}
        self._root = root
        store = root / "keystore.pem"
        store.write_text(certificates.server_key.read_text() + certificates.server_cert.read_text())
        login = (f'org.apache.kafka.common.security.plain.PlainLoginModule required username="x" password="y" '
                 f'user_{USER}="{PASSWORD}";')
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        mechanisms = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        lines = [
            "process.roles=broker,controller", "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self.ports['CONTROLLER']}",
            "listeners=" + ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()),
            "controller.listener.names=CONTROLLER", "inter.broker.listener.name=PLAIN",
            "listener.security.protocol.map=PLAIN:PLAINTEXT,SCRAM:SASL_PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
            f"sasl.enabled.mechanisms={mechanisms}",
            *(f"listener.name.{name}.plain.sasl.jaas.config={login}" for name in ("scram", "secure")),
            *(f"listener.name.{name}.scram-sha-{bits}.sasl.jaas.config={scram}"
              for name in ("scram", "secure") for bits in (256, 512)),
            "ssl.keystore.type=PEM", f"ssl.keystore.location={store}",
            "ssl.truststore.type=PEM", f"ssl.truststore.location={certificates.ca}",
            "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=1", "group.initial.rebalance.delay.ms=0",
            "auto.create.topics.enable=false", f"num.partitions={PARTITIONS}", f"log.dirs={root}/logs",
        ]
        self._config = root / "server.properties"
        self._config.write_text("\n".join(lines) + "\n")
        self._java = ["java", *HEAP, "-cp", f"{JARS}/*"]
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        users = [part for bits in (256, 512) for part in (
            "--add-scram", f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]")]
        done = subprocess.run(
            [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._config), *users],
            capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
        self._process: ServerProcess | None = None

    def at(self, listener: str = "PLAIN") -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    def start(self) -> ApacheKafka:
        from confluent_kafka.admin import AdminClient

        self._process = ServerProcess(
            [*self._java, "kafka.Kafka", str(self._config)], self._root / "kafka.log", self._root)
        self._process.start()

        def answers() -> bool:
            assert self._process is not None and self._process.running, self._process.log_tail()
            try:
                admin = AdminClient({"bootstrap.servers": self.at(), "log_level": 0})
                return bool(admin.list_topics(timeout=2).brokers)
            except Exception:
                return False

        wait_until(answers, "Kafka answers", deadline_s=90, also=self._process.log_tail)
        return self

    def codecs(self, topic: str) -> set[int]:
        """Of the batches that it has stored."""
        found = set()
        for file in (self._root / "logs").glob(f"{topic}-*/*.log"):
            data, at = file.read_bytes(), 0
            while (header := batch_at(data, at)) is not None:
                found.add(header.attributes & CODEC_MASK)
                at += header.size
        return found

    def kill9(self) -> None:
        if self._process is not None:
            self._process.kill9()
