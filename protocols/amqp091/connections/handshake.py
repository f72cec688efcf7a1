"""What is said before a connection is open: server properties, SASL answers, tuning. Sans-IO.

Sources: AMQP 0-9-1 §2.2.4, §1.4.2; RFC 4616 (PLAIN); AMQPLAIN is RabbitMQ's, a field table without its length.
"""
from __future__ import annotations

from typing import NamedTuple

from protocols.amqp091.codec.codes import COMMAND_INVALID, NOT_ALLOWED, SYNTAX_ERROR, HardError
from protocols.amqp091.codec.frames import FRAME_MIN_BYTES
from protocols.amqp091.codec.methods import ConnectionTune, ConnectionTuneOk
from protocols.amqp091.codec.tables import Table, decode_table
from protocols.authentication.sasl import chosen, plain_of
from protocols.authentication.scram import MECHANISMS as SCRAM

MECHANISMS = ("PLAIN", "AMQPLAIN")
EXTERNAL = "EXTERNAL"
KNOWN = (*MECHANISMS, *SCRAM, EXTERNAL)
CAPABILITIES = (
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
    "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
)
CHANNEL_LIMIT = 65_535
CLIENT_ID_MAX = 255         # characters of a connection's name that become its client id


class Login(NamedTuple):
    """certificate: the client wants to be who its certificate says."""

    user: str | None
    password: bytes | None
    certificate: bool


def server_properties(version: str, node: str) -> Table:
    capabilities: Table = dict.fromkeys(CAPABILITIES, True)
    return {
        "capabilities": capabilities, "cluster_name": node or "meshgate", "copyright": "", "information": "",
        "platform": "Python", "product": "Meshgate", "version": version or "0",
    }


def mechanisms(has_certificate: bool, passwords: bool, scram: tuple[str, ...],
               wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """passwords: they may come over this connection. scram: what nobody can overhear. wanted: see chosen(). There is
    always one mechanism, as the method needs it.
    """
    possible = [*MECHANISMS, *scram] if passwords else [*scram]
    if has_certificate:
        possible.append(EXTERNAL)
    return chosen(possible, wanted) or (EXTERNAL,)


def login_of(mechanism: str, response: bytes) -> Login:
    """Raises HardError for a mechanism that was not offered, or a response that is none."""
    if mechanism == "PLAIN":
        found = plain_of(response)
        if found is None:
            text = "a PLAIN response has three parts: nothing or the user, the user, and the password"
            raise HardError(SYNTAX_ERROR, text, (10, 11))
        return Login(*found, False)
    if mechanism == "AMQPLAIN":
        table = decode_table(len(response).to_bytes(4, "big") + response, 0, len(response) + 4)[0]
        user, password = table.get("LOGIN"), table.get("PASSWORD")
        if not isinstance(user, str) or not isinstance(password, (str, bytes)):
            raise HardError(SYNTAX_ERROR, "an AMQPLAIN response has LOGIN and PASSWORD", (10, 11))
        return Login(user, password.encode() if isinstance(password, str) else password, False)
    if mechanism == EXTERNAL:
        return Login(_name(response) or None, None, True)
    raise HardError(COMMAND_INVALID, f"unknown authentication mechanism '{mechanism[:40]}'", (10, 11))


def _name(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise HardError(SYNTAX_ERROR, "a user name that is not UTF-8", (10, 11)) from None


def client_id_of(properties: Table) -> str:
    """What the connection calls itself; "" when it does not."""
    name = properties.get("connection_name")
    return name[:CLIENT_ID_MAX] if isinstance(name, str) and name.isprintable() else ""


def capabilities_of(properties: Table) -> frozenset[str]:
    found = properties.get("capabilities")
    return frozenset(name for name, value in found.items() if value is True) if isinstance(found, dict) else frozenset()


class Tuned(NamedTuple):
    channel_max: int
    frame_max: int
    heartbeat_s: int


def tuned(offer: ConnectionTune, answer: ConnectionTuneOk) -> Tuned:
    """What both agree on; 0 of the client means no limit of its own, and no heartbeats.

    Raises HardError 530: it asks for more than was offered, or for frames that hold nothing.
    """
    channel_max = answer.channel_max or offer.channel_max
    frame_max = answer.frame_max or offer.frame_max
    if frame_max < FRAME_MIN_BYTES:
        raise HardError(NOT_ALLOWED, f"failed to negotiate connection parameters: negotiated frame_max = {frame_max} "
                                     f"is lower than the minimum allowed value ({FRAME_MIN_BYTES})", (10, 31))
    for name, wanted, offered in (("frame_max", frame_max, offer.frame_max),
                                  ("channel_max", channel_max, offer.channel_max)):
        if wanted > offered:
            raise HardError(NOT_ALLOWED, f"failed to negotiate connection parameters: negotiated {name} = {wanted} is "
                                         f"higher than the maximum allowed value ({offered})", (10, 31))
    return Tuned(channel_max, frame_max, answer.heartbeat)
