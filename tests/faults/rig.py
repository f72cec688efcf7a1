"""The rig of the fault tests: a real node, load clients in their own processes, and the check at the end.

    rig = Rig(folder, seed=7)
    with rig.running():                     # node up, clients connected, first events acknowledged
        rig.kill_round()                    # SIGKILL at a random moment, start again, wait until ready
        figures = rig.check()               # clients pause, consumers catch up, everything is compared

Waiting is for conditions with a deadline. The only clock that decides anything is the random delay before a kill.
"""
from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.checker import Consumer, Figures, History, Place, Reader, Record, check
from tests.support.checker_journal import read_consumer, read_producer
from tests.support.checker_log import read_log
from tests.support.node import ROOT, Node, meshgate
from tests.support.ports import free_port
from tests.support.wait import wait_until

ANSWER_S = 60.0
READY_S = 60.0
STALL_S = 45.0                      # nothing has come for so long, which is longer than a webhook waits between tries
KILL_DELAY_S = 0.4                  # the kill comes at a random moment within this time after load has resumed
KILL_IN_START = 0.15                # this share of kills hits a node that has just been started
KILL_IN_RETURN = 0.25               # and this one a node that is ready, while its clients are coming back
RETURN_S = 0.1                      # that long after it was ready, at most
HOOK = """
[webhooks]
allow = ["127.0.0.0/8"]
[[consumers]]
name = "hook"
filters = ["faults/#"]
mode = "key-shared"
start = "earliest"
backoff_initial_s = 0.05
backoff_max_s = 0.2
[consumers.push]
url = "http://127.0.0.1:{port}/hook"
"""
BAD_NOTES = ("session lost", "answer 0x", "PUBREC 0x", "DISCONNECT", "CONNACK", "SUBACK", "SSE answer",
             "an answer without")


