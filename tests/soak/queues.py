"""python -m tests.soak.queues: queues as large, as many and as busy as the acceptance asks for, by AMQP 0-9-1.

    behind      so many messages wait in one queue; then a client without a prefetch takes them: each once, in order
    many        so many queues, with a message each, and the node is killed: all are there again
    requests    so many seconds of requests and answers over direct reply-to: neither memory nor log grows

One real node for each, clients on raw sockets. Exit code 1 when something is lost, doubled or grown.
"""
from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from protocols.amqp091.codec import frames, methods
from protocols.amqp091.codec.frames import Frame, content_frames, method_frame
from protocols.amqp091.codec.methods import encode_method
from protocols.amqp091.codec.properties import Content, decode_properties, encode_properties
from tests.protocols.amqp091.raw import Raw
from tests.support.node import Node

BODY_BYTES = 100
PADDING = b"." * (BODY_BYTES - 10)
DURABLE = encode_properties(Content(delivery_mode=2))
BURST = 500                         # messages of one write
UNCONFIRMED = 20_000
READ_BYTES = 1 << 20
ACK = b"\x00\x3c\x00\x50"
QUEUE_KIB_MAX = 16                  # of memory for one queue,
CACHES_BYTES = 32 << 20             # beside what any load fills
GROWTH_MAX_BYTES = 96 << 20         # of memory: caches, and 90 segments of the log
GROWN_MAX_BYTES = 12 << 20          # from the second quarter of the requests to the last
LOG_MAX_BYTES = 64 << 20            # of the log, while requests come and go
OPEN = 500                          # requests that wait for their answers
CONNECTIONS = 4                     # that declare
TURN_S = 0.025
SAMPLES = 20                       # of the queues that are looked at again


class Failed(Exception):
    """Something does not hold."""


def body(number: int) -> bytes:
    return b"%010d" % number + PADDING


def read(raw: Raw) -> bytes:
    data = raw.socket.recv(READ_BYTES)
    if not data:
        raise Failed("the node has closed the connection")
    return data


def confirmed(raw: Raw) -> int:
    """The tag that the node has confirmed up to, as far as one read tells."""
    raw.data += read(raw)
    tag = position = 0
    while isinstance(found := raw.cutter.next(raw.data, position), Frame):
        if raw.data[found.position:found.position + 4] != ACK:
            raise Failed(f"no confirm: {methods.decode_method(raw.data, found.position, found.end)}")
        tag = int.from_bytes(raw.data[found.position + 4:found.position + 12], "big")
        position = found.end + 1
    raw.data = raw.data[position:]
    return tag


def fill(raw: Raw, queue: str, count: int) -> None:
    channel = raw.open()
    raw.send(channel, methods.QueueDeclare(0, queue, durable=True))
    raw.expect(methods.QueueDeclareOk)
    raw.send(channel, methods.ConfirmSelect())
    raw.expect(methods.ConfirmSelectOk)
    head = method_frame(channel, encode_method(methods.BasicPublish(0, "", queue)))
    sent = done = 0
    while done < count:
        while sent < count and sent - done <= UNCONFIRMED - BURST:
            more = min(BURST, count - sent)
            raw.send_raw(b"".join([head + content_frames(channel, DURABLE, body(number), 4096)
                                   for number in range(sent, sent + more)]))
            sent += more
        done = max(done, confirmed(raw))


def deliveries(raw: Raw) -> Iterator[tuple[int, bytes, bytes]]:
    """(tag, properties, body), each in a method, a header and a body frame; an empty body: a read is over."""
    tag, properties = 0, b""
    while True:
        raw.data += read(raw)
        position = 0
        while isinstance(found := raw.cutter.next(raw.data, position), Frame):
            part = raw.data[found.position:found.end]
            position = found.end + 1
            if found.type == frames.BODY:
                yield tag, properties, part
            elif found.type == frames.HEADER:
                properties = part[12:]
            elif part[:4] == b"\x00\x3c\x00\x3c":
                size = part[4]
                tag = int.from_bytes(part[5 + size:13 + size], "big")
                if part[13 + size]:
                    raise Failed(f"delivery {tag} is marked as a repetition")
            else:
                raise Failed(f"no delivery: {methods.decode_method(part, 0, len(part))}")
        raw.data = raw.data[position:]
        yield tag, properties, b""


def ack(raw: Raw, channel: int, tag: int) -> None:
    raw.send_raw(method_frame(channel, ACK + tag.to_bytes(8, "big") + b"\x01"))


