"""Lines over TCP, UTF-8:

    client   HELLO <user> <password> | PUB <topic> <payload> | SUB <filter>
    server   <greeting>, OK | NO <reason> for each line, EVENT <topic> <payload>, BYE
"""
from __future__ import annotations

import asyncio
from collections import Counter

from protocols.server import Parts, ProtocolServer
from protocols.transport.sockets import SocketListener, SocketSettings
from routing.consumers.consumer import ConsumerSpec
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Identity


class EchoServer(ProtocolServer):
    def __init__(self, parts: Parts, settings) -> None:
        self.parts, self.settings = parts, settings
        self.open: dict[str, EchoConnection] = {}
        self.numbers: Counter[str] = Counter()
        self.ticks = 0
        self._listener = SocketListener(self, SocketSettings(), asyncio.get_running_loop(), parts.router.turns)

    def connection(self, channel, now_s):
        connection = self.open[channel.address] = EchoConnection(self, channel)
        return connection

    async def factory(self):
        return self._listener.channel

    async def shutdown(self):
        for connection in list(self.open.values()):
            connection.end("the node shuts down")
        await self._listener.closed()

    @property
    def connections(self):
        return len(self.open)

    def tick(self, now_s):
        self.ticks += 1

    def counters(self):
        return {"echo": {"connections": self.connections, "ticks": self.ticks, **self.numbers}}

    def clients(self):
        for address, connection in self.open.items():
            yield {"client_id": f"echo:{address}", "user": connection.identity.user if connection.identity else None,
                   "connected": True, "address": address}

    def kick(self, client_id):
        connection = self.open.get(client_id.removeprefix("echo:"))
        if connection is not None:
            connection.end("an operator ended it")
        return connection is not None


class EchoConnection:
    """A handler of bytes, a member of a consumer, and a holder of a login."""

    credit = 100

    def __init__(self, server: EchoServer, channel) -> None:
        self.server, self.channel, self.router = server, channel, server.parts.router
        self.identity: Identity | None = None
        self.publisher = self.consumer = None
        self.rest = b""
        self.say(server.settings.greeting)

    def say(self, line: str) -> None:
        self.channel.write(line.encode() + b"\n")

    # -- protocols.transport.wire.ConnectionHandler -------------------------------------------------------------------
    def receive_data(self, data: bytes, now_s: float) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > self.server.settings.line_bytes_max:
            self.end("a line is too long")
            return
        for line in lines:
            verb, _, rest = line.decode(errors="replace").partition(" ")
            act = {"HELLO": self.hello, "PUB": self.publish, "SUB": self.subscribe}.get(verb)
            if act is None or (verb != "HELLO" and self.identity is None):
                self.end("HELLO first, then PUB and SUB")
                return
            act(*rest.partition(" ")[::2])

    def eof(self) -> None:
        self.server.open.pop(self.channel.address, None)
        if self.consumer is not None:
            self.router.delete_consumer(self.consumer.name)
        if self.identity is not None:
            self.router.logins.discard(self)

    def pause_writing(self) -> None:
        self.credit = 0

    def resume_writing(self) -> None:
        self.credit = 100
        if self.consumer is not None:
            self.consumer.ready(self)

    def describe(self) -> str:
        return f"an echo client at {self.channel.address}"

    # -- lines ------------------------------------------------------------------------------------------------
    def hello(self, user: str, password: str) -> None:
        def done(answer: Identity | Refusal) -> None:
            if isinstance(answer, Refusal):
                self.end(answer.text)
                return
            self.identity, self.publisher = answer, self.router.publisher(answer)
            self.router.logins.add(self)
            self.say("OK")

        self.server.parts.authenticator.authenticate(
            user or None, password.encode() if user else None, "echo", "", self.channel.address, done,
            certificate_name=self.channel.tls_identity)

    def publish(self, topic: str, payload: str) -> None:
        event = Event(topic, payload.encode(), self.router.clock_ms())
        self.server.numbers["events_in"] += 1
        self.router.publish([event], self.publisher).on_done(
            lambda ticket: self.say(f"NO {ticket.refusals[0].text}" if ticket.refusals else "OK"))

    def subscribe(self, pattern: str, _: str) -> None:
        found = self.router.open_consumer(
            ConsumerSpec(f"echo/{self.channel.address}", (pattern,), durable=False), self.identity)
        refusal = found if isinstance(found, Refusal) else found.attach(self)
        if refusal is not None:
            self.say(f"NO {refusal.text}")
            return
        self.consumer = found
        self.say("OK")

    # -- Member, and routing.logins.Holder -------------------------------------------------------------
    def deliver(self, consumer, deliveries) -> None:
        for delivery in deliveries:
            self.say(f"EVENT {delivery.event.topic} {delivery.event.payload.decode()}")
        self.server.numbers["events_out"] += len(deliveries)
        self.credit += len(deliveries)
        consumer.ack(deliveries)

    def consumer_closed(self, consumer, reason: str) -> None:
        self.end(reason)

    def rights_changed(self, identity: Identity) -> None:
        self.identity = identity
        if identity.revoked:
            self.end("the login does not hold any more")

    def end(self, reason: str) -> None:
        self.say(f"BYE {reason}")
        self.channel.close()
