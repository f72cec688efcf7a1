"""One event, whole: where it is from, headers, and the payload as text, JSON or bytes."""
from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from tui import show
from tui.text import clean, clean_lines, fit, fold
from tui.views.view import View
from tui.widgets.line import BLANK, DIM, TEXT, WARN, Line, wrapped

PAYLOAD_LINES_MAX = 2_000
HEX_BYTES = 16
NAME_WIDTH = 20


class Event(View):
    NAME = "event"
    STILL = True

    def __init__(self, event: Mapping[str, Any]) -> None:
        super().__init__()
        self.event = event
        self.loaded = True

    @property
    def title(self) -> str:
        return f"event › {clean(str(self.event['id']))}"

    async def load(self, client: Any) -> Any:
        return self.event               # events never change

    def take(self, data: Any) -> None: ...

    def address(self) -> str:
        return f"/browse?filter={self.event['topic']}"

    def lines(self, width: int, height: int) -> list[Line]:
        found: list[Line] = [BLANK]
        for name, value in show.flat(self.event):
            if name in ("payload", "payload_base64", "data", "data_base64") or value is None:
                continue
            text = clean(show.plain(name, value))
            head, *rest = wrapped(text, TEXT, width - 1, " " * (NAME_WIDTH + 2))
            found += [Line([(f"  {fit(clean(name), NAME_WIDTH)}", DIM), *head.pieces[1:]]), *rest]
        found.append(BLANK)
        if not self.event.get("readable", True):
            return [*found, Line([("  You may not read this topic: the policy lets you see that it is there.", WARN)])]
        found += [Line([("  ", TEXT), (piece, TEXT)]) for text in self.body() for piece in fold(text, width - 3)]
        if self.event.get("cut"):
            found += [BLANK, Line([("  cut here; the whole payload comes over the data API (docs/rest.md)", DIM)])]
        if self.event.get("masked"):
            found += [BLANK, Line([("  part of it is hidden from you", DIM)])]
        return found

    def body(self) -> list[str]:
        """The payload as lines."""
        encoded = self.event.get("payload_base64")
        if isinstance(encoded, str):
            try:
                return _hex(base64.b64decode(encoded))
            except binascii.Error:
                return clean_lines(encoded, PAYLOAD_LINES_MAX)
        payload = self.event.get("payload")
        if payload is None:
            return ["(empty)"]
        if not isinstance(payload, str):
            return clean_lines(json.dumps(payload, indent=2, ensure_ascii=False), PAYLOAD_LINES_MAX)
        try:
            parsed = json.loads(payload)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict | list):
            payload = json.dumps(parsed, indent=2, ensure_ascii=False)
        return clean_lines(payload, PAYLOAD_LINES_MAX) or ["(empty)"]

    def subject(self) -> str:
        payload = self.event.get("payload_base64") or self.event.get("payload")
        return payload if isinstance(payload, str) else json.dumps(payload)

    def event_id(self) -> str:
        return str(self.event["id"])

    def topics(self) -> str:
        return str(self.event["topic"])


def _hex(data: bytes) -> list[str]:
    lines = []
    for start in range(0, len(data), HEX_BYTES):
        part = data[start:start + HEX_BYTES]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{HEX_BYTES * 3}} {text}")
        if len(lines) >= PAYLOAD_LINES_MAX:
            return [*lines, "…"]
    return lines
