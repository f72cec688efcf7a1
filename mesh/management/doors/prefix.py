"""The path of a request as the browser sees it: behind a reverse proxy there is more before it ([console] base_path).

A proxy may send it whole ("/mesh/graz/links") or without what is its own ("/links"); we answer both. What we send
(links, redirects) always has all of it.
"""
from __future__ import annotations

from aiohttp import web


def outer_path(request: web.Request, base_path: str) -> str:
    """With the query."""
    path = request.path_qs
    return path if not base_path or path.startswith(f"{base_path}/") else base_path + path
