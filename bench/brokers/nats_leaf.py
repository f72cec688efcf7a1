"""NATS: a stream on a leaf node, sourced by a stream on the hub. The peer of Meshgate's link in rows/mesh.py.

    publisher ──PUB, acked──► leaf: stream NEAR ──leaf connection──► hub: stream FAR, which sources NEAR

Raw NATS text protocol on sockets, prepared bytes, as the other clients here. What counts is when the far stream has
stored a message; that is asked for, so that reading it back costs NATS nothing.   Source: docs.nats.io, client protocol
"""
from __future__ import annotations

import json
import select
import socket
import time
from pathlib import Path

from bench.brokers.broker import Nats, free_port
from bench.load.clients import CHUNK_BYTES, READ_BYTES, BenchError
from bench.load.packets import PLAIN_PAYLOAD

ASK_EVERY_S = 0.02
ANSWER = b"MSG "
WINDOW = 1_000


class NatsServer(Nats):
    """One nats-server with JetStream in its own domain. leaf_of: the hub's leaf port to dial; None: this is the hub."""

    def __init__(self, root: Path, name: str, leaf_of: int | None) -> None:
        super().__init__(root)
        self.root = root / name
        self.domain = name
        self.leaf_port = free_port()
        self._leaf_of = leaf_of

    def command(self) -> list[str]:
        config = self.root / "nats.conf"
        if self._leaf_of is None:
            leaf = f'leafnodes {{ listen: "127.0.0.1:{self.leaf_port}" }}\n'
        else:
            leaf = f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{self._leaf_of}" }} ] }}\n'
        command = super().command()
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nserver_name: {self.domain}\n{leaf}'
            f'jetstream {{ store_dir: "{self.root}/js", domain: {self.domain}, max_file_store: 8GB, '
            f'max_memory_store: 1GB }}\n')
        return command

    def _answers(self) -> bool:
        try:
            with NatsClient(self.port) as client:
                client.request("$JS.API.INFO", {})
            return True
        except (OSError, BenchError, ValueError):
            return False


class NatsClient:
    """One connection. Requests are answered one at a time."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        self._line()                                            # INFO
        self.sock.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\nSUB R.* 1\r\nPING\r\n')
        while self._line() != b"PONG":
            pass
        self._number = 0

    def __enter__(self) -> NatsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _more(self) -> None:
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise BenchError("nats-server closed the connection")
        self._data += data

    def _line(self) -> bytes:
        while (end := self._data.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self._data[:end])
        del self._data[:end + 2]
        return line

    def request(self, subject: str, body: object, timeout_s: float = 5.0) -> dict:
        """The JSON answer. Raises BenchError for an error in it, or for none at all."""
        self._number += 1
        reply = f"R.q{self._number}"
        raw = json.dumps(body).encode()
        self.sock.settimeout(timeout_s)
        self.sock.sendall(f"PUB {subject} {reply} {len(raw)}\r\n".encode() + raw + b"\r\n")
        try:
            while True:
                line = self._line()
                if not line.startswith(ANSWER):
                    continue
                words = line.split()
                size = int(words[-1])
                while len(self._data) < size + 2:
                    self._more()
                answer = bytes(self._data[:size])
                del self._data[:size + 2]
                if words[1].decode() == reply:
                    break
        except TimeoutError:
            raise BenchError(f"{subject} was not answered") from None
        found = json.loads(answer)
        if "error" in found:
            raise BenchError(f"{subject}: {found['error']}")
        return found


class LeafPair:
    """The leaf, where is published, and the hub with the stream that sources."""

    def __init__(self, root: Path) -> None:
        self.hub = NatsServer(root, "hub", None)
        self.leaf = NatsServer(root, "leaf", self.hub.leaf_port)

    def start(self) -> None:
        self.hub.start()
        self.leaf.start()
        with NatsClient(self.leaf.port) as near, NatsClient(self.hub.port) as far:
            near.request("$JS.API.STREAM.CREATE.NEAR",
                         {"name": "NEAR", "subjects": ["bench.>"], "storage": "file", "retention": "limits"})
            deadline = time.monotonic() + 20
            while True:                                         # the hub must have heard of the leaf first
                try:
                    far.request("$JS.leaf.API.STREAM.INFO.NEAR", {}, timeout_s=1)
                    break
                except BenchError:
                    if time.monotonic() > deadline:
                        raise
            far.request("$JS.API.STREAM.CREATE.FAR", {
                "name": "FAR", "storage": "file", "retention": "limits",
                "sources": [{"name": "NEAR", "external": {"api": "$JS.leaf.API", "deliver": ""}}]})

    def stop(self) -> None:
        self.leaf.stop()
        self.hub.stop()

    def cpu_s(self) -> float:
        return self.hub.cpu_s() + self.leaf.cpu_s()

    def flood(self, seconds: float, *, far: bool) -> tuple[int, float]:
        """Publish for so long with at most WINDOW unacked; messages and seconds until all are stored (far: there)."""
        stream, port = ("FAR", self.hub.port) if far else ("NEAR", self.leaf.port)
        with NatsClient(self.leaf.port) as client, NatsClient(port) as asker:
            base = stored(asker, stream)
            start = time.monotonic()
            sent = _publish(client.sock, start + seconds)
            deadline = time.monotonic() + 60
            while stored(asker, stream) - base < sent:
                if time.monotonic() > deadline:
                    raise BenchError(f"{sent} sent, {stored(asker, stream) - base} in {stream}")
                time.sleep(ASK_EVERY_S)                         # polling a condition, bounded by the deadline
            return sent, time.monotonic() - start


def stored(client: NatsClient, stream: str) -> int:
    return int(client.request(f"$JS.API.STREAM.INFO.{stream}", {})["state"]["messages"])


def _publish(sock: socket.socket, until: float) -> int:
    """Prepared chunks while fewer than WINDOW are unacked. Returns how many were published and acked."""
    one = b"PUB bench.a R.a %d\r\n" % len(PLAIN_PAYLOAD) + PLAIN_PAYLOAD + b"\r\n"
    per_chunk = min(CHUNK_BYTES // len(one), WINDOW // 2)
    chunk = memoryview(one * per_chunk)
    pending: memoryview | None = None
    sent = acked = 0
    tail = b""
    sock.setblocking(False)
    while True:
        if pending is None and time.monotonic() < until and sent - acked + per_chunk <= WINDOW:
            pending = chunk
            sent += per_chunk
        if pending is None and time.monotonic() >= until and acked >= sent:
            break
        readable, writable, _ = select.select([sock], [sock] if pending is not None else [], [], 1.0)
        if writable and pending is not None:
            written = sock.send(pending)
            pending = pending[written:] if written < len(pending) else None
        if readable:
            data = sock.recv(READ_BYTES)
            if not data:
                raise BenchError("nats-server closed the connection")
            whole = tail + data
            acked += whole.count(b'"seq":') - tail.count(b'"seq":')
            tail = whole[-5:]
            if b'"error"' in data:
                raise BenchError(f"JetStream refused: {data[:200]!r}")
    sock.setblocking(True)
    return sent
