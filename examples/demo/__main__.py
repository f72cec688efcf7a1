"""What Meshgate does, in under a minute: `make demo`.

One node    A machine speaks MQTT to it (amqtt's client), a dashboard speaks HTTP (REST and server-sent events), and
            events cross between them. The node is killed with SIGKILL in the middle of traffic and started again, and
            what had been acknowledged is looked for: in the log, and at the machine, which was away meanwhile.
            Then a webhook calls a service, and the service answers the machine; and so does one that speaks AMQP 1.0.
Three nodes Two plants dial out to a node in the cloud. Events reach who wants them, wherever they are; the cloud is
            killed, the plants go on, and when it is back everything is everywhere, once and in order.

On a terminal the nodes keep running afterwards, with traffic, to be tried by hand and watched in the console;
otherwise the exit code says whether all was well.
Knows nothing of the inside of a node: everything here goes through its sockets.
"""
from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import webbrowser
from pathlib import Path

import aiohttp
from amqtt.errors import AMQTTError
from machine import Machine
from node import MESHGATE, Node, fresh_folder
from one_node import cross_protocols, kill_under_load, look_for_it, miss_something
from screen import WAIT_S, DemoError, heading
from service import serve
from sites import cross_sites, meet, outage, three_nodes
from traffic import traffic
from webhook import SECRET, round_trip

PYTHON = os.path.relpath(sys.executable)
FASTSTREAM = os.path.relpath(Path(__file__).parent.parent / "faststream_app.py")


def what_to_try(graz: Node, lyon: Node, cloud: Node) -> None:
    http, console, port = graz.url("http"), graz.url("console"), graz.ports["mqtt"]
    heading("10. Try it by hand; the three nodes run until Ctrl-C, with traffic")
    print(f"  The console: {cloud.url('console')}/   of the plants: {console}/ and {lyon.url('console')}/\n"
          "  Both plants produce; the consumer `ledger` in the cloud falls behind and catches up. Cut a link.\n")
    tries = [
        (f"{MESHGATE} tui --url {cloud.url('console')}", "the same in this terminal"),
        (f"{MESHGATE} links pause to-cloud --url {console}", "cut the link of Graz; `resume` mends it"),
        (f"curl -N '{cloud.url('http')}/v1/events?filter=plant/%23&from=earliest'", "watch the cloud, from the start"),
        (f"mosquitto_sub -p {lyon.ports['mqtt']} -t 'plant/#' -q 1 -v", "watch in Lyon, over MQTT"),
        (f"mosquitto_pub -p {port} -t plant/graz/lamp -m on -q 1", "publish in Graz, over MQTT"),
        (f"curl -d on {http}/v1/events/plant/graz/lamp", "publish in Graz, over HTTP"),
        (f"{PYTHON} {FASTSTREAM} {' '.join(f'--{name} {graz.ports[name]}' for name in ('mqtt', 'kafka', 'amqp'))}",
         "FastStream's MQTT, Kafka and RabbitMQ brokers in Graz (pip install 'faststream[kafka,mqtt,rabbit]')"),
        (f"{MESHGATE} topology --url {console}", "who is there, and by which way"),
        (f"{MESHGATE} links --url {console}", "the links of Graz: state, backlog, round trip"),
        (f"{MESHGATE} consumers --url {cloud.url('console')}", "who reads, and how far behind"),
        (f"kill -9 {cloud.process.pid if cloud.process else '…'}", "cut both links; publish on; then:"),
        (f"{MESHGATE} up --config {cloud.config}", ""),
    ]
    width = max(len(command) for command, _ in tries)
    print("\n".join(f"  {command.ljust(width)}   {meaning}".rstrip() for command, meaning in tries), flush=True)


async def tell(graz: Node, lyon: Node, cloud: Node) -> None:
    machine = Machine(graz)
    heading("A node starts")
    await graz.start()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=WAIT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        await cross_protocols(http, graz, machine)
        missed = await miss_something(http, graz, machine)
        acked = await kill_under_load(graz)
        await look_for_it(http, graz, machine, acked, missed)
        await round_trip(http, graz, machine)
        await serve(graz, machine)
        await machine.leave()
        await meet(graz, lyon, cloud, http)
        reader = await cross_sites(graz, lyon, cloud, http)
        await outage(graz, cloud, http, reader)
        await reader.disconnect()


async def stay(nodes: list[Node]) -> None:
    """Until the last node has stopped: one that was killed by hand may be started again by hand."""
    *_, cloud = nodes
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(f"{cloud.url('console')}/")
    live = asyncio.create_task(traffic(nodes))
    await asyncio.gather(*(node.process.wait() for node in nodes if node.process is not None))
    live.cancel()
    print(f"The nodes have stopped. Their data is in {nodes[0].config.parent}; start one again with\n"
          f"  {MESHGATE} up --config {nodes[0].config}")


async def main() -> int:
    for name in ("amqtt", "transitions"):               # they log broken connections, which are the point here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ["DEMO_WEBHOOK_SECRET"] = SECRET          # for the nodes that are started here
    nodes = graz, lyon, cloud = three_nodes(fresh_folder())
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGTERM, signal.SIGHUP):      # such as a closed terminal: no node must outlive the demo
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    try:
        await tell(graz, lyon, cloud)
        if sys.stdin.isatty() and sys.stdout.isatty():
            what_to_try(graz, lyon, cloud)
            await stay(list(nodes))
        else:
            print("\nAll is well: nothing that was acknowledged is gone.")
        return 0
    except (DemoError, AMQTTError, aiohttp.ClientError, TimeoutError) as error:
        print(f"\nThe demo failed: {error!r}", file=sys.stderr)
        for node in nodes:
            print(f"The last lines of {node.name}:\n{node.last_lines()}", file=sys.stderr)
        return 1
    finally:
        await asyncio.gather(*(node.kill(signal.SIGTERM) for node in nodes))


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(0)
