"""Acknowledgements of share groups: done, not now, never, more time.                      Sources: KIP-932, KIP-1222"""
from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from protocols.kafka.api import Call, Message
from protocols.kafka.codec.errors import Code
from protocols.kafka.sharing.options import LOCK
from protocols.kafka.sharing.sessions import Place, ShareSession

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Delivery
    from routing.log.partition import Partition


class Ack(enum.IntEnum):
    GAP = 0                     # there was no record at this offset
    ACCEPT = 1
    RELEASE = 2
    REJECT = 3
    RENEW = 4


Plan = list[tuple["Delivery", Ack]]


async def acknowledge(call: Call, session: ShareSession, topics: list[Message]) -> dict[Place, Code]:
    """Everything that a request acknowledges; for each partition of it, how that went. It is on disk then."""
    found: dict[Place, Code] = {}
    consumer = session.reader.consumer
    lock_s = call.broker.share_groups.options.seconds(session.group_id, LOCK)
    for topic in topics:
        for asked in topic.partitions:
            if not asked.acknowledgement_batches:
                continue
            place = topic.topic_id, asked.partition_index
            partition = call.broker.share_sessions.partition(place)
            if partition is None or consumer is None:
                found[place] = Code.UNKNOWN_TOPIC_ID
                continue
            plan = _plan(consumer, session, partition, asked.acknowledgement_batches)
            if isinstance(plan, Code):
                found[place] = plan
            else:
                _carry_out(consumer, plan, lock_s)
                found[place] = Code.NONE
            await call.rest()
    if consumer is not None and Code.NONE in found.values():
        ticket = call.broker.router.registry.checkpoint(consumer)
        if ticket is not None and (await call.durable(ticket)).refusals:
            return {place: code or Code.KAFKA_STORAGE_ERROR for place, code in found.items()}
    return found


def _plan(consumer: Consumer, session: ShareSession, partition: Partition, batches: list[Message]) -> Plan | Code:
    """What each record of a partition is answered with: all of them, or an error and none."""
    cursor = consumer.cursors.get(partition)
    in_flight = cursor.in_flight if cursor is not None else {}
    plan: Plan = []
    behind = 0                              # of the batches so far, which go upwards: no record is named twice
    for batch in batches:
        count, types = batch.last_offset - batch.first_offset + 1, batch.acknowledge_types
        if batch.first_offset < behind or count < 1 or len(types) not in (1, count) or not all(
                Ack.GAP <= type <= Ack.RENEW for type in types):
            return Code.INVALID_REQUEST
        behind = batch.last_offset + 1
        if len(types) == 1 and types[0] == Ack.GAP:
            continue
        if len(types) == 1 and count > len(in_flight):          # so one of them is not its own, however many are named
            return Code.INVALID_RECORD_STATE
        for number in range(count):
            type = types[number] if len(types) > 1 else types[0]
            delivery = in_flight.get(batch.first_offset + number)
            if delivery is not None and delivery.member is session.reader:
                plan.append((delivery, Ack(type) if type != Ack.GAP else Ack.ACCEPT))
            elif type != Ack.GAP:
                return Code.INVALID_RECORD_STATE
    return plan


def _carry_out(consumer: Consumer, plan: Plan, lock_s: float) -> None:
    consumer.ack([delivery for delivery, ack in plan if ack is Ack.ACCEPT])
    for delivery, ack in plan:
        if ack is Ack.RELEASE:
            consumer.nack(delivery, 0.0)
        elif ack is Ack.REJECT:
            consumer.reject(delivery)
        elif ack is Ack.RENEW:
            consumer.extend(delivery, lock_s)
