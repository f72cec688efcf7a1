"""The topic of a record that names none, as a Kafka producer's: the stream's template, or the stream's name.

Called by the decoders of partition.py and store.py. Source: design, "Translation": a literal never turns into a
separator or a wildcard.
"""
from __future__ import annotations

from routing.settings import StreamSettings


def topic_of_key(settings: StreamSettings, key: bytes | None) -> str:
    """The topic of a record that names none: the stream's template, or its name."""
    if settings.topic is None:
        return settings.name
    return settings.topic.replace("{key}", escape_level(key or b""))


def escape_level(key: bytes) -> str:
    """A record key as one topic level. Separators, wildcards and what is no text are percent-encoded."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 < byte < 0x7F and byte not in b"%+#/$" else f"%{byte:02X}" for byte in key)
    return "".join(f"%{ord(char):02X}" if char in "%+#/\0" else char for char in text)
