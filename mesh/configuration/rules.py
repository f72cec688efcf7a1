"""The rule set of a node: the policies of the configuration, and the few rules that are built in. No behaviour.

- Without users, API keys and JWT issuers everybody is anonymous and, unless there are policies, may do everything
  (listeners are loopback only).
- With any of them whoever logged in may connect, and the role admin may manage. A deny of the configuration beats both.
"""
from __future__ import annotations

from mesh.configuration.settings import Config
from mesh.identity.users import AUTHENTICATED
from routing.rights.policy import ALLOW_ALL, ANONYMOUS, Action, Rule

ADMIN_ROLE = "admin"
_CONNECT = Rule(allow=(Action.CONNECT,), to=(f"role:{AUTHENTICATED}",), name="built in: who logged in may connect")
_MANAGE = Rule(allow=(Action.MANAGE,), to=(f"role:{ADMIN_ROLE}",), name="built in: admins manage")
_LOCAL = Rule(allow=(Action.CONNECT, Action.MANAGE), to=(ANONYMOUS,), name="built in: no users are configured")


def rules_of(config: Config) -> list[Rule]:
    """The rules in the order in which they are shown: built-in ones last, so that "policy 1" is the file's."""
    if config.authenticates:
        return [*config.policies, _CONNECT, _MANAGE]
    if config.policies:
        return [*config.policies, _CONNECT, _LOCAL]
    return [ALLOW_ALL]
