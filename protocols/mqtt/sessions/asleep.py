"""AsleepSession: a session after a start, until its client comes or somebody asks for it. See restore.py.

At rest it has what a start must know: whose it is, when it ends, that nobody is connected. Whatever else is asked of
it, or written, wakes it first: from then on it is a Session, and the same object.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocols.mqtt.sessions.session import Session, StoredSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.consumers.consumer import Consumer
    from routing.rights.policy import Identity


class AsleepSession(Session):
    __slots__ = ()

    @classmethod
    def put_to_sleep(cls, session: Session) -> None:
        """One that has its `sleep`."""
        session.__class__ = cls

    @property
    def subscription_count(self) -> int:
        return len(self.sleep[1]) if self.sleep is not None else 0

    def wake(self) -> None:
        assert self.sleep is not None
        stored, patterns, wake = self.sleep
        object.__setattr__(self, "__class__", Session)
        wake(self, stored, patterns)

    if not TYPE_CHECKING:               # else every attribute would seem to be there
        def __getattr__(self, name: str) -> Any:
            self.wake()
            return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.wake()
        setattr(self, name, value)


def asleep(client_id: str, identity: Identity, since_ms: int, ends_at_s: float, consumer: Consumer | None,
           stored: StoredSession, patterns: list[str],
           wake: Callable[[Session, StoredSession, list[str]], None]) -> Session:
    """A session that has still to be put to sleep, once its timer is set."""
    session = Session.__new__(Session)
    session.client_id = client_id
    session.identity = identity
    session.since_ms = since_ms
    session.consumer = consumer
    session.connection = session.will = session.will_due_s = None
    session.expiry_s = stored.expiry_s
    session.persistent = True
    session.ends_at_s = ends_at_s
    session.timer_s = float("inf")
    session.sleep = stored, patterns, wake
    return session
