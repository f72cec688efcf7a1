"""docs/mesh.md has the bounds and the entries that the code has."""
from __future__ import annotations

from pathlib import Path

import pytest

from mesh.direct import EVENTS_MAX, MESSAGE_BYTES, TAG
from mesh.link.protocol.frames import HOPS_MAX
from mesh.topology.gossip import own
from mesh.topology.gossip.flood import FLUSH_EVERY_S
from mesh.topology.gossip.strikes import STRIKES_MAX
from mesh.topology.linkstate import linkstate, nodestate
from mesh.topology.overlay import ROUTES_BURST, ROUTES_PER_S
from mesh.topology.settings import MeshSettings

TEXT = " ".join((Path(__file__).resolve().parents[3] / "docs" / "mesh.md").read_text().split())


@pytest.mark.parametrize("expected", [
    f"{nodestate.FILTERS_MAX:,} filters of {nodestate.FILTER_CHARACTERS_MAX:,} characters",
    f"{nodestate.FILTER_LEVELS_MAX:,} levels, {nodestate.STREAMS_MAX} streams, {nodestate.LINKS_MAX:,} links",
    f"{linkstate.LEVELS_MAX:,} levels",
    f"{linkstate.UPDATES_BURST:,} at once, {linkstate.UPDATES_PER_S:.0f} per second",
    f"{own.SAY_BURST} at once, {own.SAY_PER_S:.0f} per second; before messages {own.URGENT_BURST} and "
    f"{own.URGENT_PER_S:.0f}",
    f"{ROUTES_BURST:.0f} times at once, {ROUTES_PER_S:.0f} times per second",
    f"Relay | {HOPS_MAX} hops", f"{STRIKES_MAX + 1} in 5 s of calm",
    f"{MESSAGE_BYTES // 1024} KiB or one event, {EVENTS_MAX:,} events",
    f"at most {FLUSH_EVERY_S * 1000:.0f} ms per hop", f"`[{TAG}, topic,",
    f"Every {MeshSettings().gossip_interval_s:.0f} s a node says", f"forgotten {MeshSettings().expiry_s:.0f} s after",
    *(name for name in nodestate.NodeRecord.__struct_fields__),
    *(f"| {kind.__struct_config__.tag} {kind.__name__.lower()} |" for kind in (
        nodestate.Whole, nodestate.Change, nodestate.Alive, nodestate.Digest, nodestate.Wanted)),
])
def test_the_page_says_what_the_code_does(expected: str) -> None:
    assert expected in TEXT
