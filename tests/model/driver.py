"""Runs a program: real routers and MQTT servers on simulated disks, links that lose nothing, clients in memory.

One node or three. Each client belongs to one node. After each step time passes until nothing moves any more, but for
"race", where an event is published elsewhere while a client subscribes.
"""
from __future__ import annotations

import itertools
import zlib
from typing import Any

from protocols.mqtt.server import MqttServer
from protocols.mqtt.settings import MqttSettings
from tests.mesh.replication.harness import Node, World
from tests.model.oracle import Event, Oracle, Subscription, Violation
from tests.model.program import CLIENTS, Program, Step
from tests.protocols.mqtt.harness import Client, Users
from tests.support import rawmqtt as m

STEP_S = 0.03
EXPIRY_IS_EXACT_TO_S = 0.002
QUIET = 3                       # so many steps without a packet are rest
RESTS_MAX = 400


class ModelNode(Node):
    """A node of the mesh's harness with an MQTT server."""

    def start(self) -> None:
        super().start()
        self.router.retained.node_name = self.name
        self.numbers = itertools.count(1)
        self.server = MqttServer(self.router, Users(), MqttSettings(sys_interval_s=0))

    def work_of_a_tick(self) -> None:
        self.server.tick(self.clock_s())

    @property
    def now_s(self) -> float:
        return self.clock_s()

    def run(self) -> None:
        self.turn()


class ModelWorld(World):
    def add_model_node(self, name: str) -> ModelNode:
        node = ModelNode(self, name)
        self.nodes[name] = node
        node.start()
        self._tick(node)
        return node

    def _tick(self, node: ModelNode) -> None:
        if node.alive:
            node.do(node.work_of_a_tick)
        self.at(0.02, lambda: self._tick(node))


