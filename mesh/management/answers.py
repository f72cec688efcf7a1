"""What the APIs of the console answer with."""
from __future__ import annotations

import msgspec
from aiohttp import web


def json_answer(body: object) -> web.Response:
    """What JSON has no word for, such as an address, goes as its text."""
    return web.Response(body=msgspec.json.encode(body, enc_hook=str), content_type="application/json")
