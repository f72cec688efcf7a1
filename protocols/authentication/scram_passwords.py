"""The SCRAM passwords of a node's users, for all protocols; a login with one of them begins here.

    kafka-scram/<mechanism>/<user>   in the state table: what is kept of a password that a client has set
    kafka/scram-secret               of this node, for the salts of those who have none

A SCRAM password is set by a Kafka client (kafka-configs, Admin), for a user whom the node knows. It is another one than
that of the configuration, of which there is only an argon2 hash: SCRAM cannot be checked against that. It ends with the
user, and when the user is given another password: who takes one away means both.
"""
from __future__ import annotations

import secrets
from collections import Counter

import msgspec

from protocols.authentication.authenticator import Authenticator
from protocols.authentication.decoys import Decoys, kind_of
from protocols.authentication.sasl import Exchange
from protocols.authentication.scram import MECHANISMS, Credential, Scram
from routing.router import Router
from routing.ticket import Ticket

PREFIX = "kafka-scram/"
SECRET_KEY = "kafka/scram-secret"
SECRET_BYTES = 32


class ScramPasswords:
    """One per node. Loop thread only."""

    def __init__(self, router: Router, authenticator: Authenticator) -> None:
        self._state = router.state
        self._authenticator = authenticator
        self._decoys: Decoys | None = None
        self._credentials: dict[tuple[str, str], Credential] = {}
        self._counts: Counter[str] = Counter()              # of them, by mechanism
        for key, credential in router.state.decoded(PREFIX, Credential, "a SCRAM credential"):
            mechanism, _, user = key.removeprefix(PREFIX).partition("/")
            self._credentials[user, mechanism] = credential
            self._counts[mechanism] += 1
        authenticator.on_users.append(self._users_changed)

    @property
    def usable(self) -> tuple[str, ...]:
        """Mechanisms with which somebody can log in, the stronger one first. For protocols whose clients take the best
        of what is offered: they must not be led to one for which nobody has a password.
        """
        return tuple(name for name in reversed(MECHANISMS) if self._counts[name] > 0)

    def begin(self, mechanism: str, protocol: str, client_id: str, address: str) -> Exchange:
        """mechanism: one of MECHANISMS.  protocol: the spec's name."""
        return Scram(mechanism, self.find, self._decoy, self._authenticator, protocol, client_id, address)

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
        self._counts[mechanism] += 1
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
        if known is None:
            return
        self._counts[mechanism] -= 1
        if self._decoys is not None:
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
    return f"{PREFIX}{mechanism}/{user}"
