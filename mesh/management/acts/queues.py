"""What is ready in a queue, or for any consumer: looked at, and purged."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Param, Values, Viewed
from mesh.management.acts.consumers import consumer_of, stored
from protocols.rest.problems import Problem
from routing.queues.browsing import browse
from routing.queues.depth import depth_of
from routing.queues.purging import purge
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.management.browse import Browser
    from mesh.node import Node

LIMIT, LIMIT_MAX = 100, 1_000


class QueueActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None], viewed: Viewed,
                 browser: Browser) -> None:
        """changed: the table of consumers is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed
        self._viewed = viewed
        self._browser = browser

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "consumers/{name}/events", Action.VIEW,
                     "What is ready, in order within a partition; it stays where it is.", self.browse, (
                         Param("limit", f"At most so many, up to {LIMIT_MAX}."),
                         Param("after", "next of the page before."))),
            Endpoint("POST", "consumers/{name}/purge", Action.OPERATE,
                     "Forget what is ready; what is unacked stays.", self.purge, body={}),
        ]

    async def browse(self, call: Call) -> Values:
        consumer = consumer_of(self._node.router, call)
        limit = call.query.get("limit", str(LIMIT))
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= LIMIT_MAX:
            raise Problem(400, "query-invalid", f"limit is 1 to {LIMIT_MAX}")
        queue = self._node.router.queues.get(consumer.name)
        after = call.query.get("after", "")
        try:
            page = queue.browse(int(limit), after) if queue is not None else browse(consumer, int(limit), after)
        except ValueError as error:
            raise Problem(400, "query-invalid", f"after: {error}") from None
        await self._viewed(call.identity, "queue", consumer.name)
        return {"events": await self._browser.rows(page.events, call.identity), "next": page.next}

    async def purge(self, call: Call) -> Values:
        consumer = consumer_of(self._node.router, call)

        async def perform() -> Values:
            queue = self._node.router.queues.get(consumer.name)
            count = queue.purge() if queue is not None else purge(consumer)
            await stored(self._node.router, consumer)
            self._changed()
            return {"consumer": consumer.name, "purged": count}
        depth = depth_of(consumer)
        preview = {"ready": depth.ready, "unacked": depth.unacked}
        return await self._acts.run(call, Act("consumer.purge", consumer.name, preview, perform, preview, {"ready": 0}))
