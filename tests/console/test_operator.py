"""What the console says while things break and mend, on three real nodes: cut, held, catching up; and ten open tabs."""
from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.test_pages import Browser
from tests.mesh.management.test_admin import durable_session
from tests.support.chromium import Chromium
from tests.support.node import Node
from tests.support.node import http as ask
from tests.support.threenodes import ThreeNodes
from tests.support.wait import wait_until

SEEN_MAX_S = 2.0
BLOCKED_AFTER_S = 3.0           # [link] blocked_after_s
REFRESH_S = 2.0                 # of a page, console.js
LINE_BYTES_S = 100_000          # what the link of graz may send
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    made = ThreeNodes(tmp_path_factory.mktemp("mesh"), rate_bytes=LINE_BYTES_S)
    yield made
    made.stop()


def link_to_graz(mesh: ThreeNodes) -> dict[str, Any]:
    links = mesh.cloud.get("/api/v1/links?filter=node=plant-graz").json["links"]
    return links[0] if links else {"state": "down", "backlog": {}}


@pytest.mark.measured
def test_a_cut_link_is_told_with_whom_it_cuts_off_and_since_when(mesh: ThreeNodes) -> None:
    browser = Browser(mesh.cloud)
    assert "All is well" in browser.send("GET", "/")[2]
    try:
        mesh.cut()
        began_s = time.monotonic()
        wait_until(lambda: link_to_graz(mesh)["state"] != "up", "the node has noticed")
        text = wait_until(lambda: (found := browser.send("GET", "/")[2]) and "plant-graz" in found
                          and ("is down" in found or "cannot be reached" in found) and found, "the page says so")
        assert time.monotonic() - began_s <= SEEN_MAX_S
        assert "state broken" in text or "state warning" in text
        time.sleep(1.2)
        assert "for 1 s" in (text := browser.send("GET", "/")[2]) or "for 2 s" in text or "for 3 s" in text, text
    finally:
        mesh.mend()
    mesh.wait_whole()
    wait_until(lambda: "All is well" in browser.send("GET", "/")[2], "it is well again")


@pytest.mark.measured
def test_a_link_that_is_held_is_blocked_with_growing_seconds_and_never_looks_up(mesh: ThreeNodes) -> None:
    """console.md §6: within two refreshes after the time that the configuration gives it."""
    browser = Browser(mesh.cloud)
    url = mesh.cloud.url("http", "/v1/events/plant/graz/order")
    try:
        mesh.hold()
        began_s = time.monotonic()
        while time.monotonic() - began_s < BLOCKED_AFTER_S + 2 * REFRESH_S:
            ask("POST", url, b"x", JSON)
            if link_to_graz(mesh)["state"] == "blocked":
                break
            time.sleep(0.1)
        assert link_to_graz(mesh)["state"] == "blocked"
        assert "is blocked" in browser.send("GET", "/")[2]
        seconds = []
        for _ in range(3):
            row = link_to_graz(mesh)
            assert row["state"] in ("blocked", "down")
            seconds.append(time.time() - row["state_since_ms"] / 1000)
            time.sleep(0.6)
        assert seconds == sorted(seconds) and seconds[-1] > seconds[0] + 0.5
    finally:
        mesh.mend()
    mesh.wait_whole()


