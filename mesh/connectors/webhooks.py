"""All webhooks of a node: a member for each consumer that has a push, from its making to its end.

    start · a consumer is made or changed · reload ──► is it fine? ──► resolve secrets ──► WebhookMember attaches

Consumers of [[consumers]] belong to the node itself; one that the file does not name any more keeps its events and is
not served, until it is put back or deleted.
"""
from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from typing import Any

from yarl import URL

from mesh.connectors.webhook_client import WebhookClient, tls_context
from mesh.connectors.webhook_guard import Guard, TargetRefused
from mesh.connectors.webhook_member import WebhookMember, shown_url
from mesh.connectors.webhook_secrets import Resolved, check_push, resolve
from mesh.connectors.webhook_settings import ConsumerTable, WebhookSettings
from mesh.system.limits import outgoing_sockets_max
from mesh.system.names.names import Names
from mesh.system.tls import system_trust
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.push import Push
from routing.errors import ConfigError, Reason, Refusal
from routing.rights.policy import INTERNAL
from routing.router import Router

logger = logging.getLogger(__name__)

NAME_THREADS = 8            # for the names of webhooks alone
ATTACH_AGAIN_S = 5.0        # an exclusive consumer may have another reader for a while


class Prepared:
    """What a configuration gives, read and checked before anything is changed."""

    def __init__(self, settings: WebhookSettings, consumers: tuple[ConsumerTable, ...]) -> None:
        """Raises ConfigError."""
        self.settings = settings
        self.consumers = consumers
        self.guard = Guard(settings.allow, https_only=settings.https_only)
        try:
            self._own = tls_context(settings.ca) if settings.ca is not None else None
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"webhooks.ca: {settings.ca}: {error}") from error
        for index, table in enumerate(consumers):
            if table.push is not None:
                push = table.push.plain()
                problem = self.problem_of(push, declared=True)
                if problem is not None:
                    raise ConfigError(f"consumers[{index}]: {problem}")
                self.resolve(f"consumers[{index}]", push)

    def tls(self, url: URL) -> ssl.SSLContext | None:
        return None if url.scheme != "https" else self._own or system_trust()

    def problem_of(self, push: Push, *, declared: bool) -> str | None:
        try:
            url = self.guard.check_url(push.url)
        except TargetRefused as error:
            return f"push.url: {error}"
        return check_push(push, url, self.settings, declared=declared)

    def resolve(self, path: str, push: Push) -> Resolved:
        try:
            return resolve(push, self.settings)
        except ConfigError as error:
            raise ConfigError(f"{path}.push: {error}") from error

    def declared(self, name: str) -> ConsumerTable | None:
        return next((table for table in self.consumers if table.name == name), None)


