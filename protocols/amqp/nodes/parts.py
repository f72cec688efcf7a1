"""Parts: what the server keeps for one connection that has logged in."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.nodes.management import Management
from protocols.amqp.nodes.transactions import Transactions
from protocols.amqp.nodes.work import Work
from protocols.amqp.settings import Amqp10Settings
from routing.queues.queue import Queue
from routing.router import Router


class Parts:
    """dynamic: queues and topics that were made for this connection, and go with it at the latest."""

    __slots__ = ("desks", "dynamic_queues", "dynamic_topics", "ending", "management", "names", "transactions", "work")

    def __init__(self, router: Router, connection: Any, settings: Amqp10Settings,
                 count: Callable[[str, int], None]) -> None:
        self.work = Work(router, connection, count)
        self.transactions = Transactions(
            router, self.work, count_max=settings.transactions_max, bytes_max=settings.transaction_bytes_max)
        self.dynamic_queues: dict[str, Queue] = {}      # by the name that the client knows
        self.dynamic_topics: dict[str, None] = {}
        self.management: Management | None = None       # once it has asked for it
        self.ending: dict[str, Queue] = {}              # subscriptions that go with the connection, if nobody reads
        self.desks: dict[str, Any] = {}                 # of the Azure emulator, by address
        self.names: dict[tuple[bool, str], Any] = {}    # links, by direction and name
