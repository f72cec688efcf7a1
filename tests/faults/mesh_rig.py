"""The rig of the mesh's fault tests: real nodes, every link through a FrameProxy, load clients in their own processes.

    rig = MeshRig(folder, "ring", 3, seed=7)
    with rig.running():                 # nodes up and linked, interest told, producers at every node
        rig.fault()                     # one of FAULTS, chosen by the seed
        figures = rig.check()           # heal, producers pause, wait until everything is everywhere, compare

Producers use QoS 2, so that every event is published once. Nodes want events by [[replicate]] from the beginning, by a
persistent MQTT session, or not at all: the checker knows who wants what. Waiting is for conditions with a deadline.
"""
from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.rig import ClientProcess
from tests.mesh.sim.scenario import pairs
from tests.support.checker import Consumer, Fate, Figures, History, Message, check
from tests.support.checker_journal import read_consumer, read_producer
from tests.support.clockshim import ClockShim, compiler
from tests.support.frameproxy import DOWN, UP, FrameProxy
from tests.support.mesh_checker import ALWAYS, NEVER, MeshHistory, Published, Stored, Wish, check_mesh
from tests.support.mesh_log import LogReader, read_epoch
from tests.support.node import Node
from tests.support.wait import wait_until

TOKEN = "a-secret-of-the-fault-tests-0123456789"
LINKED_S = 120.0            # from the start until interest is known everywhere
CONVERGED_S = 180.0         # after the last fault: dead connections must be noticed first
PREFIX = "faults/"


@dataclass
class MeshNode:
    """One node of the mesh and what belongs to it. wants: filters; by: "replicate", "session" or "nothing"."""

    node: Node
    by: str
    wants: tuple[str, ...]
    shim: ClockShim | None = None
    producer: ClientProcess | None = None
    consumer: ClientProcess | None = None
    reader: LogReader | None = None
    records: list[Stored] = field(default_factory=list)
    wiped: bool = False

    @property
    def name(self) -> str:
        return self.node.name


