"""What stands around the engine of AMQP 1.0: a channel, and a host and nodes that do what chance says."""
from __future__ import annotations

from types import SimpleNamespace

from protocols.amqp.codec import performatives as p
from routing.fairness.turns import Turns
from routing.rights.policy import Identity

CHANNELS, HANDLES, CREDIT, WINDOW = 3, 4, 3, 6
MESSAGE = b"\x00\x53\x75\xa0\x01x"


class Channel:
    """ByteChannel of protocols/transport/wire.py."""

    address, tls_identity, secure = "127.0.0.1:1", None, False

    def __init__(self):
        self.out = b""
        self.is_closed = False

    def write(self, data):
        self.out += data

    def close(self):
        self.is_closed = True

    abort = close

    def over(self):
        return False

    def pause_reading(self):
        raise AssertionError("nothing makes it wait here")

    def buffered_bytes(self):
        return 0


class Node:
    """Source or target of one link."""

    def __init__(self, world, link):
        self.world = world
        self.link = link
        self.taken = []

    def take(self, delivery, message):
        assert message == MESSAGE
        self.taken.append(delivery)

    def alike(self):
        return None

    def credit_changed(self):
        pass

    def drain(self):
        self.link.drained()

    def settle(self, held, state, *, settled):
        self.world.settled.append(held)

    def accepted(self, held):
        self.world.settled += held

    def detach(self, *, closed):
        self.world.gone.append(self.link)
        self.world.left[id(self.link)] = [one for one in self.taken if not one.settled]
        self.world.alive.discard(self.link.name)


class Host:
    """Host of engine/host.py: everybody may come in, and chance decides about links."""

    session_window, handles_max, link_credit = WINDOW, HANDLES, CREDIT
    message_bytes_max = partial_bytes_max = waiting_bytes_max = 1 << 20
    full_frames = stopping = False
    bounds = SimpleNamespace(connect_timeout_s=10, pre_auth_bytes_max=4096, open_bytes_max=4096, frame_bytes_max=4096,
                             sessions_max=CHANNELS, idle_timeout_s=60, close_timeout_s=5, unsettled_max=1_000)

    def __init__(self, world):
        self.world = world
        self.turns = Turns(lambda work: None, lambda: 0.0)      # no slice is ever over

    def login(self, connection):
        def nobody(done):
            done(Identity("anonymous"))
            return True

        return SimpleNamespace(mechanisms=("ANONYMOUS",), nobody=nobody, give_up=lambda: None)

    def logged_in(self, connection, identity):
        return None

    def opened(self, connection, found):
        connection.accept_open(p.Open("node", channel_max=CHANNELS - 1), 0)

    def attach_source(self, link, attach):
        self.world.waiting.append(link)
        self.world.decide(link)

    attach_target = attach_source

    def read_over(self, connection):
        connection.flush_answers()

    def before_settlement(self, connection):
        pass

    left = gone = identity_changed = session_ended = before_settlement

    def count(self, name, number=1):
        pass

    def may_log(self):
        return False
