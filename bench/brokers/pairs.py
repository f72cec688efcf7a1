"""Two brokers of one kind with a link between them: what is published at `near` is read at `far`. For rows/mesh.py.

Meshgate: one link, the far node's subscription is the interest. Mosquitto: its bridge, QoS 1, persistent session.
NATS: nats_leaf.py. Each runs beside the single brokers of __main__.py, which are idle meanwhile.
"""
from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

from bench.brokers.broker import Broker, Meshgate, Mosquitto, free_port
from bench.load.clients import BenchError, dial, read_packet
from bench.load.packets import connect, publish, subscribe

LINK_TIMEOUT_S = 30.0


class Pair:
    """near and far, started and linked. cpu_s and rss_bytes are those of both."""

    def __init__(self, near: Broker, far: Broker) -> None:
        self.near, self.far = near, far
        self.has_log = near.has_log

    def start(self) -> None:
        self.far.start()
        self.near.start()
        wait_for_link(self.near.port, self.far.port)

    def stop(self) -> None:
        self.near.stop()
        self.far.stop()

    def cpu_s(self) -> float:
        return self.near.cpu_s() + self.far.cpu_s()

    def rss_bytes(self) -> int:
        return self.near.rss_bytes() + self.far.rss_bytes()


class BridgedMosquitto(Mosquitto):
    """Persistence off, as in the other rows: it would only slow it down."""

    def __init__(self, root: Path, name: str, bridge_to: int | None) -> None:
        super().__init__(root)
        self.root = root / name
        self._bridge_to = bridge_to

    def command(self) -> list[str]:
        command = super().command()
        if self._bridge_to is not None:
            config = Path(command[-1])
            config.write_text(config.read_text() + (
                f"connection bench\naddress 127.0.0.1:{self._bridge_to}\ntopic bench/# out 1\n"
                "bridge_protocol_version mqttv311\ncleansession false\nrestart_timeout 1\n"
                "bridge_attempt_unsubscribe false\n"))
        return command


class LinkedMeshgate(Meshgate):
    """links: ports to dial. The defaults of a node otherwise, as in the other rows."""

    def __init__(self, root: Path, name: str, links: tuple[int, ...], secret: str) -> None:
        super().__init__(root)
        self.node_name = name
        self.root = root / name
        self.link_port = free_port()
        self._links = links
        self._secret = secret

    def command(self) -> list[str]:
        command = super().command()
        config = Path(command[-1])
        text = config.read_text().replace('name = "bench"', f'name = "{self.node_name}"\nsite = "{self.node_name}"')
        text += f'link = {{ bind = "127.0.0.1:{self.link_port}" }}\n'
        text += f'\n[[link_peers]]\nnode = "*"\ntoken = "{self._secret}"\n'
        for port in self._links:
            text += f'\n[[links]]\nto = "ws://127.0.0.1:{port}"\ntoken = "{self._secret}"\n'
        config.write_text(text)
        return command


def meshgate_chain(root: Path, count: int) -> list[LinkedMeshgate]:
    """count nodes in a line, not started; each dials the one before it. Start them in order."""
    secret = secrets.token_hex(16)
    nodes: list[LinkedMeshgate] = []
    for number in range(count):
        links = (nodes[-1].link_port,) if nodes else ()
        nodes.append(LinkedMeshgate(root, f"bench-{number}", links, secret))
    return nodes


def make_pair(broker: Broker) -> Pair:
    """The pair of a broker's kind, not started. Raises BenchError for a kind that has none."""
    root = broker.root / f"pair-{secrets.token_hex(4)}"
    if broker.name == "meshgate":
        far, near = meshgate_chain(root, 2)
        return Pair(near, far)
    if broker.name == "mosquitto":
        far_end = BridgedMosquitto(root, "far", None)
        return Pair(BridgedMosquitto(root, "near", far_end.port), far_end)
    raise BenchError(f"{broker.name} has no bridge that this row measures")


def wait_for_link(near_port: int, far_port: int, topic: str = "bench/ready", timeout_s: float = LINK_TIMEOUT_S) -> None:
    """Publish at near until it is seen at far. Raises BenchError."""
    sub = dial(far_port, connect("link-sub"))
    pub = dial(near_port, connect("link-pub"))
    try:
        sub.sendall(subscribe(1, topic, 1))
        sub.settimeout(0.05)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pub.sendall(publish(topic, b"ready"))
            if _published(sub):
                return
    finally:
        sub.close()
        pub.close()
    raise BenchError(f"nothing came over the link within {timeout_s:.0f} s")


def _published(sock: socket.socket) -> bool:
    """True when a PUBLISH has come."""
    try:
        while True:
            if read_packet(sock)[0] & 0xF0 == 0x30:
                return True
    except TimeoutError:
        return False
