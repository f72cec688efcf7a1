"""python -m tests.soak.connects [--connects 200000]: clients that connect and leave; what of their memory stays behind?

A real node; 60 clients at a time, from ever other loopback addresses, since one has not so many ports. Some thousand go
first, so that what is made on first use is there. Exit code 1 when more than 20 MiB are left a minute after the last.
"""
from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

from tests.support.node import Node
from tests.support.rawmqtt import connect_packet

LEFT_MAX = 20 << 20
COMES_BACK_S = 60.0
AT_A_TIME = 60
FIRST = 3_000
ADDRESSES = 50
GOODBYE = b"\xe0\x00"


async def connects(address: tuple[str, int], count: int) -> None:
    numbers = itertools.count()

    async def client() -> None:
        while (number := next(numbers)) < count:
            reader, writer = await asyncio.open_connection(
                *address, local_addr=(f"127.0.1.{number % ADDRESSES + 1}", 0))
            writer.write(connect_packet(f"c-{number}" if number % 2 else "", version=4, keep_alive_s=65_535) + GOODBYE)
            assert (await reader.readexactly(4))[3] == 0
            await reader.read()
            writer.close()

    await asyncio.gather(*(client() for _ in range(AT_A_TIME)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.connects", description=__doc__)
    parser.add_argument("--connects", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="connects-") as folder:
        node = Node(Path(folder)).start()
        try:
            asyncio.run(connects(node.mqtt, FIRST))
            before = node.process.rss_bytes()
            began_s = time.monotonic()
            asyncio.run(connects(node.mqtt, options.connects))
            took_s = time.monotonic() - began_s
            during, end_s = node.process.rss_bytes(), time.monotonic() + COMES_BACK_S
            while node.process.rss_bytes() - before > LEFT_MAX // 4 and time.monotonic() < end_s:
                time.sleep(0.5)
            left = node.process.rss_bytes() - before
        finally:
            node.kill9()
    print(f"{options.connects:,} connects in {took_s:.0f} s: {before >> 20} MiB before, {during >> 20} MiB at the end, "
          f"{left / (1 << 20):.1f} MiB left {time.monotonic() - end_s + COMES_BACK_S:.0f} s later")
    return 0 if left < LEFT_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
