"""`meshgate pub` and `meshgate sub`: events in and out by the REST part of the HTTP listener."""
from __future__ import annotations

import argparse
import http.client
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec

from mesh.commands.client.errors import CommandError, RefusedError
from mesh.commands.client.http import Client, add_options
from mesh.process.logs import one_line
from mesh.values.units import parse_duration_ms
from routing.errors import TopicError
from routing.topic import check_filter, check_topic

STREAM_TIMEOUT_S = 60.0         # the node sends a comment every 15 s; four missed ones mean that it is gone
RETRY_S = 1.0


def add_pub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic")
    parser.add_argument("payload", nargs="?", default="", help="the payload; - reads it from standard input")
    parser.add_argument("--file", type=Path, metavar="FILE", help="read the payload from a file")
    parser.add_argument("--lines", action="store_true", help="one event per line of standard input or --file")
    parser.add_argument("--key", help="partition key (default: the topic)")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--content-type", metavar="TYPE")
    parser.add_argument("--ttl", metavar="DURATION", help="the event expires after it, such as 30s")
    parser.add_argument("--retain", action="store_true", help="keep it as the topic's last value")
    parser.add_argument("--direct", action="store_true", help="do not wait until it is on disk")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    add_options(parser, "http")
    parser.set_defaults(run=publish)


def add_sub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", nargs="+", help="topic filter, such as 'plant/+/alarm/#'")
    parser.add_argument("--from", dest="start", default="latest", metavar="PLACE",
                        help="latest (default), earliest, or a time such as 2026-01-31T12:00:00Z")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N events")
    parser.add_argument("--json", action="store_true", help="one JSON object per event")
    parser.add_argument("--payload", action="store_true", help="print payloads alone")
    add_options(parser, "http")
    parser.set_defaults(run=subscribe)


def publish(options: argparse.Namespace) -> int:
    try:
        check_topic(options.topic)
    except TopicError as error:
        raise CommandError(str(error)) from error
    headers = _headers(options)
    client = Client(options)
    path = "/v1/events/" + quote(options.topic, safe="/")
    for payload in _payloads(options):
        with client.request("POST", path, payload, headers) as response:
            answer = response.read()
        if options.json:
            print(answer.decode().strip())
        elif not options.lines:
            print(_stored(answer))
    return 0


def _headers(options: argparse.Namespace) -> dict[str, str]:
    headers = {"Content-Type": options.content_type} if options.content_type else {}
    if options.key is not None:
        headers["Meshgate-Key"] = options.key
    if options.retain:
        headers["Meshgate-Retain"] = "true"
    if options.direct:
        headers["Meshgate-Guaranteed"] = "false"
    if options.ttl is not None:
        try:
            headers["Meshgate-TTL"] = str(parse_duration_ms(options.ttl))
        except ValueError as error:
            raise CommandError(f"--ttl: {error}") from error
    for header in options.header:
        name, equals, value = header.partition("=")
        if not equals or not name:
            raise CommandError(f"--header: expected NAME=VALUE, got {header!r}")
        headers["Meshgate-Header-" + quote(_upper_as_percent(name), safe="%")] = value
    for name, value in headers.items():
        if "\n" in value or "\r" in value:
            raise CommandError(f"{name}: a header value is one line")
    return {name: value.encode().decode("latin-1") for name, value in headers.items()}     # UTF-8 on the wire


def _upper_as_percent(name: str) -> str:
    """HTTP field names have no case: upper-case letters travel percent-encoded."""
    return "".join(f"%{ord(char):02X}" if char.isascii() and (char.isupper() or char == "%") else char for char in name)


def _payloads(options: argparse.Namespace) -> Iterable[bytes]:
    if options.file is None and options.payload != "-" and not options.lines:
        return [options.payload.encode("utf-8", "surrogateescape")]
    try:
        source = options.file.open("rb") if options.file is not None else sys.stdin.buffer
    except OSError as error:
        raise CommandError(f"{options.file}: {error.strerror}") from error
    if options.lines:
        return (line.rstrip(b"\r\n") for line in source)
    with source:
        return [source.read()]


def _stored(answer: bytes) -> str:
    try:
        place = msgspec.json.decode(answer, type=dict[str, object])
    except msgspec.DecodeError:
        return "sent"
    if place.get("offset") is None:
        return "sent; no stream keeps it"
    return f"stored as {place['stream']}/{place['partition']}, offset {place['offset']}"


class _Received(msgspec.Struct):
    """What we show of an event; see EventJson in protocols/rest/translation/convert.py."""

    topic: str
    payload: str | None = None
    payload_base64: str | None = None


def subscribe(options: argparse.Namespace) -> int:
    for pattern in options.filter:
        try:
            check_filter(pattern)
        except TopicError as error:
            raise CommandError(f"{pattern}: {error}") from error
    seen = 0
    last_id = ""
    query = urlencode([*(("filter", pattern) for pattern in options.filter), ("from", options.start)])
    client = Client(options)
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        try:
            with client.request("GET", f"/v1/events?{query}", None, headers, STREAM_TIMEOUT_S) as response:
                for event_id, kind, data in _server_sent(response, last_id):
                    last_id = event_id
                    if kind == "message":
                        _show(data, options)
                        seen += 1
                        if seen == options.count:
                            return 0
                    elif kind != "open":
                        print(f"meshgate: {kind}: {one_line(data)}", file=sys.stderr)
        except (OSError, http.client.HTTPException):
            pass
        except CommandError as error:
            if not last_id or isinstance(error, RefusedError):
                raise
        if not last_id:
            raise CommandError("the node closed the stream")
        print("meshgate: the stream broke off, trying to go on where it was", file=sys.stderr)
        client.close()                          # the next request opens another connection
        time.sleep(RETRY_S)


def _server_sent(lines: Iterable[bytes], last_id: str) -> Iterator[tuple[str, str, str]]:
    """(id, event type, data) of each server-sent event.                      Source: HTML standard §9.2.6"""
    kind, data = "message", ""
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield last_id, kind, data.removesuffix("\n")
            kind, data = "message", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"


def _show(data: str, options: argparse.Namespace) -> None:
    if options.json:
        print(data, flush=True)
        return
    try:
        event = msgspec.json.decode(data, type=_Received)
    except msgspec.DecodeError:
        print(one_line(data), flush=True)
        return
    payload = event.payload if event.payload is not None else f"base64:{event.payload_base64 or ''}"
    if options.payload:
        print(payload, flush=True)
    else:
        print(f"{one_line(event.topic)} {one_line(payload)}", flush=True)
