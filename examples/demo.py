"""What Meshgate does, in half a minute: `make demo`.

A node starts. A machine speaks MQTT to it (amqtt's client), a dashboard speaks HTTP (REST and server-sent events), and
events cross between them. Then the node is killed with SIGKILL in the middle of traffic and started again, and what had
been acknowledged is looked for: in the log, and at the machine, which was away when it happened.

On a terminal the node keeps running afterwards, to be tried by hand; otherwise the exit code says whether all was well.
Knows nothing of the inside of the node: everything here goes through its sockets.
"""
from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from amqtt.client import MQTTClient
from amqtt.errors import AMQTTError
from amqtt.mqtt.constants import QOS_1

HOST = "127.0.0.1"
PORTS = {"mqtt": 1883, "http": 8080, "console": 8090}
MESHGATE = os.path.relpath(Path(sys.executable).with_name("meshgate"))
MACHINE = "press-7"
COMMANDS, MEASURED = f"plant/graz/{MACHINE}/command", f"plant/graz/{MACHINE}/measured"
WAIT_S = 10.0
COLOURS = {"MQTT": 36, "REST": 33, "SSE": 32, "NODE": 35}


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def show(who: str, arrow: str, text: str) -> None:
    tag = f"\033[{COLOURS[who]}m{who:<4}\033[0m" if sys.stdout.isatty() else f"{who:<4}"
    print(f"  {tag} {arrow} {text}", flush=True)


class DemoError(Exception):
    """Something was not as promised."""


# --- the node -----------------------------------------------------------------------------------------------------

class Node:
    """`meshgate up` in a process of its own, on the default ports where they are free."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port(wanted) for name, wanted in PORTS.items()}
        self.config = folder / "node.toml"
        self.log = folder / "node.log"
        lines = ['[node]', 'name = "demo"', 'data = "data"', '[listeners]']
        lines += [f'{name} = {{ bind = "{HOST}:{port}" }}' for name, port in self.ports.items()]
        self.config.write_text("\n".join(lines) + "\n")
        self.process: asyncio.subprocess.Process | None = None

    def url(self, listener: str) -> str:
        return f"{'mqtt' if listener == 'mqtt' else 'http'}://{HOST}:{self.ports[listener]}"

    async def start(self) -> None:
        start = time.monotonic()
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                MESHGATE, "up", "--config", str(self.config), stdout=log, stderr=log, start_new_session=True)
        async with aiohttp.ClientSession() as http:
            while True:
                if self.process.returncode is not None or time.monotonic() - start > WAIT_S:
                    raise DemoError(f"the node did not start:\n{self.log.read_text()[-2000:]}")
                try:
                    async with http.get(self.url("console") + "/readyz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        show("NODE", "=", f"ready after {time.monotonic() - start:.1f} s, process {self.process.pid}")

    async def kill(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


def free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise DemoError("no free port")


# --- the machine: MQTT ----------------------------------------------------------------------------------------------

class Machine:
    """A durable MQTT session: the node keeps what it misses."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.client = self._client()

    @staticmethod
    def _client() -> MQTTClient:
        return MQTTClient(client_id=MACHINE, config={"auto_reconnect": False, "keep_alive": 30})

    async def connect(self) -> None:
        self.client = self._client()
        await self.client.connect(self.node.url("mqtt"), cleansession=False)

    async def listen(self) -> None:
        await self.client.subscribe([(f"{COMMANDS}/#", QOS_1)])
        show("MQTT", "=", f"{MACHINE} subscribes to {COMMANDS}/# with a durable session, QoS 1")

    async def publish(self, topic: str, text: str) -> None:
        """Returns when the node has acknowledged."""
        await asyncio.wait_for(self.client.publish(topic, text.encode(), qos=QOS_1), WAIT_S)

    async def receive(self) -> tuple[str, str]:
        message = await self.client.deliver_message(timeout_duration=WAIT_S)
        assert message is not None and message.data is not None
        topic, text = str(message.topic), bytes(message.data).decode()
        show("MQTT", "<", f"{topic}  {text}")
        return topic, text

    async def leave(self) -> None:
        await self.client.disconnect()


# --- the dashboard: REST and server-sent events --------------------------------------------------------------------

async def post(http: aiohttp.ClientSession, node: Node, topic: str, text: str) -> None:
    """Returns when the node has acknowledged."""
    async with http.post(f"{node.url('http')}/v1/events/{topic}", data=text.encode()) as answer:
        place = await answer.json()
        if answer.status != 200:
            raise DemoError(f"POST was refused: {place}")
    show("REST", ">", f"{topic}  {text}   on disk: {place['stream']}/{place['partition']} at {place['offset']}")


async def events(http: aiohttp.ClientSession, node: Node, pattern: str, start: str) -> AsyncIterator[dict[str, str]]:
    """Events that match, as server-sent events. The first thing that comes is {}: the stream is open."""
    query = {"filter": pattern, "from": start}
    async with http.get(f"{node.url('http')}/v1/events", params=query) as answer:
        if answer.status != 200:
            raise DemoError(f"GET was refused: {await answer.text()}")
        yield {}
        async for line in answer.content:
            if line.startswith(b"data:"):
                yield json.loads(line[5:])


async def next_event(stream: AsyncIterator[dict[str, str]]) -> dict[str, str]:
    return await asyncio.wait_for(anext(stream), WAIT_S)


# --- the story ------------------------------------------------------------------------------------------------------

