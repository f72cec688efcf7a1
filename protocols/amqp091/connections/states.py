"""States of a connection, and what a client may send on channel 0 in each.

    HEADER ─ AMQP0091 ─► START ─ start-ok ─► LOGIN ─ authenticated ─► TUNE ─ tune-ok ─► VHOST ─ open ─► OPEN ─┐
       └───────┴──────────────┴──────────────┴── error: connection.close ──► CLOSING ─ close-ok ─► CLOSED ◄───┘

With SCRAM the client answers a challenge, twice, on its way: LOGIN ─ secure ─► SECURE ─ secure-ok ─► LOGIN.

Source: AMQP 0-9-1 §2.2.4.
"""
from __future__ import annotations

import enum

from protocols.amqp091.codec.methods import (
    ConnectionOpen,
    ConnectionSecureOk,
    ConnectionStartOk,
    ConnectionTuneOk,
    Method,
)


class State(enum.Enum):
    HEADER = "waits for the protocol header"
    START = "waits for start-ok"
    LOGIN = "waits for the authenticator"
    SECURE = "waits for secure-ok"
    TUNE = "waits for tune-ok"
    VHOST = "waits for open"
    OPEN = "open"
    CLOSING = "waits for close-ok"
    CLOSED = "closed"


EXPECTED: dict[State, type[Method]] = {
    State.START: ConnectionStartOk, State.SECURE: ConnectionSecureOk, State.TUNE: ConnectionTuneOk,
    State.VHOST: ConnectionOpen}
