"""A client of /v1/consumers for tests: any number of them may work on one consumer."""
from __future__ import annotations


class ConsumerClient:
    def __init__(self, it, name="billing", client="", headers=None):
        self.it = it
        self.path = f"/v1/consumers/{name}"
        self.client = client
        self.headers = headers or {}

    async def call(self, method, path="", body=None, status=200, headers=None):
        send = {"json": body} if body is not None else {}
        async with self.it.http.request(
                method, self.path + path, headers={**self.headers, **(headers or {})}, **send) as response:
            told = await response.json(content_type=None) if response.status != 204 else None
            assert response.status == status, (response.status, told)
            return told

    async def put(self, status=201, **body):
        return await self.call("PUT", "", {"filters": ["#"], "start": "earliest", **body}, status)

    async def get(self):
        return await self.call("GET")

    async def pull(self, count=100, wait_s=0.0, status=200, **body):
        told = await self.call("POST", "/pull", {"max": count, "wait_s": wait_s, "client": self.client, **body}, status)
        return told["events"] if status == 200 else told

    async def answer(self, word, events, status=200, **body):
        tokens = [event["token"] if isinstance(event, dict) else event for event in events]
        return await self.call("POST", f"/{word}", {"tokens": tokens, **body}, status)

    async def ack(self, events, status=200):
        return await self.answer("ack", events, status)


def topics(events):
    return [event["topic"] for event in events]
