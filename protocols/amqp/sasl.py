"""Logins: SASL mechanisms, from bytes of the client to an identity or a refusal. AMQP 1.0 §5.3. Sans-IO.

    ANONYMOUS     where nobody has to log in                                                        RFC 4505
    PLAIN         authorization id, user, password, between NULs; a token is a password             RFC 4616
    EXTERNAL      with a client certificate                                                         RFC 4422
    OAUTHBEARER   a token                                                                           RFC 7628
    XOAUTH2       the same as Google and Azure's go-amqp write it
    SCRAM-SHA-256, SCRAM-SHA-512    where somebody has a password for it (scram_passwords.py)               RFC 5802
    MSSBCBS       Azure's ANONYMOUS: nobody, until $cbs has taken a token. In emulator mode only
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.authentication.authenticator import Authenticator
from protocols.authentication.sasl import INVALID_TOKEN, Challenge, Exchange, bearer_of, chosen, plain_of
from protocols.authentication.scram import MECHANISMS
from protocols.authentication.scram_passwords import ScramPasswords
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity

PROTOCOL = "amqp10"
KNOWN = ("EXTERNAL", *MECHANISMS, "PLAIN", "OAUTHBEARER", "XOAUTH2", "ANONYMOUS", "MSSBCBS")
Done = Callable[["Identity | Refusal | bytes"], None]
_BAD = Refusal(Reason.BAD_CREDENTIALS, "user name or password is wrong")
_UNKNOWN = Refusal(Reason.BAD_CREDENTIALS, "the mechanism was not offered")


class Login:
    """The exchange of one connection. Whom nobody knows gets in only where nobody has to log in."""

    def __init__(self, authenticator: Authenticator, address: str, certificate: str | None, *,
                 plain: bool, claims: bool = False, scram: ScramPasswords | None = None,
                 wanted: tuple[str, ...] = (), secure: bool = False) -> None:
        """certificate: common name of the client's. plain: passwords may come over this connection. claims: who has
        shown nothing may do so later. scram: None where there is none of it. wanted: see chosen(). secure: by TLS."""
        self._authenticator = authenticator
        self._address = address
        self._certificate = certificate
        self._scram = scram
        self._exchange: Exchange | None = None          # of SCRAM
        self._proven: Identity | None = None            # once the client has heard our proof, too
        self._mechanism = ""
        self._refused: Refusal | None = None            # a token was; the client has to take note
        self._give_up: Callable[[], None] | None = None
        offered = []
        if certificate is not None:
            offered.append("EXTERNAL")
        if scram is not None and (wanted or not secure):        # what nobody can overhear; clients prefer it, and not
            offered += scram.usable                             # everybody may have a password for it
        if plain:
            offered += ["PLAIN", "OAUTHBEARER", "XOAUTH2"]
        if authenticator.open or claims:
            offered.append("ANONYMOUS")
        if claims:
            offered.append("MSSBCBS")
        self.mechanisms = chosen(offered, wanted) or ("EXTERNAL",)    # there is always one (§5.3.3.1); it fails then

    def nobody(self, done: Done) -> bool:
        """Log in without SASL. False: that is not allowed here."""
        if not self._authenticator.open:
            return False
        self._ask(None, None, done)
        return True

    def begin(self, mechanism: str, response: bytes | None, done: Done) -> None:
        if self._mechanism or mechanism not in self.mechanisms or (
                mechanism == "EXTERNAL" and self._certificate is None):
            done(_UNKNOWN)
            return
        self._mechanism = mechanism
        if mechanism in MECHANISMS:
            assert self._scram is not None
            self._exchange = self._scram.begin(mechanism, PROTOCOL, "", self._address)
        if response is None and (mechanism in ("PLAIN", "OAUTHBEARER", "XOAUTH2") or self._exchange is not None):
            done(b"")                                   # the initial response comes after an empty challenge
            return
        self._look(response or b"", done)

    def step(self, response: bytes, done: Done) -> None:
        if self._refused is not None:
            done(self._refused)
        elif self._proven is not None:
            done(self._proven)
        elif not self._mechanism:
            done(_UNKNOWN)
        else:
            self._look(response, done)

    def give_up(self) -> None:
        """The client has gone."""
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up()

    def _look(self, response: bytes, done: Done) -> None:
        if self._exchange is not None:
            self._exchange.step(response, lambda outcome: self._stepped(outcome, done))
        elif self._mechanism in ("ANONYMOUS", "MSSBCBS") and not self._authenticator.open:
            done(Identity("", protocol=PROTOCOL, address=self._address, revoked=True))
        elif self._mechanism in ("ANONYMOUS", "MSSBCBS"):
            self._ask(None, None, done)
        elif self._mechanism == "EXTERNAL":
            self._ask(_text(response), None, done, self._certificate)
        elif self._mechanism == "PLAIN":
            found = plain_of(response)
            if found is None:
                done(_BAD)
            else:
                self._ask(*found, done)
        else:
            self._token(response, done)

    def _stepped(self, outcome: Identity | Refusal | Challenge, done: Done) -> None:
        if isinstance(outcome, Challenge):
            self._proven = outcome.identity
            done(outcome.data)
        else:
            done(outcome)

    def _token(self, response: bytes, done: Done) -> None:
        found = bearer_of(response)
        if found is None:
            done(_BAD)
            return

        def answered(answer: Identity | Refusal | bytes) -> None:
            if isinstance(answer, Refusal) and self._mechanism == "OAUTHBEARER":
                self._refused = answer
                done(INVALID_TOKEN)
            else:
                done(answer)

        self._ask(found[0] or None, found[1], answered)

    def _ask(self, user: str | None, password: bytes | None, done: Done, certificate: str | None = None) -> None:
        def answered(answer: Identity | Refusal) -> None:
            self._give_up = None
            done(answer)

        self._give_up = self._authenticator.authenticate(
            user or None, password, PROTOCOL, "", self._address, answered, certificate)


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
