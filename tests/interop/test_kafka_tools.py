"""Apache Kafka's own console tools (4.4) against a node: topics, producer, consumer, groups and their reset, offsets,
records deleted, log dirs, transactions, verifiable clients, quotas, share groups.
"""
from __future__ import annotations

import json
import subprocess
import time

import pytest
from confluent_kafka import KafkaException, Producer

from tests.interop.kafka_node import DEADLINE_S, bootstrap, java, java_command, kafka, unique  # noqa: F401
from tests.support.wait import wait_until

TOOLS = "org.apache.kafka.tools."


def tool(node, name, *arguments, input="", option="--bootstrap-server"):
    done = java(TOOLS + name, option, bootstrap(node), *arguments, input=input)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_console_tools_do_what_they_do(kafka, tmp_path):  # noqa: F811
    topic, group = unique("tools"), unique("group")
    tool(kafka, "TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--replication-factor", "1",
         "--config", "max.message.bytes=100000", "--config", "delete.retention.ms=1000",
         "--config", "min.compaction.lag.ms=60000")
    described = tool(kafka, "TopicCommand", "--describe", "--topic", topic)
    for text in ("PartitionCount: 2", "max.message.bytes=100000", "delete.retention.ms=1000",
                 "min.compaction.lag.ms=60000"):
        assert text in described
    tool(kafka, "ConsoleProducer", "--topic", topic, "--property", "parse.key=true", "--property", "key.separator=:",
         input="".join(f"k{number}:v{number}\n" for number in range(50)))
    read = tool(kafka, "consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "50",
                "--group", group, "--timeout-ms", "30000")
    assert sorted(read.split()) == sorted(f"v{number}" for number in range(50))
    ends = dict(line.rsplit(":", 1) for line in tool(kafka, "GetOffsetShell", "--topic", topic).split())
    assert sum(map(int, ends.values())) == 50
    state = tool(kafka, "consumer.group.ConsumerGroupCommand", "--describe", "--group", group)
    lags = [int(line.split()[5]) for line in state.splitlines() if line.startswith(group)]
    assert len(lags) == 2 and sum(lags) == 0
    tool(kafka, "consumer.group.ConsumerGroupCommand", "--group", group, "--topic", topic, "--reset-offsets",
         "--to-earliest", "--execute")
    state = tool(kafka, "consumer.group.ConsumerGroupCommand", "--describe", "--group", group)
    assert sum(int(line.split()[5]) for line in state.splitlines() if line.startswith(group)) == 50
    records = tmp_path / "records.json"
    records.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": -1}]}))
    tool(kafka, "DeleteRecordsCommand", "--offset-json-file", str(records))
    starts = tool(kafka, "GetOffsetShell", "--topic-partitions", f"{topic}:0", "--time", "earliest").strip()
    assert starts == f"{topic}:0:{ends[f'{topic}:0']}"
    assert topic in tool(kafka, "LogDirsCommand", "--describe", "--topic-list", topic)
    tool(kafka, "TopicCommand", "--delete", "--topic", topic)
    assert topic not in tool(kafka, "TopicCommand", "--list").split()


