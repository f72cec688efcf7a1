"""The opening handshake and the origin check."""
from __future__ import annotations

import pytest
from multidict import CIMultiDict

from protocols.web.origin import origin_allowed
from protocols.websocket.handshake import HandshakeRefused, check_handshake

GOOD = {
    "Host": "server.example", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "mqttv3.1, mqtt",
}


def test_the_example_of_the_rfc():
    """RFC 6455 §1.3."""
    headers = check_handshake(CIMultiDict(GOOD), "mqtt", ())
    assert headers["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert headers["Sec-WebSocket-Protocol"] == "mqtt"
    assert "Sec-WebSocket-Extensions" not in headers


@pytest.mark.parametrize("name, value, status", [
    ("Upgrade", "h2c", 426), ("Upgrade", None, 426), ("Connection", "close", 426), ("Sec-WebSocket-Version", "8", 426),
    ("Sec-WebSocket-Version", None, 426), ("Sec-WebSocket-Protocol", None, 400),
    ("Sec-WebSocket-Protocol", "MQTT", 400),
    ("Sec-WebSocket-Protocol", "mqttv3.1", 400), ("Sec-WebSocket-Key", None, 400), ("Sec-WebSocket-Key", "short", 400),
    ("Sec-WebSocket-Key", "é" * 24, 400), ("Origin", "https://evil.example", 403), ("Origin", "null", 403),
])
def test_refusals(name, value, status):
    headers = CIMultiDict(GOOD)
    headers.pop(name, None)
    if value is not None:
        headers[name] = value
    with pytest.raises(HandshakeRefused) as caught:
        check_handshake(headers, "mqtt", ())
    assert caught.value.status == status


@pytest.mark.parametrize("name, lines", [
    ("Connection", ["keep-alive", "Upgrade"]), ("Connection", ["upgrade, keep-alive", "close"]),
    ("Sec-WebSocket-Protocol", ["mqttv3.1", "mqtt"]), ("Sec-WebSocket-Protocol", ["chat,\tmqtt ,"]),
    ("Upgrade", ["websocket, foo"]), ("Upgrade", ["foo", "WebSocket"]),
])
def test_lists_in_one_line_or_many(name, lines):
    """RFC 9110 §5.3: the lines of a list-valued field are one list."""
    headers = CIMultiDict(GOOD)
    del headers[name]
    for line in lines:
        headers.add(name, line)
    assert check_handshake(headers, "mqtt", ())["Sec-WebSocket-Protocol"] == "mqtt"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin", "Host"])
def test_what_is_no_list_stands_there_once(name):
    headers = CIMultiDict({**GOOD, "Origin": "http://server.example"})
    check_handshake(headers, "mqtt", ())
    headers.add(name, headers[name])
    with pytest.raises(HandshakeRefused) as caught:
        check_handshake(headers, "mqtt", ())
    assert caught.value.status == 400


def test_http_1_0_has_no_upgrade():
    """RFC 9110 §7.8, RFC 6455 §4.1."""
    with pytest.raises(HandshakeRefused) as caught:
        check_handshake(CIMultiDict(GOOD), "mqtt", (), version=(1, 0))
    assert caught.value.status == 426


@pytest.mark.parametrize("origin, host, allowed, expected", [
    ("http://a.example", "a.example", (), True),
    ("http://a.example", "a.example:80", (), True),
    ("https://a.example", "a.example:443", (), True),
    ("https://a.example:443", "a.example", (), True),
    ("http://127.0.0.1:8080", "127.0.0.1:8080", (), True),
    ("http://[::1]:8080", "[::1]:8080", (), True),
    ("http://A.Example", "a.example", (), True),
    ("http://a.example:81", "a.example", (), False),
    ("http://a.example.evil", "a.example", (), False),
    ("http://evil/a.example", "a.example", (), False),
    ("http://a.example@evil", "a.example", (), False),
    ("http://evil", "", (), False),
    ("", "a.example", (), False),
    ("null", "null", (), False),
    ("http://[", "a.example", (), False),
    ("http://a:99999", "a:99999", (), False),
    ("https://app.example", "a.example", ("https://app.example",), True),
    ("http://app.example", "a.example", ("https://app.example",), False),
    ("http://whatever", "a.example", ("*",), True),
    ("null", "a.example", ("null",), True),
])
def test_origins(origin, host, allowed, expected):
    assert origin_allowed(origin, host, allowed) is expected
