"""From the protocol header to connection.open-ok: who the client is and what both agree on. Sans-IO.

The connection gives it the methods that it waits for, and hears from it when the login is decided.
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import HardError
from protocols.amqp091.codec.methods import (
    ConnectionOpen,
    ConnectionSecure,
    ConnectionSecureOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUpdateSecret,
)
from protocols.amqp091.connections import handshake
from protocols.authentication.sasl import Challenge, Exchange
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

PROTOCOL = "amqp"


class Opening:
    """One per connection."""

    __slots__ = ("_challenged", "_decided", "_exchange", "_give_up", "_offer", "_peer", "_proven", "mechanism")

    def __init__(self, peer: Peer, decided: Callable[[Identity | Refusal], None],
                 challenged: Callable[[], None]) -> None:
        """decided: told once who the client is, or why it may not be that; maybe within log_in().

        challenged: the client has to answer (go_on) before that.
        """
        self._peer = peer
        self._decided = decided
        self._challenged = challenged
        self._exchange: Exchange | None = None
        self._proven: Identity | None = None    # once the client has heard our proof, too
        self._give_up: Callable[[], None] | None = None
        self.mechanism = ""                     # by which it logs in
        settings = peer.broker.settings
        self._offer = ConnectionTune(settings.channels_max, settings.frame_bytes_max, settings.heartbeat_s)

    def start(self) -> None:
        peer, broker = self._peer, self._peer.broker
        peer.send(0, ConnectionStart(
            0, 9, handshake.server_properties(broker.version, broker.node),
            " ".join(self._mechanisms).encode(), b"en_US"))

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        """That are offered."""
        peer, broker = self._peer, self._peer.broker
        return handshake.mechanisms(
            peer.stream.tls_identity is not None, self._takes_passwords, broker.scram.usable,
            broker.settings.mechanisms)

    @property
    def _takes_passwords(self) -> bool:
        peer, broker = self._peer, self._peer.broker
        return peer.stream.secure or not broker.settings.passwords_need_tls or broker.authenticator.open

    def log_in(self, start_ok: ConnectionStartOk) -> None:
        """Raises HardError: what it says is no login."""
        peer, properties = self._peer, start_ok.client_properties
        self.mechanism = start_ok.mechanism
        peer.properties = properties
        peer.capabilities = handshake.capabilities_of(properties)
        peer.client_id = handshake.client_id_of(properties)
        wanted = peer.broker.settings.mechanisms
        if wanted and start_ok.mechanism not in wanted:
            raise HardError(codes.ACCESS_REFUSED, "the mechanism was not offered", start_ok.id)
        if start_ok.mechanism in peer.broker.scram.usable:
            self._exchange = peer.broker.scram.begin(
                start_ok.mechanism, PROTOCOL, peer.client_id, peer.stream.address)
            self._exchange.step(start_ok.response, self._stepped)
            return
        login = handshake.login_of(start_ok.mechanism, start_ok.response)
        peer.login_name = login.user or ""
        certificate = peer.stream.tls_identity if login.certificate else None
        if login.certificate and certificate is None:
            raise HardError(codes.ACCESS_REFUSED, "there is no client certificate to log in with", start_ok.id)
        if not login.certificate and not self._takes_passwords:
            raise HardError(codes.ACCESS_REFUSED, "passwords are taken over TLS only", start_ok.id)
        peer.hold()
        self._give_up = peer.broker.authenticator.authenticate(
            login.user, login.password, PROTOCOL, peer.client_id, peer.stream.address, self._answered,
            certificate_name=certificate)

    def go_on(self, secure_ok: ConnectionSecureOk) -> None:
        """The client's answer to a challenge."""
        assert self._exchange is not None
        if self._proven is not None:
            self._decide(self._proven)
        else:
            self._exchange.step(secure_ok.response, self._stepped)

    def _stepped(self, outcome: Identity | Refusal | Challenge) -> None:
        """SCRAM never waits: this is told within step()."""
        if isinstance(outcome, Challenge):
            self._proven = outcome.identity
            self._peer.send(0, ConnectionSecure(outcome.data))
            self._challenged()
        else:
            self._decide(outcome)

    def _answered(self, answer: Identity | Refusal) -> None:
        self._give_up = None
        self._peer.release()
        self._decide(answer)

    def _decide(self, answer: Identity | Refusal) -> None:
        if self._peer.broker.stopping:
            answer = Refusal(Reason.SHUTTING_DOWN, "the node shuts down")
        if isinstance(answer, Identity):
            self._peer.login_name = self._peer.login_name or answer.user
        self._decided(answer)

    def offer(self) -> None:
        self._peer.send(0, self._offer)

    def tune(self, answer: ConnectionTuneOk) -> handshake.Tuned:
        return handshake.tuned(self._offer, answer)

    def choose_vhost(self, method: ConnectionOpen) -> None:
        """Raises HardError 530: there is none of that name."""
        name = method.virtual_host
        if name not in self._peer.broker.settings.vhosts:
            raise HardError(codes.NOT_ALLOWED, f"vhost {name[:100]} not found", method.id)
        self._peer.vhost = name or "/"

    def renew(self, method: ConnectionUpdateSecret, answered: Callable[[Identity | None], None]) -> None:
        """A new token for the same user. answered: with None when it is refused."""
        peer = self._peer
        user = peer.identity.user
        peer.hold()

        def told(answer: Identity | Refusal) -> None:
            peer.release()
            answered(answer if isinstance(answer, Identity) and answer.user == user else None)

        peer.broker.authenticator.authenticate(
            peer.login_name or None, method.new_secret, PROTOCOL, peer.client_id, peer.stream.address, told)

    def close(self) -> None:
        """The client does not wait for the answer any more."""
        if self._give_up is not None:
            self._give_up()
            self._give_up = None


def refusal_text(mechanism: str, refusal: Refusal) -> str:
    """For the client: RabbitMQ's own words where more would help a stranger."""
    return codes.short_text(f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. " + (
        refusal.text if refusal.reason in (Reason.BUSY, Reason.LOCKED_OUT, Reason.SHUTTING_DOWN) else
        "For details see the broker logfile."))
