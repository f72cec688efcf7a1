"""The HTTP family against a real node: every curl line of docs/rest.md, other protocols as responders, kill -9."""
from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.node import Node, http
from tests.support.rawmqtt import CORRELATION, RESPONSE_TOPIC, open_mqtt
from tests.support.wait import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
STREAMS = '[[streams]]\nname = "events"\ncapture = ["#"]\npartitions = 3\n'


def call(node, method, path, body=None, status=200, headers=None):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http(method, node.url("http", path), data, headers)
    assert answer.status == status, answer.text
    return answer.json if answer.body and "json" in answer.headers.get("Content-Type", "") else answer.body


# -- the documentation -----------------------------------------------------------------------------------------------

def curl_lines():
    """The command lines in the blocks of docs/rest.md that call curl, whole pipelines included."""
    text = (ROOT / "docs" / "rest.md").read_text()
    lines = []
    for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
        whole = re.sub(r"\|\n\s*", "| ", re.sub(r"\\\n\s*", " ", block))
        lines += [line for line in whole.splitlines() if re.match(r"(curl|echo|printf)\b", line)]
    life = {"-X PUT http://127.0.0.1:8080/v1/consumers/billing": 0, "-X DELETE http://127.0.0.1:8080/v1/consumers/": 2}

    def turn(line):
        """The consumer of the samples is made first and deleted last."""
        found = [number for text, number in life.items() if text in line and not line.endswith("redrive")]
        return found[0] if found else 1

    return sorted(lines, key=turn)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_line_of_the_documentation_works(node):
    """Tokens, positions and tags in them are samples; those of this node are put in their place."""
    lines = curl_lines()
    assert len(lines) >= 25
    known = {"token": "", "next": "", "etag": ""}
    for line in lines:
        line = line.replace("127.0.0.1:8080", f"127.0.0.1:{node.ports['http']}")
        line = line.replace("AWlS…", known["token"]).replace("AQWD…", known["next"]).replace('"c0ffee…"', known["etag"])
        if "/v1/requests/" in line or "$reply" in line:
            continue                                    # with a responder, below
        if "/pull" in line:
            call(node, "POST", "/v1/events/orders/7", b"7")
        endless = " -N " in line
        line = re.sub(r"\bcurl\b", "curl -sS --max-time " + ("4" if endless else "50") + " -w '\\n%{http_code}'", line)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        body, _, status = done.stdout.rpartition("\n")
        stopped = endless and done.returncode == 28     # curl's word for --max-time
        expected = "304" if "If-None-Match" in line else "2"
        said = f"{line}\n{done.stdout}\n{done.stderr}"
        assert status.startswith(expected) and (done.returncode == 0 or stopped), said
        for name, pattern in (("token", r'"token":"([^"]+)"'), ("next", r'"next":"([^"]+)","end"'),
                              ("etag", r"(?i)etag: (\S+)")):
            if found := re.search(pattern, body):
                known[name] = found[1]


# -- responders on other protocols ------------------------------------------------------------------------------------

def asking(node, path, body, results):
    def ask():
        results.append(http("POST", node.url("http", path), body, {"Prefer": "wait=50"}))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_an_mqtt_5_responder_answers_by_response_topic(node):
    with open_mqtt(node.mqtt, "responder", version=5) as responder:
        responder.subscribe(("calc", 1))
        results = []
        thread = asking(node, "/v1/requests/calc", b"1+1", results)
        request = responder.message()
        topic, correlation = request.get(RESPONSE_TOPIC), request.get(CORRELATION)
        assert request.payload == b"1+1" and topic.startswith(f"$reply/{node.name}/") and correlation
        responder.publish_acked(topic, b"2", values=((CORRELATION, correlation),))
        thread.join(DEADLINE_S)
    assert (results[0].status, results[0].body) == (200, b"2")
    assert results[0].headers["Meshgate-Correlation-Id"].encode() == correlation


def test_an_mqtt_3_responder_answers_by_the_levels_of_the_topic(node):
    with open_mqtt(node.mqtt, "old", version=4) as responder:
        responder.subscribe(("calc/+/+", 1))
        results = []
        thread = asking(node, "/v1/requests/calc?address=topic", b"2+2", results)
        request = responder.message()
        name, number = request.topic.split("/")[1:]
        responder.publish_acked(f"$reply/{name}/{number}", b"4")
        thread.join(DEADLINE_S)
    assert (results[0].status, results[0].body) == (200, b"4")


