"""What is no act of the API and is on record all the same: logins and failed ones, reloads, who looked at payloads,
documents that came from other nodes, links that came and went, keys of nodes that are not what they were.

In the background: what has happened is not undone because the disk is full. What waits is bounded, and so is what
strangers can make the node write (throttle.py); beyond it a record is left out, and how many
were is on record.
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from mesh.administration.documents import differences
from mesh.configuration.effective import effective
from mesh.management.acts.audit import Audit, AuditRefused
from mesh.management.security.throttle import Throttle
from protocols.rest.problems import problem_of
from routing.errors import Reason
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from mesh.administration.revisions import Revision
    from mesh.configuration.settings import Config
    from mesh.management.sessions import Sessions
    from mesh.node import Node

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1_000
FAILURES_BURST: Final = 60.0        # failed logins that are told one by one …
FAILURES_PER_S: Final = 1.0         # … and then; the others are counted in the next one
LINKS_BURST: Final = 100.0           # links that came, went or were refused: a mesh that starts …
LINKS_PER_S: Final = 0.2            # … and then; a link that flaps must not fill the trail
VIEW_EVERY_S: Final = 600.0
VIEWS_MAX: Final = 10_000
NAMED_MAX: Final = 100              # documents in one record; a revision has them all


class Trail:
    def __init__(self, audit: Audit, node: Node, sessions: Sessions) -> None:
        self._audit = audit
        self._clock_s = node.router.clock_s
        self._every_view = node.config.console.record_every_view
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = Throttle(FAILURES_BURST, FAILURES_PER_S, self._clock_s, _later, partial(
            self._tell, "login", "failed"))
        self._links = Throttle(LINKS_BURST, LINKS_PER_S, self._clock_s, _later, partial(self._tell, "link", "done"))
        self._left_out = 0                              # records for which there was no room, or no disk
        self._node = node
        self._viewed: dict[tuple[str, str], float] = {}
        node.administration.on_applied.append(self._applied)
        node.spread.on_unasked = self._unasked
        node.spread.on_asked = self._asked
        node.links.on_change.append(self._link_changed)
        node.known_nodes.on_change = self._key_changed
        node.on_reload.append(self._reloaded)
        node.authenticator.on_refused.append(self._login_failed)
        sessions.on_open.append(self._logged_in)

    def _logged_in(self, identity: Identity, kind: str) -> None:
        self._write(identity, "login", kind, "done", "", None, via="api")

    def _login_failed(self, identity: Identity, reason: str) -> None:
        if reason == Reason.BUSY.value:                 # nobody knows whether the password was right
            return
        more = self._failures.take()
        if more is not None:
            self._write(identity, "login", identity.protocol, "failed", reason + more, None, via=identity.protocol)

    def _reloaded(self, before: Config, after: Config | None, problem: str) -> None:
        changed = config_differences(effective(before), effective(after)) if after is not None else None
        self._write(Identity("$file"), "configuration.reload", "", "done" if after is not None else "refused", problem,
                    changed, via="file")

    async def viewed(self, identity: Identity, how: str, filters: str) -> None:
        """Somebody is about to be shown payloads: once for each filter within a while, however many pages he turns.

        With [console] record_every_view: every page, and on disk before it is shown. Raises Problem where it cannot be.
        """
        if identity.revoked:
            return
        if self._every_view:
            try:
                await self._audit.record(identity, f"payload.{how}", filters or "#", via="api")
            except AuditRefused as error:
                raise problem_of(error.refusal) from error
            return
        now_s, key = self._clock_s(), (identity.user, f"{how} {filters}")
        if now_s - self._viewed.get(key, -VIEW_EVERY_S) < VIEW_EVERY_S:
            return
        if len(self._viewed) >= VIEWS_MAX:
            self._viewed.clear()
        self._viewed[key] = now_s
        self._write(identity, f"payload.{how}", filters or "#", "done", "", None, via="api")

    def _applied(self, revision: Revision) -> None:
        if revision.source:
            named = [{"kind": step.after.kind, "name": step.after.name, "by": step.after.author,
                      "changes": differences(step.before.body if step.before else None, step.after.body)}
                     for step in revision.steps[:NAMED_MAX]]
            self._write(Identity(f"{revision.author}@{revision.source}", protocol="link"), "documents.taken",
                        f"revision {revision.number}", "done", revision.reason, named, via="link")

    def _unasked(self, neighbour: str, count: int) -> None:
        self._write(Identity(f"@{neighbour}", protocol="link"), "documents.taken", f"{count} documents", "denied",
                    "this node takes no documents over that link", None, via="link")

    def _link_changed(self, node: str, what: str, text: str) -> None:
        if self._node.state == "stopping":
            return
        more = self._links.take()
        if more is not None:
            self._write(Identity(f"@{node}", protocol="link"), f"link.{what}", node,
                        "denied" if what == "refused" else "done", text + more, None, via="link")

    def _key_changed(self, name: str, before: str, after: str, by: str) -> None:
        self._write(Identity(f"@{by}", protocol="link"), "node.key", name, "done",
                    "it has proven its name at a link", {"before": before, "after": after}, via="link")

    def _asked(self, neighbour: str) -> None:
        self._write(Identity(f"@{neighbour}", protocol="link"), "documents.given", "", "denied",
                    "this node does not trust it with documents: administer and entrust are false", None, via="link")

    def _write(self, who: Identity, act: str, target: str, outcome: str, reason: str, after: object, *,
               via: str) -> None:
        if len(self._tasks) >= WAITING_MAX:
            self._left_out += 1
            logger.error("no room for the audit record %s %s by user %s", act, target, who.user)
            return
        task = asyncio.get_running_loop().create_task(self._record(who, act, target, outcome, reason, after, via))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, who: Identity, act: str, target: str, outcome: str, reason: str, after: object,
                      via: str) -> None:
        try:
            await self._audit.record(who, act, target, outcome=outcome, reason=reason, after=after, via=via)
        except AuditRefused as error:
            self._left_out += 1
            logger.error("audit record %s %s by user %s could not be written: %s", act, target, who.user, error)
            return
        left_out, self._left_out = self._left_out, 0
        if left_out:
            try:
                await self._audit.record(Identity("$node"), "audit", f"{left_out} records", outcome="failed",
                                         reason="there was no room for them before this", via="node")
            except AuditRefused:
                self._left_out += left_out

    def _tell(self, act: str, outcome: str, count: int) -> None:
        """What was left out, and no record has come since in which that could stand."""
        self._write(Identity("$node"), act, f"{count} more", outcome, "they were not written down one by one", None,
                    via="node")


def _later(delay_s: float, work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(delay_s, work)


def config_differences(before: object, after: object, path: str = "") -> dict[str, list[object]]:
    """Path of a setting → [before, after], of those that differ. Lists of tables are told as a whole, by number."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, list[object]] = {}
        for name in sorted({*before, *after}):
            found.update(config_differences(before.get(name), after.get(name), f"{path}.{name}" if path else str(name)))
            if len(found) >= NAMED_MAX:
                break
        return found
    if before == after:
        return {}
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        gone = [one for one in before if one not in after][:NAMED_MAX]
        return {path: [gone, [one for one in after if one not in before][:NAMED_MAX]]}
    return {path: [before, after]}