async def cross_protocols(http: aiohttp.ClientSession, node: Node, machine: Machine) -> None:
    heading("1. Events cross protocols")
    await machine.connect()
    await machine.listen()
    stream = events(http, node, "plant/#", "latest")
    await next_event(stream)
    show("SSE", "=", "the dashboard watches plant/#")
    await post(http, node, f"{COMMANDS}/speed", "42")
    await machine.receive()
    await next_event(stream)
    await machine.publish(f"{MEASURED}/temperature", "71.5")
    show("MQTT", ">", f"{MEASURED}/temperature  71.5   acknowledged: it is on disk")
    event = await next_event(stream)
    show("SSE", "<", f"{event['topic']}  {event['payload']}")
    await stream.aclose()  # type: ignore[attr-defined]


async def miss_something(http: aiohttp.ClientSession, node: Node, machine: Machine) -> list[str]:
    heading("2. The machine goes away; the dashboard goes on")
    await machine.leave()
    show("MQTT", "=", f"{MACHINE} has left")
    missed = ["lubricate", "recalibrate", "resume"]
    for command in missed:
        await post(http, node, f"{COMMANDS}/maintenance", command)
    return missed


async def kill_under_load(node: Node) -> list[str]:
    """Publish as fast as acknowledgements come, and kill the node in the middle. Returns what was acknowledged."""
    heading("3. kill -9, in the middle of traffic")
    client = MQTTClient(client_id="load", config={"auto_reconnect": False})
    await client.connect(node.url("mqtt"), cleansession=True)
    acked: list[str] = []

    async def load() -> None:
        while True:
            text = f"part {len(acked) + 1}"
            await client.publish(f"{MEASURED}/parts", text.encode(), qos=QOS_1)
            acked.append(text)

    task = asyncio.create_task(load())
    await asyncio.sleep(1.0)
    await node.kill(signal.SIGKILL)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    try:
        await client.disconnect()
    except (AMQTTError, OSError):
        pass
    show("NODE", "!", f"killed after {len(acked)} acknowledged events of one publisher that waited for each")
    return acked


async def look_for_it(
    http: aiohttp.ClientSession, node: Node, machine: Machine, acked: list[str], missed: list[str],
) -> None:
    heading("4. It starts again, and nothing that was acknowledged is gone")
    await node.start()
    stream = events(http, node, f"{MEASURED}/parts", "earliest")
    await next_event(stream)
    found = [(await next_event(stream))["payload"] for _ in acked]
    await stream.aclose()  # type: ignore[attr-defined]
    if found != acked:
        raise DemoError(f"{len(set(acked) - set(found))} of {len(acked)} acknowledged events are lost")
    show("SSE", "<", f"all {len(found)} acknowledged events are in the log, in order")
    await machine.connect()
    show("MQTT", "=", f"{MACHINE} is back, and gets what it missed:")
    got = [(await machine.receive())[1] for _ in missed]
    if [text for text in got if text in missed] != missed:
        raise DemoError(f"the machine missed {missed} and got {got}")


def what_to_try(node: Node) -> None:
    http, console, port = node.url("http"), node.url("console"), node.ports["mqtt"]
    heading("5. Try it by hand; the node runs until Ctrl-C")
    tries = [
        (f"curl -N '{http}/v1/events?filter=plant/%23&from=earliest'", "watch, from the beginning"),
        (f"mosquitto_sub -p {port} -t 'plant/#' -q 1 -v", "watch over MQTT"),
        (f"mosquitto_pub -p {port} -t plant/graz/lamp -m on -q 1", "publish over MQTT"),
        (f"curl -d on {http}/v1/events/plant/graz/lamp", "publish over HTTP"),
        (f"{MESHGATE} sub '#' --url {http}", "watch everything"),
        (f"{MESHGATE} consumers --url {console}", "who is behind, and how far"),
        (f"kill -9 {node.process.pid if node.process else '…'}", "then start it again:"),
        (f"{MESHGATE} up --config {node.config}", ""),
    ]
    width = max(len(command) for command, _ in tries)
    print("\n".join(f"  {command.ljust(width)}   {meaning}".rstrip() for command, meaning in tries), flush=True)


async def tell(node: Node) -> None:
    machine = Machine(node)
    heading("A node starts")
    await node.start()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=WAIT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        await cross_protocols(http, node, machine)
        missed = await miss_something(http, node, machine)
        acked = await kill_under_load(node)
        await look_for_it(http, node, machine, acked, missed)
        await machine.leave()


def fresh_folder() -> Path:
    """An empty folder, unless the node of an earlier demo still lives in it."""
    folder = Path("demo-data")
    lock = folder / "data" / "lock"
    if lock.exists():
        with lock.open("rb+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                sys.exit(f"The node of an earlier demo still runs on {folder}. Stop it first:\n"
                         f"  pkill -f 'up --config {folder}'")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


async def main() -> int:
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)       # it logs the broken connection, which is the point here
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    node = Node(fresh_folder())
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):      # such as a closed terminal: the node must not outlive the demo
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    try:
        await tell(node)
        if sys.stdin.isatty() and sys.stdout.isatty():
            what_to_try(node)
            assert node.process is not None
            await node.process.wait()
            print(f"The node has stopped. Its data is in {node.config.parent}; start it again with\n"
                  f"  {MESHGATE} up --config {node.config}")
        else:
            print("\nAll is well: nothing that was acknowledged is gone.")
        return 0
    except (DemoError, AMQTTError, aiohttp.ClientError, TimeoutError) as error:
        print(f"\nThe demo failed: {error!r}\nThe node's last lines:\n{node.log.read_text()[-2000:]}", file=sys.stderr)
        return 1
    finally:
        await node.kill(signal.SIGTERM)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(0)
