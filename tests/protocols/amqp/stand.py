"""An Amqp10Server for real clients and raw sockets."""
from __future__ import annotations

from protocols.amqp.server import Amqp10Server
from protocols.amqp.settings import Amqp10Settings
from protocols.authentication.scram_passwords import ScramPasswords
from tests.support.stand import ServerStand


class Stand(ServerStand):
    def make(self, settings):
        self.scram = ScramPasswords(self.router, self.authenticator)
        return Amqp10Server(self.router, self.authenticator, settings or Amqp10Settings(), version="1", node="stand",
                            scram=self.scram)

    @property
    def url(self):
        return f"amqp://127.0.0.1:{self.port}"
