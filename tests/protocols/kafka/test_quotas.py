"""Client quotas: which one counts, how long who is above it is held, and that it is held; what is stored."""
from __future__ import annotations

import random

import pytest

from protocols.kafka.quotas.throttle import BUCKETS_MAX, HELD_MAX_S, Throttle
from protocols.kafka.settings import KafkaSettings
from tests.protocols.kafka.harness import Broker

USER, CLIENT = "user", "client-id"
PRODUCE, FETCH = "producer_byte_rate", "consumer_byte_rate"


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def alter(broker, entity, **values):
    answer = broker.connect().ask("AlterClientQuotas", 1, entries=[{
        "entity": [{"entity_type": type, "entity_name": name} for type, name in entity.items()],
        "ops": [{"key": key, "value": value or 0.0, "remove": value is None} for key, value in values.items()]}])
    return answer.entries[0].error_code


def described(broker, *components, strict=False):
    answer = broker.connect().ask("DescribeClientQuotas", 1, strict=strict, components=[
        {"entity_type": type, "match_type": kind, "match": name} for type, kind, name in components])
    assert answer.error_code == 0
    return [({part.entity_type: part.entity_name for part in entry.entity},
             {value.key: value.value for value in entry.values}) for entry in answer.entries]


def test_the_most_exact_one_counts(broker):
    """KIP-124: by user and client id, user, client id; a name before the default of its kind."""
    rates = {}
    for user in ("ana", None, ""):
        for client in ("app", None, ""):
            entity = {type: name for type, name in ((USER, user), (CLIENT, client)) if name != ""}
            if entity:
                rates[user, client] = 1_000.0 + len(rates)
                assert alter(broker, entity, **{PRODUCE: rates[user, client]}) == 0
    for user, client in (("ana", "app"), ("ana", None), ("ana", ""), (None, "app"), (None, None), (None, ""),
                         ("", "app"), ("", None)):
        assert broker.server.broker.quotas.rate(PRODUCE, "ana", "app")[1] == rates[user, client]
        alter(broker, {type: name for type, name in ((USER, user), (CLIENT, client)) if name != ""}, **{PRODUCE: None})
    assert broker.server.broker.quotas.rate(PRODUCE, "ana", "app") is None and not broker.server.broker.quotas


def test_a_producer_above_its_rate_is_told_so_and_not_read_meanwhile(broker):
    assert alter(broker, {CLIENT: "test"}, **{PRODUCE: 1_000.0}) == 0
    client, other = broker.connect(), broker.connect()
    other.client_id = "other"
    answer = client.ask("Produce", 9, **client.produce(b"x" * 3_000))
    assert 2_000 <= answer.throttle_time_ms <= 2_200
    client.send("Metadata", 9, topics=[])
    broker.tick(1.0)
    assert not client.answers(), "it does not wait, and gets its way"
    assert other.ask("Produce", 9, **other.produce(b"x" * 3_000)).throttle_time_ms == 0
    broker.tick(1.3)
    assert len(client.answers()) == 1
    assert client.ask("Produce", 9, **client.produce(b"x")).throttle_time_ms == 0
    assert broker.server.counters()["kafka"]["throttled"] == 1


def test_a_reader_above_its_rate_gets_nothing_more_on_any_connection(broker):
    assert alter(broker, {CLIENT: None}, **{FETCH: 1_000.0}) == 0
    client, second = broker.connect(), broker.connect()
    client.ask("Produce", 9, **client.produce(b"x" * 3_000))
    answer = client.ask("Fetch", 11, **client.fetch())
    assert answer.throttle_time_ms >= 2_000 and answer.responses[0].partitions[0].records
    answer = second.ask("Fetch", 11, **second.fetch())
    assert answer.throttle_time_ms > 0 and not answer.responses and answer.error_code == 0


def test_partitions_that_are_made_have_a_rate(broker):
    assert alter(broker, {USER: None}, controller_mutation_rate=2.0) == 0
    answer = broker.connect().ask("CreateTopics", 5, topics=[
        {"name": "many", "num_partitions": 10, "replication_factor": 1}])
    assert answer.topics[0].error_code == 0 and answer.throttle_time_ms >= 3_900


