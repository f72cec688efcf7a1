"""Files that never change: scripts, styles, the vendored libraries. Read once; each address holds the hash of its file.

static/vendor.toml names what is from others, with version, licence and SHA-256; a test compares.
"""
from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from aiohttp import web

ROOT: Final = Path(__file__).resolve().parents[1] / "static"
TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SCRIPTS: Final = ("vendor/htmx-4.0.1.min.js", "console.js")         # one bundle, in this order: two files would race


@lru_cache(maxsize=1)
def bundle() -> tuple[bytes, str]:
    """The scripts in one file, and the hash that stands in its address."""
    body = b";\n".join((ROOT / name).read_bytes() for name in SCRIPTS)
    return body, hashlib.sha256(body).hexdigest()[:16]


@lru_cache(maxsize=8)
def file(name: str) -> tuple[bytes, str]:
    body = (ROOT / name).read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]


def address(name: str) -> str:
    """Below the base path: "static/3f0c…/console.css"."""
    _, digest = bundle() if name == "console.js" else file(name)
    return f"static/{digest}/{name}"


def add_static(routes: web.UrlDispatcher, base: str, open_to_all: Callable[[str, str], None]) -> None:
    for name in ("console.js", "console.css", "icon.svg"):
        path = f"{base}/static/{{hash}}/{name}"
        routes.add_get(path, _handler(name))
        open_to_all("GET", path)


def _handler(name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.Response:
        body, _ = bundle() if name == "console.js" else file(name)
        response = web.Response(body=body, content_type=TYPES[Path(name).suffix], charset="utf-8")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
    return answer
