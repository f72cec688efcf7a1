"""Streams of the log."""
from __future__ import annotations

from tui.views.table import TableView
from tui.widgets.columns import Column


class Streams(TableView):
    NAME = "streams"
    TITLE = "Streams"
    TOPIC = "streams"
    TROUBLE = "failed!="
    ACROSS = True
    ABOUT = "Durable logs; every event belongs to the one whose filter fits its topic best."
    COLUMNS = (
        Column("name", "Stream", "key", 0), Column("capture", "Captures", "list", 1),
        Column("partitions", "Partitions", "number", 3), Column("events", "Events", "number", 0),
        Column("size_bytes", "Size", "size", 1), Column("retention_ms", "Kept for", "retention", 2),
        Column("retention_bytes", "Kept to", "size", 4, wide=True), Column("compact", "Compacted", "yes", 4, wide=True),
        Column("durability", "Acked when", "text", 3), Column("failed", "Failed", "text", 2),
    )

    def topics(self) -> str:
        capture = self.value("capture")
        return str(capture[0]) if isinstance(capture, list) and capture else ""
