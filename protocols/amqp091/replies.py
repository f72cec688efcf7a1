"""Direct reply-to: answers that go straight to the channel that asked, with neither log nor queue between.

A client consumes amq.rabbitmq.reply-to, and publishes with that as reply-to; the server puts a name in its place that
only it can make. Who answers publishes to the default exchange with that name as key. Nothing is kept: when the asker
has gone, the answer is unroutable. Source: RabbitMQ, Direct Reply-to.

    amq.rabbitmq.reply-to.<number>.<proof>.<node>       proof: a keyed hash, to tell a forged name from an old one

Who answers may be on another node: far_replies.py.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias
from urllib.parse import quote

Deliver: TypeAlias = Callable[[bytes, bytes], None]     # properties, body: to who asked

QUEUE = "amq.rabbitmq.reply-to"
PREFIX = QUEUE + "."


class DirectReplies:
    """One per server."""

    def __init__(self, node: str) -> None:
        self._node = quote(node, safe="")
        self._key = secrets.token_bytes(32)
        self._number = 0
        self._askers: dict[str, Deliver] = {}

    def open(self, deliver: Callable[[str], Deliver]) -> str:
        """The name under which answers reach what deliver makes for that name."""
        self._number += 1
        number = f"{self._number:x}"
        name = f"{PREFIX}{number}.{self._proof(number)}.{self._node}"
        self._askers[name] = deliver(name)
        return name

    def close(self, name: str) -> None:
        self._askers.pop(name, None)

    def asker(self, name: str) -> Deliver | None:
        """None: it has gone, or there was none."""
        return self._askers.get(name)

    def is_forged(self, name: str) -> bool:
        """This server has never given it out."""
        number, _, rest = name.removeprefix(PREFIX).partition(".")
        proof, _, node = rest.partition(".")
        return node != self._node or not secrets.compare_digest(
            proof.encode("utf-8", "replace"), self._proof(number).encode())

    def _proof(self, number: str) -> str:
        return blake2b(number.encode("utf-8", "replace"), key=self._key, digest_size=16).hexdigest()
