"""Debian's kcat (librdkafka 2.0.2): produce, consume, list, offsets by time. It compresses only if Produce is listed
from version 0 on.
"""
from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.conftest import require_peer
from tests.interop.kafka_node import bootstrap, kafka, unique  # noqa: F401

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3}      # in the attributes of a batch


def kcat(node, *arguments, input=None):
    require_peer(shutil.which("kcat"), "kcat")
    done = subprocess.run(["kcat", "-b", bootstrap(node), *arguments], input=input, capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_produced_comes_back(kafka, codec):  # noqa: F811
    topic = unique("kcat")
    lines = "".join(f"key-{number}:value-{number}\n" for number in range(500))
    kcat(kafka, "-P", "-t", topic, "-K:", "-z", codec, input=lines.encode())
    assert kcat(kafka, "-C", "-t", topic, "-K:", "-e", "-q") == lines
    log, = (path.read_bytes() for path in kafka.data.glob(f"streams/{topic}/0/*.log"))
    found, at = set(), 0
    while log[at + 16] == 2:                            # batches one after the other; the rest is reserved space
        found.add(log[at + 22] & 7)
        at += 12 + int.from_bytes(log[at + 8:at + 12], "big")
    assert CODECS[codec] in found, "it is not stored as it came"     # a tiny batch may come as it is


def test_headers_nulls_and_offsets(kafka):  # noqa: F811
    topic = unique("kcat")
    kcat(kafka, "-P", "-t", topic, "-K:", "-Z", "-H", "a=b", "-H", "c=d", input=b"k1:v1\nk2:\n")
    rows = [json.loads(line) for line in kcat(kafka, "-C", "-t", topic, "-J", "-e", "-q").splitlines()]
    assert [(row["key"], row["payload"], row["offset"], row["headers"]) for row in rows] == [
        ("k1", "v1", 0, ["a", "b", "c", "d"]), ("k2", None, 1, ["a", "b", "c", "d"])]
    assert kcat(kafka, "-C", "-t", topic, "-o", "-1", "-e", "-q", "-f", "%k\n") == "k2\n"
    assert kcat(kafka, "-Q", "-t", f"{topic}:0:{rows[1]['ts']}").strip() == f"{topic} [0] offset {rows[0]['offset']}" \
        or rows[0]["ts"] != rows[1]["ts"]


def test_the_list_names_the_broker_and_the_topics(kafka):  # noqa: F811
    topic = unique("kcat")
    kcat(kafka, "-P", "-t", topic, input=b"x\n")
    found = json.loads(kcat(kafka, "-L", "-J"))
    assert [broker["name"] for broker in found["brokers"]] == [bootstrap(kafka)]
    assert {entry["topic"]: len(entry["partitions"]) for entry in found["topics"]}[topic] == 1
