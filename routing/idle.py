"""What a node remembers only to be quick, and forgets when it has grown and has nothing to do.

Called by mesh/process/service.py, see loop/memory.py there. Each of these has its bound in bytes; together they are
what a client that was busy leaves behind: decisions and routes of its topics, its events in memory, shapes of their
records.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.router import Router


def forget(router: Router) -> Iterator[None]:
    """Work in pieces. Whoever asks again finds out again."""
    yield from router.routes.forget()
    yield from router.policy.forget()
    for partition in router.own_partitions():
        yield from partition.forget()
        yield
