"""Share groups of a node: which sessions subscribe to each. A group begins with its first and ends with its last.

Sessions that are away count, too: they hold the group, also when it has moved to another node: see holders.py of
routing/consumers.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.mqtt.codec.filters import Share
from protocols.mqtt.sessions.names import group_name, group_spec, share_of
from routing.errors import Refusal

if TYPE_CHECKING:
    from protocols.mqtt.sessions.session import Session
    from routing.router import Router


class Groups:
    """Loop thread only."""

    def __init__(self, router: Router) -> None:
        self.sessions: dict[Share, dict[Session, None]] = {}
        self.count = 0                          # subscriptions, of all sessions
        self._router = router
        router.registry.holders.local.append(self)

    def joined(self, share: Share, session: Session) -> None:
        self.sessions.setdefault(share, {})[session] = None
        self.count += 1

    def left(self, share: Share, session: Session) -> None:
        sessions = self.sessions[share]
        del sessions[session]
        self.count -= 1
        if not sessions:
            del self.sessions[share]
            if not share.is_queue:
                self._router.registry.end(group_name(share))

    # -- Local of holders.py ----------------------------------------------------------------------------------

    def _holder(self, name: str) -> Session | None:
        return next((session for session in self.sessions.get(share_of(name), ()) if session.persistent), None)

    def holds(self, name: str) -> bool:
        return self._holder(name) is not None

    def filters(self, name: str) -> tuple[str, ...]:
        return (share_of(name).filter,)

    def reopen(self, name: str) -> bool:
        session = self._holder(name)
        return session is not None and not isinstance(
            self._router.open_consumer(group_spec(share_of(name), True), session.identity), Refusal)
