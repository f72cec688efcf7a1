"""Direct reply-to: answers that go straight to the channel that asked, with neither log nor queue between.

A client consumes amq.rabbitmq.reply-to, and publishes with that as reply-to; the server puts a name in its place that
only it can make. Who answers publishes to the default exchange with that name as key. Nothing is kept: when the asker
has gone, the answer is unroutable. Source: RabbitMQ, Direct Reply-to.

    amq.rabbitmq.reply-to.<number>.<proof>      proof: a keyed hash, to tell a forged name from an old one
"""
from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel

QUEUE = "amq.rabbitmq.reply-to"
PREFIX = QUEUE + "."


class DirectReplies:
    """One per server."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._number = 0
        self._channels: dict[str, Channel] = {}

    def open(self, channel: Channel) -> str:
        """The name under which answers reach this channel."""
        self._number += 1
        number = f"{self._number:x}"
        name = f"{PREFIX}{number}.{self._proof(number)}"
        self._channels[name] = channel
        return name

    def close(self, name: str) -> None:
        self._channels.pop(name, None)

    def channel(self, name: str) -> Channel | None:
        return self._channels.get(name)

    def is_forged(self, name: str) -> bool:
        """This server has never given it out."""
        number, _, proof = name.removeprefix(PREFIX).partition(".")
        return not secrets.compare_digest(proof.encode("utf-8", "replace"), self._proof(number).encode())

    def _proof(self, number: str) -> str:
        return blake2b(number.encode("utf-8", "replace"), key=self._key, digest_size=16).hexdigest()
