"""What nobody asked this node's API for and is on record all the same: documents that came from other nodes.

In the background: what has happened at another node is not undone because this one's disk is full. What waits is
bounded; beyond it a record is left out, and the log says so.
"""
from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from mesh.administration.documents import differences
from mesh.management.acts.audit import Audit, AuditRefused
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from mesh.administration.administration import Administration
    from mesh.administration.book import Revision
    from mesh.administration.spread import Spread

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1_000
NAMED_MAX: Final = 100              # documents in one record; a revision has them all


class Trail:
    def __init__(self, audit: Audit, administration: Administration, spread: Spread) -> None:
        self._audit = audit
        self._tasks: set[asyncio.Task[None]] = set()
        administration.on_applied.append(self._applied)
        spread.on_unasked = self._unasked

    def _applied(self, revision: Revision) -> None:
        if revision.source:
            named = [{"kind": step.after.kind, "name": step.after.name, "by": step.after.author,
                      "changes": differences(step.before.body if step.before else None, step.after.body)}
                     for step in revision.steps[:NAMED_MAX]]
            self._write(f"{revision.author}@{revision.source}", "documents.taken", f"revision {revision.number}",
                        "done", revision.reason, named)

    def _unasked(self, neighbour: str, count: int) -> None:
        self._write(f"@{neighbour}", "documents.taken", f"{count} documents", "denied",
                    "this node takes no documents over that link", None)

    def _write(self, user: str, act: str, target: str, outcome: str, reason: str, after: object) -> None:
        if len(self._tasks) >= WAITING_MAX:
            logger.error("no room for the audit record %s %s by user %s", act, target, user)
            return
        task = asyncio.get_running_loop().create_task(self._record(user, act, target, outcome, reason, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, user: str, act: str, target: str, outcome: str, reason: str, after: object) -> None:
        try:
            await self._audit.record(Identity(user, protocol="link"), act, target, outcome=outcome, reason=reason,
                                     after=after, via="link")
        except AuditRefused as error:
            logger.error("audit record %s %s by user %s could not be written: %s", act, target, user, error)