def test_nobody_there_says_so_at_once(node):
    answer = http("POST", node.url("http", "/v1/requests/nobody"), b"?")
    assert (answer.status, answer.json["type"]) == (504, "/problems/no-responder")


# -- kill -9 ----------------------------------------------------------------------------------------------------------

def test_two_clients_in_turn_over_kills_get_each_acked_event_once(tmp_path):
    """What an answer to ack confirmed never comes again, what was only pulled may, marked; tokens outlive the node."""
    node = Node(tmp_path / "node", extra=STREAMS).start()
    try:
        call(node, "PUT", "/v1/consumers/billing", {"filters": ["t/#"], "start": "earliest", "mode": "exclusive"}, 201)
        for number in range(60):
            call(node, "POST", f"/v1/events/t/{number}", b"x")
        confirmed, first_seen = [], {}
        for turn in range(60):
            told = call(node, "POST", "/v1/consumers/billing/pull",
                        {"max": 4, "wait_s": 0 if turn else 5, "client": f"replica-{turn % 2}"}, 200)
            events = told["events"]
            for event in events:
                assert event["id"] not in confirmed
                assert event["redelivered"] or event["id"] not in first_seen
                first_seen[event["id"]] = event["topic"]
            tokens = {event["token"]: event["id"] for event in events}
            if turn % 5 == 2:                           # killed between pull and ack: the tokens are used afterwards
                node.kill9()
                node.restart()
            if tokens:
                done = call(node, "POST", "/v1/consumers/billing/ack", {"tokens": list(tokens)})
                assert done["stale"] == [], "a token from before a kill is good after it"
                confirmed += tokens.values()
            if turn % 5 == 4:                           # killed right after the answer
                node.kill9()
                node.restart()
            if len(confirmed) == 60:
                break
        assert sorted(first_seen.values()) == sorted(f"t/{number}" for number in range(60))
        assert len(set(confirmed)) == len(confirmed) == 60
        assert call(node, "GET", "/v1/consumers/billing")["lag"]["events"] == 0
    finally:
        node.kill9()


def test_a_page_cursor_and_an_ndjson_batch_over_a_kill(tmp_path):
    node = Node(tmp_path / "node", extra=STREAMS).start()
    try:
        lines = b"".join(b'{"topic":"t/%d","payload":"x"}\n' % number for number in range(500))
        told = http("POST", node.url("http", "/v1/events"), lines, {"Content-Type": "application/x-ndjson"})
        node.kill9()                                    # what was answered is on disk
        node.restart()
        answered = {json.loads(line)["id"] for line in told.text.splitlines()}
        assert len(answered) == 500
        seen, start = set(), "earliest"
        for page_number in range(100):
            page = call(node, "GET", f"/v1/streams/events/events?from={start}&limit=120")
            ids = {event["id"] for event in page["events"]}
            assert not ids & seen
            seen |= ids
            start = page["next"]
            if page_number == 1:
                node.kill9()
                node.restart()
            if page["end"]:
                break
        assert seen == answered
    finally:
        node.kill9()


def test_a_kill_in_the_middle_of_a_batch_keeps_every_line_that_was_answered(tmp_path):
    node = Node(tmp_path / "node", extra=STREAMS).start()
    try:
        body = b"".join(b'{"topic":"t/%d","payload":"%d"}\n' % (number % 50, number) for number in range(60_000))
        with socket.create_connection(node.address("http"), timeout=DEADLINE_S) as sock:
            sock.sendall(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body))
            sender = threading.Thread(target=_send_quietly, args=(sock, body))
            sender.start()
            data = b""
            while data.count(b'"id":') < 500:
                data += sock.recv(65_536)
            node.kill9()
            data += _rest_of(sock)
            sender.join(DEADLINE_S)
        node.restart()
        answered = set(re.findall(rb'"id":"([^"]+)"\}\n', data))
        assert len(answered) >= 499
        stored, start, end = set(), "earliest", False
        while not end:
            page = call(node, "GET", f"/v1/streams/events/events?from={start}&limit=1000")
            stored |= {event["id"].encode() for event in page["events"]}
            start, end = page["next"], page["end"]
        assert answered <= stored
    finally:
        node.kill9()


def _send_quietly(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        pass


def _rest_of(sock):
    parts = []
    try:
        while part := sock.recv(65_536):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)
