"""Rows about links: events/s from one node to the other, what a link adds to the latency, how fast interest travels.

Every row measures its own baseline in the same run: one node alone, on the same work, right before. `ratio_alone` is
the rate across the link over that of the node alone. Sources of the targets: performance.md, issue 3.
"""
from __future__ import annotations

import secrets
import statistics
import time

from bench.brokers.broker import Broker
from bench.brokers.nats_leaf import LeafPair, NatsClient, stored
from bench.brokers.pairs import LinkedMeshgate, Pair, make_pair, meshgate_chain, wait_for_link
from bench.load.clients import BenchError, Publisher, Subscriber, dial, read_packet
from bench.load.load import Flood, paced
from bench.load.packets import connect, publish, subscribe
from bench.rows.mqtt import LATENCY_RATE, QOS1_UNDER_WAY, WINDOW
from tests.support.frameproxy import FrameProxy

TOPIC = "bench/link/0"
HOPS = 5
PROBE_EVERY_S = 0.002
PACED_TURNS = 5
DELAY_S = 0.010                         # each way, of the row with a round trip


def across(broker: Broker, quick: bool) -> dict[str, float]:
    """QoS 1 in at one broker, QoS 1 out at the other; both ends on disk where the broker has a log."""
    if broker.name == "nats":
        return _nats_across(broker, quick)
    pair = make_pair(broker)
    try:
        pair.start()
        slow = _latency(pair, quick)            # before the floods: the disk still writes for seconds behind one
        alone = _flow(pair, pair.near, pair.near, quick)
        linked = _flow(pair, pair.near, pair.far, quick)
    finally:
        pair.stop()
    return {**linked, **slow, "rate": linked["rate"], "alone": alone["rate"],
            "ratio_alone": linked["rate"] / max(1.0, alone["rate"]),
            "lost": slow["lost"] + alone["lost"] + linked["lost"]}


def _flow(pair: Pair, near: Broker, far: Broker, quick: bool) -> dict[str, float]:
    tag = secrets.token_hex(3)
    sub = Subscriber(far.port, f"s-{tag}", "bench/link/+", topic_bytes=len(TOPIC), qos=1)
    wait_for_link(near.port, far.port, "bench/link/r")
    pub = Publisher(near.port, f"p-{tag}", [TOPIC], qos=1, window=WINDOW)
    flood = Flood(pair, [pub], [sub], QOS1_UNDER_WAY)           # type: ignore[arg-type]
    try:
        _drain(sub)
        flood.run(0.3 if quick else 1.0)
        return flood.run(1.5 if quick else 4.0).figures()
    finally:
        flood.close()


def _drain(sub: Subscriber) -> None:
    """What wait_for_link has left in the socket must not count."""
    quiet = time.monotonic() + 0.3
    while time.monotonic() < quiet:
        if sub.receive():
            quiet = time.monotonic() + 0.3
        time.sleep(0.01)                                        # polling, bounded by the silence
    sub.received = 0
    sub.latencies_ns = []


def _nats_across(broker: Broker, quick: bool) -> dict[str, float]:
    pair = LeafPair(broker.root / f"leaf-{secrets.token_hex(4)}")
    try:
        pair.start()
        pair.flood(0.3 if quick else 1.0, far=True)
        count, seconds = pair.flood(1.5 if quick else 4.0, far=False)
        alone = count / seconds
        while _behind(pair):
            time.sleep(0.05)                                    # polling; the next flood begins with both streams level
        cpu_start = pair.cpu_s()
        count, seconds = pair.flood(1.5 if quick else 4.0, far=True)
        cpu_s = pair.cpu_s() - cpu_start
    finally:
        pair.stop()
    nan = float("nan")
    return {"rate": count / seconds, "alone": alone, "ratio_alone": count / seconds / alone, "lost": 0.0,
            "cpu_us": cpu_s / count * 1e6, "load_us": nan, "p50_ms": nan, "p99_ms": nan, "added_p99_ms": nan}


def _behind(pair: LeafPair) -> bool:
    with NatsClient(pair.leaf.port) as near, NatsClient(pair.hub.port) as far:
        return stored(far, "FAR") < stored(near, "NEAR")


