"""Appending a producer's batch as it came, and the codes for what the log refuses."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.codec.errors import Code
from routing.errors import Reason, Refusal
from routing.publisher import Publisher
from routing.router import Router
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition

CODES = {
    Reason.NOT_AUTHORIZED: Code.TOPIC_AUTHORIZATION_FAILED,
    Reason.TOPIC_INVALID: Code.INVALID_RECORD,
    Reason.PAYLOAD_TOO_LARGE: Code.MESSAGE_TOO_LARGE,
    Reason.PAYLOAD_INVALID: Code.CORRUPT_MESSAGE,
    Reason.QUOTA_EXCEEDED: Code.REQUEST_TIMED_OUT,         # a producer tries again
    Reason.STORAGE_FULL: Code.KAFKA_STORAGE_ERROR,
    Reason.STORAGE_FAILED: Code.KAFKA_STORAGE_ERROR,
    Reason.NOT_FOUND: Code.UNKNOWN_TOPIC_OR_PARTITION,
    Reason.BUSY: Code.REQUEST_TIMED_OUT,
    Reason.SHUTTING_DOWN: Code.NOT_LEADER_OR_FOLLOWER,
}


def code_of(refusal: Refusal) -> Code:
    return CODES.get(refusal.reason, Code.UNKNOWN_SERVER_ERROR)


def append(router: Router, partition: Partition, batch: bytes, publisher: Publisher) -> Ticket:
    """Queue one batch. Its place, or why it has none, stands in the ticket's parts."""
    ticket = Ticket(())
    partition.append_raw(batch, ticket)
    ticket.part_done()
    router.request_turn()
    return ticket
