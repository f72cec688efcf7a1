"""python -m tests.fairness.bystander HOST PORT RATE: publishes QoS 1 to itself, for so many seconds as each line on
standard input says, and prints its latencies as a line of JSON.

One process, one socket, blocking, for all attacks on a node: what counts is a client that is there. Each message
carries its number; the time from send() to its delivery counts. A message that is late is waited for; the next ones are
sent on time meanwhile, as a sensor would.
"""
from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

LAST_S = 30.0           # for what is still on its way at the end


def main(host: str, port: str, rate: str) -> None:
    sock = socket.create_connection((host, int(port)), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = b"bystander-%d" % time.monotonic_ns()
    topic = b"by/" + name
    sock.sendall(_packet(0x10, b"\0\4MQTT\4\2\0\0" + _text(name)))
    _exactly(sock, 4)
    sock.sendall(_packet(0x82, b"\0\1" + _text(topic) + b"\1"))
    _exactly(sock, 5)
    print("ready", flush=True)
    for line in sys.stdin:
        took = measure(sock, topic, float(line), float(rate))
        print(json.dumps({"expected": int(float(line) * float(rate)), "took_s": took}), flush=True)


def measure(sock: socket.socket, topic: bytes, seconds: float, rate: float) -> list[float]:
    total, every_s = int(seconds * rate), 1 / rate
    sent: dict[int, float] = {}
    took: list[float] = []
    buffer = b""
    start = time.monotonic()
    number = 0
    while len(took) < total and time.monotonic() < start + seconds + LAST_S:
        now = time.monotonic()
        if number < total and now >= start + number * every_s:
            number += 1
            sent[number] = time.monotonic()
            sock.sendall(_packet(0x32, _text(topic) + struct.pack("!HI", number, number)))
            continue
        wait_s = start + number * every_s - now if number < total else 0.5
        if not select.select([sock], [], [], max(0.0, wait_s))[0]:
            continue
        data = sock.recv(65_536)
        if not data:
            sys.exit("the node has closed the connection")
        arrived = time.monotonic()
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            first, body, buffer = buffer[0], buffer[2:2 + buffer[1]], buffer[2 + buffer[1]:]
            if first >> 4 == 3:
                got = struct.unpack("!I", body[-4:])[0]
                took.append(arrived - sent.pop(got))
                sock.sendall(b"\x40\x02" + body[-6:-4])
    return took


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((first, len(body))) + body


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


if __name__ == "__main__":
    main(*sys.argv[1:])
