"""KafkaCluster: this node as one of several that are one Kafka cluster to clients. [kafka] cluster; docs/kafka.md.

One of them leads: it serves all topics and groups. The others answer where it is, and nothing else: whoever asks them
for more is disconnected, and then asks for the leader. They keep what they need to go on when it is lost.

Each node writes its own log; what the leader takes comes to the others by replication, which is behind by what was not
yet on its way. So after a loss that is missing until the lost node is there again; then it comes, and is read.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.kafka.cluster.election import Election
from protocols.kafka.cluster.following import Following
from protocols.kafka.cluster.messages import Copy, Dropped, Gone, Hello, Make, Message, Topics, decode, encode
from protocols.kafka.cluster.telling import Telling
from protocols.kafka.cluster.view import NOBODY, BrokerRow
from protocols.kafka.topics.changes import settings_for
from protocols.kafka.topics.names import name_problem

if TYPE_CHECKING:
    from protocols.kafka.broker import Broker
    from protocols.peers import Peers

log = logging.getLogger(__name__)

STATE: Final = "kafka-cluster"
HELLO_S: Final = 0.5


class _Stored(msgspec.Struct, array_like=True):
    term: int
    leader: str


class KafkaCluster:
    """A Cluster (view.py). Loop thread only. on_changed: called when this node begins or ends to lead."""

    def __init__(self, broker: Broker, peers: Peers, on_changed: Callable[[], None]) -> None:
        self._broker = broker
        self._peers = peers
        self._on_changed = on_changed
        self._names = list(broker.settings.cluster)
        self._addresses: dict[str, tuple[str, int]] = {}
        stored = broker.router.state.read(STATE, _Stored, "the leader of a Kafka cluster") or _Stored(0, "")
        self._led_last = stored.leader in ("", peers.me)        # what it has of groups is the newest
        self._election = Election(
            peers.me, self._names, broker.settings.cluster_lost_s, stored.term, broker.router.clock_s(),
            led=stored.leader == peers.me)
        self._serves = False
        self._hello_due_s = 0.0
        self._sees: set[str] = set()
        self._telling = Telling(broker, peers, self._tell, lambda: self._election.term)
        self._following = Following(broker, peers)
        broker.groups.on_committed.append(self._telling.changed)
        broker.groups.on_deleted.append(self._group_deleted)
        broker.router.lifecycle.on_deleted.append(self._topic_deleted)
        broker.router.on_streams.append(self._telling.topics_changed)

    # -- Cluster ----------------------------------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        return self._serves

    @property
    def my_id(self) -> int:
        return self._names.index(self._peers.me) + 1

    @property
    def leader_id(self) -> int:
        leader = self._election.leader
        known = self._serves if leader == self._peers.me else leader in self._addresses
        return self._names.index(leader) + 1 if known else NOBODY

    def brokers(self, host: str, port: int) -> list[BrokerRow]:
        known = {**self._addresses, self._peers.me: (host, port)}
        return [BrokerRow(number, *known[name]) for number, name in enumerate(self._names, 1) if name in known]

    def have_made(self, name: str, user: str) -> None:
        self._peers.say(self._election.leader, encode(Make(name, user)))

    # -- the others -------------------------------------------------------------------------------------------

    def heard(self, source: str, body: bytes) -> None:
        if source not in self._names or source == self._peers.me:
            return
        try:
            message = decode(body)
        except msgspec.MsgspecError:
            self._broker.counters["cluster.bad_messages"] += 1
            return
        if isinstance(message, Hello):
            self._addresses[source] = (message.host, message.port)
            if self._election.hear(source, message.term, self._broker.router.clock_s(), leads=message.leads):
                self._follow(source)
        elif isinstance(message, Make):
            self._make(message)
        elif source == self._election.leader:
            self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, Copy):
            self._following.on_copy(message)
        elif isinstance(message, Gone):
            self._following.on_gone(message)
        elif isinstance(message, Topics):
            self._following.on_topics(message)
        elif isinstance(message, Dropped):
            self._following.on_dropped(message)

    def _make(self, asked: Make) -> None:
        """Whether its client may has been looked at there. What this node lets its own clients make has its bounds."""
        broker = self._broker
        if not self._serves or name_problem(asked.name) is not None or broker.topics.find(asked.name) is not None:
            return
        settings = settings_for(asked.name, broker.settings.default_partitions, {})
        if broker.settings.auto_create_topics and broker.topics.refuse_more(asked.user) is None and (
                broker.router.lifecycle.refuse_new(settings) is None):
            broker.router.lifecycle.create(settings, asked.user)

    def _tell(self, message: Message) -> None:
        body = encode(message)
        for name in self._names:
            if name != self._peers.me:
                self._peers.say(name, body)

    def _group_deleted(self, group_id: str) -> None:
        self._telling.gone(group_id)
        if self._serves:
            self._following.on_gone(Gone(group_id))         # else it would be back when this node takes over again
            self._tell(Gone(group_id))

    def _topic_deleted(self, name: str, incarnation: bytes) -> None:
        if self._serves:
            self._tell(Dropped(name, incarnation))

    # -- who leads --------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        if self._election.look(now_s):
            self._lead()
        if now_s >= self._hello_due_s:
            self._hello_due_s = now_s + HELLO_S
            self._say_hello()
        if self._serves:
            sees = {name for name in self._names if name in self._peers.in_sight}
            if sees - self._sees:
                self._telling.all()
            self._sees = sees
            self._telling.tick(now_s)

    def _say_hello(self) -> None:
        host, port = self._broker.address_for("")
        self._tell(Hello(self._election.term, self._serves, host, port))

    def _store(self) -> None:
        stored = _Stored(self._election.term, self._election.leader)
        self._broker.router.state.put(STATE, msgspec.msgpack.encode(stored))

    def _follow(self, leader: str) -> None:
        log.info("kafka: node %s leads the cluster, term %d", leader, self._election.term)
        self._led_last = False
        self._store()
        if self._serves:
            self._serves = False
            self._telling.forget()
            self._on_changed()

    def _lead(self) -> None:
        """Nobody else does. What this node has of groups counts if it led last; else what the last leader has told.

        That it leads is stored behind what it takes over: killed before, it takes that over once more.
        """
        term = self._election.term
        log.warning("kafka: this node is to lead the cluster, term %d", term)

        def ready() -> None:
            if self._election.leader == self._peers.me and self._election.term == term:
                self._serves = self._led_last = True
                self._store()
                self._telling.seed(self._following.known)
                self._following.known = {}
                self._sees = set()
                self._say_hello()
                self._on_changed()
                log.warning("kafka: this node leads the cluster, term %d", term)

        if self._led_last:
            ready()
        else:
            self._following.take_over(ready)
