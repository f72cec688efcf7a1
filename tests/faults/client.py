"""What the load clients of the fault tests share: one process each, one socket, commands on standard input.

    harness --> client   pause | resume | count | stop | cut | abandon      one word per line
    client --> harness   paused | resumed | count N | stopped  "paused" only when nothing is unacknowledged any more

A client outlives the node: it dials again until the node is back, and keeps what it has not seen acknowledged. It is
never killed, so its memory stands for the durable client state that MQTT asks for. Raw sockets, prepared by
bench/load/packets.py: a bug in a client library must not look like one of the node, nor hide one.
"""
from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from bench.load.packets import frame_end
from tests.support.checker_journal import Journal

REDIAL_S = 0.02
IO_TIMEOUT_S = 10.0         # a node that is silent for so long is taken for dead, and dialled again
TURN_S = 0.01


def arguments(description: str, **extra: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    for name, default in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


class Client:
    """The loop. Subclasses fill in connected(), received(), work() and quiet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.name: str = options.name
        self.journal = Journal(options.journal)
        self.sock: socket.socket | None = None
        self.inbound = bytearray()
        self.outbound = bytearray()
        self.paused = self.stopping = False
        self._asked = False                                     # "paused" is owed
        self._commands = b""
        self._abandoned: list[socket.socket] = []
        self._heard_s = time.monotonic()

    # --- for subclasses ----------------------------------------------------------------------------------------------
    def connected(self) -> None:
        """The socket is open: say what comes first."""
        raise NotImplementedError

    def received(self) -> None:
        """Bytes were added to inbound."""
        raise NotImplementedError

    def work(self) -> None:
        """Once per turn, connected: put new work into outbound."""

    def lost(self) -> None:
        """The connection ended."""

    @property
    def quiet(self) -> bool:
        """Nothing is under way."""
        return True

    def count(self) -> int:
        return 0

    # --- the loop ----------------------------------------------------------------------------------------------------
    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)            # the harness says "stop"
        while True:
            if self.sock is None:
                self._dial()
            else:
                self.work()
                self.journal.flush()                            # facts first, then the bytes that follow from them
                self._write()
            self._wait()
            if self._asked and self.quiet:
                self._asked = False
                self.journal.flush()
                self._say("paused")
            if self.stopping:
                break
        if self.sock is not None:
            self.sock.close()
        self.journal.close()
        self._say("stopped")

    def _wait(self) -> None:
        waiting: list[object] = [sys.stdin]
        if self.sock is not None:
            waiting.append(self.sock)
        writing = [self.sock] if self.sock is not None and self.outbound else []
        timeout_s = TURN_S if self.sock is not None else REDIAL_S
        readable, _, _ = select.select(waiting, writing, (), timeout_s)
        if sys.stdin in readable:
            self._command()
        if self.sock is not None and self.sock in readable:
            self._read()
        if self.sock is not None and not self.quiet and time.monotonic() - self._heard_s > IO_TIMEOUT_S:
            self.journal.note(f"no word for {IO_TIMEOUT_S} s, dialling again")
            self.drop()

    def _command(self) -> None:
        more = os.read(sys.stdin.fileno(), 4096)
        if not more:
            self.stopping = True                                # the harness has gone
        self._commands += more
        while b"\n" in self._commands:
            line, self._commands = self._commands.split(b"\n", 1)
            word = line.decode()
            if word == "pause":
                self.paused = self._asked = True
            elif word == "resume":
                self.paused = False
                self._say("resumed")
            elif word == "count":
                self.journal.flush()
                self._say(f"count {self.count()}")
            elif word == "cut":                                 # a reset, as when the path to the node breaks
                if self.sock is not None:
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.drop()
            elif word == "abandon":                             # the node will not hear of it: a silent half-open one
                if self.sock is not None:
                    self._abandoned.append(self.sock)
                    self.sock = None
                    self.lost()
            elif word == "stop":
                self.stopping = True

    @staticmethod
    def _say(text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError:
            pass

    def _dial(self) -> None:
        try:
            self.sock = socket.create_connection(("127.0.0.1", self.options.port), timeout=2)
        except OSError:
            return
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.inbound.clear()
        self.outbound.clear()
        self._heard_s = time.monotonic()
        self.journal.note("dialled")
        self.connected()

    def _read(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        self._heard_s = time.monotonic()
        self.inbound += data
        self.received()

    def _write(self) -> None:
        if not self.outbound or self.sock is None:
            return
        try:
            del self.outbound[:self.sock.send(self.outbound)]
        except BlockingIOError:
            return
        except OSError:
            self.drop()

    def drop(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.lost()

    def packets(self) -> list[bytes]:
        """Take the whole MQTT packets from inbound."""
        found, start = [], 0
        while (end := frame_end(self.inbound, start, len(self.inbound))) > 0:
            found.append(bytes(self.inbound[start:end]))
            start = end
        del self.inbound[:start]
        return found


class Pace:
    """At most rate per second, without bursts above a tenth of a second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._credit = 0.0
        self._then_s = time.monotonic()

    def take(self) -> bool:
        now_s = time.monotonic()
        self._credit = min(self._credit + (now_s - self._then_s) * self._rate, max(1.0, self._rate / 10))
        self._then_s = now_s
        if self._credit < 1:
            return False
        self._credit -= 1
        return True
