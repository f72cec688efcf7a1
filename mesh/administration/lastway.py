"""The last way in is kept: does somebody remain who may administer, now and whenever the clock changes something? Pure.

Counted are users and keys that can log in, and roles that an issuer of tokens can give. Who sits at the node's own
Unix socket always comes in; that is no reason to lock the others out.

Only documents that have a say in it are looked at. Mostly somebody comes in by what holds for ever, whatever else will
come into force: then no moment has to be looked at by itself.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mesh.administration.documents import Body, Stored
from mesh.administration.effective import Base, Place, Rights, combine
from mesh.identity.users import AUTHENTICATED
from protocols.formats.event_json import rfc3339
from routing.rights.permissions import Permissions
from routing.rights.rules import Action, Identity

MOMENTS_MAX: Final = 100    # at which it is looked at; what lies beyond comes nearer before it counts
TIMES: Final = ("from", "until", "old_until")
EVENTS_ONLY: Final = frozenset(one.value for one in (Action.PUBLISH, Action.SUBSCRIBE, Action.BROWSE))


def lockout_problem(base: Base, before: list[Stored], after: list[Stored], place: Place, now_ms: int) -> str | None:
    """Why these documents may not come in the place of those, or None."""
    if not base.config.authenticates:
        return None
    before, after = _with_a_say(before), _with_a_say(after)
    if before == after or _for_ever(base, after, place, now_ms):
        return None
    for moment_ms in _moments(base, after, place, now_ms):
        if not can_administer(base, combine(base, after, place, moment_ms), moment_ms) and can_administer(
                base, combine(base, before, place, moment_ms), moment_ms):
            when = "nobody" if moment_ms == now_ms else f"from {rfc3339(moment_ms)} on nobody"
            return f"{when} who can log in would be left to administer this node: give another user the role " \
                   "admin first, or take the deny back"
    return None


def is_timed(stored: Stored) -> bool:
    """Does the clock change whether it counts? Then many moments may have to be looked at."""
    return any((stored.body or {}).get(name) is not None for name in TIMES)


def _with_a_say(documents: Iterable[Stored]) -> list[Stored]:
    """Rules about events alone say nothing of who administers; nor do link peers."""
    return [stored for stored in documents if stored.kind in ("user", "key", "role") or (
        stored.kind == "policy" and not EVENTS_ONLY.issuperset(_actions(stored.body or {})))]


def _actions(body: Body) -> list[str]:
    return [one for side in ("allow", "deny") for one in body.get(side) or () if isinstance(one, str)]


def _for_ever(base: Base, documents: list[Stored], place: Place, now_ms: int) -> bool:
    """Does somebody come in by documents without times, with every deny in force that there will be?"""
    lasting = []
    for stored in documents:
        if not is_timed(stored):
            lasting.append(stored)
        elif stored.kind == "role":
            return False                # it may make a deny wider, or give somebody more
        elif stored.kind == "policy" and (stored.body or {}).get("deny"):
            body = {name: value for name, value in (stored.body or {}).items() if name not in TIMES}
            lasting.append(msgspec.structs.replace(stored, body=body))
    far_ms = max((key.expires_ms for key in base.keys.values() if key.expires_ms is not None), default=now_ms)
    return can_administer(base, combine(base, lasting, place, now_ms), max(far_ms, now_ms))


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
