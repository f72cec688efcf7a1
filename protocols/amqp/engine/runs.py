"""Run: transfers that are like the one before but for number, tag and payload, which most are. Read without decoding.

    size · channel · performative up to the number │ number │ bin8 size │ tag │ rest, begin of the message │ payload
    └──────────────────── head ─────────────────────┘          └─ middle ─┘     └────────── rest ───────────┘

Frames that fit come to the same as they would one by one. Sans-IO.
"""
from __future__ import annotations

from typing import Any

from protocols.amqp.codec import hot
from protocols.amqp.codec.performatives import Transfer
from protocols.amqp.engine.seams import Alike

FRAMES_MAX = 64             # of one go: some 0.1 ms
_HEAD_BYTES = 8 + 3         # of a frame, and the descriptor
_FIXED_WIDTHS = {0x43: 1, 0x52: 2, 0x70: 5}
_UINT, _BINARY_8, _LIST_8 = 0x70, 0xA0, 0xC0


class Run:
    """Of one link, as long as its node knows what begins so."""

    __slots__ = ("_alike", "_head", "_id_at", "_middle", "_payload_at", "_rest", "_rest_at", "_settled", "_size",
                 "link")

    def __init__(self, link: Any, frame: bytes, id_at: int, rest_at: int, alike: Alike, *, settled: bool) -> None:
        """id_at: of the number. rest_at: behind the tag. alike: of the node."""
        payload_at = hot.end_of_list(frame, _HEAD_BYTES) + len(alike.start)
        self.link = link
        self._alike = alike
        self._settled = settled
        self._size = len(frame)
        self._id_at = id_at
        self._rest_at = rest_at
        self._payload_at = payload_at
        self._head = frame[:id_at]
        self._middle = frame[id_at + 4:id_at + 6]
        self._rest = frame[rest_at:payload_at]

    def fits(self, data: bytes, position: int) -> bool:
        starts = data.startswith
        return (starts(self._head, position) and starts(self._middle, position + self._id_at + 4)
                and starts(self._rest, position + self._rest_at))

    def go(self, data: bytes, position: int) -> int:
        """Take the frames from position on that fit. Returns where the first one stands that does not."""
        if not data.startswith(self._head, position):
            return position
        link, alike, size = self.link, self._alike, self._size
        count = min(FRAMES_MAX, (len(data) - position) // size, link.run_room())
        if count <= 0 or not link.node.knows(alike):
            return position
        head, middle, rest, settled = self._head, self._middle, self._rest, self._settled
        id_at, rest_at, payload_at = self._id_at, self._rest_at, self._payload_at
        starts, number_of, make = data.startswith, int.from_bytes, link.make_incoming
        deliveries: list[Any] = []
        payloads: list[bytes] = []
        for _ in range(count):
            number = position + id_at
            if not (starts(head, position) and starts(middle, number + 4) and starts(rest, position + rest_at)):
                break
            deliveries.append(make(link, number_of(data[number:number + 4], "big"), b"", settled))
            start, position = position + payload_at, position + size
            payloads.append(data[start:position])
        if deliveries:
            link.ran(len(deliveries), settled=settled)
            link.node.take_alike(alike, deliveries, payloads)
        return position


def run_of(link: Any, transfer: Transfer, frame: bytes, *, settled: bool) -> Run | None:
    """What the next transfers may be like, after one that was all there is to its delivery. None: they cannot be so."""
    if (transfer.more or transfer.aborted or transfer.resume or transfer.state is not None
            or transfer.rcv_settle_mode is not None or frame[4] != 2):
        return None
    alike = link.node.alike()
    if alike is None:
        return None
    at = _HEAD_BYTES + (3 if frame[_HEAD_BYTES] == _LIST_8 else 9)     # behind the sizes of the list
    at += _FIXED_WIDTHS.get(frame[at], 0)
    if frame[at] != _UINT or frame[at + 5] != _BINARY_8:    # a number below 256 may be shorter
        return None
    return Run(link, frame, at + 1, at + 7 + frame[at + 6], alike, settled=settled)
