"""What is declared on this node: the topology with its queues, stored and brought back. Loop thread only.

declaring.py decides what a client may do; here it is done. Every change that is durable goes to the state table, and
its Ticket is what the client's answer waits for.
"""
from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

from protocols.amqp091.codec.codes import SoftError
from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology import names
from protocols.amqp091.topology.arguments import STREAM, QueueOptions, options_of
from protocols.amqp091.topology.exchange import Exchange
from protocols.amqp091.topology.matching import Binding
from protocols.amqp091.topology.queue import Queue, make
from protocols.amqp091.topology.stored import StoredTopology, table
from protocols.amqp091.topology.streamqueue import StreamQueue, stream_topic
from protocols.amqp091.topology.topology import Topology
from routing.errors import Refusal
from routing.fairness.shares import Share
from routing.queues.bindings import Binding as CoreBinding
from routing.queues.queue import Queue as CoreQueue
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.settings import AmqpSettings
    from routing.router import Router

log = logging.getLogger(__name__)


class Declared:
    def __init__(self, router: Router, settings: AmqpSettings) -> None:
        self.router = router
        self.settings = settings
        self.topology = Topology()
        self.queues: dict[str, Queue | StreamQueue] = {}
        self.bindings = 0
        self._owned: dict[int, dict[str, Queue]] = {}        # exclusive ones, by the identity of their connection
        self.shares = Share("queues", lambda: router.limits.user_share,
                            router.shares.quotas.cap("queues"))
        self._stored = StoredTopology(router.state)
        self.topology.queue_exists = lambda name: self.queue(name) is not None
        router.queues.on_deleted.append(self._core_deleted)

    def restore(self) -> None:
        """Bring back what was stored. Called once."""
        for exchange in self._stored.exchanges():
            self.topology.add_exchange(exchange)
        for name, stored in self._stored.queues():
            found = self.router.queues.get(names.core_name(name))
            if found is None and table(stored.arguments).get("x-queue-type") == STREAM:
                self._restore_stream(name, table(stored.arguments), stored.user)
                continue
            if found is None:
                log.error("queue %r is stored here and not in the core: it is gone", name)
                self._stored.delete_queue(name)
                continue
            arguments = table(stored.arguments)
            try:
                options = options_of(arguments, name, "/")
            except SoftError as error:
                log.error("queue %r: stored arguments are not taken any more: %s", name, error)
                options = QueueOptions()
            self.shares.add(stored.user)
            self.queues[name] = Queue(
                name, True, stored.auto_delete, arguments, options, stored.user, None, found)
        for binding in self._stored.bindings():
            if binding.source in self.topology.exchanges and (
                    binding.destination in (self.topology.exchanges if binding.to_exchange else self.queues)):
                self.topology.bind(binding)
                self.bindings += 1
                stream = None if binding.to_exchange else self.queues[binding.destination]
                if isinstance(stream, StreamQueue) and binding.filter is not None:
                    stream.restore_binding(binding.filter)
            else:
                self._stored.delete_binding(binding)

    def _restore_stream(self, name: str, arguments: Table, user: str) -> None:
        self.shares.add(user)
        self.queues[name] = StreamQueue(self.router, name, arguments, options_of(arguments, name, "/"), user)
        self.topology.streams[name] = stream_topic(name)

    # -- queues -----------------------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue | StreamQueue | None:
        """One that another protocol has made (queue://jobs of AMQP 1.0, a queue over HTTP) is a durable one here."""
        found = self.queues.get(name)
        if found is not None:
            return found
        core = self.router.queues.get(names.core_name(name))
        if core is None or "/" in core.name or core.options.temporary:
            return None
        options = core.options
        made = self.queues[name] = Queue(
            name, core.consumer.spec.durable, options.auto_delete, {}, QueueOptions(),
            core.consumer.identity.user, None, core)
        self.shares.add(made.user)
        self.topology.changed()
        return made

    def new_name(self) -> str:
        return "amq.gen-" + secrets.token_urlsafe(16)

    def add_queue(self, name: str, durable: bool, auto_delete: bool, arguments: Table, options: QueueOptions,
                  identity: Identity, owner: Any) -> Queue | StreamQueue | Refusal:
        """Make a queue that is not there. owner: the connection that it is exclusive to."""
        if options.type == STREAM:
            self._stored.put_queue(name, auto_delete, arguments, identity.user)
            stream = self.queues[name] = StreamQueue(self.router, name, arguments, options, identity.user)
            self.topology.streams[name] = stream_topic(name)
            self.topology.changed()
            return stream
        found = make(self.router, name, durable and owner is None, auto_delete, options, identity)
        if isinstance(found, Refusal):
            return found
        queue = self.queues[name] = Queue(name, durable, auto_delete, arguments, options, identity.user, owner, found)
        if owner is not None:
            self._owned.setdefault(id(owner), {})[name] = queue
        if queue.is_stored:
            self._stored.put_queue(name, auto_delete, arguments, identity.user)
        self.topology.changed()
        return queue

    def remove_queue(self, queue: Queue | StreamQueue, reason: str) -> None:
        """Delete it with its bindings."""
        if isinstance(queue, StreamQueue):
            queue.close()
            self._forget(queue)
            return
        self.router.queues.delete(queue.core.name, reason=reason)       # calls _core_deleted

    def _core_deleted(self, core: CoreQueue) -> None:
        """By us, by its last consumer's leaving, because it expired, or by an operator."""
        queue = self.queues.get(names.queue_name(core.name))
        if isinstance(queue, Queue) and queue.core is core:
            self._forget(queue)

    def _forget(self, queue: Queue | StreamQueue) -> None:
        if self.queues.get(queue.name) is not queue:
            return
        del self.queues[queue.name]
        self.topology.streams.pop(queue.name, None)
        self.shares.give(queue.user)
        owned = self._owned.get(id(queue.owner))
        if owned is not None:
            owned.pop(queue.name, None)
        self._remove_bindings(list(self.topology.of_queue.get(queue.name, {}).values()))
        if queue.is_stored:
            self._stored.delete_queue(queue.name)
        self.topology.changed()

    def connection_gone(self, connection: Any) -> None:
        """Its exclusive queues go with it."""
        for queue in list(self._owned.pop(id(connection), {}).values()):
            if self.queues.get(queue.name) is queue:
                self.remove_queue(queue, "its connection is gone")

    # -- exchanges and bindings -------------------------------------------------------------------------------

    def add_exchange(self, exchange: Exchange) -> None:
        self.topology.add_exchange(exchange)
        if exchange.durable:
            self._stored.put_exchange(exchange)

    def remove_exchange(self, exchange: Exchange) -> None:
        gone = self.topology.remove_exchange(exchange.name)
        if exchange.durable:
            self._stored.delete_exchange(exchange.name)
        for binding in gone:
            self._binding_gone(binding)

    def add_binding(self, binding: Binding, identity: Identity) -> Refusal | None:
        if not binding.to_exchange and binding.filter is not None:
            queue = self.queues[binding.destination]
            refusal = queue.core.bind(CoreBinding(binding.filter), identity)
            if refusal is not None:
                return refusal
        self.topology.bind(binding)
        self.bindings += 1
        if self._is_stored(binding):
            self._stored.put_binding(binding)
        return None

    def remove_binding(self, binding: Binding) -> None:
        self.topology.unbind(binding)
        self._binding_gone(binding)

    def _remove_bindings(self, bindings: list[Binding]) -> None:
        for binding in bindings:
            self.remove_binding(binding)

    def _binding_gone(self, binding: Binding) -> None:
        """It is out of the topology."""
        self.bindings -= 1
        self._stored.delete_binding(binding)
        if not binding.to_exchange and binding.filter is not None:
            queue = self.queues.get(binding.destination)
            others = self.topology.of_queue.get(binding.destination, {}).values()
            if queue is not None and queue.alive and all(other.filter != binding.filter for other in others):
                queue.core.unbind(CoreBinding(binding.filter))
        source = self.topology.exchanges.get(binding.source)
        if source is not None and source.auto_delete and not source.bindings:
            self.remove_exchange(source)

    def _is_stored(self, binding: Binding) -> bool:
        if not self.topology.exchanges[binding.source].durable:
            return False
        if binding.to_exchange:
            return self.topology.exchanges[binding.destination].durable
        return self.queues[binding.destination].is_stored
