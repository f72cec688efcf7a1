"""OpenAPI: durable consumers, queues, pulling, dead letters."""
from __future__ import annotations

from protocols.formats.cloudevents import BATCH_MEDIA_TYPE
from protocols.rest.consumers.consumers import NAME_CHARS_MAX
from protocols.rest.contract.openapi_parts import (
    INTEGER,
    STORE,
    TEXT,
    Part,
    Paths,
    array,
    field,
    json_answer,
    json_body,
    no_answer,
    nullable,
    obj,
    operation,
    path,
    query,
    ref,
)

NAMED = ("name-invalid", "not-found", "encoding-invalid")
BASE = "/v1/consumers/{name}"
_NAME = path("name", "Of the consumer.", {
    "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": "^[A-Za-z0-9._~-]+$"})
_LIMIT = query("limit", "At most.", {"type": "integer", "minimum": 1, "maximum": 1_000})
_PREFER = field("Prefer", "respond-async: 202 before it is on disk.")


_WORDS = {"ack": "Done", "nack": "Not done: again later", "reject": "Never again: to the dead letters",
          "extend": "More time, from now"}


def consumer_paths() -> Paths:
    one = json_answer(ref("Consumer"), "The consumer.")
    paths: Paths = {
        "/v1/consumers": {"get": operation(
            "listConsumers", "consumers", "Those that you may use, by name",
            json_answer(obj({"consumers": array(ref("Consumer")), "next": nullable("string")}), "A page."),
            ("query-invalid",), parameters=[query("after", "A name: the next of the page before.", TEXT), _LIMIT])},
        BASE: {
            "get": _of("getConsumer", "Options, lag, counts, positions", one),
            "put": _of("putConsumer", "Make it, or change it to what the body says",
                       {**one, **json_answer(ref("Consumer"), "Made.", 201)},
                       ("conflict", "filter-invalid", "position-invalid", "position-lost", "target-refused", *STORE),
                       body=json_body(ref("ConsumerBody"))),
            "delete": _of("deleteConsumer", "It, its place and its tokens", no_answer(204), STORE)},
        f"{BASE}/seek": {"post": _of(
            "seek", "Read on from elsewhere", json_answer(ref("Sought"), "events: how many there are from there on."),
            ("position-invalid", "position-lost", *STORE), body=json_body(ref("SeekBody")))},
        f"{BASE}/pull": {"post": _pull()},
        f"{BASE}/events": {"get": _of(
            "browse", "What is ready, taken by nobody", json_answer(
                obj({"events": array(ref("EventJson")), "next": nullable("string")}), "A page; may be empty."),
            ("query-invalid",), [query("after", "The next of the page before.", TEXT), _LIMIT])},
        f"{BASE}/purge": {"post": _of(
            "purge", "Forget what is ready", json_answer(obj({"purged": INTEGER}), "What is unacked stays."), STORE)},
        f"{BASE}/dead-letters": {"get": _of(
            "listDeadLetters", "Those that were not redriven", json_answer(ref("DeadLetters"), "A page."),
            ("query-invalid",), [query("after", "The id of a dead letter.", TEXT), _LIMIT])},
        f"{BASE}/redrive": {
            "get": _of("getRedrive", "How far it has come", json_answer(ref("Redrive"), "The last one.")),
            "post": _of("redrive", "Hand dead letters out once more", {
                **json_answer(ref("RedriveCount"), "With dry_run: how many there are."),
                **json_answer(ref("Redrive"), "Begun.", 202)}, ("conflict",),
                body=json_body(ref("RedriveBody"), required=False)),
            "delete": _of("cancelRedrive", "Stop it; what was redriven is", json_answer(ref("Redrive"), "So far."))},
    }
    for word in ("pause", "resume"):
        paths[f"{BASE}/{word}"] = {"post": _of(word, f"{word.capitalize()} it, over restarts", one, STORE)}
    for word, done, shape in (("ack", "acked", "TokensBody"), ("nack", "nacked", "NackBody"),
                              ("reject", "rejected", "TokensBody"), ("extend", "extended", "ExtendBody")):
        answer = obj({done: INTEGER, "stale": array(TEXT)})
        answers = json_answer(answer, "stale: tokens that changed nothing.")
        if word == "ack":
            answers |= json_answer(answer, "Taken, on disk soon.", 202)
        paths[f"{BASE}/{word}"] = {"post": _of(
            word, _WORDS[word], answers,
            ("token-invalid", *STORE), [_PREFER] if word == "ack" else [], body=json_body(ref(shape)))}
    return paths


def _of(name: str, summary: str, answers: Part, problems: tuple[str, ...] = (), parameters: list[Part] | None = None, *,
        body: Part | None = None) -> Part:
    return operation(name, "consumers", summary, answers, (*NAMED, *problems),
                     parameters=[_NAME, *(parameters or [])], body=body)


def _pull() -> Part:
    answers = json_answer(ref("Pulled"), "At once when there are events, else within wait_s; may be none.")
    answers["200"]["content"][BATCH_MEDIA_TYPE] = {"schema": array(ref("CloudEvent"))}
    return _of("pull", "Take events", answers, ("conflict", "overloaded", "too-many-readers"),
               body=json_body(ref("PullBody"), required=False))
