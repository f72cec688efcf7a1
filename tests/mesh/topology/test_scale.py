"""What gossip costs in a larger mesh stays within bounds. For 200 nodes: `python -m bench gossip`."""
from __future__ import annotations

from bench.rows.gossip import gossip


def test_gossip_of_fifty_nodes_stays_within_bounds() -> None:
    figures = gossip(None, quick=True)
    assert figures["idle_kib_s"] < 50 * 0.05            # per node; a sign of life costs 40 bytes per node, link and 5 s
    assert figures["busy_kib_s"] < 50 * 0.1
    assert figures["start_kib"] < 50 * 10
    assert figures["seen_ms"] < 100
    assert figures["busy_cpu"] < 100                    # thousandths of a core, on a busy machine too