def added_latency(broker: Broker, quick: bool) -> dict[str, float]:
    """What a link with a delay adds, against one node alone in the same run. Half a round trip is nature itself."""
    far = LinkedMeshgate(broker.root / f"rtt-{secrets.token_hex(4)}", "bench-0", (), token := secrets.token_hex(16))
    with FrameProxy(far.link_port, frames=False) as proxy:
        near = LinkedMeshgate(far.root.parent, "bench-1", (proxy.port,), token)
        pair = Pair(near, far)
        try:
            pair.start()
            proxy.delay_s = DELAY_S
            slow = _latency(pair, quick)
        finally:
            pair.stop()
    rtt_ms = 2 * DELAY_S * 1e3
    return {**slow, "rtt_ms": rtt_ms, "over_rtt_ms": slow["added_p99_ms"] - rtt_ms}


def _latency(pair: Pair, quick: bool) -> dict[str, float]:
    """One node alone and both, in turn, at a fixed rate: the medians, and that of what the link adds to each."""
    alone, linked = [], []
    for _ in range(PACED_TURNS):
        alone.append(_paced(pair, pair.near, pair.near, quick))
        linked.append(_paced(pair, pair.near, pair.far, quick))
    added = [far["p99_ms"] - near["p99_ms"] for near, far in zip(alone, linked, strict=True)]
    return {
        "alone_p99_ms": statistics.median(turn["p99_ms"] for turn in alone),
        "p50_ms": statistics.median(turn["p50_ms"] for turn in linked),
        "p99_ms": statistics.median(turn["p99_ms"] for turn in linked),
        "added_p99_ms": statistics.median(added),
        "rate": statistics.median(turn["rate"] for turn in linked),
        "lost": sum(turn["lost"] for turn in (*alone, *linked)),
    }


def _paced(pair: Pair, near: Broker, far: Broker, quick: bool) -> dict[str, float]:
    tag = secrets.token_hex(3)
    sub = Subscriber(far.port, f"s-{tag}", "bench/link/+", topic_bytes=len(TOPIC), qos=1)
    wait_for_link(near.port, far.port, "bench/link/r")
    pub = Publisher(near.port, f"p-{tag}", [TOPIC], qos=1, window=WINDOW)
    try:
        _drain(sub)
        return paced(pair, [pub], [TOPIC], [sub], rate=LATENCY_RATE,    # type: ignore[arg-type]
                     seconds=1.0 if quick else 3.0, qos=1).figures()
    finally:
        pub.close()
        sub.close()


def interest(broker: Broker, quick: bool) -> dict[str, float]:
    """A line of nodes: from SUBACK at one end until the other end's events arrive, the first one included."""
    nodes = meshgate_chain(broker.root / f"chain-{secrets.token_hex(4)}", HOPS + 1)
    try:
        for node in nodes:
            node.start()
        wait_for_link(nodes[-1].port, nodes[0].port)
        times = [_time_to_see(nodes[-1].port, nodes[0].port, f"bench/interest/{number}")
                 for number in range(5 if quick else 20)]
    finally:
        for node in nodes:
            node.stop()
    return {"hops": float(HOPS), "rate": 1 / statistics.median(times), "seen_ms": statistics.median(times) * 1e3,
            "slowest_ms": max(times) * 1e3}


def _time_to_see(near_port: int, far_port: int, topic: str) -> float:
    """Seconds from SUBACK until the first delivery. Published every 2 ms meanwhile; what came before the wish got to
    the publisher's node may come too, because a stream keeps it.
    """
    pub, sub = dial(near_port, connect("i-pub")), dial(far_port, connect("i-sub"))
    try:
        sub.sendall(subscribe(1, topic, 1))
        while read_packet(sub)[0] != 0x90:
            pass
        start = time.monotonic()
        sub.settimeout(PROBE_EVERY_S)
        while time.monotonic() - start < 10.0:
            pub.sendall(publish(topic, b"probe"))
            try:
                packet = read_packet(sub)
            except TimeoutError:
                continue
            if packet[0] & 0xF0 == 0x30:
                return time.monotonic() - start
    finally:
        pub.close()
        sub.close()
    raise BenchError("interest was not seen within 10 s")
