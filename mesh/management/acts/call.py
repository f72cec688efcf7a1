"""One request to the management API, wherever it came from: a program, a page of the console, or another node.

An Endpoint says what there is: its path, the right that it needs, what it takes. The HTTP routes, the OpenAPI document
and what other nodes may ask follow from the list of them, so none of the three can differ from the others.
"""
from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from protocols.rest.problems import Problem
from protocols.web.fields import one_of
from routing.rights.policy import Action, Identity

IDENTITY: Final = web.RequestKey("identity", Identity)      # who sent a request, once the guard has let it in
KEY_CHARACTERS_MAX: Final = 200
Values = dict[str, Any]
Viewed = Callable[[Identity, str, str], Awaitable[None]]    # told of who (how, what) is shown payloads, before that
TEXT: Final[Values] = {"type": "string", "maxLength": 2_000}
T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    """names: of the path.  query: the first of each name.  body: {} without one.  identity: its right was asked for."""

    identity: Identity
    names: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    body: Values = {}
    reason: str = ""                # of an act, where the body does not have it
    key: str = ""                   # idempotency key
    match: str = ""                 # If-Match: the version that the caller has seen

    @property
    def dry_run(self) -> bool:
        """Raises Problem."""
        asked = self.body.get("dry_run", self.query.get("dry_run", "") not in ("", "0", "false"))
        if not isinstance(asked, bool):
            raise Problem(400, "body-invalid", "dry_run is true or false")
        return asked

    def as_(self, kind: type[T]) -> T:
        """The body as a struct. Raises Problem."""
        try:
            return msgspec.convert(self.body, kind)
        except msgspec.ValidationError as error:
            raise Problem(400, "body-invalid", str(error)) from error


class Param(msgspec.Struct, frozen=True):
    """A query parameter. schema: as in OpenAPI."""

    name: str
    about: str
    schema: Values = msgspec.field(default_factory=lambda: dict(TEXT))


class Endpoint(msgspec.Struct, frozen=True):
    """path: below /api/v1, with {names}.  body: properties that its JSON takes, as in OpenAPI; None: it takes none."""

    method: str
    path: str
    action: Action
    about: str
    answer: Callable[[Call], Awaitable[Values]]
    params: tuple[Param, ...] = ()
    body: Values | None = None

    @property
    def is_act(self) -> bool:
        """It changes something, and is in the audit trail."""
        return self.method != "GET" and self.action is not Action.VIEW


async def call_of(request: web.Request) -> Call:
    """Raises Problem."""
    reason = one_of(request.headers, "X-Reason") or ""
    key = one_of(request.headers, "Idempotency-Key") or ""
    if len(key) > KEY_CHARACTERS_MAX:
        raise Problem(400, "query-invalid", f"an Idempotency-Key has at most {KEY_CHARACTERS_MAX} characters")
    body = {} if request.method in ("GET", "HEAD") else await body_of(request)
    query = {name: request.query[name] for name in request.query}
    match = (one_of(request.headers, "If-Match") or "").strip().strip('"')
    return Call(request[IDENTITY], dict(request.match_info), query, body, reason, key, match)


async def body_of(request: web.Request) -> Values:
    """The JSON object of a request; {} when it has no body. Raises Problem."""
    raw = await request.read()
    if not raw:
        return {}
    try:
        return msgspec.json.decode(raw, type=Values)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Problem(400, "body-invalid", f"the body is a JSON object: {error}") from error
