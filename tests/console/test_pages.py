"""The pages of a real node as a browser without JavaScript reads them: rights, login, headers, hostile names."""
from __future__ import annotations

import base64
import hashlib
import html
import http.client
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from console.columns import TABLES
from console.static import ROOT as STATIC
from tests.mesh.management.test_api import CONFIG, LOGINS, PASSWORDS
from tests.support.node import HOST, Node
from tests.support.rawmqtt import open_mqtt
from tests.support.sse import CurlSse

# Every table that the console knows, so that a new one is under these checks from its first day, and what is no table.
PAGES = ("", *TABLES, "topology", "browse", "can-i", "connect", "whoami", "settings", "help", "topics?flat=1",
         "topics?under=plant", "tail", "draft", "journey", "journey?filter=%23", "nodes/test-1", "streams/events",
         "browse?filter=%23", "can-i?action=publish&topic=a", "consumers?filter=lag_events%3E1&sort=-name")
HTML = {"Accept": "text/html,application/xhtml+xml"}
ADMINISTERED = ("audit", "logins", "users", "keys", "peers", "masks", "quotas", "drafts", "revisions", "conflicts",
                "draft")
SECRET = "the payload that a viewer must not see"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("plain")).start()
    yield started
    started.kill9()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("guarded"), extra=CONFIG).start()
    assert started.post("/v1/events/orders/guest/1", SECRET.encode(), LOGINS["guest"]).status == 200
    yield started
    started.kill9()


