"""An AmqpServer for real clients and raw sockets."""
from __future__ import annotations

from protocols.amqp091.server import AmqpServer
from protocols.amqp091.settings import AmqpSettings
from protocols.authentication.scram_passwords import ScramPasswords
from tests.support.stand import ServerStand


class Stand(ServerStand):
    def make(self, settings):
        self.scram = ScramPasswords(self.router, self.authenticator)
        return AmqpServer(self.router, self.authenticator, settings or AmqpSettings(), scram=self.scram, version="1",
                          node="stand")
