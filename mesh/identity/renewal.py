"""Does a login still hold? Asked for everything that lives by one when users, keys, issuers or rules have changed.

    proof           as long as
    password        the user is there and has a password: a new one drops nobody who is connected
    scram           the user is there
    certificate     (whoever has the certificate; roles are those of [[users]])
    key:…           the key is there, for this user, and has not expired
    jwt:…           the issuer is trusted
    login:…         the login from a terminal goes on, and what was shown at it holds
    (none)          nobody logged in, and anonymous clients may connect

and as long as the rules let him connect. The owner of a consumer or of a session that is away is asked for by his name:
another key for the same user takes nothing from him.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from mesh.identity.tokens import Tokens
from mesh.identity.users import AUTHENTICATED, User
from routing.rights.policy import ANONYMOUS, Action, Identity, Policy

CERTIFICATE, PASSWORD, SCRAM = "certificate", "password", "scram"
KEY, JWT, LOGIN = "key:", "jwt:", "login:"


class Renewal:
    """One per node."""

    def __init__(self, users: Callable[[], Mapping[str, User]], tokens: Tokens, policy: Policy) -> None:
        self._users = users
        self._tokens = tokens
        self._policy = policy

    def renew(self, identity: Identity) -> Identity:
        """Who it is now; revoked when the login holds no more."""
        if identity.user.startswith("$"):               # the node itself
            return identity
        return self._now(identity, self.by_proof(identity))

    def renew_owner(self, identity: Identity) -> Identity:
        """The same for who need not be here to own something."""
        if identity.user.startswith("$"):
            return identity
        roles = self.by_proof(identity)
        return self._now(identity, self._by_name(identity) if roles is None else roles)

    def _now(self, identity: Identity, roles: tuple[str, ...] | None) -> Identity:
        known = identity
        if roles is not None and (roles != identity.roles or identity.revoked):
            known = msgspec.structs.replace(identity, roles=roles, revoked=False)
        if roles is not None and self._policy.decide(known, Action.CONNECT).allowed:
            return known
        return identity if identity.revoked else msgspec.structs.replace(identity, revoked=True)

    def by_proof(self, identity: Identity) -> tuple[str, ...] | None:
        """The roles that the proof gives now; None when it is worth nothing."""
        proof, user = identity.proof, self._users().get(identity.user)
        if proof == PASSWORD:
            return (*user.roles, AUTHENTICATED) if user is not None and user.password_hash is not None else None
        if proof == SCRAM:
            return (*user.roles, AUTHENTICATED) if user is not None else None
        if proof == CERTIFICATE:
            return (*(user.roles if user is not None else ()), AUTHENTICATED)
        if proof.startswith(KEY):
            key = self._tokens.key(proof.removeprefix(KEY))
            return (*key.roles, AUTHENTICATED) if key is not None and key.user == identity.user else None
        if proof.startswith(JWT):
            return identity.roles if self._tokens.trusts(proof.removeprefix(JWT)) else None
        if proof.startswith(LOGIN):
            login = self._tokens.login(proof.removeprefix(LOGIN))
            return self.by_proof(login) if login is not None else None
        return () if identity.user == ANONYMOUS else None

    def _by_name(self, identity: Identity) -> tuple[str, ...] | None:
        user = self._users().get(identity.user)
        key = self._tokens.key_of(identity.user) if user is None else None
        found = user if user is not None else key
        return (*found.roles, AUTHENTICATED) if found is not None else None
