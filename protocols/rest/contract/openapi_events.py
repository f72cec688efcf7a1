"""OpenAPI: publishing and reading events, streams, retained events, requests, and the paths beside them."""
from __future__ import annotations

from protocols.formats.cloudevents import BATCH_MEDIA_TYPE, MEDIA_TYPE
from protocols.rest.contract.openapi_parts import (
    STORE,
    TEXT,
    Part,
    Paths,
    array,
    field,
    header,
    json_answer,
    no_answer,
    obj,
    operation,
    path,
    query,
    ref,
)

PUBLISHING = ("topic-invalid", "header-invalid", "encoding-invalid", "query-invalid", "payload-invalid",
              "cloudevent-invalid", "media-type-unsupported", *STORE)
TRUTH: Part = {"enum": ["true", "false"]}
FROM = "latest, earliest, an RFC 3339 time, the id of an event or of a stream"
_TOPIC = path("topic", "A topic; its slashes may be written %2F.", {"type": "string", "minLength": 1})
_FIELDS = [
    field("Meshgate-Key", "Decides the partition, and is the key for compaction."),
    field("Meshgate-TTL", "Milliseconds until the event expires.", {"type": "string", "pattern": "^[0-9]{1,15}$"}),
    field("Meshgate-Retain", "true: kept as the last event of its topic.", TRUTH),
    field("Meshgate-Correlation-Id", "For requests and replies."),
    field("Meshgate-Reply-To", "The topic for the answer."),
    field("Meshgate-Message-Id", "An id of the sender's choice."),
    field("Meshgate-Priority", "0 to 9.", {"type": "string", "pattern": "^[0-9]$"}),
    field("Meshgate-Guaranteed", "false: QoS 0, answered 202.", TRUTH),
    field("Idempotency-Key", "The same key by the same user is stored once."),
    field("Prefer", "respond-async: 202 before the event is on disk."),
    field("traceparent", "W3C trace context."), field("tracestate", "W3C trace context."),
    *(field(f"ce-{name}", f"CloudEvents, binary mode: the attribute {name}.")
      for name in ("specversion", "id", "source", "type", "subject", "time")),
]
_NOT_OF_REQUESTS = ("Meshgate-Retain", "Meshgate-Reply-To", "Meshgate-Message-Id", "Idempotency-Key")
_ONE_OR_MANY: Part = {"schema": {"anyOf": [ref("Published"), ref("BatchAnswer")]}}
_NDJSON: Part = {"schema": {"type": "string", "description": "a Published or a Problem per line"}}


def event_paths() -> Paths:
    return {
        "/v1/events/{topic}": {"post": _post()},
        "/v1/events": {"get": _sse(), "post": _post_without_topic()},
        "/v1/streams": {"get": operation(
            "listStreams", "streams", "The streams that hold something for you",
            json_answer(obj({"streams": array(ref("Stream"))}), "In the order of the configuration."),
            ("query-invalid",))},
        "/v1/streams/{name}": {"get": operation(
            "getStream", "streams", "One stream", json_answer(ref("Stream"), "With its partitions."),
            ("not-found", "encoding-invalid"), parameters=[path("name", "Of the stream.")])},
        "/v1/streams/{name}/events": {"get": _page()},
        "/v1/retained/{filter}": {"get": _retained()},
        "/v1/requests/{topic}": {"post": _request()},
    }


def _post() -> Part:
    content: Part = {kind: {"schema": {}} for kind in ("application/octet-stream", "application/json", "text/plain")}
    content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    content["text/plain"] = {"schema": TEXT}
    content[MEDIA_TYPE] = {"schema": ref("CloudEvent")}
    content[BATCH_MEDIA_TYPE] = {"schema": array(ref("CloudEvent"))}
    return operation(
        "publish", "events", "Publish one event, or a batch of CloudEvents, on a topic", {
            "200": {"description": "On disk.", "content": {"application/json": _ONE_OR_MANY}},
            "202": {"description": "Taken; nothing is promised yet.", "content": {"application/json": _ONE_OR_MANY}},
        }, (*PUBLISHING, "not-found"), parameters=[_TOPIC, *_FIELDS], body={"required": False, "content": content},
        text="The body is the payload, of any media type. Further fields Meshgate-Header-<name> are headers of the "
             "event, further fields ce-<name> attributes of a CloudEvent. gzip and zstd bodies are expanded.")


def _post_without_topic() -> Part:
    return operation(
        "publishMany", "events", "Publish CloudEvents, or an event per line, each with its topic", {
            "200": {"description": "On disk, or refused one by one.", "content": {
                "application/json": _ONE_OR_MANY, "application/x-ndjson": _NDJSON}},
            "202": {"description": "Taken; nothing is promised yet.", "content": {
                "application/json": _ONE_OR_MANY, "application/x-ndjson": _NDJSON}},
        }, (*PUBLISHING, "quota-exceeded", "payload-too-large"),
        parameters=[query("topic", "For CloudEvents: the topic of all of them.", {"type": "string", "minLength": 1}),
                    *_FIELDS],
        body={"required": True, "content": {
            MEDIA_TYPE: {"schema": ref("CloudEvent")}, BATCH_MEDIA_TYPE: {"schema": array(ref("CloudEvent"))},
            "application/x-ndjson": {"schema": TEXT}}})


