"""A durable MQTT consumer, QoS 1 or QoS 2, that follows the protocol over broken connections. Own process.

QoS 1: every PUBLISH is journalled with its DUP flag, then acknowledged. QoS 2: a PUBLISH counts once per packet id
until its PUBREL (method A of MQTT 5 §4.3.3), so what is journalled is what an application would see. Some
acknowledgements wait a moment, so that a kill finds deliveries in flight.
"""
from __future__ import annotations

import argparse
import random

from bench.load.packets import acknowledgement, connect, subscribe
from tests.faults.client import Client, arguments
from tests.support.checker import parse_payload

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x60, 0x70


class MqttConsumer(Client):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._open: set[int] = set()                            # QoS 2 ids received and not yet released
        self._highest: dict[tuple[str, str], int] = {}
        self._distinct = 0
        self._held = bytearray()                                # acknowledgements that wait for a later turn
        self._had_session = False
        self._random = random.Random(options.name)

    @property
    def quiet(self) -> bool:
        return self._had_session

    def count(self) -> int:
        """Distinct messages seen (those that came in order; the checker counts exactly)."""
        return self._distinct

    def connected(self) -> None:
        self._held.clear()
        expiry_s = 3600 if self.options.version == 5 else 0
        self.outbound += connect(self.name, clean=False, version=self.options.version, expiry_s=expiry_s)

    def work(self) -> None:
        self.outbound += self._held
        self._held.clear()

    def received(self) -> None:
        for packet in self.packets():
            kind = packet[0] & 0xF0
            if kind == 0x30:
                self._publish(packet)
            elif kind == PUBREL:
                packet_id = packet[2] << 8 | packet[3]
                self._open.discard(packet_id)
                self._answer(acknowledgement(PUBCOMP, packet_id))
            elif kind == 0x20:
                self._connack(packet)
            elif kind == 0x90:
                if packet[-1] >= 0x80:
                    self.journal.note(f"SUBACK {packet[-1]:#x}")
                self._had_session = True
            elif kind == 0xE0:
                self.journal.note(f"DISCONNECT {packet.hex()}")
                self.drop()
                return

    def _connack(self, packet: bytes) -> None:
        if packet[3] != 0:
            self.journal.note(f"CONNACK {packet[3]:#x}")
            self.drop()
        elif not packet[2] & 1:
            if self._had_session:
                self.journal.note("session lost")
            self._open.clear()
            self.outbound += subscribe(1, self.options.filter, self.options.qos, self.options.version)
        else:
            self._had_session = True

    def _publish(self, packet: bytes) -> None:
        position = 2
        while packet[position - 1] >= 0x80:
            position += 1
        qos, dup = packet[0] >> 1 & 3, bool(packet[0] & 8)
        position += 2 + (packet[position] << 8 | packet[position + 1])
        packet_id = packet[position] << 8 | packet[position + 1] if qos else 0
        position += 2 if qos else 0
        if self.options.version == 5:
            position += 1 + packet[position]                    # properties below 128 bytes
        payload = packet[position:]
        if qos == 2:
            if packet_id not in self._open:
                self._open.add(packet_id)
                self._got(payload, False)
            self._answer(acknowledgement(PUBREC, packet_id))
            return
        self._got(payload, dup)
        if qos == 1:
            self._answer(acknowledgement(PUBACK, packet_id))

    def _got(self, payload: bytes, redelivered: bool) -> None:
        self.journal.got(payload, redelivered)
        message = parse_payload(payload)
        if message is not None and message.sequence > self._highest.get(message[:2], 0):
            self._highest[message[:2]] = message.sequence
            self._distinct += 1

    def _answer(self, packet: bytes) -> None:
        """In order always: once one waits, those behind it wait too [MQTT-4.6.0-2]."""
        if self._held or self._random.random() < 0.05:
            self._held += packet
        else:
            self.outbound += packet


if __name__ == "__main__":
    MqttConsumer(arguments("durable consumer", qos=1, version=4, filter="faults/#")).run()
