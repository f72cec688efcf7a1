"""Answers, sessions, groups and offsets are bounded in bytes and in turns, not only in number: hostile.md 88 to 90."""
from __future__ import annotations

import pytest

from protocols.kafka.api import LONG_ROWS, is_long
from protocols.kafka.settings import KafkaSettings
from routing.settings import Limits
from tests.protocols.kafka.harness import APIS, Broker

NOT_FOUND, FULL, INVALID_SIZE, TOO_LARGE = 70, 81, 28, 10


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def commit(client, group, partition=0, text="", offset=1):
    answer = client.ask("OffsetCommit", 2, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
        {"name": "orders", "partitions": [
            {"partition_index": partition, "committed_offset": offset, "committed_metadata": text}]}])
    return answer.topics[0].partitions[0].error_code


# -- answers ---------------------------------------------------------------------------------------------------------

def test_what_is_named_ten_thousand_times_is_answered_once(broker):
    client = broker.connect()
    commit(client, "g")
    many = range(5_000)
    assert len(client.ask("Metadata", 12, topics=[{"name": "orders"} for _ in many]).topics) == 1
    assert len(client.ask("DescribeGroups", 5, groups=["g" for _ in many]).groups) == 1
    assert len(client.ask("ConsumerGroupDescribe", 0, group_ids=["g" for _ in many]).groups) == 1
    assert len(client.ask("OffsetFetch", 8, groups=[{"group_id": "g", "topics": None} for _ in many]).groups) == 1
    assert len(client.ask("DescribeTransactions", 0, transactional_ids=["t" for _ in many]).transaction_states) == 1
    assert len(client.ask("DescribeConfigs", 4, resources=[
        {"resource_type": 2, "resource_name": "orders", "configuration_keys": None} for _ in many]).results) == 1
    producers = client.ask("DescribeProducers", 0, topics=[
        {"name": "orders", "partition_indexes": [0, 1] * 2_000} for _ in range(2)]).topics
    assert [len(topic.partitions) for topic in producers] == [2]


def test_a_long_answer_is_written_in_steps_with_the_same_bytes_as_at_once():
    rows = [{"name": f"t-{number}", "partitions": [{"partition_index": index} for index in range(3)]}
            for number in range(LONG_ROWS)]
    assert is_long({"topics": rows}) and is_long({"topics": [{"partitions": [{}] * (LONG_ROWS + 1)}]})
    assert not is_long({"topics": rows[:100]})
    for version in range(13):
        at_once, in_steps = [], []
        APIS["Metadata"].encode_response(at_once, {"topics": rows}, version)
        for _ in APIS["Metadata"].encode_steps(in_steps, {"topics": rows}, version):
            pass
        assert b"".join(in_steps) == b"".join(at_once)


def test_a_long_answer_keeps_its_place_among_the_others(broker):
    client = broker.connect()
    names = [f"none-{number}" for number in range(2 * LONG_ROWS)]
    client.raw(client.frame("Metadata", 4, topics=[{"name": name} for name in names], allow_auto_topic_creation=False)
               + client.frame("ApiVersions", 0))
    long, short = client.answers()
    assert [topic.name for topic in long.topics] == names and short.api_keys


# -- fetch -----------------------------------------------------------------------------------------------------------

def fetch_many(client, count, session=(0, 0), first=0):
    return client.ask("Fetch", 7, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_id=session[0],
                      session_epoch=session[1], topics=[{"topic": "nothing", "partitions": [
                          {"partition": first + index, "fetch_offset": 0, "partition_max_bytes": 1}
                          for index in range(count)]}])


def test_a_session_cannot_grow_beyond_what_one_request_may_ask_for(tmp_path):
    """Else each small request of it would be as much work as thousands of partitions are."""
    broker = Broker(tmp_path, KafkaSettings(request_items_max=100))
    client = broker.connect()
    session = fetch_many(client, 90).session_id
    assert fetch_many(client, 10, (session, 1), 90).error_code == 0
    assert fetch_many(client, 1, (session, 2), 100).error_code == NOT_FOUND
    assert client.channel.handler.fetch_session is None and broker.server.broker.sessions.total == 0
    broker.close()


def test_what_a_waiting_fetch_has_read_counts_to_its_users_share(broker):
    client = broker.connect()
    client.ask("Produce", 9, **client.produce(b"x" * 10_000))
    waiting = broker.connect()
    waiting.send("Fetch", 12, **{**waiting.fetch(), "max_wait_ms": 60_000, "min_bytes": 1 << 19})
    answers = broker.server.broker.answers
    assert answers.total > 10_000 and not waiting.answers()
    waiting.channel.handler.eof()
    assert answers.total == 0


