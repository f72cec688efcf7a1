"""A node's log as the mesh checker wants it, read from disk without the node's code (see checker_log.py).

    header meshgate-origin         <node>/<epoch>/<stream>/<partition>[!<flow>]     where an event was first stored
    header meshgate-origin-offset  16 hex digits                                    its offset there
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatch

from tests.support.checker import Place, parse_payload
from tests.support.checker_log import LogDamaged
from tests.support.mesh_checker import Origin, Stored

_HEAD = struct.Struct(">qi")
_COUNT = struct.Struct(">i")


class LogReader:
    """Reads on where it stopped: each poll() returns what is new. A node that was wiped needs a new reader."""

    def __init__(self, data: Path, prefix: str = "") -> None:
        """prefix: of the topics that count; other events are left out."""
        self._streams = data / "streams"
        self._prefix = prefix.encode()
        self._next: dict[tuple[str, int], int] = {}

    def poll(self) -> list[Stored]:
        found: list[Stored] = []
        for folder in sorted(self._streams.iterdir()) if self._streams.exists() else ():
            if folder.name.startswith("%24"):                   # internal: positions, consumers, retained events
                continue
            for partition in sorted(folder.iterdir()):
                if partition.name.isdigit():
                    found += self._partition(folder.name, partition)
        return found

    def _partition(self, stream: str, folder: Path) -> Iterator[Stored]:
        place = stream, int(folder.name)
        segments = sorted(folder.glob("*.log"))
        for index, segment in enumerate(segments):
            start = self._next.get(place, 0)
            if index + 1 < len(segments) and int(segments[index + 1].stem) <= start:
                continue
            yield from self._segment(segment, place, last=index + 1 == len(segments))

    def _segment(self, path: Path, place: tuple[str, int], *, last: bool) -> Iterator[Stored]:
        data = path.read_bytes()
        position = 0
        while position + _HEAD.size <= len(data):
            base, size = _HEAD.unpack_from(data, position)
            end = position + _HEAD.size + size
            if size < 49 or end > len(data):                    # room that is not written yet
                return
            raw = data[position:end]
            position = end
            last_offset = base + _COUNT.unpack_from(raw, 23)[0]
            if last_offset < self._next.get(place, 0):
                continue
            batch = DefaultRecordBatch(bytearray(raw))
            if not batch.validate_crc():
                if last:
                    return                                      # being written, or torn by a kill
                raise LogDamaged(f"{path} at byte {position}: CRC")
            if _COUNT.unpack_from(raw, 57)[0]:
                yield from self._batch(batch, place)
            self._next[place] = last_offset + 1

    def _batch(self, batch: DefaultRecordBatch, place: tuple[str, int]) -> Iterator[Stored]:
        start = self._next.get(place, 0)
        for record in batch:
            headers = dict(record.headers)
            topic = headers.get("meshgate-topic", b"")
            if record.offset < start or not topic.startswith(self._prefix):
                continue
            origin, flow = _origin(headers.get("meshgate-origin"))
            yield Stored(
                Place(*place, record.offset), parse_payload(record.value or b""), topic.decode(), origin,
                int(headers.get("meshgate-origin-offset", b"-1"), 16), record.timestamp, flow)


def _origin(header: bytes | None) -> tuple[Origin | None, int]:
    if header is None:
        return None, 0
    text, _, flow = header.decode().partition("!")
    node, epoch, rest = text.split("/", 2)
    stream, _, index = rest.rpartition("/")
    return Origin(node, epoch, stream, int(index)), int(flow or 0)


def read_epoch(data: Path) -> str:
    return (data / "epoch").read_text().strip()