class ClientProcess:
    """One load client and its journal."""

    def __init__(self, folder: Path, module: str, name: str, port: int, **options: object) -> None:
        self.name = name
        self.journal = folder / f"{name}.journal"
        self.journal.touch()
        command = [sys.executable, "-m", f"tests.faults.{module}", "--port", str(port), "--name", name,
                   "--journal", str(self.journal)]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        self.output = folder / f"{name}.output"
        with open(self.output, "ab") as errors:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, env={**os.environ, "PYTHONPATH": str(ROOT)},
                                            start_new_session=True)

    @property
    def journalled_bytes(self) -> int:
        return self.journal.stat().st_size

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, first_word: str, deadline_s: float = ANSWER_S) -> str:
        """The next line from the client, which must begin with first_word."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], (), (), deadline_s)[0]:
            raise AssertionError(f"{self.name} did not say {first_word!r} within {deadline_s} s")
        line = self.process.stdout.readline().decode().strip()
        errors = "" if line else self.output.read_text()[-2000:]
        assert line.startswith(first_word), f"{self.name} said {line!r} instead of {first_word!r}\n{errors}"
        return line

    def count(self) -> int:
        self.tell("count")
        return int(self.hear("count").split()[1])

    def stop(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.tell("stop")
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclass
class Rig:
    """folder holds everything. broker_port: load this broker instead of a node of ours (no log, no kill)."""

    folder: Path
    seed: int = 0
    extra: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    broker_port: int | None = None
    producers: tuple[str, ...] = ("one", "two", "rest")
    rate: float = 400.0
    version: int = 4
    group: int = 0                      # members of a shared subscription beside the others
    rest_group: int = 0                 # clients that pull from one REST consumer beside the others
    push: bool = False                  # a webhook, and WebSocket clients: a producer "ws", a consumer, a live reader

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.random = random.Random(self.seed)
        self.hook_port = free_port() if self.push else 0
        extra = self.extra + (HOOK.format(port=self.hook_port) if self.push else "")
        self.node = Node(self.folder / "node", extra=extra, name="faults", environment=self.environment)
        self.clients: list[ClientProcess] = []
        self.readers: dict[str, tuple[ClientProcess, Reader, set[str]]] = {}    # name -> client, promise, producers
        self.writers: dict[str, ClientProcess] = {}
        self.group_clients: list[ClientProcess] = []
        self.rest_clients: list[ClientProcess] = []
        self._group_producers: set[str] = set()
        self.recovery_s: list[float] = []
        self.recovery_cpu_s: list[float] = []       # the same, whatever else the machine is doing
        self._unordered: set[str] = set()                       # readers whose leases ran out, see docs/rest.md
        self.kills = self.restarts = 0
        self._records: list[Record] = []
        self._unused: list[tuple[Place, int]] = []
        self._offsets: dict[int, int] = {}

    # --- life --------------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def running(self) -> Iterator[Rig]:
        try:
            if self.broker_port is None:
                self.node.start()
            self._start_clients()
            self.wait_for_load(first=True)
            yield self
        except AssertionError as error:
            raise AssertionError(f"{error}\nseed {self.seed}\n{self.node.process.log_tail(30)}") from error
        finally:
            for client in self.clients:
                client.stop()
            self.node.process.kill9()

    def _start_clients(self) -> None:
        port = self.broker_port or self.node.ports["mqtt"]
        names = {"one": "p-one", "two": "p-two", "rest": "p-rest", "ws": "p-ws"}
        if self.push:
            self._push_readers({names[kind] for kind in self.producers})
        self._reader("c-all", port, 1, "faults/#", Reader.AT_LEAST_ONCE, {names[kind] for kind in self.producers})
        if "two" in self.producers:
            self._reader("c-two", port, 2, "faults/two/+/+", Reader.EXACTLY_ONCE, {"p-two"})
        if "rest" in self.producers:
            client = ClientProcess(self.folder, "sse_reader", "c-sse", self.node.ports["http"], filter="faults/#")
            self.readers["c-sse"] = (client, Reader.EXACTLY_ONCE, {names[kind] for kind in self.producers})
            self.clients.append(client)
            client = ClientProcess(self.folder, "rest_consumer", "c-rest", self.node.ports["http"], consumer="alone")
            self.readers["c-rest"] = (client, Reader.AT_LEAST_ONCE, {names[kind] for kind in self.producers})
            self.clients.append(client)
        self._group(port, {names[kind] for kind in self.producers})
        self._rest_group()
        for reader, _, _ in self.readers.values():              # subscribed before the first event is sent
            reader.tell("pause")
            reader.hear("paused")
        for kind in self.producers:
            name, topic = names[kind], f"faults/{kind}"
            if kind == "rest":
                client = ClientProcess(self.folder, "rest_producer", name, self.node.ports["http"], topic=topic,
                                       rate=self.rate / 2)
            elif kind == "ws":
                client = ClientProcess(self.folder, "ws_peer", name, self.node.ports["http"], role="producer",
                                       topic=topic, rate=self.rate)
            else:
                client = ClientProcess(self.folder, "mqtt_producer", name, port, topic=topic, rate=self.rate,
                                       qos=1 if kind == "one" else 2, version=self.version)
            self.writers[name] = client
            self.clients.append(client)

    def _push_readers(self, producers: set[str]) -> None:
        """Those that the node calls, or that hold a WebSocket."""
        http = self.node.ports["http"]
        for client, promise in (
            (ClientProcess(self.folder, "webhook_receiver", "c-hook", self.hook_port), Reader.AT_LEAST_ONCE),
            (ClientProcess(self.folder, "ws_peer", "c-ws", http, role="consumer"), Reader.AT_LEAST_ONCE),
            (ClientProcess(self.folder, "ws_peer", "c-live", http, role="live"), Reader.EXACTLY_ONCE),
        ):
            self.readers[client.name] = (client, promise, producers)
            self.clients.append(client)

    def _reader(self, name: str, port: int, qos: int, topic_filter: str, promise: Reader, producers: set[str]) -> None:
        client = ClientProcess(self.folder, "mqtt_consumer", name, port, qos=qos, filter=topic_filter,
                               version=self.version)
        self.readers[name] = (client, promise, producers)
        self.clients.append(client)

    def _group(self, port: int, producers: set[str]) -> None:
        """Two members of one shared subscription: together they get everything, each event goes to one of them."""
        for number in range(self.group):
            client = ClientProcess(self.folder, "mqtt_consumer", f"g-{number}", port, qos=1, version=self.version,
                                   filter="$share/group/faults/#")
            client.tell("pause")
            client.hear("paused")
            self.group_clients.append(client)
            self.clients.append(client)
        self._group_producers = producers

    def _rest_group(self) -> None:
        """Clients that share the work of one consumer by pulling, each over its own connection."""
        for number in range(self.rest_group):
            client = ClientProcess(self.folder, "rest_consumer", f"r-{number}", self.node.ports["http"],
                                   consumer="together", mode="shared")
            client.tell("pause")
            client.hear("paused")
            self.rest_clients.append(client)
            self.clients.append(client)

    def wait_for_load(self, *, first: bool = False) -> None:
        """Every client's journal has grown: connections are back and events flow."""
        before = {client.name: 0 if first else client.journalled_bytes for client in self.clients}
        for client in self.clients:
            wait_until(lambda client=client: client.journalled_bytes > before[client.name] + 200,
                       f"{client.name} makes progress", deadline_s=READY_S, pause_s=0.01,
                       also=lambda client=client: client.journal.read_text()[-500:] + client.output.read_text()[-800:])

    # --- faults ------------------------------------------------------------------------------------------------------
    def kill_round(self) -> float:
        """Kill at a random moment, start, wait until ready. Returns the time from start to ready."""
        kind = self.random.random() if self.kills else 1.0
        delay_s = KILL_DELAY_S
        if kind < KILL_IN_START:
            self._kill_while_starting()
        elif kind < KILL_IN_START + KILL_IN_RETURN:
            delay_s = RETURN_S
        else:
            self.wait_for_load()
        time.sleep(self.random.uniform(0.0, delay_s))           # the random moment
        self.kill()
        return self.restart()

    def kill_rounds(self, count: int) -> Figures:
        """That many kills, then the check, which must be clean."""
        for _ in range(count):
            self.kill_round()
        return self.check_clean()

    def _kill_while_starting(self) -> None:
        self.kill()
        self.node.start(ready=False)
        self.restarts += 1

    def cut_round(self) -> None:
        """Break one client's connection, by a reset or by silence; the session goes on over a new one."""
        client = self.random.choice(self.clients)
        if client.name == "c-rest":                             # what a lost answer held comes behind what is newer
            self._unordered.add(client.name)
        before = client.journalled_bytes
        client.tell(self.random.choice(("cut", "abandon")))
        wait_until(lambda: client.journalled_bytes > before + 100, f"{client.name} goes on", deadline_s=READY_S,
                   pause_s=0.005, also=lambda: client.journal.read_text()[-500:])

    def kill(self) -> None:
        assert self.node.running, f"the node died by itself\n{self.node.process.log_tail()}"
        self.node.kill9()
        self.kills += 1

    def restart(self) -> float:
        start = time.monotonic()
        self.node.start()
        self.restarts += 1
        self.recovery_s.append(time.monotonic() - start)
        self.recovery_cpu_s.append(self.node.process.cpu_s())
        return self.recovery_s[-1]

    def quiesce(self) -> None:
        """Producers finish what is under way; consumers get what is in the log."""
        for client in self.writers.values():
            client.tell("pause")
        for client in self.writers.values():
            client.hear("paused")

    def resume(self) -> None:
        for client in self.writers.values():
            client.tell("resume")
            client.hear("resumed")

    # --- the check ---------------------------------------------------------------------------------------------------
    def check(self, *, resume: bool = False, whole: bool = True) -> Figures:
        """Compare everything. whole: read the log from its beginning, and hold it against what was read before."""
        self.quiesce()
        history = self.history(whole=whole)
        self._wait_for_readers(history)
        self._read_readers(history)
        figures = check(history)
        for client in self.clients:
            for note in self.notes(client):
                if note.startswith(BAD_NOTES):
                    figures.add("PROTOCOL", f"{client.name}: {note}")
        if resume:
            self.resume()
        return figures

    def check_clean(self) -> Figures:
        """Wait until everybody goes on, then compare everything: nothing may be wrong."""
        self.wait_for_load()
        figures = self.check()
        assert figures.clean, f"{self.summary()}\n{figures}"
        return figures

    def notes(self, client: ClientProcess) -> list[str]:
        return [line[2:] for line in client.journal.read_text().splitlines() if line.startswith("N ")]

    def history(self, *, whole: bool = True) -> History:
        """What producers and the log say. Consumers are added when they had time to catch up."""
        history = History(exactly_once={"p-two", "p-rest", "p-ws"}, recovery_s=self.recovery_s, prefix="faults/")
        for client in self.writers.values():
            read_producer(client.journal, history)
        for message in history.sent:
            kind = message.producer.removeprefix("p-")
            history.topics.setdefault(message[:2], f"faults/{kind}/{message.producer}/{message.key}")
        if self.broker_port is None:
            self._read_log(history, whole=whole)
        return history

    def _read_log(self, history: History, *, whole: bool) -> None:
        before = self._records
        if whole:
            self._unused = []
            self._records = read_log(self.node.data, unused=self._unused)
            known = [(record.message, record.place) for record in before if record.message is not None]
            history.places += known
        else:
            self._records = before + read_log(self.node.data, from_offsets=self._offsets, unused=self._unused)
        for record in self._records[len(before) if not whole else 0:]:
            partition = record.place.partition
            self._offsets[partition] = max(self._offsets.get(partition, 0), record.place.offset + 1)
        history.log = self._records
        history.unused = self._unused

    def _wait_for_readers(self, history: History) -> None:
        for client, _, producers in self.readers.values():
            if history.log is None:
                source = {message for message, fate in history.sent.items() if fate.acked}
            else:
                source = {record.message for record in history.log if record.message is not None}
            expected = sum(message.producer in producers for message in source)
            counted = [0, time.monotonic()]

            def caught_up(client: ClientProcess = client, expected: int = expected, counted: list = counted) -> bool:
                """All is there, or nothing has come for long: then the checker says what is missing."""
                count = client.count()
                if count != counted[0]:
                    counted[:] = [count, time.monotonic()]
                return count >= expected or time.monotonic() - counted[1] > STALL_S

            wait_until(caught_up, f"{client.name} has {expected} messages", deadline_s=2 * ANSWER_S)
        for clients in (self.group_clients, self.rest_clients):
            self._wait_for_group(clients, history)
        self._wait_for_silence()

    def _wait_for_group(self, clients: list[ClientProcess], history: History) -> None:
        """Neither member knows how many are its own: together they have all that was acked, or nothing comes."""
        wanted = {message for message, fate in history.sent.items()
                  if fate.acked and message.producer in self._group_producers} if clients else set()
        grown: list[object] = [None, time.monotonic()]

        def caught_up() -> bool:
            together = Consumer(ordered=False)
            for client in clients:
                client.count()                                  # makes the client flush its journal
                read_consumer(client.journal, together)
            sizes = [client.journalled_bytes for client in clients]
            if sizes != grown[0]:
                grown[:] = [sizes, time.monotonic()]
            silent_s = time.monotonic() - float(str(grown[1]))
            return wanted <= {receipt.message for receipt in together.receipts} or silent_s > STALL_S

        wait_until(caught_up, "a group has all messages", deadline_s=2 * ANSWER_S, pause_s=0.1)

    def _wait_for_silence(self) -> None:
        """Second copies and marked repeats may still come: no journal grows for 0.3 s."""
        sizes: list[object] = [None, time.monotonic()]

        def silent() -> bool:
            clients = [*(client for client, _, _ in self.readers.values()), *self.group_clients, *self.rest_clients]
            now = [client.journalled_bytes for client in clients]
            for client in clients:
                client.count()                                  # makes the client flush its journal
            if now != sizes[0]:
                sizes[:] = [now, time.monotonic()]
            return time.monotonic() - float(str(sizes[1])) > 0.3

        wait_until(silent, "consumers are silent", deadline_s=ANSWER_S)

    def _read_readers(self, history: History) -> None:
        pairs = {message[:2] for message in history.sent}
        for name, (client, promise, producers) in self.readers.items():
            consumer = Consumer(reader=promise, wanted={pair for pair in pairs if pair[0] in producers},
                                ordered=name not in self._unordered)
            read_consumer(client.journal, consumer)
            history.consumers[name] = consumer
        for name, clients in (("group", self.group_clients), ("rest-group", self.rest_clients)):
            if clients:
                shared = Consumer(wanted={pair for pair in pairs if pair[0] in self._group_producers}, ordered=False)
                for client in clients:
                    read_consumer(client.journal, shared)
                history.consumers[name] = shared

    def verify_log(self) -> str:
        """`meshgate log verify`; its complaint, or "" when the log is clean."""
        done = meshgate("log", "verify", str(self.node.data))
        return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()

    def summary(self) -> str:
        return f"kills {self.kills}, starts {self.restarts}, seed {self.seed}"

