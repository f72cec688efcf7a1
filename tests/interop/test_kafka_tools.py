"""Apache Kafka's own console tools (4.4) against a node: topics, producer, consumer, groups and their reset, offsets,
records deleted, log dirs.
"""
from __future__ import annotations

import json

from tests.interop.kafka_node import bootstrap, java, kafka, unique  # noqa: F401

TOOLS = "org.apache.kafka.tools."


def tool(node, name, *arguments, input=None, option="--bootstrap-server"):
    done = java(TOOLS + name, option, bootstrap(node), *arguments, input=input)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_console_tools_do_what_they_do(kafka, tmp_path):  # noqa: F811
    topic, group = unique("tools"), unique("group")
    tool(kafka, "TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--replication-factor", "1",
         "--config", "max.message.bytes=100000")
    described = tool(kafka, "TopicCommand", "--describe", "--topic", topic)
    assert "PartitionCount: 2" in described and "max.message.bytes=100000" in described
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