def slow_turns(node: Node) -> str:
    told, name = node.metrics(), "meshgate_loop_turn_cpu_seconds"
    slow = told[f"{name}_count"] - told[f'{name}_bucket{{le="{TURN_S}"}}']
    return f"{slow:.0f} of {told[f'{name}_count']:,.0f} turns above {TURN_S * 1000:.0f} ms of CPU"


def mib(size: float) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def behind(node: Node, count: int) -> str:
    raw = Raw(node.ports["amqp"])
    start, began_s = node.process.rss_bytes(), time.monotonic()
    fill(raw, "long", count)
    filled_s, full = time.monotonic() - began_s, node.process.rss_bytes()
    channel = raw.open(2)
    began_s, expected, most = time.monotonic(), 0, full
    raw.send(channel, methods.BasicConsume(0, "long", "c"))
    raw.expect(methods.BasicConsumeOk)
    for tag, _, got in deliveries(raw):
        if not got:
            ack(raw, channel, tag)
            most = max(most, node.process.rss_bytes()) if expected % 97 == 0 else most
            if expected == count:
                break
            continue
        if got != body(expected):
            raise Failed(f"{got[:10]!r} in place of {expected}")
        expected += 1
    took_s = time.monotonic() - began_s
    raw.send(channel, methods.QueueDeclare(0, "long", passive=True))
    while not isinstance(found := raw.method(), methods.QueueDeclareOk):
        pass
    if found.message_count or most - start > GROWTH_MAX_BYTES:
        raise Failed(f"{found.message_count} are left, memory {mib(start)} → {mib(most)}")
    return (f"{count:,} behind, confirmed at {count / filled_s:,.0f}/s, taken at {count / took_s:,.0f}/s, each once in "
            f"order; memory {mib(start)}, full {mib(full)}, at most {mib(most)}; {slow_turns(node)}")


