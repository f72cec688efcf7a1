"""Drive publishers and subscribers from one loop and measure: as fast as it goes, or at a fixed rate.

Called by the rows. One thread, one process, so that on two cores the broker has one to itself. The generator's own CPU
is measured and printed with every row: where it is not far below the broker's, the row says nothing about the broker.
"""
from __future__ import annotations

import gc
import select
import struct
import time
from dataclasses import dataclass, field

from bench.brokers.broker import Broker
from bench.load.clients import BenchError, Publisher, Subscriber
from bench.load.packets import MARKED_PAYLOAD, PAYLOAD_BYTES, publish

QUIET_S = 10.0                          # no delivery for so long after the last publish: the rest is lost
FEW = 16                                # after a turn that brought fewer than this, nap, so that a broker which writes
NAP_S = 0.0001                          # each message alone (Mosquitto) does not also pay for waking us for each
_STAMP = struct.Struct(">Q")


@dataclass
class Outcome:
    """Figures of one run. received counts deliveries at all subscribers; seconds run to the last delivery."""

    sent: int = 0
    expected: int = 0
    received: int = 0
    seconds: float = 0.0
    broker_cpu_s: float = 0.0
    load_cpu_s: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        received = max(1, self.received)
        return {"rate": self.received / max(self.seconds, 1e-9), "cpu_us": self.broker_cpu_s / received * 1e6,
                "load_us": self.load_cpu_s / received * 1e6, "lost": float(self.expected - self.received),
                "p50_ms": percentile(self.latencies_ns, 50) / 1e6, "p99_ms": percentile(self.latencies_ns, 99) / 1e6}


