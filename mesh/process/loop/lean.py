"""What a start need not wait for: aiohttp's certificates, and modules that are needed soon, but not to be ready.

    meshgate up ── import_aiohttp() ── everything else ── ready ── warm_up(): a thread
"""
from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterable
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)


def import_aiohttp() -> None:
    """Import it without the certificates of the system, which it reads twice as it is imported, for 50 ms of CPU each.

    The context that it makes of them then trusts nobody: a request that names no context of its own fails, and ours
    name system_trust() of tls.py. The other one is for those who want no certificate looked at.
    """
    make, ssl.create_default_context = ssl.create_default_context, _trusts_nobody
    ssl.SSLContext.set_default_verify_paths = _reads_nothing    # type: ignore[method-assign, assignment]
    try:
        import_module("aiohttp")
    finally:
        ssl.create_default_context = make
        del ssl.SSLContext.set_default_verify_paths             # what it has of its base class is there again


def _trusts_nobody(*_: Any, **__: Any) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _reads_nothing(_: ssl.SSLContext) -> None:
    pass


def warm_up(modules: Iterable[str]) -> None:
    """Load what the first request would wait for, on a thread of its own."""
    threading.Thread(target=_load, args=(tuple(modules),), name="warm up", daemon=True).start()


def _load(modules: tuple[str, ...]) -> None:
    for name in modules:
        try:
            import_module(name)
        except Exception:
            logger.exception("module %s cannot be loaded", name)
