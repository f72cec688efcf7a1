"""A receiver of webhooks for tests, and a stand whose router serves them."""
from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from aiohttp import web

from mesh.connectors.webhook_settings import WebhookSettings
from mesh.connectors.webhooks import Prepared, Webhooks
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.push import Push
from routing.errors import Refusal
from routing.rights.policy import Identity
from tests.protocols.rest.stand import eventually, stand

ANA = Identity(user="ana", protocol="http")


class Receiver:
    """Answers what `answer(request, body)` says: a status, a response, or None for 204. Keeps what came."""

    def __init__(self):
        self.requests = []              # (method, headers, body)
        self.answer = lambda request, body: None
        self.hold = None                # an Event: answers wait for it
        self.at_once = self.most_at_once = 0

    async def open(self, ssl=None):
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=ssl)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if ssl else ''}://127.0.0.1:{self.port}/hook"
        return self

    async def _handle(self, request):
        body = await request.read()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.requests.append((request.method, dict(request.headers), body))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answer(request, body)
        if asyncio.iscoroutine(answer):
            answer = await answer
        self.at_once -= 1
        return answer if isinstance(answer, web.StreamResponse) else web.Response(status=answer or 204)

    @property
    def bodies(self):
        return [body for method, _, body in self.requests if method == "POST"]

    async def close(self):
        if self.hold is not None:
            self.hold.set()
        await self._runner.cleanup()


@asynccontextmanager
async def webhook_stand(path, settings=None, consumers=(), **options):
    """it.webhooks serves; it.receiver is there. Loopback is allowed unless settings say otherwise."""
    if settings is None:
        settings = WebhookSettings(allow=("127.0.0.0/8",), breaker_open_s=0.2, breaker_open_max_s=0.4)
    async with stand(path, **options) as it:
        it.receiver = await Receiver().open()
        if callable(consumers):
            consumers = consumers(it.receiver.url)
        it.webhooks = Webhooks(it.router, "graz-1", Prepared(settings, tuple(consumers)))
        it.webhooks.start()
        try:
            yield it
        finally:
            await it.webhooks.shutdown()
            await it.receiver.close()


def push_consumer(it, name="hook", filters=("#",), url=None, push=None, **spec):
    """Make a consumer that pushes to the receiver, as REST does."""
    push = Push(url or it.receiver.url, **(push or {}))
    spec = {"start": "earliest", "backoff_initial_s": 0.05, "backoff_max_s": 0.1, **spec}
    consumer = it.router.open_consumer(ConsumerSpec(name, filters, push=push, **spec), ANA)
    assert not isinstance(consumer, Refusal), consumer
    return consumer


async def all_acked(it, name="hook"):
    await eventually(lambda: it.router.consumers[name].lag().events == 0, "everything is acked")