class Driver:
    def __init__(self, seed: int, nodes: int) -> None:
        self.world = ModelWorld(seed)
        self.nodes = [self.world.add_model_node(f"n{number}") for number in range(nodes)]
        self.oracle = Oracle([node.name for node in self.nodes])
        self.clients: dict[str, Client] = {}
        self.slow: set[str] = set()
        self.unanswered: dict[str, list[m.Packet]] = {}
        self.released: dict[str, set[int]] = {}         # ids of PUBRECs whose PUBCOMP was not sent
        self.number = 0
        self.home = {client: self.nodes[index % nodes] for index, client in enumerate(CLIENTS)}
        for index, node in enumerate(self.nodes):
            self.home[f"w{index}"] = node

    # -- time -------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Until nothing moves."""
        quiet = 0
        for _ in range(RESTS_MAX):
            self.world.run(STEP_S)
            self.oracle.now_s = self.world.now_s
            quiet = 0 if self.read_all() else quiet + 1
            if quiet >= QUIET:
                return
        raise Violation("no rest", "something goes on and on")

    def read_all(self) -> bool:
        moved = False
        for name in list(self.clients):
            if name in self.clients:
                moved |= self.read(name)
        return moved

    def read(self, name: str) -> bool:
        client = self.clients[name]
        packets = client.take()
        for one in packets:
            if one.kind == m.PUBLISH:
                if name in self.oracle.sessions:
                    self.oracle.received(
                        name, one.packet_id, one.qos, one.topic, one.payload, dup=one.dup, retain=one.retain,
                        identifiers=tuple(sorted(one.all(m.SUBSCRIPTION_ID))))
                if one.qos:
                    self.unanswered[name].append(one)
            elif one.kind == m.PUBREL:
                self.oracle.answered(name, one.packet_id, over=True)
                client.ack(m.PUBCOMP, one.packet_id)
            elif one.kind == m.PUBREC:
                client.ack(m.PUBREL, one.packet_id)
            elif one.kind == m.DISCONNECT:
                raise Violation("disconnected", f"{name} with 0x{one.code:02x}")
        if client.closed:
            raise Violation("closed", name)
        if name not in self.slow:
            while name in self.clients and self.unanswered[name]:
                self.answer(name)
        return bool(packets)

    def answer(self, name: str) -> None:
        one = self.unanswered[name].pop(0)
        self.oracle.answered(name, one.packet_id, over=one.qos == 1)
        self.clients[name].ack(m.PUBACK if one.qos == 1 else m.PUBREC, one.packet_id)

    # -- steps ------------------------------------------------------------------------------------------------

    def run(self, program: Program) -> None:
        for step in program:
            self.do(step)
        self.finish()

    def do(self, step: Step) -> None:
        self.oracle.pass_time(self.world.now_s)
        getattr(self, f"do_{step[0]}")(*step[1:])
        self.rest()

    def do_connect(self, name: str, version: int, clean: bool, expiry_s: float, receive_maximum: int,
                   slow: bool) -> None:
        node = self.home[name]
        if not node.alive:
            return
        while (known := self.oracle.sessions.get(name)) and abs(known.ends_s - self.world.now_s) < EXPIRY_IS_EXACT_TO_S:
            self.world.run(EXPIRY_IS_EXACT_TO_S)        # in the very millisecond it may be there or not
            self.oracle.pass_time(self.world.now_s)
        if version == 4:
            receive_maximum = 1_000                     # there is no such thing in 3.1.1
        old = self.clients.pop(name, None)
        client = Client(node, version)
        present = self.oracle.connect(name, node.name, version, clean, expiry_s, receive_maximum, slow)
        values = [(m.SESSION_EXPIRY, expiry_s), (m.RECEIVE_MAXIMUM, receive_maximum)] if version == 5 else []
        connack = client.connect(name, clean=clean, values=values)
        if old is not None and not old.closed:
            raise Violation("taken over", f"{name}: the old connection goes on")
        if connack.code or connack.session_present != present:
            raise Violation("CONNACK", f"{name}: {connack.code}, session present {connack.session_present}")
        client.stash = client.rest
        self.clients[name] = client
        self.unanswered[name] = []
        self.slow.discard(name)
        if slow:
            self.slow.add(name)

    def do_lose(self, name: str) -> None:
        client = self.clients.pop(name, None)
        if client is not None:
            self.oracle.leave(name)
            client.lose()

    def do_bye(self, name: str) -> None:
        client = self.clients.pop(name, None)
        if client is not None:
            self.oracle.leave(name)
            client.disconnect()

    def do_subscribe(self, name: str, wanted: list[Step], identifier: int | None) -> None:
        client = self.clients.get(name)
        if client is None:
            return
        subscriptions, pairs = self._subscriptions(client, wanted, identifier)
        self.oracle.subscribe(name, subscriptions)
        values = [(m.SUBSCRIPTION_ID, identifier)] if identifier is not None and client.version == 5 else ()
        self._send_subscribe(client, pairs, values)

    def _send_subscribe(self, client: Client, pairs: list[tuple[str, int]], values: Any) -> None:
        codes = client.subscribe(*pairs, values=values).codes
        if codes != [options & 3 for _, options in pairs]:
            raise Violation("SUBACK", f"{codes} for {pairs}")

    def _subscriptions(self, client: Client, wanted: list[Step],
                       identifier: int | None) -> tuple[list[Subscription], list[tuple[str, int]]]:
        subscriptions, pairs = [], []
        for pattern, qos, no_local, keeps_retain, handling in wanted:
            if client.version == 4:
                no_local = keeps_retain = False
                handling, identifier = 0, None
            pairs.append((pattern, qos | no_local << 2 | keeps_retain << 3 | handling << 4))
            subscriptions.append(Subscription(pattern, qos, no_local, keeps_retain, handling, identifier))
        return subscriptions, pairs

    def do_unsubscribe(self, name: str, pattern: str) -> None:
        client = self.clients.get(name)
        if client is not None:
            self.read(name)
            self.oracle.unsubscribe(name, pattern)
            client.feed(m.unsubscribe_packet(next(client.ids), [pattern], version=client.version))
            self.read(name)

    def do_publish(self, name: str, node: int, topic: str, qos: int, retain: bool, removal: bool,
                   expiry_s: float | None) -> None:
        name = f"w{node}" if name == "w" else name
        client = self._publisher(name)
        if client is None:
            return
        event = self._event(client, name, topic, qos, retain, removal, expiry_s)
        self.oracle.publish(event)
        self._send(client, event, expiry_s)

    def _publisher(self, name: str) -> Client | None:
        if name[0] == "w" and name not in self.clients and self.home[name].alive:
            self.clients[name] = Client(self.home[name])
            self.clients[name].connect(name)
            self.unanswered[name] = []
        return self.clients.get(name)

    def _event(self, client: Client, name: str, topic: str, qos: int, retain: bool, removal: bool = False,
               expiry_s: float | None = None) -> Event:
        self.number += 1
        ends_s = self.world.now_s + expiry_s if expiry_s is not None and client.version == 5 else float("inf")
        return Event(self.number, topic, b"" if removal else b"%d" % self.number, qos, retain, name,
                     self.home[name].name, ends_s)

    def _send(self, client: Client, event: Event, expiry_s: float | None = None) -> None:
        values = [(m.MESSAGE_EXPIRY, expiry_s)] if event.ends_s != float("inf") else ()
        client.publish(event.topic, event.payload, qos=event.qos, retain=event.retain, values=values)

    def do_twice(self, name: str, topic: str, qos: int, retain: bool) -> None:
        """The answer to a PUBLISH is lost with the connection; a persistent session sends it again."""
        client = self.clients.get(name)
        session = self.oracle.sessions.get(name)
        if client is None or session is None or not session.persistent:
            return
        event = self._event(client, name, topic, qos, retain)
        self.oracle.publish(event)
        packet_id = client.publish(topic, event.payload, qos=qos, retain=retain)
        self.world.run(STEP_S)
        self.read_all_but(name)
        version, expiry_s = session.version, session.expiry_s
        self.oracle.pass_time(self.world.now_s)
        self.oracle.leave(name, unread=True)
        self.clients.pop(name).lose()
        self.do_connect(name, version, False, expiry_s, session.receive_maximum, session.slow)
        if qos == 1:
            self.oracle.publish(Event(event.number, topic, event.payload, qos, retain, name, event.node))
        client = self.clients[name]
        client.publish(topic, event.payload, qos=qos, retain=retain, packet_id=packet_id, dup=True)

    def read_all_but(self, name: str) -> None:
        for other in list(self.clients):
            if other != name:
                self.read(other)

    def do_race(self, name: str, wanted: Step, node: int, topic: str, qos: int, retain: bool, delay_ms: int) -> None:
        """An event is published while a client subscribes, a moment later, on any node."""
        client, writer = self.clients.get(name), self._publisher(f"w{node}")
        if client is None or writer is None:
            return
        subscriptions, pairs = self._subscriptions(client, [wanted], None)
        self.oracle.subscribe(name, subscriptions)
        self._send_subscribe(client, pairs, ())
        self.world.run(delay_ms / 1000)
        self.read_all()
        event = self._event(writer, f"w{node}", topic, qos, retain)
        fresh = (name,) if self.home[name] is not self.home[f"w{node}"] else ()
        self.oracle.publish(event, fresh)
        self._send(writer, event)

    def do_ack(self, name: str, count: int) -> None:
        for _ in range(count):
            if name in self.clients and self.unanswered[name]:
                self.answer(name)

    def do_wait(self, seconds: float) -> None:
        end_s = self.world.now_s + seconds
        while self.world.now_s < end_s:
            self.world.run(0.1)
            self.oracle.now_s = self.world.now_s
            self.read_all()
        self.oracle.pass_time(self.world.now_s)

    def do_kill(self, number: int) -> None:
        node = self.nodes[number]
        if not node.alive:
            return
        node.kill()
        for name in [name for name in self.clients if self.home[name] is node]:
            self.clients.pop(name).channel.closed = True
        self.oracle.kill(node.name)

    def do_start(self, number: int) -> None:
        node = self.nodes[number]
        if not node.alive:
            node.start()
            self.oracle.start(node.name)

    def do_restart(self, number: int) -> None:
        self.do_kill(number)
        self.world.run(0.05)
        self.oracle.pass_time(self.world.now_s)
        self.do_start(number)

    def finish(self) -> None:
        """All nodes up, all sessions back, everything answered."""
        for number in range(len(self.nodes)):
            self.do_start(number)
        self.slow.clear()
        self.rest()
        for name, session in list(self.oracle.sessions.items()):
            self.oracle.pass_time(self.world.now_s)
            if name in self.oracle.sessions and name not in self.clients:
                self.do_connect(name, session.version, False, session.expiry_s, session.receive_maximum, False)
            self.rest()
        moved = any(len(nodes) > 1 for nodes in self.oracle.shared.values())
        self.do_wait(3.0 if moved else 0.3)             # what a group lacks at its new node is asked for
        self.oracle.finish()


def run(program: Program, seed: int, nodes: int) -> None:
    """Raises Violation, or whatever the node does wrong."""
    Driver(seed, nodes).run(program)


def digest(program: Program) -> str:
    return f"{zlib.crc32(repr(program).encode()):08x}"
