"""Journals: what a producer or consumer process saw, one line per fact, in its own file, synced by itself.

    S producer key sequence                              about to be published as something new (again: one more S)
    A producer key sequence [stream partition offset]    acknowledged
    R producer key sequence reason                       refused
    G 0|1 producer key sequence [stream partition offset]   got; 1: with the redelivered mark
    X hex                                                got, but no message of ours (damaged)
    N text                                               a note, such as "session lost"

The writer appends a line before it acts on the fact (S before the packet leaves, G before it acknowledges), so that
a journal never knows less than the broker was told. Only the last line can be torn, and a torn line is no fact.
"""
from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.checker import Consumer, Fate, History, Message, Place, Receipt, parse_payload

SYNC_EVERY_S = 0.5


class Journal:
    """Append facts. Lines reach the kernel at every flush(); fsync comes twice a second and at close."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=1 << 16)  # noqa: SIM115 - closed by close()
        self._synced_s = time.monotonic()

    def sent(self, message: Message) -> None:
        self._write("S", message)

    def acked(self, message: Message, place: Place | None = None) -> None:
        self._write("A", message, place)

    def refused(self, message: Message, reason: str) -> None:
        self._file.write(f"R {message.producer} {message.key} {message.sequence} {reason.replace(' ', '_')}\n".encode())

    def got(self, payload: bytes, redelivered: bool, place: Place | None = None) -> None:
        message = parse_payload(payload)
        if message is None:
            self._file.write(b"X %s\n" % payload.hex().encode())
        else:
            self._write(f"G {int(redelivered)}", message, place)

    def note(self, text: str) -> None:
        self._file.write(f"N {text}\n".encode())

    def _write(self, kind: str, message: Message, place: Place | None = None) -> None:
        where = f" {place.stream} {place.partition} {place.offset}" if place is not None else ""
        self._file.write(f"{kind} {message.producer} {message.key} {message.sequence}{where}\n".encode())

    def flush(self) -> None:
        self._file.flush()
        if time.monotonic() - self._synced_s > SYNC_EVERY_S:
            os.fsync(self._file.fileno())
            self._synced_s = time.monotonic()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _facts(path: Path) -> Iterator[list[str]]:
    data = path.read_bytes()
    for line in data[:data.rfind(b"\n") + 1].decode().splitlines():
        yield line.split(" ")


def _place(words: list[str]) -> Place | None:
    return Place(words[0], int(words[1]), int(words[2])) if len(words) == 3 else None


def read_producer(path: Path, history: History) -> list[str]:
    """Add a producer's journal to the history. Returns its notes."""
    notes = []
    for kind, *words in _facts(path):
        if kind == "N":
            notes.append(" ".join(words))
            continue
        message = Message(words[0], words[1], int(words[2]))
        fate = history.sent.setdefault(message, Fate())
        if kind == "S":
            fate.attempts += 1
            fate.refused = False
        elif kind == "A":
            fate.acked = True
            fate.place = _place(words[3:])
        elif kind == "R":
            fate.refused = True
    return notes


def read_consumer(path: Path, consumer: Consumer) -> list[str]:
    """Add a consumer's journal to its receipts. Returns its notes."""
    notes = []
    for kind, *words in _facts(path):
        if kind == "N":
            notes.append(" ".join(words))
        elif kind == "X":
            consumer.receipts.append(Receipt(None))
        elif kind == "G":
            message = Message(words[1], words[2], int(words[3]))
            consumer.receipts.append(Receipt(message, words[0] == "1", _place(words[4:])))
    return notes
