"""The drawing of simulated meshes of 1 to 100 nodes in a real Chromium: what is measured is what is seen."""
from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from console.topology import draw
from tests.console.test_topology import mesh
from tests.support.chromium import Chromium, Page
from tests.support.node import Node

MESHES = ((1, 1), (3, 3), (12, 4), (40, 6), (100, 9))
INJECT = """(drawn => {
  const svg = new DOMParser().parseFromString(drawn, 'text/html').querySelector('svg');
  document.querySelector('svg.topology').replaceWith(svg);
  const boxes = [...svg.querySelectorAll('text')].map(one => {
    const box = one.getBoundingClientRect();
    return [one.textContent, box.left, box.top, box.right, box.bottom, one.className.baseVal];
  });
  const frames = [...svg.querySelectorAll('rect.frame, rect.pill')].map(one => {
    const box = one.getBoundingClientRect();
    return [one.className.baseVal, box.left, box.top, box.right, box.bottom];
  });
  const all = svg.getBoundingClientRect();
  const shown = getComputedStyle(svg.querySelector('rect.frame')).fill;
  const region = svg.closest('.scroll').getBoundingClientRect();
  return {texts: boxes, frames: frames, svg: [all.left, all.top, all.right, all.bottom], fill: shown,
          region: [region.left, region.right],
          page: document.documentElement.scrollWidth};
})(%s)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    node = Node(tmp_path_factory.mktemp("plain")).start()
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser.open(node.url("console", "/topology"))
    node.kill9()


def look(page: Page, width: int, scheme: str, scale: float = 1.0) -> None:
    page.send("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.send("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": scale, "mobile": False})


def overlap(one: list[float], other: list[float]) -> bool:
    """By more than a pixel."""
    return (min(one[2], other[2]) - max(one[0], other[0]) > 1) and (min(one[3], other[3]) - max(one[1], other[1]) > 1)


@pytest.mark.parametrize(("count", "sites"), MESHES)
def test_no_two_labels_overlap_and_nothing_is_cut_off(page: Page, count: int, sites: int) -> None:
    nodes, links = mesh(count, sites)
    drawn = str(draw(nodes, links, "a-rather-long-name-000"))
    fills = set()
    for width in (1280, 1920):
        for scheme in ("light", "dark"):
            look(page, width, scheme)
            found = page.evaluate(INJECT % json.dumps(drawn))
            fills.add(found["fill"])
            left, top, right, bottom = found["svg"]
            assert found["region"][0] - 1 <= left and right <= found["region"][1] + 1, "all of it is in sight"
            texts = found["texts"]
            assert len([one for one in texts if one[5] == "name"]) == (count if count <= 40 else sites)
            for index, one in enumerate(texts):
                assert one[1] >= left - 1 and one[3] <= right + 1, one
                assert one[2] >= top - 1 and one[4] <= bottom + 1, one
                for other in texts[index + 1:]:
                    assert not overlap(one[1:5], other[1:5]), (width, scheme, one, other)
            for index, one in enumerate(found["frames"]):
                for other in found["frames"][index + 1:]:
                    assert not overlap(one[1:], other[1:]), ("a pill stands on a node or on another one", one, other)
            assert found["page"] <= width, "the page itself does not scroll sideways"
    assert len(fills) == 2, "two themes"


@pytest.mark.parametrize(("width", "scale"), [(320, 1.0), (640, 2.0)])
def test_small_and_zoomed_the_tables_say_the_same(page: Page, width: int, scale: float) -> None:
    """1280 pixels at 200 % are 640; 320 is WCAG 2.2 §1.4.10. The list has every node and link of the drawing."""
    look(page, width, "light", scale)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.evaluate("[...document.querySelectorAll('section[aria-labelledby=list] tbody tr td:first-child')]"
                          ".map(one => one.textContent)")
    assert names == ["test-1"]
    box = page.evaluate("(one => [one.left, one.right])(document.querySelector('section[aria-labelledby=list] table')"
                        ".getBoundingClientRect())")
    assert box[0] >= 0 and box[1] <= width + 1