class Browser:
    """Cookies and no redirects: one person at a node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, form: dict[str, str] | None = None,
             headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(HOST, self.node.ports["console"], timeout=60)
        sent = {**HTML, "Sec-Fetch-Site": "same-origin", **(headers or {})}
        if self.cookies:
            sent["Cookie"] = self.cookie_field()
        body = urlencode(form) if form is not None else None
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        for line in answer.headers.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
        connection.close()
        return answer.status, dict(answer.headers), text

    def cookie_field(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def login(self, name: str, to: str = "/") -> tuple[int, dict[str, str], str]:
        return self.send("POST", "/login", {"user": name, "password": PASSWORDS[name], "to": to})


def test_every_page_is_there_without_javascript_and_with_nothing_inline(plain: Node) -> None:
    browser = Browser(plain)
    for page in PAGES:
        status, headers, text = browser.send("GET", f"/{page}")
        assert status == 200, (page, text[:500])
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "base-uri 'none'" in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", text), page
        assert text.count("<h1") == 1 and "<main" in text and "lang=\"en\"" in text, page
        links = re.findall(r'(?:href|src|action)="([^"]*)"', text)
        assert all(link.startswith(("/", "#")) for link in links), page


def test_every_route_has_its_right(plain: Node, guarded: Node) -> None:
    """Without a login: the login page for people, 401 for programs and streams; nothing else is open."""
    person = Browser(guarded)
    for page in PAGES:
        status, headers, _ = person.send("GET", f"/{page}")
        assert status == 303 and headers["Location"].startswith("/login?to="), page
    assert person.send("GET", "/login")[0] == 200
    for headers in ({"HX-Request": "true"}, {"Accept": "text/event-stream"}):
        assert person.send("GET", "/api/v1/stream", headers=headers)[0] == 401


def test_what_is_not_there_is_a_page_too(plain: Node) -> None:
    browser = Browser(plain)
    for path in ("/nothing", "/consumers/none", "/static/x/../../pyproject.toml", "/nodes/%3Cscript%3E"):
        status, headers, text = browser.send("GET", path)
        assert status == 404 and "<script>" not in text and headers["Content-Type"].startswith("text/html"), path
    status, _, text = browser.send("GET", "/consumers?filter=%22")
    assert status == 400 and "has no end" in text


def test_a_login_is_kept_in_a_cookie_that_scripts_cannot_read_and_ends_at_logout(guarded: Node) -> None:
    browser = Browser(guarded)
    status, headers, _ = browser.login("admin", "/consumers?sort=-name")
    assert (status, headers["Location"]) == (303, "/consumers?sort=-name")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Lax" in headers["Set-Cookie"]
    assert browser.send("GET", "/")[0] == 200
    old = dict(browser.cookies)
    browser.login("admin")
    assert browser.cookies != old, "a new login has a new secret"
    kept, browser.cookies = browser.cookies, old
    assert browser.send("GET", "/")[0] == 303, "and the one before has ended"
    browser.cookies = dict(kept)
    assert browser.send("POST", "/logout")[0] == 303
    browser.cookies = kept
    assert browser.send("GET", "/")[0] == 303


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""])
def test_a_login_leads_to_pages_of_this_node_only(guarded: Node, to: str) -> None:
    status, headers, _ = Browser(guarded).login("viewer", to)
    assert (status, headers["Location"]) == (303, "/")


def test_a_wrong_password_is_told_without_saying_who_there_is(guarded: Node) -> None:
    texts = []
    for name in ("viewer", "nobody-of-that-name"):
        status, _, text = Browser(guarded).send("POST", "/login", {"user": name, "password": "wrong", "to": "/"})
        assert status == 401
        texts.append(re.sub(r"\s+", " ", text).replace(name, ""))
    assert texts[0] == texts[1]


def test_another_site_cannot_log_somebody_in_or_act_with_the_cookie(guarded: Node) -> None:
    """hostile.md row 83. Fetch Metadata; and a browser that says nothing cannot act by its cookie."""
    browser = Browser(guarded)
    form = {"user": "admin", "password": PASSWORDS["admin"], "to": "/"}
    assert browser.send("POST", "/login", form, {"Sec-Fetch-Site": "cross-site"})[0] == 403
    browser.login("admin")
    path = "/api/v1/consumers/none/pause"
    assert browser.send("POST", path)[0] == 404
    for site in ("cross-site", "same-site"):
        assert browser.send("POST", path, headers={"Sec-Fetch-Site": site})[0] == 403
    silent = http.client.HTTPConnection(HOST, guarded.ports["console"], timeout=60)
    silent.request("POST", path, b"", {"Cookie": browser.cookie_field()})
    assert silent.getresponse().status == 403
    silent.close()


def test_a_viewer_sees_no_payload_and_no_control_and_an_operator_has_the_controls(guarded: Node) -> None:
    with open_mqtt(guarded.mqtt, "till", username="guest", password=PASSWORDS["guest"].encode()):
        seen = {}
        for name in ("viewer", "operator"):
            browser = Browser(guarded)
            browser.login(name)
            texts = []
            for page in PAGES:
                status, _, text = browser.send("GET", f"/{page}")
                assert status == 200 or page in ADMINISTERED, (name, page)
                texts.append(text)
            seen[name] = "\n".join(texts)
        acts = set(re.findall(r'data-act="([A-Z]+ [a-z-]+)', seen["viewer"]))
        assert SECRET not in seen["viewer"] and acts == {"DELETE sessions"}, "he may end what is his own"
        assert 'data-act="POST clients/till/kick"' in seen["operator"]
        audit = Browser(guarded)
        audit.login("viewer")
        for page in ADMINISTERED:
            assert audit.send("GET", f"/{page}")[0] == 403 and f'href="/{page}"' not in seen["viewer"]


def test_a_viewer_gets_no_payload_byte_from_any_route_of_the_api(guarded: Node) -> None:
    """Every GET of the OpenAPI document, with names that there are; as text, as base64, and as CSV."""
    where = guarded.get("/api/v1/browse?filter=%23", LOGINS["admin"]).json["events"]
    secret = next(event for event in where if event["topic"] == "orders/guest/1")
    identifier = f"{secret['stream']}:{secret['partition']}:{secret['offset']}"
    document = guarded.get("/api/v1/openapi.json", LOGINS["viewer"]).json
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    assert len(paths) > 30
    answered = 0
    for path in paths:
        address = path if path.startswith("/api/v1") else f"/api/v1{path}"
        if address.endswith(("/stream", "/tail")):
            continue
        for name in ("{name}", "{id}"):
            address = address.replace(name, "guest")
        for query in (f"filter=%23&id={identifier}", "filter=&limit=1000", "filter=&format=csv", "match=payload",
                      f"origin={quote(identifier)}", f"id={identifier}"):
            answer = guarded.get(f"{address}?{query}", LOGINS["viewer"])
            answered += answer.status == 200
            for text in (SECRET.encode(), base64.b64encode(SECRET.encode())[:-4], SECRET[4:20].encode()):
                assert text not in answer.body, (address, query)
    assert answered > 60
    field = f"Authorization: {LOGINS['viewer']['Authorization']}"
    with CurlSse(guarded.url("console", "/api/v1/tail?filter=orders/%23"), "-H", field) as stream:
        guarded.post("/v1/events/orders/guest/2", SECRET.encode(), LOGINS["guest"])
        event = stream.next()
        while "orders/guest/2" not in event.data:
            event = stream.next()
        assert SECRET not in stream.text and base64.b64encode(SECRET.encode()).decode()[:-4] not in stream.text


def test_names_that_clients_choose_are_text(plain: Node) -> None:
    """hostile.md row 84."""
    name = '"><script>alert(1)</script>'
    with open_mqtt(plain.mqtt, name, clean=False) as client:
        client.subscribe(("x/<img src=x onerror=alert(1)>/#", 1))
        plain.publish(quote("x/<img src=x onerror=alert(1)>/y"), b"<script>alert(2)</script>")
        browser = Browser(plain)
        for page in ("clients", "consumers", f"consumers/{quote('mqtt/' + name, safe='')}", "browse?filter=x/%23",
                     "can-i?action=publish&user=" + quote(name), "connect?topic=" + quote(name)):
            status, _, text = browser.send("GET", f"/{page}")
            assert status == 200 and "<script>alert" not in text and "<img" not in text, page
            assert "&lt;" in text, page


def test_lines_of_the_page_connect_run_as_they_stand(tmp_path: Path) -> None:
    node = Node(tmp_path, listeners=("mqtt", "amqp", "kafka", "http", "console")).start()
    try:
        _, _, text = Browser(node).send("GET", "/connect?topic=plant/v1.2/lamp")
        blocks = [html.unescape(block) for block in re.findall(r"<code>(.*?)</code>", text, re.DOTALL)]
        programs = [block for block in blocks if block.startswith("import ")]
        for program in programs:
            subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        stored = node.get("/api/v1/browse?filter=plant/v1.2/lamp").json["events"]
        assert len(programs) == len(stored) == 2
        assert f"kcat -L -b {HOST}:{node.ports['kafka']} " in "".join(blocks)
    finally:
        node.kill9()


def test_the_time_zone_is_kept_and_a_wrong_one_is_utc(plain: Node) -> None:
    browser = Browser(plain)
    for zone, shown in (("Europe/Vienna", "Europe/Vienna"), ("../../etc/passwd", "../../etc/passwd")):
        assert browser.send("POST", "/settings", {"zone": zone})[0] == 303
        status, _, text = browser.send("GET", "/denials")
        assert status == 200 and shown in text


def test_static_files_have_their_hash_in_the_address_and_stay_small(plain: Node) -> None:
    browser = Browser(plain)
    _, _, text = browser.send("GET", "/")
    for name in ("console.js", "console.css", "icon.svg"):
        path = re.search(rf'"(/static/[0-9a-f]+/{name})"', text)
        assert path is not None
        status, headers, _ = browser.send("GET", path[1])
        assert status == 200 and "immutable" in headers["Cache-Control"]
    assert len((STATIC / "console.js").read_bytes()) <= 15_000 and len((STATIC / "console.css").read_bytes()) <= 20_480


def test_what_is_vendored_is_what_its_list_says() -> None:
    listed = tomllib.loads((STATIC / "vendor.toml").read_text())["file"]
    for entry in listed:
        assert hashlib.sha256((STATIC / entry["path"]).read_bytes()).hexdigest() == entry["sha256"], entry["path"]
        assert (STATIC / entry["licence_file"]).is_file()
    names = {Path(entry[key]).name for entry in listed for key in ("path", "licence_file")}
    assert {file.name for file in (STATIC / "vendor").iterdir()} == names


def luminance(colour: str) -> float:
    parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_both_themes_have_enough_contrast() -> None:
    """WCAG 2.2 §1.4.3 and §1.4.11: 4.5:1 for text, 3:1 for graphics, on both grounds."""
    text = (STATIC / "console.css").read_text()
    found = dict(re.findall(r"--([a-z]+): light-dark\((#[0-9a-f]{6}, #[0-9a-f]{6})\)", text))
    themes = [{name: pair.split(", ")[theme] for name, pair in found.items()} for theme in (0, 1)]
    for theme in themes:
        for ground in ("ground", "raised"):
            for name in ("text", "quiet", "link", "well", "warning", "broken", "paused", "mark", "edge"):
                light, dark = sorted((luminance(theme[name]), luminance(theme[ground])), reverse=True)
                needed = 3.0 if name in ("edge", "mark") else 4.5
                assert (light + 0.05) / (dark + 0.05) >= needed, (name, ground, theme[name])
