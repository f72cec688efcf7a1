"""The console in a real Chromium: its CSP, WCAG, live figures, acts with preview, the end of a session."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.console.test_pages import PAGES
from tests.mesh.management.test_admin import durable_session
from tests.mesh.management.test_api import CONFIG, PASSWORDS
from tests.mesh.management.test_deadletters import buried
from tests.support.chromium import Chromium, Page
from tests.support.node import ROOT, Node
from tests.support.wait import wait_until

AXE = ROOT / ".peers" / "node" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("plain")).start()
    durable_session(started, "behind", "plant/#")
    for number in range(3):
        started.publish("plant/graz/lamp", str(number).encode())
    yield started
    started.kill9()


def go(page: Page, url: str) -> None:
    page.evaluate(f"location.href = {json.dumps(url)}; true")
    page.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")


def test_every_page_keeps_wcag_and_its_own_policy_in_both_themes_and_on_a_small_screen(
        node: Node, browser: Chromium) -> None:
    """axe-core, all rules of WCAG 2.2 A and AA; no violation of the CSP, no error of a script; and §1.4.10: at 320
    pixels nothing but tables and drawings scrolls sideways. One load of each page.
    """
    require_peer(AXE.is_file(), "axe-core")
    axe = AXE.read_text()
    page = browser.open(node.url("console", "/"))
    page.send("Page.enable")
    page.send("Page.addScriptToEvaluateOnNewDocument", {"source": (
        "window.violations = []; addEventListener('securitypolicyviolation', "
        "event => violations.push(event.violatedDirective + ' ' + event.blockedURI)); "
        "addEventListener('error', event => violations.push('error ' + event.message));")})
    for path in PAGES:
        look(page, 1280, "light")
        go(page, node.url("console", f"/{path}"))
        page.wait("document.querySelectorAll('button.act[hidden]').length === 0")
        page.evaluate(axe + "; true")
        grounds = set()
        for scheme in ("light", "dark"):
            look(page, 1280, scheme)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            found = page.evaluate(
                f"axe.run({{runOnly: {json.dumps(RULES)}}}).then(found => found.violations.map("
                "one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 300), one.nodes[0].failureSummary]))")
            assert found == [], (scheme, path, found)
        assert len(grounds) == 2, "the style sheet is in force, and knows two themes"
        look(page, 320, "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        assert page.evaluate("violations") == [], path


def look(page: Page, width: int, scheme: str) -> None:
    page.send("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]})
    page.send("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 720, "deviceScaleFactor": 1, "mobile": False})


def test_figures_are_live_and_an_act_shows_what_it_touches_before_it_is_done(node: Node, browser: Chromium) -> None:
    page = browser.open(node.url("console", "/consumers"))
    page.wait("document.getElementById('freshness').textContent === '● live'")
    row = "document.getElementById('row-mqtt%2Fbehind')"
    lag = f"{row}.querySelector('td.lag').textContent.trim()"
    page.wait(f"{lag} === '3'")
    node.publish("plant/graz/lamp", b"one more")
    page.wait(f"{lag} === '4'")
    page.evaluate(f"[...{row}.querySelectorAll('button.act')].find(one => one.textContent === 'Pause').click()")
    page.wait("document.getElementById('act-preview').innerText.includes('lag events')")
    assert [one["name"] for one in node.get("/api/v1/consumers?filter=paused=true").json["consumers"]] == []
    page.evaluate("document.getElementById('act-reason').value = 'service'; document.getElementById('act-do').click()")
    page.wait(f"{row}.querySelector('.state').textContent === 'paused'")
    record = node.get("/api/v1/audit").json["audit"][0]
    assert (record["act"], record["target"], record["reason"]) == ("consumer.pause", "mqtt/behind", "service")


def test_what_loses_data_wants_the_name_typed_and_a_reason(node: Node, browser: Chromium) -> None:
    page = browser.open(node.url("console", "/consumers"))
    row = "document.getElementById('row-mqtt%2Fbehind')"
    page.wait(f"{row}.querySelector('button.act[data-danger]:not([hidden])') !== null")
    page.evaluate(f"[...{row}.querySelectorAll('button.act')].find(one => one.textContent === 'Delete').click()")
    page.wait("document.getElementById('act-preview').innerText.includes('members')")
    page.evaluate("document.getElementById('act-do').click()")
    page.wait("document.getElementById('act-problem').textContent.includes('type the name')")
    assert "mqtt/behind" in node.get("/api/v1/consumers").text
    page.evaluate("document.getElementById('act').close(); true")


def test_a_dead_letter_is_redriven_from_its_page_and_a_tail_follows_what_is_stored(
        node: Node, browser: Chromium) -> None:
    buried(node, "given-up", [b"<b>first</b>", b"second"])
    page = browser.open(node.url("console", "/deadletters"))
    page.wait("[...document.querySelectorAll('td.key a')].some(one => one.textContent === 'given-up')")
    go(page, node.url("console", "/deadletters/given-up"))
    page.wait("document.querySelectorAll('article.event').length === 2")
    assert page.evaluate("document.querySelector('article.event pre').textContent") == "<b>first</b>"
    page.evaluate("[...document.querySelectorAll('article.event:first-of-type button.act')]"
                  ".find(one => one.textContent === 'Redrive').click()")
    page.wait("document.getElementById('act-preview').innerText.includes('redriven')")
    page.evaluate("document.getElementById('act-reason').value = 'mended'; document.getElementById('act-do').click()")
    page.wait("document.querySelectorAll('article.event').length === 1")
    page.evaluate("[...document.querySelectorAll('article.event button.act')]"
                  ".find(one => one.textContent === 'Move').click()")
    page.wait("document.getElementById('act').open && !document.getElementById('act-asked').hidden")
    page.evaluate("document.getElementById('act-do').click()")
    page.wait("document.getElementById('act-problem').textContent === 'Say where to.'")
    page.evaluate("document.getElementById('act-to').value = 'moved/here'; "
                  "document.getElementById('act-to').dispatchEvent(new Event('change')); true")
    page.wait("document.getElementById('act-preview').innerText.includes('moved/here')")
    page.evaluate("document.getElementById('act-do').click()")
    page.wait("document.querySelectorAll('article.event').length === 0")
    wait_until(lambda: [one["payload"] for one in node.get("/api/v1/browse?filter=moved/%23").json["events"]]
               == ["second"], "it is where it was moved to")
    go(page, node.url("console", "/tail?filter=tailed/%23&match=script"))
    page.wait("document.getElementById('tail-state').textContent.includes('following')")
    node.publish("tailed/1", b"something else")
    node.publish("tailed/1", b"<script>alert(1)</script>")
    page.wait("document.getElementById('tail').innerText.includes('<script>alert(1)</script>')")
    assert page.evaluate("document.getElementById('tail').rows.length") == 1
    go(page, node.url("console", "/topics?under=tailed"))
    page.wait("document.querySelector('tbody').innerText.includes('2')")


def test_a_session_that_ends_shows_a_banner_and_leads_back_to_the_same_page(
        browser: Chromium, tmp_path: Path) -> None:
    node = Node(tmp_path / "guarded", extra=CONFIG).start()
    try:
        page = browser.open(node.url("console", "/consumers?sort=-name"))
        page.wait("location.pathname === '/login'")
        fill = "document.getElementById('user').value = 'viewer'; document.getElementById('password').value = "
        submit = "; document.querySelector('form.login').requestSubmit()"
        page.evaluate(fill + json.dumps(PASSWORDS["viewer"]) + submit)
        page.wait("location.pathname === '/consumers' && location.search === '?sort=-name'")
        page.wait("document.getElementById('freshness').textContent === '● live'")
        node.kill9()                            # sessions live in memory
        page.wait("document.body.classList.contains('stale')")
        node.restart()
        page.wait("!document.getElementById('banner').hidden")
        page.evaluate("document.querySelector('#banner a').click(); true")
        page.wait("location.pathname === '/login'")
        page.evaluate(fill + json.dumps(PASSWORDS["viewer"]) + submit)
        page.wait("location.pathname === '/consumers' && location.search === '?sort=-name'")
    finally:
        node.kill9()


def test_a_hidden_tab_closes_its_stream_and_comes_back_right(node: Node, browser: Chromium) -> None:
    def viewers() -> float:
        return node.metrics()["meshgate_console_viewers"]

    page = browser.open(node.url("console", "/consumers"))
    page.wait("document.getElementById('freshness').textContent === '● live'")
    before = viewers()
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true}); "
                  "document.dispatchEvent(new Event('visibilitychange')); true")
    wait_until(lambda: viewers() == before - 1, "its stream is closed")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true}); "
                  "document.dispatchEvent(new Event('visibilitychange')); true")
    wait_until(lambda: viewers() == before, "and open again")
