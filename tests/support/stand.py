"""A server of one protocol with a real router on a real store, in a thread of its own: for clients and raw sockets."""
from __future__ import annotations

import asyncio
import socket
import threading
import time

from mesh.identity.identity import Authenticator
from mesh.identity.users import User, hash_password
from protocols.transport.sockets import SocketListener, SocketSettings
from routing.event import Event
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, Identity, Policy
from routing.router import Router
from routing.settings import Limits, StreamSettings
from tests.support.wait import DEADLINE_S


class ServerStand:
    """make() of a subclass gives the server."""

    def __init__(self, path, *, rules=(ALLOW_ALL,), users=(), settings=None, limits=None, streams=None):
        self.path = path
        self.options = {"rules": rules, "users": users, "settings": settings, "limits": limits, "streams": streams}
        self.errors = []
        self.port = 0

    def make(self, settings):
        """The server, of self.router and self.authenticator. settings: None for the defaults."""
        raise NotImplementedError

    def start(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True, name=type(self).__module__)
        self.thread.start()
        self.call(self._open())
        return self

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.loop.run_forever()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def do(self, work):
        """Call work() on the loop and return what it gives."""
        async def run():
            return work()

        return self.call(run())

    async def _open(self):
        options = self.options
        clock_ms = lambda: int(time.time() * 1000)  # noqa: E731
        self.store = LocalStore(self.path, call_on_loop=self.loop.call_soon_threadsafe, clock_ms=clock_ms)
        streams = options["streams"] or [StreamSettings("events", ("#",))]
        self.router = Router(self.store, streams, Policy(options["rules"]), limits=options["limits"] or Limits(),
                             call_soon=self.loop.call_soon, clock_s=time.monotonic, clock_ms=clock_ms)
        self.authenticator = Authenticator(
            [User(name, roles, hash_password(password)) for name, password, roles in options["users"]],
            self.router.policy, call_on_loop=self.loop.call_soon_threadsafe, clock_ms=clock_ms, now_s=time.monotonic)
        self.amqp = self.make(options["settings"])
        self.publisher = self.router.publisher(Identity(user="tester", protocol="test"))
        listener = SocketListener(self.amqp, SocketSettings(), self.loop, self.router.turns)
        self.server = await self.loop.create_server(listener.channel, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        self.ticker = self.loop.create_task(self._tick())

    async def _tick(self):
        while True:
            await asyncio.sleep(0.05)
            self.router.tick(time.monotonic())
            self.amqp.tick(time.monotonic())

    async def _close(self):
        self.server.close()
        self.amqp.shutdown()
        await asyncio.sleep(0.05)
        self.ticker.cancel()
        self.router.close()
        self.authenticator.close()

    def stop(self):
        self.call(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        self.loop.close()
        assert not self.errors, self.errors

    def restart(self):
        self.stop()
        return self.start()

    def publish(self, topic, payload=b"x", **fields):
        """As a client of another protocol; durable when it returns."""
        async def run():
            ticket = self.router.publish([Event(topic, payload, 1, **fields)], self.publisher)
            done = self.loop.create_future()
            ticket.on_done(done.set_result)
            await done
            assert not ticket.refusals, ticket.refusals

        self.call(run())

    def socket(self):
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
