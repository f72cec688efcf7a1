"""Logins: the mechanisms of a broker, and the SCRAM credentials of its users.

    kafka-scram/<mechanism>/<user>   in the state table: what is kept of a password that a client has set
    kafka/scram-secret               of this node, for the salts of those who have none

A SCRAM password is set by a Kafka client (kafka-configs, Admin), for a user whom the node knows. It is another one than
that of the configuration, of which there is only an argon2 hash: SCRAM cannot be checked against that. It ends with the
user, and when the user is given another password: who takes one away means both.
"""
from __future__ import annotations

import secrets

import msgspec

from protocols.kafka.logins.decoys import Decoys, kind_of
from protocols.kafka.logins.exchange import REFUSED, Exchange, OauthBearer, Plain
from protocols.kafka.logins.scram import MECHANISMS, Credential, Scram
from protocols.server import Authenticator
from routing.router import Router
from routing.ticket import Ticket

SCRAM_PREFIX = "kafka-scram/"
SECRET_KEY = "kafka/scram-secret"
SECRET_BYTES = 32


class Logins:
    """One per broker. Loop thread only."""

    refused = REFUSED
    mechanisms = ("PLAIN", "OAUTHBEARER", *MECHANISMS)

    def __init__(self, router: Router, authenticator: Authenticator) -> None:
        self._state = router.state
        self._authenticator = authenticator
        self._decoys: Decoys | None = None
        self._credentials: dict[tuple[str, str], Credential] = {}
        for key, credential in router.state.decoded(SCRAM_PREFIX, Credential, "a SCRAM credential"):
            mechanism, _, user = key.removeprefix(SCRAM_PREFIX).partition("/")
            self._credentials[user, mechanism] = credential
        authenticator.on_users.append(self._users_changed)

    def begin(self, mechanism: str, client_id: str, address: str) -> Exchange:
        """mechanism: one of mechanisms."""
        if mechanism in MECHANISMS:
            return Scram(mechanism, self.find, self._decoy, self._authenticator, client_id, address)
        make = Plain if mechanism == "PLAIN" else OauthBearer
        return make(self._authenticator, client_id, address)

    def find(self, user: str, mechanism: str) -> Credential | None:
        return self._credentials.get((user, mechanism))

    def users(self) -> list[str]:
        """Those with a SCRAM password."""
        return sorted({user for user, _ in self._credentials})

    def set(self, user: str, mechanism: str, credential: Credential) -> Ticket:
        """Of a user whom the node knows."""
        credential = msgspec.structs.replace(credential, mark=self._authenticator.mark_of(user) or "")
        self._forget(user, mechanism)
        self._credentials[user, mechanism] = credential
        if self._decoys is not None:
            self._decoys.add(mechanism, kind_of(credential.salt, credential.iterations))
        return self._state.put(_key(user, mechanism), msgspec.msgpack.encode(credential))

    def delete(self, user: str, mechanism: str) -> Ticket:
        self._forget(user, mechanism)
        return self._state.delete(_key(user, mechanism))

    def knows(self, user: str) -> bool:
        return self._authenticator.mark_of(user) is not None

    def _forget(self, user: str, mechanism: str) -> None:
        known = self._credentials.pop((user, mechanism), None)
        if known is not None and self._decoys is not None:
            self._decoys.remove(mechanism, kind_of(known.salt, known.iterations))

    def _decoy(self, user: str, mechanism: str) -> tuple[bytes, int]:
        """Salt and iterations for who has no password. The secret is made when somebody first wants one."""
        if self._decoys is None:
            secret = self._state.get(SECRET_KEY)
            if secret is None:
                secret = secrets.token_bytes(SECRET_BYTES)
                self._state.put(SECRET_KEY, secret)
            self._decoys = Decoys(secret)
            for (_, of), known in self._credentials.items():
                self._decoys.add(of, kind_of(known.salt, known.iterations))
        return self._decoys.of(user, mechanism)

    def _users_changed(self) -> None:
        """Passwords of those who are not who they were go. One of an earlier version is that of the user of now."""
        for (user, mechanism), credential in list(self._credentials.items()):
            mark = self._authenticator.mark_of(user)
            if mark is None or credential.mark not in ("", mark):
                self.delete(user, mechanism)
            elif not credential.mark:
                self.set(user, mechanism, credential)


def _key(user: str, mechanism: str) -> str:
    return f"{SCRAM_PREFIX}{mechanism}/{user}"