def percentile(values: list[int], percent: float) -> float:
    """Nearest rank; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))])


class Flood:
    """Publishers as fast as windows allow. A bound on what is under way end to end keeps every broker from dropping."""

    def __init__(self, broker: Broker, publishers: list[Publisher], subscribers: list[Subscriber],
                 under_way_max: int) -> None:
        self._broker = broker
        self._publishers = publishers
        self._subscribers = subscribers
        self._under_way_max = under_way_max
        self._poll = select.epoll()
        self._by_fd: dict[int, Publisher | Subscriber] = {}
        for client in (*publishers, *subscribers):
            self._by_fd[client.sock.fileno()] = client
            self._poll.register(client.sock.fileno(), select.EPOLLIN)

    def run(self, seconds: float = 0.0, *, events_max: int = 1 << 60) -> Outcome:
        """Publish for `seconds` or until events_max are sent, then wait for what is under way."""
        outcome = Outcome()
        base = [subscriber.received for subscriber in self._subscribers]
        sent_base = sum(publisher.sent for publisher in self._publishers)
        gc.collect()
        gc.disable()
        cpu_start, load_start, start = self._broker.cpu_s(), time.process_time(), time.monotonic()
        stop_at = start + seconds if seconds else float("inf")
        last = start
        while True:
            now = time.monotonic()
            sent = sum(publisher.sent for publisher in self._publishers) - sent_base
            got = min((s.received - b for s, b in zip(self._subscribers, base, strict=True)), default=0)
            if now < stop_at and sent < events_max:
                self._push(min(events_max, got + self._under_way_max if self._subscribers else events_max) - sent)
            else:
                if (got >= sent or not self._subscribers) and all(p.idle for p in self._publishers):
                    break
                self._push(0)
                if now - last > QUIET_S:
                    break
            if self._turn(0.05):
                last = time.monotonic()
        outcome.seconds = last - start
        outcome.load_cpu_s = time.process_time() - load_start
        outcome.broker_cpu_s = self._broker.cpu_s() - cpu_start
        gc.enable()
        outcome.sent = sum(publisher.sent for publisher in self._publishers) - sent_base
        outcome.expected = outcome.sent * max(1, len(self._subscribers))
        outcome.received = sum(s.received for s in self._subscribers) - sum(base)
        if not self._subscribers:
            outcome.received = outcome.sent
        for subscriber in self._subscribers:
            outcome.latencies_ns += subscriber.latencies_ns
            subscriber.latencies_ns = []
        return outcome

    def _push(self, room: int) -> None:
        for publisher in self._publishers:
            if publisher.blocked:
                continue
            room -= publisher.push(max(0, room))
            if publisher.blocked:
                self._poll.modify(publisher.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _turn(self, timeout_s: float) -> bool:
        """One wait for sockets. True when something was delivered or acknowledged."""
        got = acked = 0
        for fd, mask in self._poll.poll(timeout_s):
            client = self._by_fd[fd]
            if isinstance(client, Subscriber):
                got += client.receive()
                continue
            if mask & select.EPOLLOUT:
                client.blocked = False
                self._poll.modify(fd, select.EPOLLIN)
            if mask & ~select.EPOLLOUT:
                acked += client.receive()
        for subscriber in self._subscribers:
            if subscriber.owes:
                subscriber.flush()
        if 0 < got + acked < FEW:
            time.sleep(NAP_S)
        return got + acked > 0

    def close(self) -> None:
        self._poll.close()
        for client in (*self._publishers, *self._subscribers):
            client.close()


class _Waiter:
    """Wait for sockets to the microsecond. Few sockets: select, which wakes at once. Many: epoll once per due time,
    because a select over 50 sockets would cost the generator more than the message costs the broker.
    """

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds
        self._poll = select.epoll() if len(fds) > 16 else None
        if self._poll is not None:
            for fd in fds:
                self._poll.register(fd, select.EPOLLIN)

    def wait(self, seconds: float) -> list[int]:
        if self._poll is None:
            return select.select(self._fds, (), (), seconds)[0]
        if seconds > 0:
            time.sleep(min(seconds, NAP_S))
        return [fd for fd, _ in self._poll.poll(0)]

    def close(self) -> None:
        if self._poll is not None:
            self._poll.close()


def paced(broker: Broker, publishers: list[Publisher], topics: list[str], subscribers: list[Subscriber], *, rate: float,
          seconds: float, qos: int, version: int = 4) -> Outcome:
    """Every message alone, `rate` per second in total, the publishers in turn; each carries its send time.

    An open load: a late broker does not slow the schedule down.
    """
    prepared = [[bytearray(publish(topic, MARKED_PAYLOAD, qos, number, version)) for number in range(1, 401)]
                for topic in topics]
    stamp_at = len(prepared[0][0]) - PAYLOAD_BYTES + 1
    by_fd: dict[int, Publisher | Subscriber] = {c.sock.fileno(): c for c in (*publishers, *subscribers)}
    waiter = _Waiter(list(by_fd))
    base = sum(s.received for s in subscribers)
    total, count = int(rate * seconds), len(publishers)
    outcome = Outcome(sent=total, expected=total * len(subscribers))
    gc.collect()
    gc.disable()
    cpu_start, load_start, start = broker.cpu_s(), time.process_time(), time.monotonic()
    number, last = 0, start
    while True:
        now = time.monotonic()
        while number < total and start + number / rate <= now:
            turn, who = divmod(number, count)
            message = prepared[who][turn % 400]
            _STAMP.pack_into(message, stamp_at, time.monotonic_ns())
            if publishers[who].sock.send(message) != len(message):
                raise BenchError("the socket of a paced publisher is full")
            number += 1
        done = sum(s.received for s in subscribers) - base
        if number == total and (done >= outcome.expected or now - last > QUIET_S):
            break
        wait_s = max(0.0, start + number / rate - time.monotonic()) if number < total else 0.05
        for fd in waiter.wait(wait_s):
            by_fd[fd].receive()
            last = time.monotonic()
    outcome.seconds = last - start
    outcome.load_cpu_s = time.process_time() - load_start
    outcome.broker_cpu_s = broker.cpu_s() - cpu_start
    gc.enable()
    waiter.close()
    outcome.received = sum(s.received for s in subscribers) - base
    for subscriber in subscribers:
        outcome.latencies_ns += subscriber.latencies_ns
        subscriber.latencies_ns = []
    return outcome
