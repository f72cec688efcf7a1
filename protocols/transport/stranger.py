"""What talks to a listener in another protocol: a word for the log, so that a wrong port is seen as one. Sans-IO.

    16 03           TLS record, handshake               AMQP            header of AMQP 0-9-1 and 1.0
    10 len 00 04    MQTT CONNECT                        GET_, POST …    HTTP
    00 00           Kafka: a request below 64 KiB
"""
from __future__ import annotations

TLS = b"\x16\x03"
_BEGINNINGS = (
    (b"AMQP", "AMQP"),
    *((method, "HTTP") for method in (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"PRI ")),
    (b"\x00\x00", "Kafka"),
)


def looks_like(data: bytes) -> str:
    """": it looks like …" for the first bytes (4 are enough) of a connection, or nothing."""
    if data.startswith(TLS):
        return ": it looks like TLS, and this listener has none"
    if data[:1] == b"\x10" and data[2:4] == b"\x00\x04":
        return ": it looks like MQTT, is it the right port?"
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return f": it looks like {name}, is it the right port?"
    return ""
