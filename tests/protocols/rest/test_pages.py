"""Web pages from elsewhere are refused: they could otherwise publish and read on the visitor's own machine."""
import pytest

from protocols.web.origin import names_this_machine
from tests.protocols.rest.stand import problem_of, stand, status_of


def request(method, host, extra=""):
    return (f"{method} /v1/events/a HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Length: 2\r\nConnection: close\r\n\r\nhi"
            ).encode()


@pytest.mark.parametrize(("host", "extra", "kind"), [
    ("localhost", "Origin: https://evil.example\r\n", "foreign-origin"),
    ("localhost", "Origin: null\r\n", "foreign-origin"),
    ("localhost:1", "Origin: http://localhost:2\r\n", "foreign-origin"),
    ("evil.example", "Origin: http://evil.example\r\n", "foreign-host"),        # DNS rebinding
    ("evil.example", "", "foreign-host"),
])
async def test_a_page_from_elsewhere_is_refused(tmp_path, host, extra, kind):
    async with stand(tmp_path) as it:
        answer = await it.raw(request("POST", host, extra))
        assert status_of(answer) == 403
        assert kind in problem_of(answer)["type"]
        assert it.router.streams.by_name["events"].partitions[0].next_offset == 0


@pytest.mark.parametrize(("host", "extra"), [
    ("localhost", ""), ("127.0.0.1:8080", ""), ("[::1]:8080", ""), ("localhost:80", "Origin: http://localhost\r\n"),
])
async def test_requests_of_this_machine_are_served(tmp_path, host, extra):
    async with stand(tmp_path) as it:
        assert status_of(await it.raw(request("POST", host, extra))) == 200


@pytest.mark.parametrize(("host", "expected"), [
    ("localhost", True), ("LOCALHOST:8080", True), ("app.localhost", True), ("127.9.9.9", True), ("[::1]", True),
    ("localhost.evil.example", False), ("127.0.0.1.evil.example", False), ("10.0.0.1", False), ("", False),
    ("[", False), ("2130706433", False),
])
def test_what_names_this_machine(host, expected):
    assert names_this_machine(host) is expected
