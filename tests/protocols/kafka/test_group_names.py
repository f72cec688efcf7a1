"""A group that has the name of somebody's consumer or queue gives no right to it (hostile.md 67, 93)."""
from __future__ import annotations

import pytest

from protocols.kafka.settings import KafkaSettings
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec
from routing.queues.options import QueueOptions
from routing.rights.policy import Action, Rule
from routing.settings import StreamSettings
from tests.protocols.kafka.harness import Broker
from tests.support.routing import ANA

NOT_ALLOWED, NO_GROUP = 30, 69
STREAMS = tuple(StreamSettings(name, (f"{name}/#",), partitions=1) for name in ("one", "two"))
RULES = (Rule(allow=(Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE), to=("user:ana",), topics=("#", "$queue/#")),
         Rule(allow=(Action.CONNECT, Action.PUBLISH, Action.SUBSCRIBE), to=("user:eve",), topics=("two/#",)))
HOUR_S = 3_600


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path, KafkaSettings(offsets_retention_s=HOUR_S), streams=STREAMS, rules=RULES)
    broker.users.passwords = {"ana": b"x", "eve": b"x"}
    yield broker
    broker.close()


def login(broker, user):
    client = broker.connect()
    client.ask("SaslHandshake", 1, mechanism="PLAIN")
    assert client.ask("SaslAuthenticate", 2, auth_bytes=b"\0%b\0x" % user).error_code == 0
    return client


def beat(client, name, epoch=0, topics=("nothing",)):
    return client.ask("ShareGroupHeartbeat", 1, group_id=name, member_id="m", member_epoch=epoch,
                      subscribed_topic_names=list(topics) if epoch == 0 else None).error_code


def commit(client, name):
    answer = client.ask("OffsetCommit", 8, group_id=name, generation_id_or_member_epoch=-1, member_id="", topics=[
        {"name": "two", "partitions": [{"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}]}])
    return answer.topics[0].partitions[0].error_code


def move(client, name):
    answer = client.ask("AlterShareGroupOffsets", 0, group_id=name, topics=[
        {"topic_name": "one", "partitions": [{"partition_index": 0, "start_offset": 0}]}])
    return answer.error_code


def delete(client, name):
    return client.ask("DeleteGroups", 2, groups_names=[name]).results[0].error_code


def of_ana(broker, kind):
    if kind == "queue":
        broker.router.queues.declare("jobs", QueueOptions(), ANA)
    else:
        broker.router.open_consumer(
            ConsumerSpec("jobs", ("one/#",), Mode.SHARED, "latest", ("one",), max_deliveries=5), ANA)
    broker.run()
    return broker.router.consumers["jobs"]


@pytest.mark.parametrize("kind", ["queue", "consumer"])
@pytest.mark.parametrize("early", [False, True])
def test_no_group_moves_shows_or_deletes_what_is_somebody_elses(broker, kind, early):
    """early: the group was made before there was anything of that name."""
    broker.publish("one/1", "one/2")
    eve = login(broker, b"eve")
    if early:
        assert beat(eve, "jobs") == 0 and beat(eve, "jobs", epoch=-1) == 0
    theirs = of_ana(broker, kind)
    before = {partition: cursor.state() for partition, cursor in theirs.cursors.items()}
    assert beat(eve, "jobs") == NOT_ALLOWED
    beat(eve, "jobs", epoch=-1)
    assert move(eve, "jobs") in (NOT_ALLOWED, NO_GROUP)
    assert commit(eve, "jobs") == NOT_ALLOWED
    broker.tick(1.0)
    assert delete(eve, "jobs") in (NOT_ALLOWED, NO_GROUP)
    for _ in range(3):
        broker.tick(HOUR_S)
    assert broker.router.consumers.get("jobs") is theirs
    assert {partition: cursor.state() for partition, cursor in theirs.cursors.items()} == before
