"""The last way in is kept: does somebody remain who may administer, now and whenever the clock changes something? Pure.

Counted are users and keys that can log in, and roles that an issuer of tokens can give. Who sits at the node's own
Unix socket always comes in; that is no reason to lock the others out.
"""
from __future__ import annotations

from collections.abc import Iterable

from mesh.administration.documents import Stored
from mesh.administration.effective import Base, Place, Rights, combine
from mesh.identity.users import AUTHENTICATED
from protocols.event_json import rfc3339
from routing.rights.permissions import Permissions
from routing.rights.rules import Action, Identity

MOMENTS_MAX = 100           # at which it is looked at; what lies beyond comes nearer before it counts


def lockout_problem(base: Base, before: list[Stored], after: list[Stored], place: Place, now_ms: int) -> str | None:
    """Why these documents may not come in the place of those, or None."""
    if not base.config.authenticates:
        return None
    for moment_ms in _moments(base, after, place, now_ms):
        if not can_administer(base, combine(base, after, place, moment_ms), moment_ms) and can_administer(
                base, combine(base, before, place, moment_ms), moment_ms):
            when = "nobody" if moment_ms == now_ms else f"from {rfc3339(moment_ms)} on nobody"
            return f"{when} who can log in would be left to administer this node: give another user the role " \
                   "admin first, or take the deny back"
    return None


def _moments(base: Base, documents: list[Stored], place: Place, now_ms: int) -> Iterable[int]:
    moment_ms: int | None = now_ms
    for _ in range(MOMENTS_MAX):
        if moment_ms is None:
            return
        yield moment_ms
        moment_ms = combine(base, documents, place, moment_ms).until_ms


def can_administer(base: Base, rights: Rights, now_ms: int) -> bool:
    certificates = any(listener.tls is not None and listener.tls.client_ca is not None
                       for _, listener in base.config.listeners.all())
    known = [(user.name, user.roles) for user in rights.users if user.password_hash is not None or certificates]
    known += [(key.user, key.roles) for key in rights.keys.values()
              if key.expires_ms is None or now_ms < key.expires_ms]
    if any(_may(rights, name, roles) for name, roles in known):
        return True
    return any(_may(rights, "", (role,)) for issuer in base.config.jwt
               for role in rights.rules.roles if role.startswith(issuer.role_prefix) and role != AUTHENTICATED)


def _may(rights: Rights, name: str, roles: tuple[str, ...]) -> bool:
    permissions = Permissions(rights.rules, Identity(name, (*roles, AUTHENTICATED)))
    return all(permissions.decide(action, "").allowed for action in (Action.CONNECT, Action.VIEW, Action.ADMINISTER))
