"""Parts of bench.micro for batches of Kafka producers: the way in, the way out, and what it was before.

"raw-old" is what the way in did until 2026-11: a walk over every record in Python, and an event of each. It is kept as
a yardstick: absolute figures differ between machines, the ratio does not.
"""
from __future__ import annotations

from collections.abc import Callable

from aiokafka.record._crecords.default_records import DefaultRecordBatchBuilder

from routing.event import Event
from routing.log.producing.raw import Terms, check
from routing.log.records.batch import check_batch
from routing.log.records.decode import Decoder, check_records, plain_batch
from routing.log.records.verdicts import Verdicts
from routing.publishing.publisher import Publisher
from routing.router import Router

BATCH_BYTES = 16 * 1024                 # what Kafka's producers send by default
VALUE = b"x" * 100
BATCHES = 20

Part = tuple[Callable[[], object], int]


def kafka_batch(codec: int = 0) -> tuple[bytes, int]:
    """A batch of records of 100 bytes and no key, and how many they are."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, BATCH_BYTES)
    count = 0
    while builder.append(count, 1_700_000_000_000, None, VALUE, []) is not None:
        count += 1
    return bytes(builder.build()), count


def check_raw(codec: int = 0) -> Part:
    batch, count = kafka_batch(codec)
    terms = Terms(1 << 20, 1 << 20, 1_024)
    return lambda: [check(batch, terms) for _ in range(BATCHES)], BATCHES * count


def check_old() -> Part:
    batch, count = kafka_batch()
    decoder = Decoder(None, lambda key: "events")

    def one() -> None:
        header = check_batch(batch)
        plain = plain_batch(batch, header)
        check_records(plain, header)
        events: list[Event] = []
        decoder.events(plain, 0, header, 0, Verdicts(lambda topic: True), {}, events, 1 << 62)

    return lambda: [one() for _ in range(BATCHES)], BATCHES * count


def publish_raw(router: Router, publisher: Publisher, run: Callable[[], None], codec: int = 0) -> Part:
    """All of the way in: rights, check, commit (written, not synced), ticket."""
    batch, count = kafka_batch(codec)

    def some() -> None:
        for _ in range(BATCHES):
            router.publish_raw("events", 0, batch, publisher)
        run()

    return some, BATCHES * count


def fetch(router: Router, publisher: Publisher, run: Callable[[], None]) -> Part:
    """What stands in the log, in answers of 1 MiB."""
    some, count = publish_raw(router, publisher, run)
    for _ in range(20):
        some()
    partition = router.streams.by_name["events"].partitions[0]

    def walk() -> None:
        offset = 0
        while offset < partition.high_watermark:
            found = partition.fetch(offset, 1 << 20)
            assert found is not None
            offset = found.next_offset

    return walk, 20 * count
