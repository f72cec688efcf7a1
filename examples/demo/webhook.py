"""A quality service that is called by webhook, judges, and answers with an event of its own."""
from __future__ import annotations

import asyncio
import hmac
import json
from base64 import b64decode, b64encode
from hashlib import sha256

import aiohttp
from aiohttp import web
from dashboard import events, next_event, post
from machine import COMMANDS, MACHINE, MEASURED, Machine
from node import HOST, Node, free_port
from screen import DemoError, heading, show

CONSUMER = "quality"
SECRET = "whsec_" + b64encode(b"a demo needs no better secret than this").decode()
PORT = free_port(8070)
URL = f"http://{HOST}:{PORT}/measured"
CONFIG = (
    '[webhooks]                      # without this no webhook may call a machine of a private network, nor this one\n'
    'allow = ["127.0.0.1/32"]\n'
    f'[webhooks.secrets.quality]\nvalue = "env:DEMO_WEBHOOK_SECRET"\nurls = ["{URL}"]\n'
)


class Quality:
    """An HTTP server of somebody else: takes signed events, answers 204, and publishes what it thinks."""

    def __init__(self, node: Node, http: aiohttp.ClientSession) -> None:
        self.problem = ""
        self._node = node
        self._http = http
        self._refused = False
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/measured", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, PORT)
        await site.start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
        key = b64decode(SECRET.removeprefix("whsec_"))
        expected = "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()
        if not any(hmac.compare_digest(expected, one) for one in request.headers["webhook-signature"].split(" ")):
            self.problem = "a webhook came with a wrong signature"
            return web.Response(status=401)
        if not self._refused:                           # so that one sees what a failure costs: nothing
            self._refused = True
            show("HOOK", "!", "the quality service answers 503 once; Meshgate will try again")
            return web.Response(status=503)
        measured = json.loads(body)["payload"]
        show("HOOK", "<", f"{MEASURED}/thickness  {measured}   signed, and the signature is right")
        await post(self._http, self._node, f"{COMMANDS}/quality", "reject" if float(measured) > 2.5 else "accept")
        return web.Response(status=204)


async def round_trip(http: aiohttp.ClientSession, node: Node, machine: Machine) -> None:
    """MQTT → SSE and webhook → REST → MQTT."""
    heading("5. A round trip: MQTT → webhook → REST → MQTT, and a dashboard that sees it all")
    quality = Quality(node, http)
    await quality.start()
    try:
        push = {"url": URL, "format": "json", "secret": "secret:quality"}
        spec = {"filters": [f"{MEASURED}/thickness"], "start": "latest", "backoff_initial_s": 0.2, "push": push}
        async with http.put(f"{node.url('http')}/v1/consumers/{CONSUMER}", json=spec) as answer:
            if answer.status not in (200, 201):
                raise DemoError(f"the webhook was refused: {await answer.text()}")
        show("HOOK", "=", f"consumer {CONSUMER} calls a service for every {MEASURED}/thickness")
        stream = events(http, node, "plant/#", "latest")
        await next_event(stream)
        await machine.publish(f"{MEASURED}/thickness", "2.71")
        show("MQTT", ">", f"{MEASURED}/thickness  2.71")
        for _ in range(2):
            event = await next_event(stream)
            show("SSE", "<", f"{event['topic']}  {event['payload']}")
        await stream.aclose()  # type: ignore[attr-defined]
        topic, verdict = await machine.receive()
        if topic != f"{COMMANDS}/quality" or verdict != "reject" or quality.problem:
            raise DemoError(quality.problem or f"{MACHINE} got {topic} {verdict}")
        async with http.delete(f"{node.url('http')}/v1/consumers/{CONSUMER}") as answer:
            await answer.read()
    finally:
        await asyncio.wait_for(quality.stop(), 5)
