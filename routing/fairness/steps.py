"""Work that grows with the data, in steps: one per turn of the loop, so that nobody waits for all of it."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.router import Router


def in_steps(router: Router, work: Iterator[None]) -> None:
    """A step now, the others one per turn of the loop."""
    if next(work, work) is not work:
        router.call_soon(lambda: in_steps(router, work))
    else:
        router.request_turn()
