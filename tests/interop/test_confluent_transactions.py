"""confluent-kafka: an idempotent producer and an open transaction, through kill -9: nothing lost, nothing twice."""
from __future__ import annotations

import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.interop.kafka_node import DEADLINE_S, bootstrap, start, unique

ROUNDS = 2


def test_nothing_is_lost_or_twice_through_kills_and_an_open_transaction_is_committed_after_them(tmp_path):
    node = start(tmp_path)
    address = {"bootstrap.servers": bootstrap(node)}
    topic = unique("kills")
    admin = AdminClient(address)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(DEADLINE_S)
    transactional = Producer({**address, "transactional.id": unique("id")})
    transactional.init_transactions(DEADLINE_S)
    transactional.begin_transaction()
    transactional.produce(topic, b"in the transaction")
    assert transactional.flush(DEADLINE_S) == 0
    acked, count = [], 0
    producer = Producer({**address, "enable.idempotence": True})
    try:
        for _ in range(ROUNDS):
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                for _ in range(50):         # what piles up while the node is away comes as one large batch
                    producer.produce(topic, b"k%d" % count, on_delivery=lambda error, message: (
                        acked.append(message.value()) if error is None else None))
                    count += 1
                producer.poll(0.005)
            node.process.kill9()
            node.start()
        assert producer.flush(DEADLINE_S) == 0 and len(acked) == count
        transactional.commit_transaction(DEADLINE_S)
        reader = Consumer({**address, "group.id": "g", "auto.offset.reset": "earliest",
                           "isolation.level": "read_committed"})
        reader.subscribe([topic])
        seen, until = [], time.monotonic() + DEADLINE_S
        while len(seen) < count + 1 and time.monotonic() < until:
            seen += [message.value() for message in reader.consume(1_000, 0.5) if not message.error()]
        reader.close()
        assert seen.count(b"in the transaction") == 1
        assert [value for value in seen if value[:1] == b"k"] == [b"k%d" % number for number in range(count)]
    finally:
        node.process.kill9()
