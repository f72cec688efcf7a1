"""What several answers say of the cluster: its broker, partitions, and what somebody may do.

An operation is a bit: 1 << its number among Kafka's AclOperations.                                   Source: KIP-430
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Call
from protocols.kafka.cluster.view import NOBODY
from protocols.kafka.codec.errors import Code
from routing.rights.policy import Action
from routing.streams.streams import Stream

LEADER_EPOCH = 0            # constant: a node is the only one that leads its partitions
READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, CLUSTER_ACTION = (1 << number for number in range(3, 10))
DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE = (1 << number for number in range(10, 13))


def brokers(call: Call) -> list[dict[str, Any]]:
    host, port = call.broker.address_for(call.client.local_address)
    return [{"node_id": one.id, "broker_id": one.id, "host": one.host, "port": one.port}
            for one in call.broker.cluster.brokers(host, port)]


def partitions(call: Call, stream: Stream) -> list[dict[str, Any]]:
    leader = call.broker.cluster.leader_id
    one = [leader] if leader != NOBODY else []
    code = Code.NONE if one else Code.LEADER_NOT_AVAILABLE
    return [
        {"error_code": code, "partition_index": partition.index, "leader_id": leader, "leader_epoch": LEADER_EPOCH,
         "replica_nodes": one, "isr_nodes": one}
        for partition in stream.partitions]


def topic_operations(call: Call, stream: Stream) -> int:
    topics, identity = call.broker.topics, call.identity
    operations = DESCRIBE | DESCRIBE_CONFIGS
    if topics.may_read(identity, stream):
        operations |= READ
    if topics.may_write(identity, stream):
        operations |= WRITE
    if topics.may_manage(identity):
        operations |= CREATE | DELETE | ALTER | ALTER_CONFIGS
    return operations


def cluster_operations(call: Call) -> int:
    topics, identity = call.broker.topics, call.identity
    operations = DESCRIBE | IDEMPOTENT_WRITE
    if topics.may(identity, Action.VIEW):
        operations |= DESCRIBE_CONFIGS
    if topics.may_manage(identity):
        operations |= CREATE | ALTER | ALTER_CONFIGS
    if topics.may(identity, Action.ADMINISTER):             # ACLs
        operations |= ALTER
    return operations


def group_operations(call: Call) -> int:
    operations = READ | DESCRIBE
    return operations | DELETE if call.broker.topics.may(call.identity, Action.OPERATE) else operations
