"""The example page in a real browser: it publishes, shows live events, and goes on after the node was killed."""
from __future__ import annotations

from pathlib import Path

from tests.support.chromium import Chromium
from tests.support.node import Node, stop_all

ROWS = "[...document.querySelectorAll('#events li:not(.note)')].map(row => row.textContent.slice(13))"


def rows(page) -> list[str]:
    """Newest first, without the time."""
    return page.evaluate(ROWS)


def test_the_example_page_publishes_and_shows_live_events_over_a_restart(node: Node, tmp_path: Path) -> None:
    with Chromium(tmp_path) as browser:
        page = browser.open(node.url("http", "/v1/ws/example?filter=plant/%23"))
        page.wait("document.getElementById('status').className === 'open'")
        node.publish("plant/graz/lamp", b"from outside")
        page.wait("document.querySelectorAll('#events li').length === 1")
        page.evaluate("at('payload').value = '<b>from the page</b>'; at('publish').requestSubmit()")
        page.wait("at('answer').textContent.startsWith('stored as events:0:')")
        page.wait("document.querySelectorAll('#events li').length === 2")
        assert rows(page) == ["plant/graz/lamp <b>from the page</b>", "plant/graz/lamp from outside"]
        assert page.evaluate("document.querySelectorAll('#events b').length") == 0, "payloads are text, never HTML"

        node.kill9()
        page.wait("document.getElementById('status').className === 'closed'")
        page.evaluate("at('payload').value = 'while it was away'; at('publish').requestSubmit()")
        node.restart()
        node.publish("plant/graz/lamp", b"before the page is back")
        page.wait("document.querySelectorAll('#events li').length === 4")
        found = sorted(row.removeprefix("plant/graz/lamp ") for row in rows(page)[:2])
        assert found == ["before the page is back", "while it was away"]
        assert page.evaluate("document.querySelectorAll('#events li.note').length") == 0


def test_a_page_from_elsewhere_is_not_let_in_unless_the_configuration_says_so(node: Node, tmp_path: Path) -> None:
    other = Node(tmp_path / "other", name="other-1").start()
    try:
        target = f"ws://127.0.0.1:{node.ports['http']}/v1/ws"
        with Chromium(tmp_path) as browser:
            page = browser.open(other.url("http", f"/v1/ws/example?url={target}"))
            page.wait("document.getElementById('status').textContent === 'not connected'")
            node.write_config(f'[websocket]\nallowed_origins = ["http://127.0.0.1:{other.ports["http"]}"]')
            node.restart()
            page.wait("document.getElementById('status').className === 'open'")
    finally:
        stop_all([other])
