"""A message as exchanges look at it: its headers and properties."""
from __future__ import annotations

from protocols.amqp091.codec.properties import Content
from protocols.amqp091.codec.tables import Table

_EMPTY: Table = {}


class Asked:
    """The message as exchanges look at it."""

    __slots__ = ("_content",)

    def __init__(self, content: Content) -> None:
        self._content = content

    @property
    def headers(self) -> Table:
        return self._content.headers or _EMPTY

    def property_text(self, name: str) -> str:
        value = getattr(self._content, name, None) if name in (
            "message_id", "correlation_id", "timestamp") else None
        return str(value) if value is not None else ""
