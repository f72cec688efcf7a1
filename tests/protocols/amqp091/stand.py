"""An AmqpServer for real clients and raw sockets."""
from __future__ import annotations

from protocols.amqp091.server import AmqpServer
from protocols.amqp091.settings import AmqpSettings
from tests.support.stand import ServerStand


class Stand(ServerStand):
    def make(self, settings):
        return AmqpServer(self.router, self.authenticator, settings or AmqpSettings(), version="1", node="stand")
