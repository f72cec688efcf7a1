"""The overview of the whole mesh: what needs attention anywhere, the worst first, from any node."""
from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from mesh.management.across.collect import Collector, Said
from mesh.management.acts.call import Call, Values
from mesh.management.figures.attention import ITEMS_MAX, SEVERITIES

TEXTS: Final = ("severity", "kind", "subject", "what", "affects", "do", "url")
TEXT_MAX: Final = 500
OF_ONE_NODE_MAX: Final = 50         # items; a node that is not well at all does not hide the others


async def mesh_overview(own: Values, collector: Collector, call: Call) -> Values:
    """own: overview() of this node, which is changed. Nodes that did not answer are in `nodes`."""
    said = await collector.gather("overview", Call(call.identity))
    items: list[Any] = list(own["attention"])
    for one in said:
        items += items_of(one)
    items.sort(key=lambda item: SEVERITIES.index(_value(item, "severity")))
    bad = [item for item in items if _value(item, "severity") != "notice"]
    others = [item for item in bad if _value(item, "at")]
    if others:                          # else the sentence of this node says it all
        worst = bad[0]
        where = f"at {_value(worst, 'at')}, " if _value(worst, "at") else ""
        count = f"{len(bad)} things need attention; the worst: " if len(bad) > 1 else ""
        own["verdict"] = f"{count}{where}{_value(worst, 'what')}."
    own["attention"] = items[:ITEMS_MAX]
    own["healthy"] = not any(_value(item, "severity") == "broken" for item in items)
    own["worst"] = _value(items[0], "severity") if items else None
    own["nodes"] = [{"node": one.node, "state": one.word, "age_s": one.age_s} for one in said]
    return own


def items_of(said: Said) -> list[Values]:
    """What another node says of itself, as far as it has the form. Its links are for this node's pages."""
    found = (said.values or {}).get("attention")
    items = []
    for item in found[:OF_ONE_NODE_MAX] if isinstance(found, list) else ():
        if not isinstance(item, dict) or item.get("severity") not in SEVERITIES or not all(
                isinstance(item.get(name), str) for name in TEXTS) or item["kind"] == "node":
            continue                    # whom it cannot reach, this node sees itself
        url = item["url"] if item["url"].startswith("/") and not item["url"].startswith("//") else "/nodes"
        since = item.get("since_ms")
        items.append({**{name: item[name][:TEXT_MAX] for name in TEXTS}, "at": said.node,
                      "url": f"{url.partition('?')[0][:TEXT_MAX]}?node={quote(said.node, safe='')}",
                      "since_ms": since if isinstance(since, int) else None})
    return items


def _value(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)
