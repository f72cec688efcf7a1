"""A long outage: so many events wait at one site that only the log can hold them; then the link comes back.

    near ──x──► far      near takes `events` QoS 1 publishes while the link is down; far gets all, once, in order

Per commit 50,000; `python -m tests.faults.mesh --backlog 5000000` does what the acceptance asks for. Payloads are all
alike, so an event is known by its offset at its origin: both logs are read side by side, from disk.
"""
from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatch

from bench.load.clients import Publisher
from bench.load.load import Flood
from tests.faults.mesh_rig import TOKEN
from tests.support.frameproxy import FrameProxy
from tests.support.node import Node
from tests.support.wait import wait_until

_HEAD = struct.Struct(">qi")
TOPICS = [f"backlog/{number}" for number in range(8)]
STALL_S = 60.0              # without one more event at the far side for so long: it does not go on


@dataclass
class Backlog:
    """Figures of one run. rss: of the far node after it has caught up, and of the near one at its largest."""

    events: int = 0
    filled_s: float = 0.0
    drained_s: float = 0.0
    rss_near_mib: float = 0.0
    rss_far_mib: float = 0.0

    def __str__(self) -> str:
        taken, moved = self.events / self.filled_s, self.events / self.drained_s
        return (f"{self.events:,} events waited: taken in {self.filled_s:.1f} s ({taken:,.0f}/s), "
                f"moved in {self.drained_s:.1f} s ({moved:,.0f}/s), every one once and in order; "
                f"memory near {self.rss_near_mib:.0f} MiB, far {self.rss_far_mib:.0f} MiB")


class _Cpu:
    """What bench.load.load asks of a broker."""

    def cpu_s(self) -> float:
        return 0.0


def run_backlog(folder: Path, events: int) -> Backlog:
    """Raises AssertionError when something is lost, doubled, out of order or does not go on."""
    far = Node(folder / "far", name="far", listeners=("mqtt", "http", "console", "link"), extra=(
        f'[[link_peers]]\nnode = "*"\ntoken = "{TOKEN}"\n[[replicate]]\nfilter = "backlog/#"\nfrom = "earliest"\n'))
    with FrameProxy(far.ports["link"], frames=False) as proxy:
        near = Node(folder / "near", name="near", listeners=("mqtt", "http", "console"), extra=(
            f'[[links]]\nto = "ws://127.0.0.1:{proxy.port}"\ntoken = "{TOKEN}"\n'))
        try:
            far.start()
            near.start()
            near.publish("backlog/0", b"first")
            wait_until(lambda: _last(far.data) >= 0, "the first event comes over the link")
            proxy.refuse()
            return _run(near, far, proxy, events)
        finally:
            near.process.kill9()
            far.process.kill9()


def _run(near: Node, far: Node, proxy: FrameProxy, events: int) -> Backlog:
    result = Backlog()
    publisher = Publisher(near.ports["mqtt"], "backlog", TOPICS, qos=1, window=2_000)
    flood = Flood(_Cpu(), [publisher], [], 0)                   # type: ignore[arg-type]
    start_s = time.monotonic()
    result.events = flood.run(events_max=events).sent
    result.filled_s = time.monotonic() - start_s
    flood.close()
    proxy.resume()
    start_s = time.monotonic()
    wanted = result.events                                      # the first one stands at offset 0
    seen = [-1, start_s]

    def arrived() -> bool:
        last = _last(far.data)
        result.rss_near_mib = max(result.rss_near_mib, near.process.rss_bytes() / 2**20)
        if last != seen[0]:
            seen[:] = [last, time.monotonic()]
        assert time.monotonic() - seen[1] < STALL_S, f"nothing came for {STALL_S} s, {last} of {wanted} are there"
        return last >= wanted

    wait_until(arrived, f"{wanted} events are at the far side", deadline_s=60 + events / 500, pause_s=0.1,
               also=far.process.log_tail)
    result.drained_s = time.monotonic() - start_s
    result.rss_far_mib = far.process.rss_bytes() / 2**20
    _compare(near.data, far.data, wanted + 1)
    return result


def _compare(near: Path, far: Path, count: int) -> None:
    """far has what near has, each event once, in near's order."""
    number = 0
    for number, (origin, copy) in enumerate(zip(_records(near), _records(far), strict=True), 1):
        topic, payload, offset, _ = origin
        assert copy == (topic, payload, copy[2], offset), f"record {number}: {origin[:3]} at near, {copy} at far"
    assert number == count, f"{number} records of {count}"


def _records(data: Path) -> Iterator[tuple[bytes, bytes | None, int, int]]:
    """Topic, payload, offset here, offset at the origin (-1: this is the origin) of every event."""
    for raw in _batches(data):
        batch = DefaultRecordBatch(bytearray(raw))
        assert batch.validate_crc()
        for record in batch if int.from_bytes(raw[57:61], "big") else ():
            headers = dict(record.headers)
            if headers.get("meshgate-topic", b"").startswith(b"backlog/"):
                yield (headers["meshgate-topic"], record.value, record.offset,
                       int(headers.get("meshgate-origin-offset", b"-1"), 16))


def _batches(data: Path) -> Iterator[bytes]:
    for segment in sorted((data / "streams" / "events" / "0").glob("*.log")):
        with segment.open("rb") as file:
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                size = _HEAD.unpack(head)[1]
                if size < 49:
                    break
                yield head + file.read(size)


def _last(data: Path) -> int:
    """The last offset in the log of the far side, -1 for none. Reads the heads of the last segment's batches only."""
    segments = sorted((data / "streams" / "events" / "0").glob("*.log"))
    last = -1
    with segments[-1].open("rb") if segments else open("/dev/null", "rb") as file:
        while len(head := file.read(61)) == 61:
            base, size = _HEAD.unpack_from(head)
            if size < 49:
                break
            last = base + int.from_bytes(head[23:27], "big")
            file.seek(size + _HEAD.size - 61, 1)
    return last
