"""python -m bench.bare_http PORT: the least that aiohttp can do with a POST: read the body, answer the same JSON.

The yardstick of the row `rest`: no log, no router, no policy, on uvloop where the node has it.
"""
from __future__ import annotations

import sys

from aiohttp import web

ANSWER = b'{"stream":"events","partition":0,"offset":1234567,"id":"events:0:1234567"}'


async def post(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


def main(port: int) -> None:
    try:
        import uvloop
        uvloop.install()
    except ImportError:
        pass
    app = web.Application()
    app.router.add_post("/v1/events/{topic:.*}", post)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