def alone(node, name, *arguments):
    """One that says the most when its program ends: a program of its own. What it says is JSON."""
    done = subprocess.run(java_command(TOOLS + name, "--bootstrap-server", bootstrap(node), *arguments),
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_verifiable_producer_and_consumer_agree(kafka):  # noqa: F811
    topic = unique("verifiable")
    said = alone(kafka, "VerifiableProducer", "--topic", topic, "--max-messages", "200", "--acks", "-1")
    summary = said[-1]
    assert (summary["sent"], summary["acked"]) == (200, 200)
    said = alone(kafka, "VerifiableConsumer", "--topic", topic, "--group-id", unique("group"), "--max-messages", "200",
                 "--reset-policy", "earliest")
    assert sum(each["count"] for each in said if each["name"] == "records_consumed") == 200
    committed = [each for each in said if each["name"] == "offsets_committed"]
    assert committed and all(each["success"] for each in committed)


def test_transactions_are_found_and_one_that_hangs_is_aborted(kafka):  # noqa: F811
    topic, name = unique("transactions"), unique("id")
    producer = Producer({"bootstrap.servers": bootstrap(kafka), "transactional.id": name})
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(DEADLINE_S)
    listed = tool(kafka, "TransactionsCommand", "list")
    assert any(line.split()[0] == name and "Ongoing" in line for line in listed.splitlines()[1:])
    assert f"{topic}-0" in tool(kafka, "TransactionsCommand", "describe", "--transactional-id", name)
    described = tool(kafka, "TransactionsCommand", "describe-producers", "--topic", topic, "--partition", "0")
    assert described.splitlines()[1].split()[-1] == "0"             # where the open transaction begins
    tool(kafka, "TransactionsCommand", "forceTerminateTransaction", "--transactionalId", name)
    with pytest.raises(KafkaException):
        producer.commit_transaction(DEADLINE_S)
    assert "Ongoing" not in tool(kafka, "TransactionsCommand", "describe", "--transactional-id", name)


def test_a_quota_of_the_tool_holds_a_client_and_ends(kafka):  # noqa: F811
    topic, name, throttled = unique("quota"), unique("client"), []
    of_client = ("--entity-type", "clients", "--entity-name", name)
    tool(kafka, "ConfigCommand", "--alter", *of_client, "--add-config", "producer_byte_rate=2000")
    assert "producer_byte_rate=2000.0" in tool(kafka, "ConfigCommand", "--describe", *of_client)
    producer = Producer({"bootstrap.servers": bootstrap(kafka), "client.id": name, "linger.ms": 0,
                         "throttle_cb": throttled.append})
    begun_s = time.monotonic()
    for _ in range(3):
        producer.produce(topic, b"x" * 3_000)
        assert producer.flush(DEADLINE_S) == 0
    assert time.monotonic() - begun_s >= 1.5                        # 9,000 bytes, of which 2,000 may go at once
    wait_until(lambda: producer.poll(0.1) is not None and throttled, "the client is told", deadline_s=DEADLINE_S)
    assert throttled[0].throttle_time > 0
    tool(kafka, "ConfigCommand", "--alter", *of_client, "--delete-config", "producer_byte_rate")
    assert "producer_byte_rate" not in tool(kafka, "ConfigCommand", "--describe", *of_client)


def test_the_tools_of_share_groups(kafka):  # noqa: F811
    topic, group = unique("shared"), unique("group")
    of_group = ("--entity-type", "groups", "--entity-name", group)
    tool(kafka, "ConfigCommand", "--alter", *of_group, "--add-config", "share.auto.offset.reset=earliest")
    assert "share.auto.offset.reset=earliest" in tool(kafka, "ConfigCommand", "--describe", *of_group)
    tool(kafka, "ConsoleProducer", "--topic", topic, input="".join(f"v{number}\n" for number in range(20)))
    read = tool(kafka, "consumer.ConsoleShareConsumer", "--topic", topic, "--group", group, "--max-messages", "20",
                "--timeout-ms", "30000")
    assert sorted(read.split()) == sorted(f"v{number}" for number in range(20))

    def place():
        said = tool(kafka, "consumer.group.ShareGroupCommand", "--describe", "--group", group)
        return [line.split()[3:5] for line in said.splitlines() if line.startswith(group)]

    assert place() == [["20", "0"]]
    assert group in tool(kafka, "consumer.group.ShareGroupCommand", "--list")
    tool(kafka, "consumer.group.ShareGroupCommand", "--reset-offsets", "--to-earliest", "--execute", "--group", group,
         "--topic", topic)
    assert place() == [["0", "20"]]
    tool(kafka, "consumer.group.ShareGroupCommand", "--delete-offsets", "--group", group, "--topic", topic)
    assert place() == []
    tool(kafka, "consumer.group.ShareGroupCommand", "--delete", "--group", group)
    assert group not in tool(kafka, "consumer.group.ShareGroupCommand", "--list")
