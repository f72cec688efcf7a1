"""Fetch sessions: a client names its partitions once, and then only what changes.                     Source: KIP-227

    id 0, epoch -1     in full, without a session          id n, epoch -1     in full; the session ends
    id 0, epoch  0     in full; a session begins           id n, epoch  0     the same, and the old one ends
                                                           id n, epoch  e     what is new since epoch e - 1

A session belongs to its connection, which has one at most: a client reads from a broker by one connection, and what is
kept of a client ends with it. On another connection its id is unknown (error 70), and the client begins anew.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocols.kafka.codec.errors import Code

FINAL_EPOCH, INITIAL_EPOCH = -1, 0
EPOCH_MAX = 2 ** 31 - 1

Key = tuple[str | bytes, int]           # topic by name or, from Fetch 13 on, by id; partition


class Asked:
    """A partition that is fetched, and what its client was told last."""

    __slots__ = ("bytes_max", "index", "offset", "told", "topic")

    def __init__(self, topic: str | bytes, index: int, offset: int, bytes_max: int) -> None:
        self.topic = topic
        self.index = index
        self.offset = offset
        self.bytes_max = bytes_max
        self.told: tuple[int, ...] | None = None        # high watermark, stable offset, start


class Session:
    """Loop thread only. Owned by a connection."""

    __slots__ = ("by_id", "epoch", "id", "partitions")

    def __init__(self, id: int, by_id: bool, partitions: Iterable[Asked]) -> None:
        """by_id: topics are named by their ids."""
        self.id = id
        self.by_id = by_id
        self.epoch = 1                                  # of the next request
        self.partitions: dict[Key, Asked] = {(asked.topic, asked.index): asked for asked in partitions}

    def refuse(self, id: int, epoch: int, by_id: bool) -> Code:
        """Why a request does not go on with this session."""
        if id != self.id:
            return Code.FETCH_SESSION_ID_NOT_FOUND
        if epoch != self.epoch:
            return Code.INVALID_FETCH_SESSION_EPOCH
        return Code.NONE if by_id == self.by_id else Code.FETCH_SESSION_TOPIC_ID_ERROR

    def go_on(self, changed: Iterable[Asked], forgotten: Iterable[Key]) -> list[Asked]:
        """Take what a request says is different. Returns all partitions, those first that had to wait longest."""
        self.epoch = self.epoch + 1 if self.epoch < EPOCH_MAX else 1
        for key in forgotten:
            self.partitions.pop(key, None)
        for asked in changed:
            known = self.partitions.get((asked.topic, asked.index))
            if known is None:
                self.partitions[asked.topic, asked.index] = asked
            else:
                known.offset, known.bytes_max = asked.offset, asked.bytes_max
        return list(self.partitions.values())

    def news(self, asked: Asked, row: dict[str, Any]) -> bool:
        """Whether a partition has something to tell that the client does not know. One with records goes last."""
        now = None if row["error_code"] else (row["high_watermark"], row["last_stable_offset"], row["log_start_offset"])
        told, asked.told = asked.told, now
        if row["records"]:
            key = asked.topic, asked.index
            self.partitions[key] = self.partitions.pop(key, asked)
            return True
        return now is None or now != told
