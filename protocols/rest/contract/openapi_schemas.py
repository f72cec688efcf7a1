"""components/schemas of the OpenAPI document: from the structs that the code decodes and encodes, where it has them."""
from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from protocols.formats.cloudevents import NAME_CHARS_MAX
from protocols.formats.event_json import EventJson
from protocols.rest.consumers.consumers import ConsumerBody, SeekBody
from protocols.rest.consumers.deadletters import RedriveBody
from protocols.rest.consumers.pulling import ExtendBody, NackBody, PullBody, TokensBody
from protocols.rest.contract.openapi_parts import BOOLEAN, INTEGER, NUMBER, TEXT, Part, array, nullable, obj, ref
from protocols.rest.publishing.publish import Published

STRUCTS = (EventJson, Published, ConsumerBody, SeekBody, RedriveBody, PullBody, TokensBody, NackBody, ExtendBody)
_TEMPLATE = "#/components/schemas/{name}"

COUNT_STATE: Part = {"enum": ["exact", "counting"]}         # counting: the number is what was found so far


def schemas() -> dict[str, Any]:
    """Name → JSON Schema 2020-12."""
    return {**_generated(), **_written()}


@cache
def _generated() -> dict[str, Any]:
    _, found = msgspec.json.schema_components(
        STRUCTS, ref_template=_TEMPLATE, schema_hook=lambda kind: {"description": "any JSON"})
    return found


def _written() -> dict[str, Part]:
    return {
        "Problem": {**obj({
            "type": {"type": "string", "format": "uri-reference"}, "title": TEXT, "status": INTEGER, "detail": TEXT,
        }), "description": "RFC 9457. type is stable, the texts are for people."},
        "CloudEvent": _cloud_event(),
        "BatchAnswer": obj({
            "accepted": INTEGER, "refused": INTEGER,
            "results": array({"anyOf": [ref("Published"), ref("Problem")]}),
        }, text="One result per event of the batch, in its order."),
        "PulledEvent": {"allOf": [ref("EventJson"), obj({"attempt": INTEGER, "redelivered": BOOLEAN, "token": TEXT})]},
        "Pulled": obj({"events": array(ref("PulledEvent"))}),
        "Partition": obj({"partition": INTEGER, "start": INTEGER, "end": INTEGER, "bytes": INTEGER}),
        "Stream": obj({
            "name": TEXT, "capture": array(TEXT), "durability": {"enum": ["fsync", "write"]}, "compact": BOOLEAN,
            "retention_ms": nullable("integer"), "retention_bytes": nullable("integer"),
            "partitions": array(ref("Partition"))}),
        "Page": obj({"events": array(ref("EventJson")), "next": TEXT, "end": BOOLEAN}),
        "RetainedPage": obj({"events": array(ref("EventJson")), "next": nullable("string")}),
        "Consumer": _consumer(),
        "Sought": obj({
            "dry_run": BOOLEAN, "events": INTEGER, "events_state": COUNT_STATE,
            "positions": array(obj({"stream": TEXT, "partition": INTEGER, "position": INTEGER}))}),
        "DeadLetters": obj({"dead_letters": array(ref("EventJson")), "next": nullable("string")}),
        "Redrive": obj({
            "state": {"enum": ["running", "done", "cancelled", "failed"]}, "redriven": INTEGER, "gone": INTEGER,
            "max": nullable("integer"), "rate": nullable("number")}),
        "RedriveCount": obj({"dry_run": BOOLEAN, "events": INTEGER, "gone": INTEGER}),
    }


def _consumer() -> Part:
    return obj({
        "name": TEXT, "kind": {"enum": ["consumer", "queue"]}, "filters": array(TEXT),
        "mode": {"enum": ["exclusive", "shared", "failover", "key-shared"]},
        "streams": array(TEXT), "user": TEXT, "paused": BOOLEAN, "max_in_flight": INTEGER,
        "ack_timeout_s": nullable("number"), "max_deliveries": nullable("integer"), "backoff_initial_s": NUMBER,
        "backoff_max_s": NUMBER, "expires_s": nullable("number"),
        "dead_letter_topic": nullable("string"), "queue": nullable("object"), "ready": INTEGER, "unacked": INTEGER,
        "dead_letter_expired": BOOLEAN, "expired": INTEGER, "push": nullable("object"),
        "time": TEXT, "lag": obj({"events": INTEGER, "seconds": NUMBER, "state": COUNT_STATE}),
        "readers": INTEGER, "in_flight": INTEGER, "delivered": INTEGER, "acked": INTEGER,
        "redelivered": INTEGER, "dead_lettered": INTEGER, "positions": {}, "clients": {},
    })


def _cloud_event() -> Part:
    name = {"type": "string", "minLength": 1}
    return {
        **obj({
            "specversion": {"const": "1.0"}, "id": name, "source": {**name, "format": "uri-reference"}, "type": name}, {
            "datacontenttype": name, "dataschema": {**name, "format": "uri"}, "subject": name,
            "time": {**name, "format": "date-time"}, "data": {}, "data_base64": {
                "type": "string", "contentEncoding": "base64"},
            "meshgatetopic": {**name, "description": "the topic, where neither path nor query name it"},
            "partitionkey": name, "expirytime": {**name, "format": "date-time"}, "correlationid": name,
            "meshgatereplyto": name}),
        "propertyNames": {"pattern": f"^([a-z0-9]{{1,{NAME_CHARS_MAX}}}|data_base64)$"},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "description": "CloudEvents 1.0 in its JSON format; further members are extension attributes.",
    }
