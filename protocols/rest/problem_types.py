"""Every type of problem that the HTTP listener answers with: one table for the code, docs/problems.md and OpenAPI.

A type is stable: a client may decide by it. It is the URI reference /problems/<kind> (RFC 9457 §3.1.1), and the node
serves what stands here at that path. Tests hold the table against what the code raises and against the documentation.
"""
from __future__ import annotations

import msgspec
from aiohttp import web


class ProblemType(msgspec.Struct, frozen=True):
    """One type."""

    kind: str       # last segment of the URI
    status: int
    advice: str     # what it means, and what to do


TYPES: tuple[ProblemType, ...] = (
    ProblemType("topic-invalid", 400, "the topic breaks the grammar"),
    ProblemType("filter-invalid", 400, "the filter breaks the grammar"),
    ProblemType("header-invalid", 400, "a `Meshgate-` field is unknown, doubled or out of range"),
    ProblemType("encoding-invalid", 400, "percent-encoding is broken, or not UTF-8"),
    ProblemType("query-invalid", 400, "a query parameter is missing, doubled or unknown"),
    ProblemType("position-invalid", 400, "`from` or `Last-Event-ID` is none of the forms above"),
    ProblemType("name-invalid", 400, "consumers have names of 1 to 128 letters, digits and `. _ ~ -`"),
    ProblemType("token-invalid", 400, "a token of another consumer, or of a wiped log; nothing was done"),
    ProblemType("payload-invalid", 400, "the payload does not have the form that was promised"),
    ProblemType("body-invalid", 400, "the body is not what this path takes; the text says where"),
    ProblemType("cloudevent-invalid", 400, "not a CloudEvent 1.0; the text names the attribute"),
    ProblemType("malformed-request", 400, "not HTTP (RFC 9112), or a bad WebSocket handshake; the connection ends"),
    ProblemType("bad-credentials", 401, "log in"),
    ProblemType("not-authorized", 403, "no rule allows it; the text names the rule that decided"),
    ProblemType("foreign-origin", 403, "a web page from elsewhere"),
    ProblemType("foreign-host", 403, "without users only `localhost` is served"),
    ProblemType("not-found", 404, "there is nothing at this path"),
    ProblemType("method-not-allowed", 405, "see `Allow`"),
    ProblemType("request-timeout", 408, "head or body came too slowly"),
    ProblemType("conflict", 409, "something of that name exists and is different"),
    ProblemType("position-lost", 410, "the id is of a log that was wiped; begin with `from=earliest`"),
    ProblemType("payload-too-large", 413, "see `body_bytes_max` and `payload_bytes_max`"),
    ProblemType("uri-too-long", 414, "see `head_line_bytes_max`"),
    ProblemType("encoding-unsupported", 415, "send the body plain, or in gzip or zstd"),
    ProblemType("media-type-unsupported", 415, "the body is of a type that this path does not take; see `Accept-Post`"),
    ProblemType("expectation-failed", 417, "the only expectation is `100-continue`"),
    ProblemType("target-refused", 422, "a webhook to this address is not allowed; see docs/webhooks.md"),
    ProblemType("upgrade-required", 426, "this path speaks WebSocket, version 13"),
    ProblemType("quota-exceeded", 429, "a limit of the client is reached; wait, see `Retry-After`"),
    ProblemType("locked-out", 429, "too many failed logins"),
    ProblemType("rate-limited", 429, "too many requests; the text names the limit, `Retry-After` says when to go on"),
    ProblemType("head-too-large", 431, "fewer or shorter fields"),
    ProblemType("internal-error", 500, "a fault of ours; the log has it"),
    ProblemType("storage-failed", 500, "the disk failed, the partition is read-only"),
    ProblemType("busy", 503, "the login could not be decided in time and is no failure; see `Retry-After`"),
    ProblemType("overloaded", 503, "the disk does not keep up, or `bodies_bytes_max` is reached; nothing was taken"),
    ProblemType("outcome-unknown", 503, "the disk did not answer in time; send again with the same `Idempotency-Key`"),
    ProblemType("too-many-readers", 503, "see `sse_readers_max`"),
    ProblemType("too-many-connections", 503, "see `connections_max`"),
    ProblemType("shutting-down", 503, "the node stops"),
    ProblemType("no-responder", 504, "nobody wants this topic, so the request was not sent"),
    ProblemType("reply-timeout", 504, "somebody wants this topic, but no answer came in time"),
    ProblemType("storage-full", 507, "free space; the node goes on by itself"),
)
# Only said over the WebSocket /v1/ws, where there is no status; docs/websocket.md has them.
ON_WEBSOCKET: tuple[ProblemType, ...] = (
    ProblemType("message-invalid", 0, "not JSON, an unknown op or key, a value of the wrong type or out of range"),
    ProblemType("consumer-closed", 0, "the consumer was deleted"),
    ProblemType("taken-over", 0, "another connection of yours reads the consumer now"),
)
BY_KIND: dict[str, ProblemType] = {found.kind: found for found in (*TYPES, *ON_WEBSOCKET)}


def title_of(kind: str) -> str:
    """The member title: the same for every problem of a type."""
    return kind.replace("-", " ")


async def show(request: web.Request) -> web.StreamResponse:
    """GET /problems/{kind}: what the type means. Open to everybody, as it says nothing about the node."""
    found = BY_KIND.get(request.match_info["kind"])
    if found is None:
        raise web.HTTPNotFound
    where = f"HTTP {found.status}" if found.status else "WebSocket"
    text = f"{title_of(found.kind)} ({where})\n\n{found.advice.replace('`', '')}\n"
    return web.Response(text=text, headers={"Cache-Control": "max-age=3600", "Server": "meshgate"})
