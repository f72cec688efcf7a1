"""console/topology.py: the drawing of 1 to 100 nodes: nothing overlaps or is cut off, every node has its link."""
from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from console.topology import CHARACTER, FOLD_ABOVE, boxes_and_edges, draw, fold, place

SVG = "{http://www.w3.org/2000/svg}"


def mesh(count: int, sites: int, seed: int = 1) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Nodes in sites, linked as a tree with some more links, some of them not well."""
    rng = random.Random(seed)
    names = [f"node-{number:03}" if number % 3 else f"a-rather-long-name-{number:03}" for number in range(count)]
    states: dict[tuple[int, int], str] = {}
    for number in range(1, count):
        states[rng.randrange(number), number] = rng.choice(["up", "up", "up", "throttled", "blocked", "down"])
    for _ in range(count // 2):
        one, other = sorted(rng.sample(range(count), 2)) if count > 2 else (0, count - 1)
        if one != other:
            states[one, other] = "up"
    rows = []
    for number, name in enumerate(names):
        links = [{"node": names[other if one == number else one], "state": state, "cost": 1, "rtt_ms": 1.0}
                 for (one, other), state in states.items() if number in (one, other)]
        rows.append({"name": name, "site": f"site-{number % sites}", "hops": None if number == count - 1 > 1 else 1,
                     "links": links})
    rows[0]["hops"] = 0
    own = [{"id": link["node"], "name": "l", "node": link["node"], "state": link["state"], "rtt_ms": 1.5,
            "sent": {"bytes_s": 12_000}, "received": {"bytes_s": 300},
            "backlog": {"seconds": 12.0 if link["state"] == "blocked" else None, "bytes": 0}}
           for link in rows[0]["links"]]
    return rows, own


def rectangles(drawing: str) -> list[tuple[str, float, float, float, float]]:
    """(what, left, top, right, bottom) of all that must not overlap: frames of boxes, titles of sites."""
    found = []
    root = ElementTree.fromstring(drawing.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))
    for box in root.iter(f"{SVG}a"):
        if not box.get("class", "").startswith("box"):
            continue
        x, y = (float(part) for part in box.get("transform", "")[10:-1].split())
        frame = box.find(f"{SVG}rect")
        assert frame is not None
        width, height = float(frame.get("width", "0")), float(frame.get("height", "0"))
        for text in box.iter(f"{SVG}text"):
            assert float(text.get("x", "0")) + CHARACTER * len(text.text or "") <= width + 1, text.text
        found.append((box.get("aria-label", ""), x, y, x + width, y + height))
    for text in root.findall(f"{SVG}text"):
        x, y = float(text.get("x", "0")), float(text.get("y", "0"))
        found.append((f"site {text.text}", x, y - 14, x + CHARACTER * len(text.text or ""), y + 4))
    return found


@pytest.mark.parametrize(("count", "sites"), [
    (1, 1), (3, 3), (12, 4), (40, 6), (41, 7), (100, 9), (100, 1), (100, 100)])
def test_nothing_overlaps_and_nothing_is_cut_off(count: int, sites: int) -> None:
    nodes, links = mesh(count, sites)
    drawing = str(draw(nodes, links, "a-rather-long-name-000"))
    root = ElementTree.fromstring(drawing)
    _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
    boxes = rectangles(drawing)
    for index, (what, left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= width and top >= 0 and bottom <= height, what
        for other, left2, top2, right2, bottom2 in boxes[index + 1:]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top, (what, other)


def test_every_node_is_a_link_with_a_label_and_the_order_is_fixed() -> None:
    nodes, links = mesh(12, 4)
    one = str(draw(nodes, links, "a-rather-long-name-000"))
    other = str(draw(list(reversed(nodes)), list(reversed(links)), "a-rather-long-name-000"))
    assert [row[:3] for row in sorted(rectangles(one))] == [row[:3] for row in sorted(rectangles(other))]
    for row in nodes:
        assert f'href="/nodes/{row["name"]}"' in one


def test_above_forty_nodes_sites_are_folded_and_the_worst_state_wins() -> None:
    nodes, links = mesh(FOLD_ABOVE + 20, 5)
    boxes, edges = boxes_and_edges(nodes, links, str(nodes[0]["name"]))
    sites = {str(row["name"]): str(row["site"]) for row in nodes}
    folded, joined = fold(boxes, edges, sites, "")
    assert len(folded) == 5 and sum(len(box.squares) for box in folded) == len(nodes)
    assert all("down" not in edge.states or edge.state == "down" for edge in joined)
    unfolded, _ = fold(boxes, edges, sites, "site-2")
    assert len(unfolded) == 4 + 12
    width, height, _ = place(folded, {box.key: box.key for box in folded})
    assert width > 0 and height > 0


def test_a_link_past_a_column_does_not_go_through_the_node_between() -> None:
    """Three sites in a row, the hub at one end: the long way goes below."""
    nodes, _ = mesh(3, 3)
    for row in nodes:
        row["links"] = []
    nodes[0]["links"] = [{"node": nodes[1]["name"], "state": "up"}, {"node": nodes[2]["name"], "state": "up"}]
    nodes[2]["hops"] = 1
    drawing = str(draw(nodes, [], str(nodes[0]["name"])))
    bottom = max(row[4] for row in rectangles(drawing))
    wires = [part.split('"')[0] for part in drawing.split('d="')[1:] if part.startswith("M")]
    assert any("V" in wire and float(wire.split("V")[1].split("Q")[0]) + 10 >= bottom for wire in wires)


def test_names_are_text_whatever_they_hold() -> None:
    """hostile.md row 84."""
    nodes, links = mesh(2, 1)
    nodes[0]["site"] = '<script>alert("x")</script>'
    drawing = str(draw(nodes, links, str(nodes[0]["name"])))
    assert "<script>" not in drawing and "&lt;script&gt;" in drawing