class Webhooks:
    """One per node. Event loop only."""

    def __init__(self, router: Router, node: str, prepared: Prepared, sockets_max: int | None = None) -> None:
        """sockets_max: of all webhooks together; None: a part of the files that the process may open."""
        self.members: dict[str, WebhookMember] = {}
        self.problems: dict[str, str] = {}              # consumer → why it is not served
        self._router = router
        self._node = node
        self._prepared = prepared
        self._stopping: set[asyncio.Task[None]] = set()
        self._over = False
        self._sockets_max = sockets_max if sockets_max is not None else outgoing_sockets_max()
        self._count = -1                                # members when they were last counted, and …
        self._counts: Counter[str] = Counter()          # … how many each user has
        self._names = Names(NAME_THREADS, router.clock_s)
        router.registry.check_push = self._check
        router.registry.on_opened.append(self._opened)

    def start(self) -> None:
        """Serve what is there already, and make what the configuration declares."""
        self._declare()
        for consumer in list(self._router.consumers.values()):
            self._opened(consumer)

    def apply(self, prepared: Prepared) -> None:
        """Reload. What has changed, its secrets too, is served anew; the others do not notice."""
        before, self._prepared = self._prepared, prepared
        same = before.settings == prepared.settings and prepared.settings.ca is None
        for name, member in list(self.members.items()):
            if not same or not self._is_as_before(name, member):
                self._let_go(name)
        self.start()

    def _is_as_before(self, name: str, member: WebhookMember) -> bool:
        if member.identity is INTERNAL and self._prepared.declared(name) is None:
            return False
        try:
            return resolve(member.push, self._prepared.settings) == member.resolved
        except ConfigError:
            return False

    async def shutdown(self) -> None:
        """What is under way has a moment to end."""
        self._over = True
        for name in list(self.members):
            self._let_go(name)
        if self._stopping:
            await asyncio.wait(self._stopping)

    # -- consumers --------------------------------------------------------------------------------------------

    def _check(self, spec: ConsumerSpec) -> Refusal | None:
        """The registry asks before it takes a consumer with a push."""
        assert spec.push is not None
        known = self._router.consumers.get(spec.name)
        new = known is None or known.spec.push is None
        served = sum(consumer.spec.push is not None for consumer in self._router.consumers.values())
        if new and served >= self._prepared.settings.webhooks_max:
            return Refusal(Reason.QUOTA_EXCEEDED, f"{served} consumers push, that is the limit")
        problem = self._problem(spec.name, spec.push)
        return Refusal(Reason.TARGET_REFUSED, problem) if problem is not None else None

    def _problem(self, name: str, push: Push) -> str | None:
        table = self._prepared.declared(name)
        declared = table is not None and table.push is not None and table.push.plain() == push
        return self._prepared.problem_of(push, declared=declared)

    def _declare(self) -> None:
        for table in self._prepared.consumers:
            spec = ConsumerSpec(
                table.name, table.filters, table.mode, table.start, table.streams, max_in_flight=table.max_in_flight,
                ack_timeout_s=table.ack_timeout_s, max_deliveries=table.max_deliveries,
                backoff_initial_s=table.backoff_initial_s, backoff_max_s=table.backoff_max_s,
                dead_letter_topic=table.dead_letter_topic, push=table.push.plain() if table.push is not None else None)
            consumer = self._router.open_consumer(spec, INTERNAL)
            if isinstance(consumer, Refusal):
                self._refuse(table.name, consumer.text)

    def _opened(self, consumer: Consumer) -> None:
        """A consumer was made, or changed: serve it as it is now."""
        name, push = consumer.name, consumer.spec.push
        member = self.members.get(name)
        if consumer.identity.revoked and push is not None:
            if member is not None:
                self._let_go(name)
            self._refuse(name, f"its owner {consumer.identity.user} may not log in any more")
            return
        if member is not None and member.consumer is consumer and member.push == push:
            return
        if member is not None:
            self._let_go(name)
        if push is None or self._over:
            self.problems.pop(name, None)
            return
        if consumer.identity is INTERNAL and self._prepared.declared(name) is None:
            self._refuse(name, "the configuration does not name it any more; put it back, or delete the consumer")
            return
        problem = self._problem(name, push)
        if problem is not None:
            self._refuse(name, problem)
            return
        try:
            resolved = resolve(push, self._prepared.settings)
        except ConfigError as error:
            self._refuse(name, str(error))
            return
        self._serve(consumer, push, resolved)

    def _serve(self, consumer: Consumer, push: Push, resolved: Resolved) -> None:
        prepared = self._prepared
        url = prepared.guard.check_url(push.url)
        client = WebhookClient(prepared.guard, prepared.settings, prepared.tls(url), self._names,
                               connections=min(push.max_in_flight, self._sockets_max), timeout_s=push.timeout_s)
        member = WebhookMember(
            self._router, consumer, push, url, resolved, client, prepared.settings, self._node, self._closed,
            self._room)
        refused = member.start()
        if refused is not None:
            self._keep(client.close())
            self._refuse(consumer.name, refused)
            asyncio.get_running_loop().call_later(ATTACH_AGAIN_S, self._again, consumer)
            return
        self.members[consumer.name] = member
        self.problems.pop(consumer.name, None)
        logger.info("webhook %s: events go to %s", consumer.name, shown_url(url))

    def _room(self, member: WebhookMember) -> int:
        """Its part of the sockets: users share them, the webhooks of a user share his. One user has half at most."""
        if self._count != len(self.members) or not self._counts[member.identity.user]:
            self._count = len(self.members)
            self._counts = Counter(other.identity.user for other in {*self.members.values(), member})
        counts = self._counts
        return max(1, self._sockets_max // max(2, len(counts)) // counts[member.identity.user])

    def _again(self, consumer: Consumer) -> None:
        """Whoever was in the way may be gone."""
        if not self._over and self._router.consumers.get(consumer.name) is consumer:
            self._opened(consumer)

    def _refuse(self, name: str, problem: str) -> None:
        if self.problems.get(name) == problem:
            return
        self.problems[name] = problem
        logger.error("webhook %s is not served: %s", name, problem)

    def _let_go(self, name: str) -> None:
        member = self.members.pop(name)
        if self._over:
            self._keep(member.stop())
        else:                       # at once: the next member must find everything that is unacked
            consumer = member.consumer
            member.abandon()
            if consumer is not None:
                consumer.detach(member)
            self._keep(member.stop())

    def _closed(self, member: WebhookMember) -> None:
        """Its consumer was deleted."""
        for name in [name for name, known in self.members.items() if known is member]:
            del self.members[name]
            self.problems.pop(name, None)
        self._keep(member.stop())

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    # -- for people -------------------------------------------------------------------------------------------

    def snapshot(self) -> list[dict[str, Any]]:
        """For the management API, by name."""
        rows = []
        for name, consumer in sorted(self._router.consumers.items()):
            if consumer.spec.push is None:
                continue
            lag = consumer.lag()
            row: dict[str, Any] = {"consumer": name, "filters": list(consumer.filters), "paused": consumer.paused,
                                   "lag_events": lag.events, "lag_seconds": lag.seconds, "lag_state": lag.state}
            member = self.members.get(name)
            if member is not None and member.consumer is not None:
                row.update(member.snapshot())
            else:
                row.update(state="not served", last_problem=self.problems.get(name, ""))
            rows.append(row)
        return rows
