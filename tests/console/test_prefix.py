"""The console behind a reverse proxy under a prefix ([console] base_path): every page and link of it is under it.

The proxy is a real one: it forwards what is under the prefix, with it or without, and answers 404 to everything else.
"""
from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from tests.console.test_pages import HTML, PAGES
from tests.mesh.management.test_admin import durable_session
from tests.mesh.management.test_api import CONFIG, PASSWORDS
from tests.support.node import HOST, Node
from tests.support.node import http as ask

BASE = "/mesh/graz"
SETTING = f'\n[console]\nbase_path = "{BASE}"\n'


class Prefix(BaseHTTPRequestHandler):
    """nginx's `location /mesh/graz/ { proxy_pass … }`, with the prefix or, when it strips, without."""

    protocol_version = "HTTP/1.1"
    node: ClassVar[Node]
    strips: ClassVar[bool]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if not self.path.startswith(f"{BASE}/"):
            self.send_error(404, "outside of the prefix")
            return
        path = self.path.removeprefix(BASE) if self.strips else self.path
        there = http.client.HTTPConnection(HOST, self.node.ports["console"], timeout=30)
        there.request(self.command, path, body, dict(self.headers))
        answer = there.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        there.close()

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("prefix"), extra=SETTING).start()
    durable_session(started, "behind", "plant/#")
    started.publish("plant/graz/lamp", b"on")
    yield started
    started.kill9()


@pytest.fixture(params=["whole", "stripped"])
def proxy(node: Node, request: pytest.FixtureRequest) -> Iterator[int]:
    with serving(node, strips=request.param == "stripped") as port:
        yield port


class serving:
    """A proxy before a node; its port."""

    def __init__(self, node: Node, *, strips: bool) -> None:
        handler = type("Handler", (Prefix,), {"node": node, "strips": strips})
        self._server = ThreadingHTTPServer((HOST, 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_address[1]

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def get(port: int, path: str, headers: dict[str, str] = HTML) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_every_page_and_every_link_of_it_is_there_under_the_prefix(proxy: int) -> None:
    """A crawl: from the overview on, whatever a page names, to the end."""
    todo, seen = [f"{BASE}/", *(f"{BASE}/{page}" for page in PAGES)], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = get(proxy, path)
        text = answer.read().decode(errors="replace")
        assert answer.status == 200, (path, answer.status)
        if "text/html" not in answer.headers["Content-Type"]:
            continue
        named = re.findall(r'(?:href|src|action|hx-get)="([^"#]*)["#]', text)
        assert len(named) > 20, path
        for link in map(unescape, named):
            assert link == "" or link.startswith(f"{BASE}/"), (path, link)
            query = urlsplit(link).query
            if link and "logout" not in link and len(seen) < 300 and "after=" not in query:
                todo.append(link)
    assert len(seen) > 60


def test_scripts_ask_under_the_prefix_and_the_open_api_document_says_so(proxy: int) -> None:
    text = get(proxy, f"{BASE}/").read().decode()
    assert f'data-base="{BASE}"' in text
    assert get(proxy, f"{BASE}/api/v1/status").status == 200
    assert f'{BASE}/api/v1' in get(proxy, f"{BASE}/api/v1/openapi.json").read().decode()


def test_programs_on_the_machine_need_no_prefix_and_it_alone_leads_to_the_overview(node: Node) -> None:
    for path in ("/healthz", "/api/v1/status", f"{BASE}/healthz", f"{BASE}/metrics", f"{BASE}/api/v1/status"):
        assert ask("GET", node.url("console", path)).status == 200, path
    answer = get(node.ports["console"], BASE)
    assert (answer.status, answer.headers["Location"]) == (303, f"{BASE}/")


@pytest.mark.parametrize("strips", [False, True])
def test_a_login_leads_back_to_the_page_under_the_prefix(tmp_path_factory: pytest.TempPathFactory, strips: bool,
                                                         guarded: Node) -> None:
    with serving(guarded, strips=strips) as port:
        answer = get(port, f"{BASE}/consumers?sort=-name")
        assert answer.status == 303
        assert answer.headers["Location"] == f"{BASE}/login?to={BASE}/consumers%3Fsort%3D-name"
        for to, target in ((f"{BASE}/consumers?sort=-name", f"{BASE}/consumers?sort=-name"), ("/elsewhere", f"{BASE}/"),
                           (f"{BASE}//evil.example", f"{BASE}/"), (f"{BASE}x/", f"{BASE}/")):
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            connection.request("POST", f"{BASE}/login", f"user=viewer&password={PASSWORDS['viewer']}&to={to}", {
                "Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Location"]) == (303, target), to
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("meshgate-session-mesh-graz="), "two nodes behind one proxy keep their logins apart"
        assert get(port, f"{BASE}/", {**HTML, "Cookie": cookie.partition(";")[0]}).status == 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("guarded-prefix"), extra=CONFIG + SETTING).start()
    yield started
    started.kill9()