def test_the_loops_time_has_a_rate(broker):
    assert alter(broker, {USER: None}, request_percentage=50.0) == 0
    throttle = broker.server.broker.throttle
    assert throttle.add("request_percentage", 100 * 0.4, "ana", "app", 10.0) == 0.0
    assert throttle.add("request_percentage", 100 * 0.4, "ana", "app", 10.0) == pytest.approx(0.6)


def test_what_is_no_quota_is_refused(broker):
    for entity, values in (
            ({}, {PRODUCE: 1.0}), ({"ip": "127.0.0.1"}, {PRODUCE: 1.0}), ({USER: ""}, {PRODUCE: 1.0}),
            ({USER: "x" * 300}, {PRODUCE: 1.0}), ({USER: "a"}, {"what": 1.0}), ({USER: "a"}, {PRODUCE: -1.0}),
            *(({USER: "a"}, {PRODUCE: value}) for value in (float("nan"), float("inf"), 1e-300))):
        assert alter(broker, entity, **values) == 42, (entity, values)
    answer = broker.connect().ask("DescribeClientQuotas", 1, components=[
        {"entity_type": USER, "match_type": 9, "match": None}], strict=False)
    assert answer.error_code == 42


def test_quotas_outlive_a_restart_and_are_found_by_filters(tmp_path):
    broker = Broker(tmp_path)
    alter(broker, {USER: "ana"}, **{PRODUCE: 5.0, FETCH: 6.0})
    alter(broker, {USER: None}, **{PRODUCE: 7.0})
    alter(broker, {USER: "a/\"ü", CLIENT: "app"}, **{PRODUCE: 8.0})
    alter(broker, {USER: "ana"}, **{FETCH: None})
    broker.close()
    broker = Broker(tmp_path)
    assert described(broker, (USER, 0, "ana")) == [({USER: "ana"}, {PRODUCE: 5.0})]
    assert described(broker, (USER, 1, None)) == [({USER: None}, {PRODUCE: 7.0})]
    assert len(described(broker, (USER, 2, None))) == 3 and len(described(broker, (USER, 2, None), strict=True)) == 2
    assert described(broker, (CLIENT, 2, None)) == [({CLIENT: "app", USER: "a/\"ü"}, {PRODUCE: 8.0})]
    assert len(described(broker)) == 3
    broker.close()


def test_entities_have_a_bound(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(quota_entities_max=2))
    assert [alter(broker, {USER: str(number)}, **{PRODUCE: 1.0}) for number in range(3)] == [0, 0, 42]
    assert alter(broker, {USER: "1"}, **{PRODUCE: 2.0}) == 0
    broker.close()


def test_over_a_long_time_a_client_has_its_rate_and_no_answer_holds_it_for_ever(broker):
    alter(broker, {USER: None}, **{PRODUCE: 1_000.0})
    throttle, rng, now_s, total = broker.server.broker.throttle, random.Random(1), 0.0, 0
    while now_s < 600:
        amount = rng.randrange(2_000)
        total += amount
        now_s += throttle.add(PRODUCE, amount, "ana", "app", now_s) + rng.random() * 0.1
    assert 0.95 <= total / now_s / 1_000 <= 1.02
    assert throttle.add(PRODUCE, 1e12, "ben", "app", now_s) == pytest.approx(HELD_MAX_S)


def test_made_up_client_ids_cost_bounded_memory(broker):
    alter(broker, {CLIENT: None}, **{PRODUCE: 1_000.0})
    throttle = Throttle(broker.server.broker.quotas)
    for number in range(BUCKETS_MAX + 500):
        throttle.add(PRODUCE, 1, "ana", str(number), 0.0)
    assert len(throttle._buckets) == BUCKETS_MAX


def test_a_long_client_id_costs_no_more_memory_than_a_name_may_have(broker):
    """hostile.md 90: 10,000 of them with 32 KiB each were 320 MB."""
    broker.server.broker.quotas.change([("client-id", None)], {"producer_byte_rate": 10.0}, validate_only=False)
    throttle = Throttle(broker.server.broker.quotas)
    for number in range(3):
        throttle.add("producer_byte_rate", 1.0, "ana", "c" * 32_000 + str(number), 0.0)
    assert [len(client_id) for _, _, client_id, _ in throttle._buckets] == [250]
