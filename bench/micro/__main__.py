"""python -m bench.micro [parts] [--profile FILE] [--node ROW]

What one message costs in each part of the node, in one process without sockets: where the time goes, not how fast the
node is. The best of five runs counts, as anything slower is the machine's doing.

    --profile FILE     run the chosen parts under cProfile and write the statistics (see them with python -m pstats)
    --node ROW         run a row of the benchmark (such as qos1-1-1) against a real node whose loop thread runs under
                       cProfile, and print what it spent its time on; absolute times are about doubled by the profiler
"""
from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.brokers.broker import Meshgate
from bench.load.packets import PLAIN_PAYLOAD, publish
from bench.micro import raw
from bench.micro.desk import BATCH, Desk, desk, events
from bench.table import ROWS
from protocols.mqtt.codec.reader import PacketReader
from routing.event import Event
from routing.filters.filter_trie import FilterTrie
from routing.log.records.encode import Encoder

SCAN_EVENTS = 200_000
RUNS = 5


class _Target:
    """Takes what the reader finds and does nothing with it."""

    closed = False

    def __init__(self) -> None:
        self.count = 0

    def plain_topic(self, name: bytes) -> str | None:
        return name.decode()

    def publishes(self, found: list[Event], raw_ids: bytearray) -> None:
        self.count += len(found)

    def acks(self, kind: int, packet_ids: tuple[int, ...]) -> None:
        self.count += len(packet_ids)

    def over(self) -> bool:
        return False

    def packet(self, first: int, data: bytes, position: int, end: int) -> None:
        self.count += 1


def parse(qos: int) -> tuple[Callable[[], object], int]:
    reader = PacketReader(_Target(), 1 << 20, {b"bench/micro/0": "bench/micro/0"})
    reader.accepted(4, "bench", 1 << 20)
    chunk = b"".join(publish("bench/micro/0", PLAIN_PAYLOAD, qos, number) for number in range(1, BATCH + 1))
    return lambda: [reader.read(chunk) for _ in range(20)], 20 * BATCH


def encode() -> tuple[Callable[[], object], int]:
    encoder = Encoder()
    batch = events()
    for offset, event in enumerate(batch):
        event.offset, event.timestamp_ms = offset, 1_700_000_000_000
    return lambda: [encoder.encode(batch, first_in_group=True) for _ in range(20)], 20 * BATCH


def match() -> tuple[Callable[[], object], int]:
    """10,000 filters, 1,000 topics; a match that no cache answers."""
    trie = FilterTrie()
    for number in range(10_000):
        trie.add(f"plant/{number % 100}/line/{number}/+", object())
    topics = [f"plant/{number % 100}/line/{number}/speed" for number in range(1_000)]
    return lambda: [trie.match(topic) for topic in topics], len(topics)


def through_router(made: Desk, *, commit: bool) -> tuple[Callable[[], object], int]:
    batches = [events() for _ in range(RUNS * 20 + 20)]

    def work() -> None:
        for _ in range(20):
            made.router.publish(batches.pop(), made.publisher)
            if commit:
                made.run()

    return work, 20 * BATCH


def scan(made: Desk, share: int) -> tuple[Callable[[], object], int]:
    """share: one event in so many is wanted, at places that no block can be skipped for."""
    for start in range(0, SCAN_EVENTS, BATCH):
        batch = events()
        for index in range(start % share, BATCH, share):
            batch[index].topic = "bench/micro/1"
        made.router.publish(batch, made.publisher)
        made.run()
    made.reopen()
    partition = made.router.streams.by_name["events"].partitions[0]
    wanted = (lambda topic: True) if share == 1 else (lambda topic: topic == "bench/micro/1")

    def work() -> None:
        offset = 0
        while offset < partition.end_offset:
            offset = partition.scan(offset, wanted, max_events=4_096, max_scanned=16_384).next_offset

    return work, SCAN_EVENTS


PARTS: dict[str, tuple[str, Callable[[Desk], tuple[Callable[[], object], int]]]] = {
    "parse0": ("parse QoS 0 PUBLISH", lambda _: parse(0)),
    "parse1": ("parse QoS 1 PUBLISH", lambda _: parse(1)),
    "match": ("match in 10,000 filters, uncached", lambda _: match()),
    "publish": ("Router.publish, no commit", lambda made: through_router(made, commit=False)),
    "commit": ("publish + commit (encode, write, dispatch)", lambda made: through_router(made, commit=True)),
    "encode": ("encode a batch of 500", lambda _: encode()),
    "scan-all": ("scan from disk, all wanted", lambda made: scan(made, 1)),
    "raw-check": ("check a Kafka batch of 16 KiB, per record", lambda _: raw.check_raw()),
    "raw-check-lz4": ("the same, compressed with lz4", lambda _: raw.check_raw(3)),
    "raw-old": ("the same as it was: a walk in Python, an event of each", lambda _: raw.check_old()),
    "raw-publish": ("Router.publish_raw + commit, per record",
                    lambda made: raw.publish_raw(made.router, made.publisher, made.run)),
    "raw-fetch": ("fetch in answers of 1 MiB, per record",
                  lambda made: raw.fetch(made.router, made.publisher, made.run)),
    "scan-1%": ("scan from disk, 1 in 100 wanted", lambda made: scan(made, 100)),
}


def measure(work: Callable[[], object], messages: int, profile: cProfile.Profile | None) -> float:
    """µs per message."""
    best = float("inf")
    for _ in range(RUNS):
        if profile is not None:
            profile.enable()
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        if profile is not None:
            profile.disable()
    return best / messages * 1e6


class _ProfiledNode(Meshgate):
    """The node with its loop thread under cProfile; the statistics are written when it stops."""

    def command(self) -> list[str]:
        start = ("import cProfile, sys; from mesh.cli import main; p = cProfile.Profile(); "
                 f"p.runcall(main); p.dump_stats({str(self.root / 'profile')!r})")
        command = super().command()
        command[2] = start
        return command


def profile_node(row_name: str, lines: int = 35) -> None:
    row = next((row for row in ROWS if row.name == row_name), None)
    if row is None:
        sys.exit(f"unknown row {row_name}; there are {', '.join(row.name for row in ROWS)}")
    with tempfile.TemporaryDirectory(prefix="micro-") as root:
        node = _ProfiledNode(Path(root))
        node.start()
        try:
            print({key: round(value, 2) for key, value in row.run(node, True).items()})
        finally:
            node.stop()
        pstats.Stats(str(node.root / "profile")).sort_stats("tottime").print_stats(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS).replace('%', '%%')}; none: all")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    parser.add_argument("--node", metavar="ROW")
    options = parser.parse_args()
    if options.node:
        profile_node(options.node)
        return
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    profile = cProfile.Profile() if options.profile else None
    for name, (title, prepare) in PARTS.items():
        if options.parts and name not in options.parts:
            continue
        with desk() as made:
            work, messages = prepare(made)
            print(f"{name:9} {measure(work, messages, profile):7.3f} µs   {title}", flush=True)
    if profile is not None:
        profile.dump_stats(options.profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
