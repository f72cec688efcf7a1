"""DescribeShareGroupOffsets (90), versions 0 and 1: the first record of each partition that is not done.
                                                                                            Sources: KIP-932, KIP-1226
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.cluster.rows import LEADER_EPOCH
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.sharing.groups import not_shared

if TYPE_CHECKING:
    from routing.cursors.cursor import Cursor

SCHEMA = Schema(90, "DescribeShareGroupOffsets", 0, 1, flexible=0, request="""
    groups [] {
        group_id string
        topics []? {
            topic_name string
            partitions []int32
        }
    }
""", response="""
    throttle_time_ms int32
    groups [] {
        group_id string
        topics [] {
            topic_name string
            topic_id uuid
            partitions [] {
                partition_index int32
                start_offset int64
                leader_epoch int32
                lag int64 1+ = -1
                error_code int16
                error_message string? = null
            }
        }
        error_code int16
        error_message string? = null
    }
""")


async def handle(call: Call, request: Message) -> Values:
    return {"groups": [{"group_id": group.group_id, **await _describe(call, group)}
                       for group in {group.group_id: group for group in request.groups}.values()]}


async def _describe(call: Call, group: Message) -> Values:
    if not call.broker.groups.may_see(call.identity, group.group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    consumer = call.broker.share_groups.consumer(group.group_id)
    if consumer is None:
        return not_shared(group.group_id)
    wanted = None if group.topics is None else {
        (topic.topic_name, index) for topic in group.topics for index in topic.partitions}
    found: dict[str, list[dict[str, Any]]] = {}
    share = call.broker.share_groups.find(group.group_id)
    cursors = {partition: cursor for partition, cursor in consumer.cursors.items()
               if share is None or partition.stream not in share.unset}
    for partition, cursor in sorted(cursors.items(), key=lambda pair: (pair[0].stream, pair[0].index)):
        if wanted is None or (partition.stream, partition.index) in wanted:
            found.setdefault(partition.stream, []).append(
                {"partition_index": partition.index, "leader_epoch": LEADER_EPOCH, **_place(cursor)})
        await call.rest()
    known = {(partition.stream, partition.index) for partition in cursors}
    for name, index in sorted((wanted or set()) - known):
        found.setdefault(name, []).append({"partition_index": index, "start_offset": -1, "leader_epoch": LEADER_EPOCH})
        await call.rest()
    streams = {name: call.broker.topics.find(name) for name in found}
    return {"topics": [
        {"topic_name": name, "topic_id": call.broker.topics.id_of(stream) if stream is not None else bytes(16),
         "partitions": partitions}
        for name, partitions in found.items() for stream in [streams[name]]]}


def _place(cursor: Cursor) -> dict[str, int]:
    """The first offset that is not done, and how many there are: as Kafka's lag, that counts offsets."""
    position, unacked = cursor.state()
    return {"start_offset": min((position, *unacked)),
            "lag": max(cursor.partition.end_offset - position, 0) + len(unacked)}


API = Api(SCHEMA, handle)
