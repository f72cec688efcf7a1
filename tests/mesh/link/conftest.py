"""Link tests run on the event loop that a node runs on."""
from __future__ import annotations

import asyncio

import pytest

from mesh.process.loop.loop import loop_factory


class NodePolicy(asyncio.DefaultEventLoopPolicy):
    """Makes loops as service.py does."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return loop_factory()()


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return NodePolicy()