@pytest.mark.measured
def test_a_reader_that_catches_up_does_so_when_the_forecast_says(mesh: ThreeNodes) -> None:
    """Within a factor of two. 100 events a second are read and acked; the forecast is asked for half way."""
    node, name, count, rate = mesh.cloud, f"catching-up-{time.time_ns()}", 1_500, 100
    url = node.url("http", f"/v1/consumers/{name}")
    assert ask("PUT", url, json.dumps({"filters": ["forecast/#"]}).encode(), JSON).status in (200, 201)
    batch = (json.dumps({"topic": "forecast/a", "payload": "x"}) + "\n").encode() * 500
    for _ in range(count // 500):
        answer = ask("POST", node.url("http", "/v1/events"), batch, {"Content-Type": "application/x-ndjson"})
        assert answer.status == 200, answer.text

    def row() -> Any:
        return node.get(f"/api/v1/consumers?id={name}").json["consumers"][0]

    assert row()["lag_events"] == count
    forecasts: list[tuple[float, float]] = []       # (when it was said, in how many seconds)
    done_s, said = 0.0, []
    began_s = time.monotonic()
    for step in range(count // rate * 10 + 200):
        time.sleep(max(began_s + step / 10 - time.monotonic(), 0))
        events = ask("POST", url + "/pull", json.dumps({"max": rate // 10}).encode(), JSON).json["events"]
        if events:
            ask("POST", url + "/ack", json.dumps({"tokens": [one["token"] for one in events]}).encode(), JSON)
        elif not row()["lag_events"]:
            done_s = time.monotonic()
            break
        if step % 10 == 0:
            now = row()
            said.append((round(time.monotonic() - began_s, 1), now["lag_events"], now["trend"], now["forecast"]))
            if now["trend"] == "shrinking":
                forecasts.append((time.monotonic(), now["forecast_in_s"]))
                assert now["forecast"].startswith("catches up in ")
    assert done_s and len(forecasts) >= 3, (forecasts, said)
    said_s, in_s = forecasts[len(forecasts) // 2]
    assert 0.5 <= in_s / (done_s - said_s) <= 2.0, (in_s, done_s - said_s)
    assert row()["forecast"] is None and row()["lag_seconds"] == 0


@pytest.mark.measured
def test_a_link_that_was_cut_catches_up_when_the_forecast_says(mesh: ThreeNodes) -> None:
    """Within a factor of two. A megabyte waits behind a line of 100 KB a second; the forecast is asked for half way."""
    plant, count, size, topic = mesh.graz, 4_000, 500, f"backlog/{time.time_ns()}"
    durable_session(mesh.cloud, "wants-backlog", "backlog/#")
    wait_until(lambda: plant.get(f"/api/v1/interest?topic={topic}").json["nodes"], "the plant knows who wants it")

    def row() -> Any:
        return plant.get("/api/v1/links").json["links"][0]

    wait_until(lambda: (row()["lag_events"], row()["lag_state"]) == (0, "exact"), "nothing waits yet")
    try:
        mesh.cut()
        for _ in range(4):
            lines = [json.dumps({"topic": topic, "payload": secrets.token_hex(size // 2)})
                     for _ in range(count // 4)]
            answer = ask("POST", plant.url("http", "/v1/events"), "\n".join(lines).encode(),
                         {"Content-Type": "application/x-ndjson"})
            assert answer.status == 200, answer.text
        wait_until(lambda: (row()["state"], row()["lag_events"], row()["lag_state"]) == ("down", count, "exact"),
                   "all of it waits", also=lambda: str(row()))
    finally:
        mesh.mend()
    forecasts: list[tuple[float, float]] = []       # (when it was said, in how many seconds)
    said, page = [], ""
    end_s = time.monotonic() + 60
    while (now := row())["lag_events"] or now["lag_state"] != "exact":
        assert time.monotonic() < end_s, said
        said.append((now["state"], now["lag_events"], now["trend"], now["forecast"]))
        if now["trend"] == "shrinking":
            forecasts.append((time.monotonic(), now["forecast_in_s"]))
            assert now["forecast"].startswith("catches up in ")
            if len(forecasts) == 2:
                page = Browser(plant).send("GET", "/")[2]
        time.sleep(0.5)
    done_s = time.monotonic()
    assert len(forecasts) >= 2, said
    said_s, in_s = forecasts[len(forecasts) // 2]
    assert 0.5 <= in_s / (done_s - said_s) <= 2.0, (in_s, done_s - said_s, said)
    assert "catches up in " in page and " events wait, the first for " in page
    assert row()["forecast"] is None and row()["lag_seconds"] == 0
    mesh.wait_whole()


def test_with_ten_tabs_the_one_that_is_looked_at_is_live_and_quick(mesh: ThreeNodes, tmp_path_factory: Any) -> None:
    """HTTP/1.1 gives a browser six connections to a node: tabs that nobody sees leave theirs."""
    hide = ("Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); "
            "document.dispatchEvent(new Event('visibilitychange')); true")
    live = "document.getElementById('freshness').textContent === '● live'"
    with Chromium(tmp_path_factory.mktemp("tabs")) as browser:
        tabs = []
        for number in range(10):
            tab = browser.open(mesh.cloud.url("console", "/links" if number % 2 else "/consumers"))
            tab.wait(live)
            tab.evaluate(hide % "true")
            tabs.append(tab)
        wait_until(lambda: viewers(mesh.cloud) == 0, "nobody looks")
        for tab in (tabs[0], tabs[9], tabs[3]):
            tab.evaluate(hide % "false")
            tab.wait(live)
            began_s = time.monotonic()
            assert tab.evaluate("fetch('/api/v1/status').then(answer => answer.status)") == 200
            assert time.monotonic() - began_s < 2
            assert viewers(mesh.cloud) == 1
            tab.evaluate(hide % "true")
            wait_until(lambda: viewers(mesh.cloud) == 0, "it left its stream")


def viewers(node: Node) -> float:
    return node.metrics()["meshgate_console_viewers"]
