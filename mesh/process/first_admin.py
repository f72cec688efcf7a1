"""The first admin: when users are configured but none of them may manage, one is made with a random password.

There is no default password. The password is printed once, to the terminal and not to the log; its hash stays in the
data directory. As soon as a configured user may manage, the generated one is no longer accepted.
"""
from __future__ import annotations

import logging

from mesh.configuration.rules import ADMIN_ROLE, rules_of
from mesh.configuration.settings import Config
from mesh.identity.users import AUTHENTICATED, User, hash_password
from mesh.system.files.datadir import ADMIN, DataDirectory, random_password
from routing.rights.policy import Action, Identity, Policy

logger = logging.getLogger(__name__)


def first_admin(config: Config, users: list[User], data: DataDirectory) -> tuple[list[User], str | None]:
    """(the generated admin or nobody, its password when it was made just now)."""
    if not users or _somebody_may_manage(config, users):
        return [], None
    if any(user.name == ADMIN for user in users):
        logger.warning("no user may manage this node; give one of them the role %s", ADMIN_ROLE)
        return [], None
    password = None
    stored = data.admin_hash()
    if stored is None:
        password = random_password()
        stored = hash_password(password)
        data.store_admin_hash(stored)
    return [User(ADMIN, (ADMIN_ROLE,), stored)], password


def _somebody_may_manage(config: Config, users: list[User]) -> bool:
    policy = Policy(rules_of(config))
    known = [(user.name, user.roles) for user in users] + [(key.user or key.name, key.roles) for key in config.api_keys]
    return any(
        policy.decide(Identity(name, (*roles, AUTHENTICATED)), Action.MANAGE).allowed for name, roles in known
    )
