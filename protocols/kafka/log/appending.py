"""Appending a producer's batch as it came, and the codes for what the log refuses."""
from __future__ import annotations

from protocols.kafka.codec.errors import Code
from routing.errors import Fault, Reason, Refusal
from routing.publishing.publisher import Publisher
from routing.router import Router
from routing.streams.streams import Stream
from routing.ticket import Ticket

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

FAULTS = {
    Fault.CHECKSUM: Code.CORRUPT_MESSAGE,
    Fault.RECORD: Code.INVALID_RECORD,
    Fault.CODEC: Code.UNSUPPORTED_COMPRESSION_TYPE,
    Fault.TOO_LARGE: Code.MESSAGE_TOO_LARGE,
    Fault.UNKNOWN_PRODUCER: Code.INVALID_PRODUCER_ID_MAPPING,
    Fault.EPOCH: Code.INVALID_PRODUCER_EPOCH,
    Fault.SEQUENCE: Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
    Fault.TRANSACTION: Code.INVALID_TXN_STATE,
    Fault.BUSY: Code.CONCURRENT_TRANSACTIONS,
    Fault.TIMEOUT: Code.INVALID_TRANSACTION_TIMEOUT,
}


def code_of(refusal: Refusal) -> Code:
    if refusal.fault is not None:
        return FAULTS.get(refusal.fault, Code.UNKNOWN_SERVER_ERROR)
    return CODES.get(refusal.reason, Code.UNKNOWN_SERVER_ERROR)


def append(router: Router, stream: Stream, index: int, batch: bytes, publisher: Publisher) -> Ticket:
    """Queue one batch. Its place, or why it has none, stands in the ticket's parts."""
    return router.publish_raw(stream.name, index, batch, publisher)
