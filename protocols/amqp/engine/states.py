"""The states of a connection. AMQP 1.0 §2.2, §2.4, §5.3.

    HEADER ─┬─ SASL header ─► SASL ─ outcome ok ─► HEADER_AGAIN ─ AMQP header ─► HEAD ─ open ─► OPENING ─ taken ─► OPEN
            └─ AMQP header, where nobody has to log in ──────────────────────────►┘
    OPEN ─ close ─► CLOSED        any but the first three ─ fault ─► CLOSING ─ close, or time ─► CLOSED
"""
from __future__ import annotations

import enum


class State(enum.Enum):
    HEADER = "waits for the protocol header"
    SASL = "waits for a login"
    HEADER_AGAIN = "waits for the header after the login"
    HEAD = "waits for open"
    OPENING = "decides about open"
    OPEN = "open"
    CLOSING = "waits for close"
    CLOSED = "closed"
