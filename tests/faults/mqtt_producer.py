"""A QoS 1 or QoS 2 producer that follows the protocol over any number of broken connections. Own process.

Persistent session. After a reconnect: PUBLISH again with DUP and the same packet id for what has no PUBACK or PUBREC,
PUBREL again for what has, in the original order, before anything new [MQTT-4.4.0-1]. Packet ids are few on purpose, so
that a node which confuses an old id with a new publish is found out. A QoS 2 publish counts as acked at its PUBREC.
"""
from __future__ import annotations

import argparse
import random
from dataclasses import dataclass

from bench.load.packets import acknowledgement, connect, publish
from tests.faults.client import Client, Pace, arguments
from tests.support.checker import Message

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70


@dataclass
class _Entry:
    message: Message
    packet: bytes                       # as sent again: with DUP
    released: bool = False              # QoS 2: PUBREC seen, PUBREL sent


class MqttProducer(Client):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._keys = [f"k{number}" for number in range(options.keys)]
        self._sequences = dict.fromkeys(self._keys, 0)
        self._entries: dict[int, _Entry] = {}                   # packet id -> entry, in the order first sent
        self._next_id = 0
        self._ready = False
        self._had_session = False
        self._pace = Pace(options.rate)
        self._random = random.Random(options.name)

    @property
    def quiet(self) -> bool:
        return not self._entries

    def count(self) -> int:
        return sum(self._sequences.values())

    def connected(self) -> None:
        self._ready = False
        expiry_s = 3600 if self.options.version == 5 else 0
        self.outbound += connect(self.name, clean=False, version=self.options.version, expiry_s=expiry_s)

    def lost(self) -> None:
        self._ready = False

    def received(self) -> None:
        for packet in self.packets():
            kind = packet[0] & 0xF0
            if kind == 0x20:
                self._connack(packet)
            elif kind in (PUBACK, PUBREC, PUBCOMP):
                code = packet[4] if len(packet) > 4 else 0
                self._answer(kind, packet[2] << 8 | packet[3], code)
            elif kind == 0xE0:
                self.journal.note(f"DISCONNECT {packet.hex()}")
                self.drop()
                return

    def _connack(self, packet: bytes) -> None:
        if packet[3] != 0:
            self.journal.note(f"CONNACK {packet[3]:#x}")
            self.drop()
            return
        present = bool(packet[2] & 1)
        if self._had_session and not present:
            self.journal.note("session lost")
            self._start_over()
        self._had_session = True
        for packet_id, entry in self._entries.items():
            if self.options.qos == 1 and present:
                self.journal.sent(entry.message)                # QoS 1 may store it a second time
            self.outbound += acknowledgement(PUBREL, packet_id) if entry.released else entry.packet
        self._ready = True

    def _start_over(self) -> None:
        """The node forgot the session: what it acked is done, the rest goes out as new."""
        self._entries = {packet_id: entry for packet_id, entry in self._entries.items() if not entry.released}
        for entry in self._entries.values():
            self.journal.sent(entry.message)

    def _answer(self, kind: int, packet_id: int, code: int) -> None:
        entry = self._entries.get(packet_id)
        if kind == PUBCOMP:
            if entry is not None and entry.released:
                del self._entries[packet_id]
            return
        if entry is None:
            self.journal.note(f"answer {kind:#x} to id {packet_id}, which is not in use")
            return
        if code >= 0x80:
            if entry.released:
                self.journal.note(f"PUBREC {code:#x} after PUBREC 0 for id {packet_id}")
            else:
                self.journal.refused(entry.message, f"{code:#x}")
            del self._entries[packet_id]
            return
        if not entry.released:
            self.journal.acked(entry.message)
        if kind == PUBACK:
            del self._entries[packet_id]
        else:
            entry.released = True
            self.outbound += acknowledgement(PUBREL, packet_id)

    def work(self) -> None:
        if not self._ready or self.paused:
            return
        while len(self._entries) < self.options.window and self._pace.take():
            key = self._random.choice(self._keys)
            self._sequences[key] += 1
            message = Message(self.name, key, self._sequences[key])
            packet_id = self._free_id()
            topic = f"{self.options.topic}/{self.name}/{key}"
            payload = message.payload(self._random.randrange(self.options.filler))
            qos, version = self.options.qos, self.options.version
            self.journal.sent(message)
            self.outbound += publish(topic, payload, qos, packet_id, version)
            self._entries[packet_id] = _Entry(message, publish(topic, payload, qos, packet_id, version, dup=True))

    def _free_id(self) -> int:
        while True:
            self._next_id = self._next_id % self.options.ids + 1
            if self._next_id not in self._entries:
                return self._next_id


if __name__ == "__main__":
    MqttProducer(arguments("QoS 1 or 2 producer", qos=1, version=4, topic="faults/one", keys=4, window=16, ids=40,
                           rate=600.0, filler=200)).run()