def many(node: Node, count: int) -> str:
    start, began_s = node.process.rss_bytes(), time.monotonic()
    connections = [Raw(node.ports["amqp"]) for _ in range(CONNECTIONS)]
    for raw in connections:
        channel = raw.open()
        raw.send(channel, methods.ConfirmSelect())
        raw.expect(methods.ConfirmSelectOk)
    for first in range(0, count, CONNECTIONS * BURST):
        for number, raw in enumerate(connections):
            names = range(first + number * BURST, min(first + (number + 1) * BURST, count))
            raw.send_raw(b"".join([
                method_frame(1, encode_method(methods.QueueDeclare(0, f"q-{name}", durable=True, nowait=True)))
                for name in names]))
    for number, raw in enumerate(connections):                  # a confirm of the last says that all before it are done
        mine = [name for name in range(count) if name // BURST % CONNECTIONS == number]
        for at in range(0, len(mine), BURST):
            raw.send_raw(b"".join([
                method_frame(1, encode_method(methods.BasicPublish(0, "", f"q-{name}", mandatory=True)))
                + content_frames(1, DURABLE, body(name), 4096) for name in mine[at:at + BURST]]))
            while confirmed(raw) < min(at + BURST, len(mine)):
                pass
    made_s, full = time.monotonic() - began_s, node.process.rss_bytes()
    turns = slow_turns(node)
    node.kill9()
    began_s = time.monotonic()
    node.start()
    ready_s = time.monotonic() - began_s
    raw = Raw(node.ports["amqp"])
    channel, uncounted, longest_s = raw.open(), 0, 0.0
    for name in range(0, count, max(count // SAMPLES, 1)):
        asked_s = time.monotonic()
        raw.send(channel, methods.QueueDeclare(0, f"q-{name}", passive=True))
        uncounted += raw.expect(methods.QueueDeclareOk).message_count != 1
        longest_s = max(longest_s, time.monotonic() - asked_s)
        raw.send(channel, methods.BasicGet(0, f"q-{name}", no_ack=True))
        found, _, content = raw.method(), raw.frame(), raw.frame()
        if not isinstance(found, methods.BasicGetOk) or content is None or content[2] != body(name):
            raise Failed(f"queue q-{name} has lost its message")
    each = (full - start) / count / 1024
    if full - start > count * QUEUE_KIB_MAX * 1024 + CACHES_BYTES:
        raise Failed(f"{each:.1f} KiB for each queue")
    return (f"{count:,} queues with a message each in {made_s:.0f} s, {each:.1f} KiB each; ready {ready_s:.1f} s after "
            f"a kill, with {mib(node.process.rss_bytes())}; a declare took {longest_s:.1f} s at most "
            f"then, {uncounted} of {SAMPLES} before it was counted; {turns}")


def answer(port: int) -> None:
    """Who answers, in a process of its own, until the node is gone."""
    raw = Raw(port)
    channel = raw.open()
    raw.send(channel, methods.QueueDeclare(0, "rpc"))
    raw.expect(methods.QueueDeclareOk)
    raw.send(channel, methods.BasicQos(0, OPEN, False))
    raw.expect(methods.BasicQosOk)
    raw.send(channel, methods.BasicConsume(0, "rpc", "c"))
    raw.expect(methods.BasicConsumeOk)
    out: list[bytes] = []
    for tag, properties, got in deliveries(raw):
        if got:
            asked = decode_properties(properties)
            assert isinstance(asked.reply_to, str)
            out.append(method_frame(channel, encode_method(methods.BasicPublish(0, "", asked.reply_to))))
            own = encode_properties(Content(correlation_id=asked.correlation_id))
            out.append(content_frames(channel, own, got, 4096))
        elif out:
            ack(raw, channel, tag)
            raw.send_raw(b"".join(out))
            out.clear()


def requests(node: Node, seconds: float) -> str:
    answering = multiprocessing.get_context("spawn").Process(target=answer, args=(node.ports["amqp"],), daemon=True)
    answering.start()
    try:
        return _ask(node, seconds)
    finally:
        answering.terminate()
        answering.join()


def _ask(node: Node, seconds: float) -> str:
    raw = Raw(node.ports["amqp"])
    channel = raw.open()
    raw.send(channel, methods.QueueDeclare(0, "rpc"))
    raw.expect(methods.QueueDeclareOk)
    raw.send(channel, methods.BasicConsume(0, "amq.rabbitmq.reply-to", "c", no_ack=True))
    raw.expect(methods.BasicConsumeOk)
    head = method_frame(channel, encode_method(methods.BasicPublish(0, "", "rpc")))

    def ask(first: int, more: int) -> None:
        raw.send_raw(b"".join([head + content_frames(channel, encode_properties(Content(
            reply_to="amq.rabbitmq.reply-to", correlation_id=b"%d" % number)), body(number), 4096)
            for number in range(first, first + more)]))

    ask(0, OPEN)
    began_s = time.monotonic()
    asked, answered, came, due_s = OPEN, 0, 0, began_s
    rss: list[int] = []
    log: list[int] = []
    for _, properties, got in deliveries(raw):
        if got:
            if got != body(answered) or decode_properties(properties).correlation_id not in (
                    str(answered), b"%d" % answered):
                raise Failed(f"the answer to {got[:10]!r} in place of that to {answered}")
            answered += 1
            came += 1
            continue
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + max(seconds / 40, 0.2)
            rss.append(node.process.rss_bytes())
            log.append(sum(path.stat().st_size for path in node.data.rglob("*.log") if path.exists()))
        if now_s - began_s >= seconds:
            break
        ask(asked, came)
        asked, came = asked + came, 0
    took_s = time.monotonic() - began_s
    quarter = max(len(rss) // 4, 1)
    grown = median(rss[-quarter:]) - median(rss[quarter:2 * quarter] or rss)
    if grown > GROWN_MAX_BYTES or max(log) > LOG_MAX_BYTES:
        raise Failed(f"memory has grown by {mib(grown)}, the log was {mib(max(log))}")
    return (f"{answered:,} requests and answers, {answered / took_s:,.0f}/s; memory {mib(rss[0])}, grown by "
            f"{grown / (1 << 20):+.1f} MiB, the log at most {mib(max(log))}; {slow_turns(node)}")


def run(folder: Path, what: Callable[[Node, int], str], count: int) -> str:
    """Raises Failed."""
    node = Node(folder, listeners=("amqp", "http", "console")).start()
    try:
        return what(node, count)
    finally:
        node.kill9()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.queues", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--behind", type=int, default=10_000_000, help="messages in one queue; 0: not this")
    parser.add_argument("--many", type=int, default=100_000, help="queues")
    parser.add_argument("--requests", type=int, default=60, help="seconds")
    options = parser.parse_args()
    said: list[str] = []
    fine = True
    for what, count in ((behind, options.behind), (many, options.many), (requests, options.requests)):
        if count:
            with tempfile.TemporaryDirectory(prefix="queues-") as folder:
                try:
                    said.append(run(Path(folder), what, count))
                except Failed as failed:
                    fine = False
                    said.append(f"{what.__name__}: {failed}")
            print(said[-1], flush=True)
    print("; ".join(said) if fine else f"FAILED {'; '.join(said)}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
