"""GET /v1/ws/example: the page of examples/live.html, to try /v1/ws from a browser. It loads nothing from elsewhere."""
from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from aiohttp import web


@cache
def _page() -> tuple[bytes, str]:
    """The page, and a policy that lets its own script and style run and nothing else."""
    body = (files("protocols.websocket") / "live.html").read_text(encoding="utf-8")
    script, style = (_source(body, tag) for tag in ("script", "style"))
    policy = (f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self' ws: wss:; "
              "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    return body.encode(), policy


def _source(body: str, tag: str) -> str:
    text = body.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def example_page() -> web.Response:
    body, policy = _page()
    return web.Response(body=body, headers={
        "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Server": "meshgate"})
