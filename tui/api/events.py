"""Server-sent events <- bytes. Sans-IO.                    Source: HTML Living Standard §9.2.6 (interpretation)

Only what the management API sends: event, data, comments; no id, no retry.
"""
from __future__ import annotations

from dataclasses import dataclass

EVENT_BYTES_MAX = 32 * 1024 * 1024      # of one event; a node that sends more is not one of ours


class StreamBroken(ValueError):
    """The peer does not speak the protocol."""


@dataclass(frozen=True)
class ServerEvent:
    """name: "message" when the stream gave none.  A comment is an event with the name "" (it says: still here)."""

    name: str
    data: bytes


class EventReader:
    """receive(bytes) → events that are complete."""

    def __init__(self) -> None:
        self._kept = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> list[ServerEvent]:
        """Raises StreamBroken when an event has no end."""
        found: list[ServerEvent] = []
        *lines, self._kept = (self._kept + data).split(b"\n")
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                found.append(event)
        if self._size + len(self._kept) > EVENT_BYTES_MAX:
            raise StreamBroken(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return found

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._end()
        if line.startswith(b":"):
            return ServerEvent("", b"")
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._name = value.decode(errors="replace")
        elif name == b"data":
            self._data.append(value)
            self._size += len(value)
        return None

    def _end(self) -> ServerEvent | None:
        if not self._data:
            self._name = ""
            return None
        event = ServerEvent(self._name or "message", b"\n".join(self._data))
        self._name, self._data, self._size = "", [], 0
        return event
