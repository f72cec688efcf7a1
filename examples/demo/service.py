"""A service desk that speaks AMQP 1.0, as JMS applications do: a client of somebody else, in a process of its own."""
from __future__ import annotations

import asyncio
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from machine import COMMANDS, MACHINE, MEASURED, Machine
from node import Node
from screen import WAIT_S, DemoError, heading, show

HERE = Path(__file__).parent
MODULES = (Path.cwd() / "node_modules", HERE.parents[1] / ".peers" / "node" / "node_modules")


def program() -> tuple[list[str], dict[str, str]] | None:
    """Command and environment of a client that is installed here: rhea for Node.js, else proton for Python."""
    if shutil.which("node"):
        for folder in (*map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep))), *MODULES):
            if (folder / "rhea").is_dir():
                return ["node", str(HERE / "service.js")], {"NODE_PATH": str(folder)}
    if find_spec("proton") is not None:
        return [sys.executable, str(HERE / "service_proton.py")], {}
    return None


async def serve(node: Node, machine: Machine) -> None:
    """MQTT → AMQP 1.0 → MQTT."""
    heading("6. A service desk over AMQP 1.0: what wears out is a task, and the answer is a command")
    found = program()
    if found is None:
        show("AMQP", "=", "left out: it needs a client (npm install rhea, or pip install python-qpid-proton)")
        return
    command, more = found
    process = await asyncio.create_subprocess_exec(
        *command, node.url("amqp"), f"topic://{MEASURED}/wear", f"topic://{COMMANDS}/service",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **more})
    try:
        if await line(process) != "ready":
            raise DemoError(f"the service desk did not start: {await errors(process)}")
        show("AMQP", "=", f"the service desk ({Path(command[-1]).name}) reads topic://{MEASURED}/wear")
        await machine.publish(f"{MEASURED}/wear", "0.93")
        show("MQTT", ">", f"{MEASURED}/wear  0.93")
        show("AMQP", "<", f"{MEASURED}/wear  {await line(process)}")
        outcome = await line(process)
        show("AMQP", ">", f"{COMMANDS}/service  replace the tool   {outcome}: it is on disk")
        topic, text = await machine.receive()
        if (topic, text, outcome) != (f"{COMMANDS}/service", "replace the tool", "accepted"):
            raise DemoError(f"{MACHINE} got {topic} {text}: {await errors(process)}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), WAIT_S)).decode().rstrip("\n")


async def errors(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    if process.returncode is None:
        process.kill()
    return (await process.stderr.read()).decode()[-500:]
