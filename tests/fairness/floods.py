"""Flood: plain sockets that send the same bytes as fast as the node takes them. Runs in a process of its own.

Also a program: a pickled attack on standard input, see harness.py.
"""
from __future__ import annotations

import contextlib
import errno
import pickle
import select
import socket
import sys
import time
from dataclasses import dataclass

PIECE_BYTES = 256 * 1024        # of one send()
RECONNECTS_MAX = 20_000         # in one run


@dataclass(frozen=True)
class Flood:
    """opening is sent first, and opening_reply_bytes are waited for; then chunk, again and again.

    reads: the answers are read and thrown away; else they are left unread. A connection that the node closes is opened
    again, at once. drip_bytes: so much per send(), for many small reads.
    """

    address: tuple[str, int]
    chunk: bytes
    opening: bytes = b""
    opening_reply_bytes: int = 0
    connections: int = 1
    reads: bool = True
    drip_bytes: int = PIECE_BYTES
    once: bool = False                  # send chunk once per connection, then only read

    def __call__(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        poll = select.epoll()
        attackers: dict[int, _Attacker] = {}
        opened = 0
        while time.monotonic() < end:
            while len(attackers) < self.connections and opened < RECONNECTS_MAX and time.monotonic() < end:
                opened += 1
                with contextlib.suppress(OSError):
                    attacker = _Attacker(self, min(5.0, end - time.monotonic()))
                    attackers[attacker.sock.fileno()] = attacker
                    poll.register(attacker.sock.fileno(), attacker.wants())
            for fd, mask in poll.poll(0.05):
                attacker = attackers[fd]
                if attacker.go_on(mask):
                    poll.modify(fd, attacker.wants())
                else:
                    poll.unregister(fd)
                    del attackers[fd]
                    attacker.sock.close()
        for attacker in attackers.values():
            attacker.sock.close()


class _Attacker:
    def __init__(self, flood: Flood, timeout_s: float) -> None:
        self.flood = flood
        self.at = 0
        self.done = False
        self.chunk = memoryview(flood.chunk)
        self.sock = socket.create_connection(flood.address, timeout=max(0.1, timeout_s))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if flood.opening:
                self.sock.sendall(flood.opening)
            missing = flood.opening_reply_bytes
            while missing:
                data = self.sock.recv(missing)
                if not data:
                    raise ConnectionError("closed")
                missing -= len(data)
        except OSError:
            self.sock.close()
            raise
        self.sock.setblocking(False)

    def wants(self) -> int:
        return (select.EPOLLIN if self.flood.reads else 0) | (0 if self.done else select.EPOLLOUT)

    def go_on(self, mask: int) -> bool:
        try:
            if mask & select.EPOLLIN and not self.sock.recv(1 << 20):
                return False
            if mask & select.EPOLLOUT:
                self.at += self.sock.send(self.chunk[self.at:self.at + self.flood.drip_bytes])
                if self.at >= len(self.chunk):
                    self.at = 0
                    self.done = self.flood.once
            return not mask & (select.EPOLLHUP | select.EPOLLERR)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK)


def main() -> None:
    attack, seconds = pickle.load(sys.stdin.buffer)
    print("ready", flush=True)
    attack(seconds)


if __name__ == "__main__":
    main()
