"""What Meshgate does, in under a minute: `make demo`.

A node starts. A machine speaks MQTT to it (amqtt's client), a dashboard speaks HTTP (REST and server-sent events), and
events cross between them. Then the node is killed with SIGKILL in the middle of traffic and started again, and what had
been acknowledged is looked for: in the log, and at the machine, which was away when it happened.

On a terminal the node keeps running afterwards, to be tried by hand; otherwise the exit code says whether all was well.
Knows nothing of the inside of the node: everything here goes through its sockets.
"""
from __future__ import annotations

import asyncio
import logging
import signal
import sys

import aiohttp
from amqtt.errors import AMQTTError
from machine import Machine
from node import MESHGATE, PORTS, Node, fresh_folder
from one_node import cross_protocols, kill_under_load, look_for_it, miss_something
from screen import WAIT_S, DemoError, heading


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


async def main() -> int:
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)       # it logs the broken connection, which is the point here
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    node = Node(fresh_folder(), "demo", ports={name: port for name, port in PORTS.items() if name != "link"})
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
        print(f"\nThe demo failed: {error!r}\nThe node's last lines:\n{node.last_lines()}", file=sys.stderr)
        return 1
    finally:
        await node.kill(signal.SIGTERM)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(0)
