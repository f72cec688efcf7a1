"""Opening: what one connection says before it is open: headers, the frames of a login, open. AMQP 1.0 §2.2, §5.3."""
from __future__ import annotations

from typing import Protocol

from protocols.amqp.codec import frames
from protocols.amqp.codec.composite import Composite, encode_composite
from protocols.amqp.codec.conditions import FRAMING_ERROR, ILLEGAL_STATE, NOT_ALLOWED, ConnectionFault
from protocols.amqp.codec.hot import decode_performative
from protocols.amqp.codec.performatives import (
    Close,
    Open,
    SaslChallenge,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    SaslResponse,
)
from protocols.amqp.engine.host import Host
from protocols.amqp.engine.states import State
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity


class Opens(Protocol):
    """The connection that is to be opened."""

    full: bool
    host: Host
    state: State

    def write(self, data: bytes) -> None: ...
    def cork(self) -> None: ...
    def uncork(self) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...
    def note(self, text: str, *values: object) -> None: ...
    def take_identity(self, identity: Identity) -> None: ...
    def take_open(self, found: Open) -> None: ...
    def closed_by_peer(self) -> None: ...
    def finish(self) -> None: ...


class Opening:
    """One per connection."""

    __slots__ = ("_connection", "_login")

    def __init__(self, connection: Opens) -> None:
        self._connection = connection
        self._login = connection.host.login(connection)

    def give_up(self) -> None:
        """The connection has gone."""
        self._login.give_up()

    def header(self, header: bytes) -> None:
        """We answer with what we speak; what is none of it is answered with that, too, and the end.   Source: §2.2"""
        connection = self._connection
        if header == frames.SASL_HEADER and connection.state is State.HEADER:
            connection.state = State.SASL
            connection.write(frames.SASL_HEADER)
            self._sasl(SaslMechanisms(self._login.mechanisms))
            return
        if header == frames.AMQP_HEADER and (
                connection.state is State.HEADER_AGAIN or self._login.nobody(self._nobody_decided)):
            connection.write(frames.AMQP_HEADER)
            if connection.state is not State.CLOSED:
                connection.state = State.HEAD
            return
        connection.write(frames.SASL_HEADER if connection.state is State.HEADER else frames.AMQP_HEADER)
        connection.finish()

    def frame(self, kind: int, data: bytes, start: int, end: int) -> None:
        """A frame before the connection is open, or once it closes. kind: frames.AMQP or another byte."""
        connection = self._connection
        state = connection.state
        if state is State.SASL:
            if kind != frames.SASL:
                raise ConnectionFault(FRAMING_ERROR, "a frame that does not belong to a login")
            self._login_frame(decode_performative(data, start, end))
            return
        if kind != frames.AMQP:
            raise ConnectionFault(FRAMING_ERROR, f"a frame of type {kind}")
        if start == end:
            return
        found = decode_performative(data, start, end)
        if state is State.CLOSING:
            if isinstance(found, Close):
                connection.finish()
        elif isinstance(found, Close):
            connection.closed_by_peer()
        elif not isinstance(found, Open) or state is not State.HEAD:
            raise ConnectionFault(ILLEGAL_STATE, f"{found.name} before open")
        else:
            connection.state = State.OPENING
            connection.take_open(found)

    # -- login ------------------------------------------------------------------------------------------------

    def _sasl(self, performative: Composite) -> None:
        self._connection.write(frames.frame(
            0, encode_composite(performative, full=self._connection.full), frames.SASL))

    def _login_frame(self, found: Composite) -> None:
        if isinstance(found, SaslInit):
            self._connection.hold()
            self._login.begin(found.mechanism, found.initial_response, self._decided)
        elif isinstance(found, SaslResponse):
            self._connection.hold()
            self._login.step(found.response, self._decided)
        else:
            raise ConnectionFault(NOT_ALLOWED, f"{found.name} is not for clients to send")

    def _decided(self, answer: Identity | Refusal | bytes) -> None:
        """Of the login: bytes are a challenge."""
        connection = self._connection
        if connection.state is not State.SASL:
            return
        connection.cork()
        if isinstance(answer, bytes):
            self._sasl(SaslChallenge(answer))
        elif not self._take(answer):
            busy = isinstance(answer, Refusal) and answer.reason in (Reason.BUSY, Reason.SHUTTING_DOWN)
            self._sasl(SaslOutcome(4 if busy else 1))                                       # §5.3.3.6: sys-temp, auth
            connection.finish()
        else:
            self._sasl(SaslOutcome(0))
            connection.state = State.HEADER_AGAIN
        connection.uncork()
        connection.release()

    def _nobody_decided(self, answer: Identity | Refusal | bytes) -> None:
        if isinstance(answer, bytes) or not self._take(answer):
            self._connection.finish()

    def _take(self, answer: Identity | Refusal) -> bool:
        connection = self._connection
        host = connection.host
        if host.stopping:
            answer = Refusal(Reason.SHUTTING_DOWN, "the node shuts down")
        refusal = answer if isinstance(answer, Refusal) else host.logged_in(connection, answer)
        if refusal is not None:
            connection.note("login refused: %s", refusal.text)
            host.count("logins_refused")
            return False
        assert isinstance(answer, Identity)
        connection.take_identity(answer)
        return True
