"""JSON bodies of the API, one typed struct per endpoint: what does not fit is a 400 that says where. And answers."""
from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from protocols.rest.auth import Session
from protocols.rest.http.bodies import BodyMemory, read_body
from protocols.rest.problems import SERVER, Problem
from protocols.rest.settings import RestSettings

T = TypeVar("T")

FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Server": SERVER}
_encoder = msgspec.json.Encoder()


async def json_body(
    request: web.Request, shape: type[T], session: Session, settings: RestSettings, memory: BodyMemory,
) -> T:
    """An empty body stands for {}. Raises Problem (400, 408, 413, 415, 429, 503)."""
    body = await read_body(request, session, settings, memory)
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Problem(400, "body-invalid", _explained(str(error), shape)) from None
    except RecursionError:
        raise Problem(400, "body-invalid", "the JSON is nested too deeply") from None


def _explained(text: str, shape: type) -> str:
    """msgspec's words, and the fields that there are where one is not known."""
    if text.startswith("Object contains unknown field") and " - at " not in text:
        return f"{text}; known are {', '.join(getattr(shape, '__struct_encode_fields__', ()))}"
    return text


def json_response(body: object, status: int = 200) -> web.Response:
    """body: anything that msgspec encodes."""
    return web.Response(status=status, body=_encoder.encode(body), headers=FIELDS)
