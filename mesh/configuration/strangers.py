"""Policies about users and roles that nobody has: mostly a typing error, and it fails in silence. For effective.py."""
from __future__ import annotations

import difflib
from collections.abc import Iterator

from mesh.configuration.rules import ADMIN_ROLE
from mesh.configuration.settings import Config
from mesh.identity.users import AUTHENTICATED


def strangers(config: Config) -> Iterator[str]:
    """A warning for each subject of a policy that names a user or role which the configuration does not know.

    Names may also come from elsewhere: those of users by client certificates, users and roles by tokens of an issuer.
    Then only a name that is nearly that of a known one is told.
    """
    known = {
        "user": {user.name for user in config.users} | {key.user or key.name for key in config.api_keys},
        "role": {AUTHENTICATED, ADMIN_ROLE}.union(*(user.roles for user in config.users),
                                                  *(key.roles for key in config.api_keys)),
    }
    certificates = any(listener.tls is not None and listener.tls.client_ca for _, listener in config.listeners.all())
    open_kinds = {"user", "role"} if config.jwt else {"user"} if certificates else set()
    for index, policy in enumerate(config.policies):
        for number, subject in enumerate(policy.to):
            kind, _, name = subject.partition(":")
            if kind not in known or name in known[kind] or "%c" in name:
                continue
            near = difflib.get_close_matches(name, sorted(known[kind]), 1)
            if near or kind not in open_kinds:
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"policies[{index}].to[{number}]: there is no {kind} {name}{hint}"
