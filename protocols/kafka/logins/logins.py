"""Logins: the mechanisms of a broker, and the SCRAM credentials of its users.

    kafka-scram/<mechanism>/<user>   in the state table: what is kept of a password that a client has set

A SCRAM password is set by a Kafka client (kafka-configs, Admin), for a user whom the node knows. It is another one than
that of the configuration, of which there is only an argon2 hash: SCRAM cannot be checked against that.
"""
from __future__ import annotations

import secrets

import msgspec

from protocols.kafka.logins.exchange import REFUSED, Exchange, OauthBearer, Plain
from protocols.kafka.logins.scram import MECHANISMS, Credential, Scram
from protocols.server import Authenticator
from routing.router import Router
from routing.ticket import Ticket

SCRAM_PREFIX = "kafka-scram/"


class Logins:
    """One per broker. Loop thread only."""

    refused = REFUSED
    mechanisms = ("PLAIN", "OAUTHBEARER", *MECHANISMS)

    def __init__(self, router: Router, authenticator: Authenticator) -> None:
        self._state = router.state
        self._authenticator = authenticator
        self._secret = secrets.token_bytes(32)
        self._credentials: dict[tuple[str, str], Credential] = {}
        for key, credential in router.state.decoded(SCRAM_PREFIX, Credential, "a SCRAM credential"):
            mechanism, _, user = key.removeprefix(SCRAM_PREFIX).partition("/")
            self._credentials[user, mechanism] = credential

    def begin(self, mechanism: str, client_id: str, address: str) -> Exchange:
        """mechanism: one of mechanisms."""
        if mechanism in MECHANISMS:
            return Scram(mechanism, self.find, self._secret, self._authenticator, client_id, address)
        make = Plain if mechanism == "PLAIN" else OauthBearer
        return make(self._authenticator, client_id, address)

    def find(self, user: str, mechanism: str) -> Credential | None:
        return self._credentials.get((user, mechanism))

    def users(self) -> list[str]:
        """Those with a SCRAM password."""
        return sorted({user for user, _ in self._credentials})

    def set(self, user: str, mechanism: str, credential: Credential) -> Ticket:
        self._credentials[user, mechanism] = credential
        return self._state.put(_key(user, mechanism), msgspec.msgpack.encode(credential))

    def delete(self, user: str, mechanism: str) -> Ticket:
        self._credentials.pop((user, mechanism), None)
        return self._state.delete(_key(user, mechanism))

    def knows(self, user: str) -> bool:
        return self._authenticator.knows(user)


def _key(user: str, mechanism: str) -> str:
    return f"{SCRAM_PREFIX}{mechanism}/{user}"
