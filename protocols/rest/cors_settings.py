"""[http.cors] and what is wrong with it. Apart from cors.py: whoever reads a configuration does not need aiohttp."""
from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec


class CorsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[http.cors]"""

    origins: tuple[str, ...] = ()       # "https://app.example"; "*": every page, then without credentials
    credentials: bool = False           # pages may send cookies and client certificates, and Basic that a browser keeps
    expose: tuple[str, ...] = ()        # fields that pages may read beside EXPOSED
    max_age_s: float = 600.0            # how long a browser may remember a preflight; Chromium: at most 2 h


def check_cors(settings: CorsSettings) -> Iterator[str]:
    """Problems, each one line that begins with the path of the setting."""
    for index, origin in enumerate(settings.origins):
        if origin != "*" and not _is_origin(origin):
            yield (f"http.cors.origins[{index}]: expected an origin such as \"https://app.example:8443\", without a "
                   f"path, or \"*\"; got {origin!r}")
    if "*" in settings.origins and settings.credentials:
        yield "http.cors.credentials: not together with origins = [\"*\"]: any page could act as the visitor"
    for index, name in enumerate(settings.expose):
        if not name or not all(char.isascii() and (char.isalnum() or char in "-_") for char in name):
            yield f"http.cors.expose[{index}]: expected the name of a header field, got {name!r}"
    if not 0 <= settings.max_age_s <= 86_400:
        yield "http.cors.max_age_s: expected 0 to 86400 seconds"


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return (parts.scheme in ("http", "https") and bool(parts.hostname) and "*" not in text and text == f"{parts.scheme}://{parts.netloc}"
            and text == text.lower() and "@" not in text)
