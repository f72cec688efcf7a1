"""The topic of a record that names none, as a Kafka producer's: the stream's template, or the stream's name.

Called by the decoders of partition.py and store.py. Source: design, "Translation": a literal never turns into a
separator or a wildcard.
"""
from __future__ import annotations

from routing.settings import StreamSettings

KEY = "{key}"


def topic_of_key(settings: StreamSettings, key: bytes | None) -> str:
    """The topic of a record that names none: the stream's template, or its name."""
    topic = settings.topic
    if topic is None:
        return settings.name
    return topic.replace(KEY, escape_level(key or b"")) if KEY in topic else topic


def fixed_topic(settings: StreamSettings) -> str | None:
    """The topic of every record that names none; None: it depends on the record's key."""
    return None if settings.topic is not None and KEY in settings.topic else topic_of_key(settings, None)


def escape_level(key: bytes) -> str:
    """A record key as one topic level. Separators, wildcards and what is no text are percent-encoded."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 < byte < 0x7F and byte not in b"%+#/$" else f"%{byte:02X}" for byte in key)
    return "".join(f"%{ord(char):02X}" if char in "%+#/\0" else char for char in text)
