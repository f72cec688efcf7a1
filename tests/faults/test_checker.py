"""The checker catches every planted fault and accepts what is legal. A checker that sees nothing proves nothing."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checker import (
    KINDS,
    Consumer,
    Fate,
    History,
    Message,
    Place,
    Reader,
    Receipt,
    Record,
    check,
    parse_payload,
    zero_of,
)
from tests.support.checker_journal import Journal, read_consumer, read_producer

COUNT = 20


def message(number: int, key: str = "k1", producer: str = "p1") -> Message:
    return Message(producer, key, number)


def place(offset: int, partition: int = 0) -> Place:
    return Place("events", partition, offset)


def clean() -> History:
    """One at-least-once and one exactly-once producer, two keys; all acked, logged, received by three consumers."""
    history = History(exactly_once={"p2"})
    history.log = []
    receipts = []
    for number in range(1, COUNT + 1):
        for producer, key in (("p1", "k1"), ("p1", "k2"), ("p2", "k1")):
            one = message(number, key, producer)
            where = place(len(history.log))
            history.sent[one] = Fate(attempts=1, acked=True, place=where)
            history.log.append(Record(where, one, f"t/{producer}/{key}"))
            history.topics[one[:2]] = f"t/{producer}/{key}"
            receipts.append(Receipt(one))
    history.consumers["least"] = Consumer(list(receipts))
    history.consumers["once"] = Consumer(list(receipts), reader=Reader.EXACTLY_ONCE)
    placed = [Receipt(record.message, place=record.place) for record in history.log]
    history.consumers["live"] = Consumer(placed, reader=Reader.LIVE)
    return history


def test_a_clean_history_passes() -> None:
    figures = check(clean())
    assert figures.clean, str(figures)
    assert (figures.sent, figures.acked, figures.logged) == (60, 60, 60)


# --- legal, though it looks odd --------------------------------------------------------------------------------------
def _marked_repeat(history: History) -> None:
    history.consumers["least"].receipts.append(Receipt(message(3), redelivered=True))


def _second_copy_of_an_unacked_publish(history: History) -> None:
    """A QoS 1 producer lost the connection before the PUBACK, sent again, and both are stored and delivered."""
    one = message(COUNT)
    history.sent[one].attempts = 2
    assert history.log is not None
    history.log.append(Record(place(len(history.log)), one, "t/p1/k1"))
    for consumer in history.consumers.values():
        consumer.receipts.append(Receipt(one))


def _indeterminate_may_be_lost(history: History) -> None:
    history.sent[message(COUNT + 1)] = Fate(attempts=1)


def _indeterminate_may_be_stored(history: History) -> None:
    one = message(COUNT + 1)
    history.sent[one] = Fate(attempts=1)
    assert history.log is not None
    history.log.append(Record(place(len(history.log)), one, "t/p1/k1"))
    for consumer in history.consumers.values():
        consumer.receipts.append(Receipt(one))


def _refused_and_absent(history: History) -> None:
    history.sent[message(COUNT + 1)] = Fate(attempts=1, refused=True)


def _live_reader_missed_some(history: History) -> None:
    del history.consumers["live"].receipts[3:9]


def _redelivery_of_older_after_newer(history: History) -> None:
    """What was in flight at a crash comes again, in order, marked, behind what was received."""
    history.consumers["least"].receipts += [Receipt(message(n), redelivered=True) for n in range(15, COUNT + 1)]


def _declared_gap(history: History) -> None:
    """The log says itself that offsets are not used, as after a crash of a partition that is not synced."""
    one = message(COUNT + 1)
    history.sent[one] = Fate(attempts=1)
    end = len(_log(history))
    history.unused = [(place(end), end + 9), (place(end + 10), end + 99)]
    _log(history).append(Record(place(end + 100), one, "t/p1/k1"))
    for consumer in history.consumers.values():
        consumer.receipts.append(Receipt(one))


def _partial_filter(history: History) -> None:
    mine = {("p1", "k2")}
    history.consumers["part"] = Consumer([Receipt(message(n, "k2")) for n in range(1, COUNT + 1)], wanted=mine)


@pytest.mark.parametrize("change", [
    _marked_repeat, _second_copy_of_an_unacked_publish, _indeterminate_may_be_lost, _indeterminate_may_be_stored,
    _refused_and_absent, _live_reader_missed_some, _redelivery_of_older_after_newer, _partial_filter, _declared_gap,
], ids=lambda change: change.__name__.strip("_"))
def test_a_legal_history_passes(change: Callable[[History], None]) -> None:
    history = clean()
    change(history)
    figures = check(history)
    assert figures.clean, str(figures)


# --- planted faults --------------------------------------------------------------------------------------------------
def _log(history: History) -> list[Record]:
    assert history.log is not None
    return history.log


def _renumber(history: History) -> None:
    """Give the log dense offsets again, so that only the planted fault is left."""
    history.log = [Record(place(index), record.message, record.topic) for index, record in enumerate(_log(history))]
    for fate in history.sent.values():
        fate.place = None
    history.consumers["live"].receipts = []


def _drop_logged(wanted: Callable[[Message], bool]) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.log = [record for record in _log(history) if record.message is None or not wanted(record.message)]
        for consumer in history.consumers.values():
            consumer.receipts = [r for r in consumer.receipts if r.message is None or not wanted(r.message)]
        _renumber(history)
    return change


def _drop_received(history: History) -> None:
    del history.consumers["least"].receipts[30]


def _drop_received_suffix(history: History) -> None:
    del history.consumers["once"].receipts[-3:]


def _double_in_log(history: History) -> None:
    _log(history).append(Record(place(len(_log(history))), message(4), "t/p1/k1"))


def _double_in_log_exactly_once(history: History) -> None:
    one = message(COUNT, producer="p2")
    history.sent[one].attempts = 2
    _log(history).append(Record(place(len(_log(history))), one, "t/p2/k1"))
    for consumer in history.consumers.values():
        consumer.receipts.append(Receipt(one))


def _double_unmarked(history: History) -> None:
    history.consumers["least"].receipts.append(history.consumers["least"].receipts[5])


def _double_marked_at_exactly_once(history: History) -> None:
    history.consumers["once"].receipts.append(Receipt(message(4), redelivered=True))


def _swap_in_log(history: History) -> None:
    log = _log(history)
    log[0], log[3] = (Record(log[0].place, log[3].message, log[3].topic), Record(log[3].place, *log[0][1:]))
    for fate in history.sent.values():
        fate.place = None
    history.consumers["live"].receipts = []


def _swap_received(history: History) -> None:
    receipts = history.consumers["once"].receipts
    receipts[0], receipts[3] = receipts[3], receipts[0]


def _late_first_sight(history: History) -> None:
    receipts = history.consumers["least"].receipts
    receipts.append(receipts.pop(6)._replace(redelivered=True))


def _never_sent(history: History) -> None:
    history.consumers["least"].receipts.append(Receipt(message(COUNT + 5)))


def _never_sent_in_log(history: History) -> None:
    _log(history).append(Record(place(len(_log(history))), message(1, "k9"), "t/p1/k9"))


def _refused_but_stored(history: History) -> None:
    history.sent[message(COUNT + 1)] = Fate(attempts=1, refused=True)
    _log(history).append(Record(place(len(_log(history))), message(COUNT + 1), "t/p1/k1"))


def _received_but_not_logged(history: History) -> None:
    history.sent[message(COUNT + 1)] = Fate(attempts=1)
    history.consumers["least"].receipts.append(Receipt(message(COUNT + 1)))


def _not_asked_for(history: History) -> None:
    _partial_filter(history)
    history.consumers["part"].receipts.append(Receipt(message(1, "k1")))


def _flip_in_log(history: History) -> None:
    _log(history)[7] = Record(place(7), None, "t/p1/k2")


def _flip_received(history: History) -> None:
    history.consumers["live"].receipts[7] = Receipt(None)


def _wrong_topic(history: History) -> None:
    _log(history)[7] = _log(history)[7]._replace(topic="t/other")


def _ack_names_another_place(history: History) -> None:
    history.sent[message(1)].place = place(2)


def _ack_behind_the_end(history: History) -> None:
    history.sent[message(1)].place = place(10_000)


def _offset_reused(history: History) -> None:
    history.places.append((message(2), place(0)))


def _live_reader_saw_another_event(history: History) -> None:
    receipts = history.consumers["live"].receipts
    receipts[4] = Receipt(receipts[5].message, place=receipts[4].place)


def _old_offset_replayed(history: History) -> None:
    receipts = history.consumers["live"].receipts
    receipts.append(receipts[2])


def _log_goes_back(history: History) -> None:
    log = _log(history)
    log.append(Record(place(3), log[3].message, log[3].topic))


def _hole_in_log(history: History) -> None:
    one = message(COUNT + 1)
    history.sent[one] = Fate(attempts=1)
    _log(history).append(Record(place(len(_log(history)) + 4), one, "t/p1/k1"))
    for consumer in history.consumers.values():
        consumer.receipts.append(Receipt(one))


def _acked_only_in_one_partition_lost(history: History) -> None:
    """A second partition that the reader never reaches."""
    one = message(1, "k3")
    history.sent[one] = Fate(attempts=1, acked=True, place=place(0, partition=1))
    _log(history).append(Record(place(0, partition=1), one, "t/p1/k3"))


PLANTED: dict[str, tuple[str, Callable[[History], None]]] = {
    "one acked event is not in the log": ("LOST", _drop_logged(lambda m: m == message(9))),
    "the head of a key is gone": ("LOST", _drop_logged(lambda m: m.key == "k2" and m.sequence < 4)),
    "the tail of a key is gone": ("LOST", _drop_logged(lambda m: m.key == "k2" and m.sequence > 15)),
    "a whole key is gone": ("LOST", _drop_logged(lambda m: m.key == "k2")),
    "a consumer misses one": ("LOST", _drop_received),
    "a consumer misses the last ones": ("LOST", _drop_received_suffix),
    "a partition is never delivered": ("LOST", _acked_only_in_one_partition_lost),
    "the log holds one twice": ("DUP", _double_in_log),
    "an exactly-once publish is stored twice": ("DUP", _double_in_log_exactly_once),
    "a repeat without the mark": ("DUP", _double_unmarked),
    "a marked repeat where once was promised": ("DUP", _double_marked_at_exactly_once),
    "an old offset is replayed": ("DUP", _old_offset_replayed),
    "two swapped in the log": ("REORDER", _swap_in_log),
    "two swapped at a consumer": ("REORDER", _swap_received),
    "one comes first after its followers": ("REORDER", _late_first_sight),
    "never sent, received": ("PHANTOM", _never_sent),
    "never sent, in the log": ("PHANTOM", _never_sent_in_log),
    "refused, yet stored": ("PHANTOM", _refused_but_stored),
    "received, yet not in the log": ("PHANTOM", _received_but_not_logged),
    "received without asking": ("PHANTOM", _not_asked_for),
    "a bit flipped in the log": ("CORRUPT", _flip_in_log),
    "a bit flipped on the way": ("CORRUPT", _flip_received),
    "the topic changed": ("CORRUPT", _wrong_topic),
    "an acknowledgement names another event's place": ("OFFSET-CONFLICT", _ack_names_another_place),
    "an acknowledged place behind the end": ("OFFSET-CONFLICT", _ack_behind_the_end),
    "an offset given twice over a restart": ("OFFSET-CONFLICT", _offset_reused),
    "a reader saw another event at an offset": ("OFFSET-CONFLICT", _live_reader_saw_another_event),
    "offsets go back": ("OFFSET-CONFLICT", _log_goes_back),
    "offsets are missing": ("GAP", _hole_in_log),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_caught(name: str) -> None:
    kind, change = PLANTED[name]
    history = clean()
    change(history)
    figures = check(history)
    assert figures.faults[kind] > 0, str(figures)
    assert figures.examples[kind]


def test_every_kind_has_a_planted_fault() -> None:
    assert {kind for kind, _ in PLANTED.values()} == set(KINDS)
    assert len(PLANTED) >= 20


@pytest.mark.parametrize(("wanted", "part"), [(lambda m: m.key == "k2" and m.sequence < 4, "prefix"),
                                              (lambda m: m.key == "k2" and m.sequence == 9, "middle"),
                                              (lambda m: m.key == "k2" and m.sequence > 15, "suffix"),
                                              (lambda m: m.key == "k2", "all")])
def test_lost_says_where(wanted: Callable[[Message], bool], part: str) -> None:
    history = clean()
    _drop_logged(wanted)(history)
    assert set(check(history).lost_where) == {part}


def test_zero_is_reported_with_its_bound() -> None:
    assert zero_of(0, 3000) == "0 of 3000 (< 0.001 at 95 %)"
    assert zero_of(2, 3000) == "2 of 3000"


# --- payloads and journals -------------------------------------------------------------------------------------------
def test_a_payload_comes_back_and_any_flipped_bit_is_seen() -> None:
    payload = message(7).payload(filler=20)
    assert parse_payload(payload) == message(7)
    for index in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[index // 8] ^= 1 << index % 8
        assert parse_payload(bytes(damaged)) is None
    assert parse_payload(b"") is None and parse_payload(payload[:-1]) is None


def test_journals_come_back_and_a_torn_last_line_is_no_fact(tmp_path: Path) -> None:
    producer = Journal(tmp_path / "p")
    for number in (1, 2, 3):
        producer.sent(message(number))
    producer.acked(message(1), place(5))
    producer.refused(message(2), "storage full")
    producer.sent(message(3))
    producer.note("session lost")
    producer.close()
    with open(tmp_path / "p", "ab") as torn:
        torn.write(b"A p1 k1 3")
    history = History()
    assert read_producer(tmp_path / "p", history) == ["session lost"]
    assert history.sent == {message(1): Fate(1, acked=True, place=place(5)), message(2): Fate(1, refused=True),
                            message(3): Fate(2)}

    reader = Journal(tmp_path / "c")
    reader.got(message(1).payload(), False)
    reader.got(message(1).payload(), True, place(5))
    reader.got(b"garbage", False)
    reader.close()
    consumer = Consumer()
    assert read_consumer(tmp_path / "c", consumer) == []
    assert consumer.receipts == [Receipt(message(1)), Receipt(message(1), True, place(5)), Receipt(None)]


def test_a_group_that_marks_a_repeat_is_clean_in_whatever_order_its_journals_are_read() -> None:
    history = clean()
    first, again = (Receipt(message(3), redelivered=mark, place=place(6)) for mark in (False, True))
    rest = [Receipt(record.message, place=record.place) for record in history.log or () if record.place != place(6)]
    history.consumers["group"] = Consumer([again, first, *rest], ordered=False)
    assert check(history).clean
    history.consumers["group"] = Consumer([first, first, *rest], ordered=False)
    assert check(history).faults["DUP"] == 1
