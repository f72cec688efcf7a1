"""An MQTT client beside a load of another protocol: how long its small messages take meanwhile. For rows_kafka.py.

One publisher, RATE messages a second with QoS 1, and one subscriber; latency is publish to delivery. A thread of the
generator, which waits for a load tool of its own process meanwhile.
"""
from __future__ import annotations

import select
import socket
import struct
import threading
import time
from types import TracebackType

from bench.load.clients import BenchError, dial, read_packet
from bench.load.packets import acknowledgement, connect, frame_end, publish, subscribe

RATE = 50.0                 # a second
TOPIC = "beside/mqtt"
_STAMP = struct.Struct(">Q")


class Beside:
    """with Beside(port) as beside: …; beside.p99_ms."""

    def __init__(self, port: int) -> None:
        self._took_ms: list[float] = []
        self._over = False
        self._subscriber = dial(port, connect("beside-sub"))
        self._subscriber.sendall(subscribe(1, TOPIC, 1))
        if read_packet(self._subscriber)[0] != 0x90:
            raise BenchError("SUBSCRIBE was not answered")
        self._publisher = dial(port, connect("beside-pub"))
        self._thread = threading.Thread(target=self._run, name="beside", daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over = True
        self._thread.join()
        self._subscriber.close()
        self._publisher.close()

    @property
    def p99_ms(self) -> float:
        found = sorted(self._took_ms)
        return found[int(len(found) * 0.99)] if found else float("nan")

    def _run(self) -> None:
        due_s = time.monotonic()
        packet_id = 0
        received = bytearray()
        while not self._over:
            wait_s = due_s - time.monotonic()
            if wait_s <= 0:
                packet_id = packet_id % 60_000 + 1
                self._publisher.sendall(publish(TOPIC, _STAMP.pack(time.monotonic_ns()), 1, packet_id))
                due_s += 1 / RATE
                continue
            ready, _, _ = select.select([self._subscriber, self._publisher], [], [], wait_s)
            if self._publisher in ready:
                self._publisher.recv(65_536)                    # PUBACKs
            if self._subscriber in ready:
                received += self._subscriber.recv(65_536)
                self._take(received, time.monotonic_ns())

    def _take(self, received: bytearray, now_ns: int) -> None:
        """PUBLISHes of QoS 1: two bytes of packet id after the topic, then the stamp."""
        while (end := frame_end(received, 0, len(received))) > 0:
            stamp_at = end - _STAMP.size
            self._took_ms.append((now_ns - _STAMP.unpack_from(received, stamp_at)[0]) / 1e6)
            self._answer(self._subscriber, received[stamp_at - 2:stamp_at])
            del received[:end]

    @staticmethod
    def _answer(sock: socket.socket, packet_id: bytes | bytearray) -> None:
        sock.sendall(acknowledgement(0x40, int.from_bytes(packet_id, "big")))
