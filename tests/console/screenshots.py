"""The pictures of the documentation, made anew: `make screenshots`. Four nodes, traffic, a reader behind, a link down.

    python -m tests.console.screenshots docs/images
"""
from __future__ import annotations

import base64
import json
import sys
import tempfile
import time
from pathlib import Path

from console.topology import draw
from tests.console.test_topology import mesh
from tests.support.chromium import Chromium, Page
from tests.support.node import HOST, Node
from tests.support.rawmqtt import SESSION_EXPIRY, open_mqtt
from tests.support.wait import wait_until

MESHES = ((1, 1), (3, 3), (12, 4), (40, 6), (100, 9))       # nodes, sites: simulated, fed to the same drawing
LISTENERS = ("mqtt", "http", "console", "link")
PICTURES = (                                    # file, page, colour scheme
    ("console-overview", "/", "light"),
    ("console-topology", "/topology", "dark"),
    ("console-consumers", "/consumers?sort=-lag_events", "light"),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        nodes = start(Path(place))
        try:
            traffic(nodes)
            with Chromium(Path(place)) as browser:
                page = browser.open(nodes[0].url("console", "/"))
                for name, path, scheme in PICTURES:
                    picture(page, nodes[0].url("console", path), scheme, folder / f"{name}.png")
                for count, sites in MESHES:
                    simulated(page, nodes[0].url("console", "/topology"), count, sites, folder)
        finally:
            for node in nodes:
                node.kill9()


def start(place: Path) -> list[Node]:
    wanted = '[[replicate]]\nfilter = "plant/#"'
    cloud = Node(place / "cloud", name="cloud-eu", site="aws-eu", listeners=LISTENERS, extra=wanted)
    found = [cloud]
    for name in ("plant-graz", "plant-linz", "plant-lyon"):
        link = f'[[links]]\nto = "ws://{HOST}:{cloud.ports["link"]}"'
        site = name.replace("plant-", "works-")
        found.append(Node(place / name, name=name, site=site, listeners=LISTENERS, extra=link))
    for node in found:
        node.start()
    wait_until(lambda: len(found[0].get("/api/v1/nodes?filter=hops>=0").json["nodes"]) == 4, "the nodes have met")
    return found


def traffic(nodes: list[Node]) -> None:
    """A minute's worth of figures: readers that keep up, one that is away, and then a plant that is gone."""
    cloud, graz, _, lyon = nodes
    with open_mqtt(cloud.mqtt, "archive", clean=False, values=[(SESSION_EXPIRY, 3_600)]) as client:
        client.subscribe(("plant/#", 1))
    until = time.monotonic() + 12
    with open_mqtt(cloud.mqtt, "wall-display") as display:
        display.subscribe(("plant/#", 0))
        while time.monotonic() < until:
            for number in range(20):
                graz.publish(f"plant/graz/press-{number % 3}/temperature", b'{"celsius": 71.4}')
            time.sleep(0.2)
    lyon.kill9()
    wait_until(lambda: cloud.get("/api/v1/links?filter=state=down").json["matched"] or
               not cloud.get("/api/v1/nodes?filter=name=plant-lyon+hops>=0").json["matched"], "lyon is gone")


def picture(page: Page, url: str, scheme: str, file: Path) -> None:
    page.send("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.send("Emulation.setDeviceMetricsOverride", {
        "width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False})
    page.evaluate(f"location.href = {url!r}; true")
    page.wait("document.readyState === 'complete'")
    page.wait("document.getElementById('freshness')?.textContent === '● live'")
    time.sleep(2.5)
    file.write_bytes(base64.b64decode(page.send("Page.captureScreenshot", {"format": "png"})["data"]))
    print(file)


def simulated(page: Page, url: str, count: int, sites: int, folder: Path) -> None:
    """The drawing of so many nodes on the real page, cut to the drawing; large ones in the dark theme."""
    rows, links = mesh(count, sites)
    drawn = str(draw(rows, links, "a-rather-long-name-000"))
    page.send("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": "dark" if count > 12 else "light"}]})
    page.evaluate(f"location.href = '{url}?nodes={count}'; true")
    page.wait(f"location.search === '?nodes={count}' && document.readyState === 'complete'")
    page.evaluate("document.getElementById('pause').click(); true")
    page.evaluate("document.body.classList.remove('stale'); document.querySelector('svg.topology').replaceWith("
                  f"new DOMParser().parseFromString({json.dumps(drawn)}, 'text/html').querySelector('svg')); true")
    box = page.evaluate("(one => ({x: one.x, y: one.y, width: one.width, height: one.height, scale: 1}))("
                        "document.querySelector('svg.topology').closest('.scroll').getBoundingClientRect())")
    raw = page.send("Page.captureScreenshot", {"format": "png", "clip": box, "captureBeyondViewport": True})["data"]
    file = folder / f"topology-{count}.png"
    file.write_bytes(base64.b64decode(raw))
    print(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