@dataclass
class MeshRig:
    """folder holds everything. rate: events per second of each node's producer."""

    folder: Path
    topology: str = "line"
    count: int = 3
    seed: int = 0
    rate: float = 120.0
    jumps: bool = False             # clocks may jump: needs a C compiler

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(self.seed)
        self.faults: list[str] = []
        self.forgotten: list[str] = []          # keys that an operator had to forget
        self.expendable: set[Message] = set()
        self.probes: dict[Message, str] = {}
        self.converged_s = 0.0
        self.nodes = [self._make_node(number) for number in range(self.count)]
        self.links = pairs(self.topology, self.count)
        self.proxies = [FrameProxy(self.nodes[far].node.ports["link"], seed=self.seed + number).start()
                        for number, (_, far) in enumerate(self.links)]
        for number, one in enumerate(self.nodes):
            one.node.write_config(self._config(number))

    def _make_node(self, number: int) -> MeshNode:
        by = "replicate" if number == 0 else self.random.choice(("replicate", "session", "session", "nothing"))
        wants = (f"{PREFIX}#",) if number == 0 or self.random.random() < 0.6 else (f"{PREFIX}n0/#",)
        shim = ClockShim(self.folder / f"clock-{number}") if self.jumps and compiler() else None
        node = Node(self.folder / f"n{number}", name=f"n{number}", listeners=("mqtt", "http", "console", "link"),
                    environment=shim.environment if shim is not None else {})
        return MeshNode(node, by, () if by == "nothing" else wants, shim)

    def _config(self, number: int) -> str:
        one = self.nodes[number]
        text = ""
        if self.random.random() < 0.5:
            text += (f'[[streams]]\nname = "events"\ncapture = ["#"]\npartitions = {self.random.choice((1, 2, 3))}\n'
                     'segment_bytes = "256KiB"\n')
        text += f'[[link_peers]]\nnode = "*"\ntoken = "{TOKEN}"\n'
        for proxy, (near, _) in zip(self.proxies, self.links, strict=True):
            if near == number:
                text += f'[[links]]\nto = "ws://127.0.0.1:{proxy.port}"\ntoken = "{TOKEN}"\n'
        if one.by == "replicate":
            for pattern in one.wants:
                text += f'[[replicate]]\nfilter = "{pattern}"\nfrom = "earliest"\n'
        return text

    # --- life --------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def running(self) -> Iterator[MeshRig]:
        try:
            for one in self.nodes:
                one.node.start(ready=False)
            for one in self.nodes:
                one.node.wait_ready()
                one.reader = LogReader(one.node.data, PREFIX)
            self._start_consumers()
            self._wait_for_interest()
            self._start_producers()
            yield self
        except AssertionError as error:
            logs = "\n".join(f"--- {one.name}\n{one.node.process.log_tail(15)}" for one in self.nodes)
            raise AssertionError(f"{error}\n{self.summary()}\n{logs}") from error
        finally:
            for one in self.nodes:
                for client in (one.producer, one.consumer):
                    if client is not None:
                        client.stop()
                one.node.kill9()
            for proxy in self.proxies:
                proxy.stop()

    def _start_consumers(self) -> None:
        for one in self.nodes:
            if one.by == "session":
                one.consumer = ClientProcess(self.folder, "mqtt_consumer", f"c-{one.name}", one.node.ports["mqtt"],
                                             qos=1, filter=one.wants[0], version=5)
                one.consumer.tell("pause")
                one.consumer.hear("paused")

    def _start_producers(self) -> None:
        for one in self.nodes:
            one.producer = ClientProcess(self.folder, "mqtt_producer", f"p-{one.name}", one.node.ports["mqtt"],
                                         topic=f"{PREFIX}{one.name}", rate=self.rate, qos=2, version=5)

    def _wait_for_interest(self) -> None:
        """Publish probes until every node has one of each node that it wants events of."""
        deadline_s = time.monotonic() + LINKED_S
        numbers = dict.fromkeys((one.name for one in self.nodes), 0)
        while missing := self._unheard():
            assert time.monotonic() < deadline_s, f"not within {LINKED_S} s: interest of {missing}"
            for _, name in missing:
                source = next(one for one in self.nodes if one.name == name)
                numbers[name] += 1
                message = Message(f"probe-{name}", "k", numbers[name])
                self.probes[message] = name
                source.node.publish(f"{PREFIX}{name}/probe", message.payload())
            time.sleep(0.1)
            self.poll()

    def _unheard(self) -> list[tuple[str, str]]:
        """(node, origin) where nothing has come yet."""
        heard = {(one.name, record.origin.node) for one in self.nodes for record in one.records
                 if record.origin is not None}
        return [(one.name, other.name) for one in self.nodes for other in self.nodes
                if one is not other and (one.name, other.name) not in heard
                and any(pattern in (f"{PREFIX}#", f"{PREFIX}{other.name}/#") for pattern in one.wants)]

    def poll(self) -> None:
        for one in self.nodes:
            assert one.reader is not None
            one.records += one.reader.poll()

    # --- faults ------------------------------------------------------------------------------------------------------
    def fault(self, *names: str) -> None:
        """Do one fault, for a random while."""
        kinds: dict[str, Callable[[], None]] = {
            "kill": self.kill, "cut": self.cut, "break inside": self.break_inside, "cut one way": self.one_way,
            "cut both ways": self.both_ways, "other path": self.other_path, "delay": self.delay, "noise": self.noise,
            "wipe": self.wipe, "clock": self.clock}
        possible = names or tuple(name for name in kinds if (name != "clock" or self.jumps)
                                  and (name != "wipe" or not any(one.wiped for one in self.nodes)))
        name = self.random.choice(possible)
        self.faults.append(name)
        kinds[name]()

    def pause(self, most_s: float) -> None:
        time.sleep(self.random.uniform(0.05, most_s))           # the random moment

    def _proxy(self) -> FrameProxy:
        return self.random.choice(self.proxies)

    def kill(self) -> None:
        one = self.random.choice(self.nodes)
        assert one.node.running, f"{one.name} died by itself\n{one.node.process.log_tail()}"
        one.node.kill9()
        self.pause(1.0)
        one.node.start(ready=self.random.random() < 0.7)

    def cut(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self._proxy().cut()
            self.pause(0.7)

    def break_inside(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            self._proxy().break_inside()
            self.pause(0.7)

    def one_way(self) -> None:
        proxy = self._proxy()
        proxy.stall(self.random.choice((UP, DOWN)))
        self.pause(4.0)
        proxy.resume()

    def both_ways(self) -> None:
        proxy = self._proxy()
        proxy.stall()
        self.pause(4.0)
        proxy.resume()

    def other_path(self) -> None:
        """A link is away for a while: in a ring or a full mesh everything moves to another path, and back."""
        proxy = self._proxy()
        proxy.refuse()
        self.pause(3.0)
        proxy.resume()

    def delay(self) -> None:
        proxy = self._proxy()
        proxy.delay_s = 0.25                                    # 500 ms there and back
        self.pause(2.0)

    def noise(self) -> None:
        for proxy in self.proxies:
            proxy.doubling = proxy.reorder = 0.2
        self.pause(2.0)

    def wipe(self) -> None:
        """One node loses its disk: what it had published may be gone, what it wants it gets again. Its key is gone,
        too: nodes that are not its neighbours do not believe it until an operator tells them to (_operate).
        """
        one = self.random.choice(self.nodes)
        assert one.producer is not None
        one.node.kill9()
        history = History()
        read_producer(one.producer.journal, history)
        self.expendable |= set(history.sent) | {probe for probe, name in self.probes.items() if name == one.name}
        shutil.rmtree(one.node.data)
        one.wiped = True
        one.records = []
        one.reader = LogReader(one.node.data, PREFIX)
        one.node.start()

    def clock(self) -> None:
        shim = self.random.choice(self.nodes).shim
        if shim is not None:
            shim.jump(self.random.choice((-3_600_000, -5_000, 5_000, 3_600_000)))
        self.pause(0.5)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.calm()
        for one in self.nodes:
            if not one.node.running:
                one.node.start(ready=False)
        for one in self.nodes:
            one.node.wait_ready()

    # --- the check ---------------------------------------------------------------------------------------------------
    def check(self) -> Figures:
        self.heal()
        for one in self.nodes:
            assert one.producer is not None
            one.producer.tell("pause")
        for one in self.nodes:
            assert one.producer is not None
            one.producer.hear("paused")
        start_s = time.monotonic()
        history = self.history()
        while True:
            self.poll()
            history.logs = {one.name: one.records for one in self.nodes}
            figures = check_mesh(history)
            if not figures.faults["LOST"] or time.monotonic() - start_s > CONVERGED_S:
                break
            self._operate()
            time.sleep(0.2)                                     # polling, bounded by the deadline
        self.converged_s = time.monotonic() - start_s
        self._check_consumers(figures)
        for one in self.nodes:
            if "Traceback" in one.node.process.log_text():
                figures.add("TRACEBACK", one.node.process.log_tail(60))
        self._read_again(history)
        again = check_mesh(history)
        for kind, count in again.faults.items():
            if count > figures.faults[kind]:
                figures.add(kind, f"at the second look: {again.examples[kind]}", count - figures.faults[kind])
        return figures

    def _operate(self) -> None:
        """What an operator does who reads what the nodes say of a node that was made anew."""
        for wiped in (one for one in self.nodes if one.wiped):
            for other in self.nodes:
                problems = other.node.get("/api/v1/nodes").json["problems"]
                if any(text.startswith(f"{wiped.name} shows another key") for text in problems):
                    self.forgotten.append(f"{wiped.name} at {other.name}")
                    answer = other.node.post(f"/api/v1/nodes/{wiped.name}/forget-key", b"{}", listener="console")
                    assert answer.status < 300, answer.text

    def history(self) -> MeshHistory:
        found = History()
        for one in self.nodes:
            assert one.producer is not None
            read_producer(one.producer.journal, found)
        history = MeshHistory(epochs={one.name: read_epoch(one.node.data) for one in self.nodes})
        for message, fate in found.sent.items():
            name = message.producer.removeprefix("p-")
            history.published[message] = Published(
                name, f"{PREFIX}{name}/{message.producer}/{message.key}", 0.0, 0.0 if fate.acked else None,
                fate.refused, expendable=message in self.expendable, attempts=fate.attempts)
        for message, name in self.probes.items():
            history.published[message] = Published(name, f"{PREFIX}{name}/probe", 0.0, None, expendable=True)
        for one in self.nodes:
            certain = NEVER if one.wiped and one.by == "session" else ALWAYS
            history.wishes += [Wish(one.name, pattern, ALWAYS, certain) for pattern in one.wants]
        return history

    def _read_again(self, history: MeshHistory) -> None:
        """The whole log from its beginning: what was there before must be there still, at the same place."""
        for one in self.nodes:
            records = LogReader(one.node.data, PREFIX).poll()
            before = {record.place: record.message for record in one.records}
            after = {record.place: record.message for record in records}
            changed = [place for place, message in before.items() if after.get(place) != message]
            assert not changed, f"{one.name}: other events than before at {changed[:5]}"
            history.logs[one.name] = records

    def _check_consumers(self, figures: Figures) -> None:
        """A persistent session gets all that is in its node's log, in order, repeats marked."""
        for one in self.nodes:
            if one.consumer is None or one.wiped:
                continue
            due = [record.message for record in one.records if record.message is not None
                   and any(record.topic.startswith(pattern.rstrip("#")) for pattern in one.wants)]
            client = one.consumer

            def caught_up(client: ClientProcess = client, count: int = len(due)) -> bool:
                return client.count() >= count

            with contextlib.suppress(AssertionError):           # the checker says what is missing
                wait_until(caught_up, f"{client.name} has {len(due)} messages")
            client.count()                                      # makes it flush its journal
            consumer = Consumer()
            read_consumer(client.journal, consumer)
            history = History(sent={message: Fate(1, acked=True) for message in due}, consumers={client.name: consumer})
            for kind, count in check(history).faults.items():
                if count:
                    figures.add(f"CONSUMER-{kind}", str(check(history).examples[kind]), count)

    def summary(self) -> str:
        wants = ", ".join(f"{one.name} {one.by} {' '.join(one.wants)}" for one in self.nodes)
        return (f"seed {self.seed}, {self.topology} of {self.count}: {', '.join(self.faults) or 'no fault'}; {wants}; "
                f"converged {self.converged_s:.1f} s after the last fault"
                + "".join(f", key forgotten: {one}" for one in self.forgotten))