def test_of_many_waiting_fetches_only_those_read_for_whom_there_is_room(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(answers_bytes_max=50_000, fetch_bytes_max=20_000))
    client = broker.connect()
    waiting = [broker.connect() for _ in range(20)]
    for each in waiting:
        each.send("Fetch", 12, **{**each.fetch(), "max_wait_ms": 5_000, "min_bytes": 1 << 19})
    for _ in range(10):
        client.ask("Produce", 9, **client.produce(b"x" * 1_500))
    assert 30_000 < broker.server.broker.answers.total <= 50_000 + len(waiting) * 2_000      # a batch each, always
    broker.tick(6)
    assert all(each.answers()[0].responses[0].partitions[0].records for each in waiting)
    broker.close()


# -- groups ----------------------------------------------------------------------------------------------------------

def test_what_members_of_all_groups_say_of_themselves_has_a_bound(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(groups_bytes_max=100_000))
    client = broker.connect()
    clients = [broker.connect() for _ in range(5)]
    for number, each in enumerate(clients):
        each.send("JoinGroup", 1, group_id=f"g-{number}", session_timeout_ms=6_000, rebalance_timeout_ms=6_000,
                  member_id="", protocol_type="consumer", protocols=[{"name": "range", "metadata": b"x" * 30_000}])
    broker.tick(1)
    codes = [each.answers()[0].error_code for each in clients]
    assert codes == [0, 0, 0, FULL, FULL]
    broker.tick(60)                                                     # their sessions are over
    assert broker.server.broker.groups._bytes.total == 0
    client = broker.connect()
    client.send("JoinGroup", 1, group_id="g-9", session_timeout_ms=6_000, rebalance_timeout_ms=6_000, member_id="",
                protocol_type="consumer", protocols=[{"name": "range", "metadata": b"x" * 90_000}])
    broker.tick(1)
    joined, = client.answers()
    assert joined.error_code == 0
    assert client.ask("SyncGroup", 1, group_id="g-9", generation_id=joined.generation_id, member_id=joined.member_id,
                      assignments=[{"member_id": joined.member_id, "assignment": b"x" * 20_000}]).error_code == FULL
    assert client.ask("SyncGroup", 1, group_id="g-9", generation_id=joined.generation_id, member_id=joined.member_id,
                      assignments=[{"member_id": joined.member_id, "assignment": b"x" * 9_000}]).error_code == 0
    broker.close()


def test_committed_offsets_have_a_bound_in_bytes_and_may_always_move(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(offsets_bytes_max=10_000))
    client = broker.connect()
    codes = [commit(client, f"g-{number}", text="x" * 3_000) for number in range(5)]
    assert codes == [0, 0, 0, INVALID_SIZE, INVALID_SIZE]
    assert commit(client, "g-0", text="x" * 3_000, offset=7) == 0
    assert client.ask("DeleteGroups", 1, groups_names=["g-1"]).results[0].error_code == 0
    assert commit(client, "g-4", text="x" * 3_000) == 0
    held = broker.server.broker.groups.offsets._bytes.total
    broker.close()
    again = Broker(tmp_path, KafkaSettings(offsets_bytes_max=10_000))
    assert again.server.broker.groups.offsets._bytes.total == held > 9_000
    again.close()


def test_offsets_that_wait_for_a_transaction_have_a_bound_in_bytes(tmp_path):
    broker = Broker(tmp_path, limits=Limits(transaction_bytes_max=5_000, transactions_bytes_max=8_000))
    client = broker.connect()

    def add(name, group):
        made = producers.get(name) or client.ask(
            "InitProducerId", 1, transactional_id=name, transaction_timeout_ms=60_000)
        producers[name] = made
        return client.ask(
            "TxnOffsetCommit", 2, transactional_id=name, group_id=group, producer_id=made.producer_id,
            producer_epoch=made.producer_epoch, topics=[{"name": "orders", "partitions": [
                {"partition_index": 0, "committed_offset": 1, "committed_metadata": "x" * 3_000}]}],
        ).topics[0].partitions[0].error_code

    producers = {}
    assert [add("one", "g-1"), add("one", "g-2"), add("two", "g-1"), add("three", "g-1")] == [
        0, TOO_LARGE, 0, TOO_LARGE]
    made = producers["one"]
    assert client.ask("EndTxn", 1, transactional_id="one", producer_id=made.producer_id,
                      producer_epoch=made.producer_epoch, committed=True).error_code == 0
    assert add("three", "g-1") == 0
    broker.close()


def test_one_user_cannot_take_all_transactional_ids(tmp_path):
    broker = Broker(tmp_path, limits=Limits(transactional_ids_max=10))
    transactions = broker.router.transactions
    made = [transactions.init(f"t-{number}", 1_000, owner="ana") for number in range(8)]
    broker.run()
    assert [not each.ticket.refusals for each in made] == [True] * 5 + [False] * 3
    assert not transactions.init("t-of-bob", 1_000, owner="bob").ticket.refusals
    broker.close()