def _sse() -> Part:
    return operation(
        "subscribe", "events", "Read events as server-sent events, from any place, live from there on", {
            "200": {"description": "Never ends by itself; see docs/rest.md for its events.",
                    "content": {"text/event-stream": {"schema": TEXT}}},
        }, ("query-invalid", "filter-invalid", "encoding-invalid", "position-invalid", "position-lost",
            "too-many-readers"),
        parameters=[
            query("filter", "Topic filters with + and # (write %23).", {**array(TEXT), "minItems": 1}, required=True),
            query("from", FROM, TEXT), query("format", "How events are shown.", {"enum": ["json", "cloudevents"]}),
            field("Last-Event-ID", "The last id that was seen: goes on exactly after it.")])


def _page() -> Part:
    answers = json_answer(ref("Page"), "next: where to go on, for ever. end: nothing was left.")
    answers["200"]["content"][BATCH_MEDIA_TYPE] = {"schema": array(ref("CloudEvent"))}
    answers["200"]["headers"] = {"Link": header("of a batch: the next page", TEXT),
                                 "Meshgate-End": header("of a batch: nothing was left", TRUTH)}
    return operation(
        "readStream", "streams", "A page of what a stream holds, by time", answers,
        ("not-found", "query-invalid", "filter-invalid", "encoding-invalid", "position-invalid", "position-lost"),
        parameters=[
            path("name", "Of the stream."), query("from", FROM, TEXT),
            query("limit", "Events at most.", {"type": "integer", "minimum": 1, "maximum": 10_000}),
            query("filter", "Topic filters.", array(TEXT))])


def _retained() -> Part:
    tag = {"ETag": header("of this page", TEXT)}
    found = json_answer(ref("RetainedPage"), "next: for after, null at the end.")
    found["200"]["headers"] = tag
    return operation(
        "readRetained", "events", "The last retained event of each topic that a filter matches",
        {**found, "304": {"description": "You have it.", "headers": tag}},
        ("query-invalid", "filter-invalid", "encoding-invalid"),
        parameters=[
            path("filter", "A topic filter."), query("after", "The next of the page before.", TEXT),
            query("limit", "Events at most.", {"type": "integer", "minimum": 1, "maximum": 10_000}),
            field("If-None-Match", "The ETag that you have.")])


def _request() -> Part:
    return operation(
        "request", "events", "Publish a request and wait for its answer, on whatever protocol it comes", {
            "200": {"description": "The answer: its payload, with its properties as header fields.", "content": {
                "*/*": {"schema": {}}}},
        }, (*PUBLISHING, "not-found", "no-responder", "reply-timeout", "overloaded"),
        parameters=[
            _TOPIC, query("address", "topic: for responders that see neither reply topic nor correlation id.",
                          {"enum": ["topic"]}),
            *(one for one in _FIELDS if one["name"] not in _NOT_OF_REQUESTS)],
        body={"required": False, "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}})


def other_paths() -> Paths:
    """WebSocket, and what describes the API itself."""
    handshake = ("malformed-request", "upgrade-required")
    mqtt = operation(
        "mqtt", "websocket", "MQTT over WebSocket, subprotocol mqtt", no_answer(101), handshake, login=False)
    document = {"type": "object", "properties": {"info": {"type": "object"}}}
    return {
        "/amqp": {"get": operation(
            "amqp", "websocket", "AMQP 0-9-1 and 1.0 over WebSocket, subprotocol amqp", no_answer(101), handshake,
            login=False)},
        "/mqtt": {"get": mqtt}, "/": {"get": {**mqtt, "operationId": "mqttAtRoot"}},
        "/v1/ws": {"get": operation(
            "websocket", "websocket", "The JSON protocol over WebSocket", no_answer(101),
            (*handshake, "bad-credentials", "not-authorized", "locked-out", "busy", "quota-exceeded"), login=False)},
        "/v1/ws/example": {"get": operation(
            "websocketExample", "websocket", "A page to try it with",
            {"200": {"description": "HTML.", "content": {"text/html": {"schema": TEXT}}}}, login=False)},
        "/v1/openapi.json": {"get": operation(
            "openapi", "contract", "This document", json_answer(document, "OpenAPI 3.1."), login=False)},
        "/v1/asyncapi.json": {"get": operation(
            "asyncapi", "contract", "Streams and observed topics, as far as you may read or write them",
            json_answer(document, "AsyncAPI 3."))},
        "/problems/{kind}": {"get": operation(
            "problem", "contract", "What a type of problem means",
            {"200": {"description": "For people.", "content": {"text/plain": {"schema": TEXT}}}}, ("not-found",),
            parameters=[path("kind", "Last segment of the type.")], login=False)},
    }


