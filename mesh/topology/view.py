"""The overlay as plain values, for the management API, the command line and metrics. Changes nothing."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mesh.topology.gossip.flood import Peer
from mesh.topology.interest.interest import Wants
from mesh.topology.linkstate.linkstate import LinkState
from mesh.topology.linkstate.nodestate import LinkInfo, NodeInfo, NodeState

if TYPE_CHECKING:
    from mesh.topology.gossip.own import OwnState

Values = dict[str, Any]


def overlay_snapshot(me: NodeInfo, nodes: Mapping[str, NodeState], own: OwnState, states: LinkState,
                     peers: Sequence[Peer], wants: Wants, counts: Mapping[str, int], problems: list[str],
                     now_s: float) -> Values:
    """nodes: the node itself first, then by name; those that are known but cannot be reached have hops null."""
    others = sorted((known for known in states if known.state.name != me.name), key=lambda known: known.state.name)
    ours = states.nodes[me.name]
    return {
        "node": me.name,
        "nodes": [
            _node(ours.state, ours.size_bytes, 0.0, own.links, hops=0, protocol=me.protocol_max),
            *(_node(known.state, known.size_bytes, now_s - known.fresh_s, known.state.links,
                    hops=known.state.hops if known.state.name in nodes else None, protocol=known.state.protocol)
              for known in others),
        ],
        "routes": [
            {"to": name, "next_hop": node.next_hop, "hops": node.hops, "cost": node.cost}
            for name, node in sorted(nodes.items())
        ],
        "interest": {me.name: list(own.interest), **{
            name: list(node.interest) for name, node in sorted(nodes.items())}},
        "gossip": [
            {"node": peer.neighbour.node, "link": peer.neighbour.link, "sent_bytes": peer.sent_bytes,
             "received_bytes": peer.received_bytes, "waiting": len(peer.pending), "refused": peer.refused,
             "up_s": round(now_s - peer.since_s, 1)}
            for peer in peers
        ],
        "state_bytes": states.size_bytes, "filters": wants.count,
        "counts": dict(sorted(counts.items())), "problems": problems,
    }


def _node(state: NodeState, size_bytes: int, age_s: float, links: Sequence[LinkInfo], *, hops: int | None,
          protocol: int) -> Values:
    return {
        "name": state.name, "site": state.site, "epoch": state.epoch, "boot": state.boot, "version": state.version,
        "protocol": protocol, "started_ms": state.started_ms, "hops": hops,
        "next_hop": state.next_hop if hops else None, "cost": state.cost if hops else None,
        "skew_ms": state.skew_ms if hops else None, "age_s": round(age_s, 1), "state_bytes": size_bytes,
        "sequence": state.sequence, "interest": len(state.interest),
        "streams": [
            {"name": stream.name, "partitions": stream.partitions, "captures": list(stream.captures)}
            for stream in state.streams
        ],
        "links": [
            {"node": info.node, "cost": info.cost, "state": info.state, "skew_ms": info.skew_ms,
             "rtt_ms": info.rtt_us / 1000 if info.rtt_us is not None else None}
            for info in links
        ],
    }
