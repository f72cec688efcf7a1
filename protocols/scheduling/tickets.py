"""Waiting for a ticket in a coroutine, for as long as it takes."""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.ticket import Ticket


async def durable(ticket: Ticket) -> Ticket:
    """Wait until it is done; whether something was refused stands in it."""
    if not ticket.done:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket.on_done(lambda _: None if waiting.done() else waiting.set_result(None))
        await waiting
    return ticket
