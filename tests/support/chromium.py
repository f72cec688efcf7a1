"""Headless Chromium by its DevTools protocol: open a page, ask it things. Needs the program and nothing else.

    with Chromium(folder) as browser:
        page = browser.open("http://127.0.0.1:8080/v1/ws/example")
        page.wait("document.title === 'Meshgate live'")
"""
from __future__ import annotations

import itertools
import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.process import ServerProcess
from tests.support.wait import DEADLINE_S, wait_until


def find_chromium() -> str:
    """The program. Skips the test when it is missing, unless MESHGATE_REQUIRE_PEERS says that this is a failure."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    if os.environ.get("MESHGATE_REQUIRE_PEERS"):
        pytest.fail("chromium is not installed, see `make peers`")
    pytest.skip("chromium is not installed, see `make peers`")


class Navigated(Exception):
    """The page went away while it was asked; the next one may be asked again."""


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = self.send("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def send(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command of the DevTools protocol; returns its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params or {}}))
        while True:
            message = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message.get("id") == number:
                error = message.get("error")
                if error is not None and "navigated" in error["message"]:
                    raise Navigated
                assert error is None, error
                return dict(message["result"])

    def wait(self, expression: str, *, deadline_s: float = DEADLINE_S) -> None:
        def holds() -> Any:
            try:
                return self.evaluate(expression)
            except Navigated:
                return None

        wait_until(holds, expression, deadline_s=deadline_s,
                   also=lambda: str(self.evaluate("document.body ? document.body.innerText : ''"))[:2000])

    def close(self) -> None:
        self._socket.close()


class Chromium:
    """A browser with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        self._profile = folder / "profile"
        self._process = ServerProcess(
            [find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={self._profile}",
             "about:blank"], folder / "chromium.log", folder)
        self._pages: list[Page] = []

    def __enter__(self) -> Chromium:
        self._process.start()
        port_file = self._profile / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and len(port_file.read_text().splitlines()) == 2, "chromium listens",
                   also=self._process.log_tail)
        self._port = int(port_file.read_text().splitlines()[0])
        return self

    def __exit__(self, *error: object) -> None:
        for page in self._pages:
            page.close()
        self._process.kill9()

    def open(self, url: str) -> Page:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/json/new?{quote(url, safe='')}", method="PUT")
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            target = json.load(answer)
        page = Page(connect(target["webSocketDebuggerUrl"], max_size=None))
        self._pages.append(page)
        page.wait("location.href !== 'about:blank' && document.readyState === 'complete'")
        return page
