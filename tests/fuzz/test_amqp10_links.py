"""Connections, sessions and links of AMQP 1.0 in random legal and illegal orders, against a model of the specification.

The engine stands alone, with nodes that do what chance says: they accept an attach at once, later or never, answer
deliveries, send, and detach. After each step what the engine says has to be what the model says, frame by frame, and
what it keeps has to be what the model keeps. MESHGATE_SOAK=1 runs it for longer.
"""
from __future__ import annotations

import os
import random
from types import SimpleNamespace

import pytest

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import build, encode_composite, kind_of
from protocols.amqp.codec.conditions import LinkFault
from protocols.amqp.codec.decode import decode
from protocols.amqp.engine.connection import Connection
from protocols.amqp.engine.states import State
from routing.fairness.turns import Turns
from routing.rights.policy import Identity

SEEDS = 3_000 if os.environ.get("MESHGATE_SOAK") == "1" else 150
STEPS = 200
CHANNELS, HANDLES, CREDIT, WINDOW = 3, 4, 3, 6
MESSAGE = b"\x00\x53\x75\xa0\x01x"


# -- what stands around the engine ------------------------------------------------------------------------------------

class Channel:
    """ByteChannel of protocols/wire.py."""

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

    def credit_changed(self):
        pass

    def drain(self):
        self.link.drained()

    def settle(self, held, state, *, settled):
        self.world.settled.append(held)

    def detach(self, *, closed):
        self.world.gone.append(self.link)
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

    left = gone = identity_changed = before_settlement

    def count(self, name, number=1):
        pass

    def may_log(self):
        return False


# -- the model --------------------------------------------------------------------------------------------------------

class LinkModel:
    def __init__(self, role, number):
        self.role = role                # of the peer
        self.number = number
        self.state = "waiting"          # attached; gone: we have detached, and the peer has not
        self.credit = 0                 # the peer's to send, where it sends
        self.unanswered = 0
        self.allowed = 0                # ours to send, where it receives
        self.sent = 0                   # delivery-count
        self.name = f"link-{number}"


class SessionModel:
    def __init__(self):
        self.links = {}
        self.ended = False              # we have, and the peer has not
        self.window = WINDOW            # transfers that the peer may send
        self.next = 0                   # its next delivery id
        self.ours = 0                   # our next delivery id, and next outgoing id
        self.unsettled = {}             # ours: id → link


class World:
    """One run: the engine, the model, and the peer that does what chance says."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.now = 0.0
        self.waiting, self.settled, self.gone = [], [], []
        self.alive = set()              # names of links whose nodes have not heard that they have gone
        self.plan = "now"
        self.channel = Channel()
        self.connection = Connection(Host(self), self.channel, 0.0, lambda: self.now)
        self.sessions = {}
        self.number = 0
        self.history = []
        self.closing = False
        self.receive(frames.AMQP_HEADER)
        self.say(0, p.Open("peer"))
        assert self.channel.out.startswith(frames.AMQP_HEADER)
        self.channel.out = self.channel.out[8:]
        assert [kind for _, kind, _ in self.heard()] == ["Open"]

    # -- bytes ------------------------------------------------------------------------------------------------

    def receive(self, data):
        self.connection.receive_data(data, self.now)

    def say(self, channel, performative, payload=b""):
        self.history.append((channel, performative))
        self.receive(frames.frame(channel, encode_composite(performative) + payload))

    def heard(self):
        """What has come back: channel, kind, performative."""
        data, self.channel.out = self.channel.out, b""
        found, position = [], 0
        while position < len(data):
            size = int.from_bytes(data[position:position + 4], "big")
            body = data[position + 8:position + size]
            if body:
                descriptor, at = decode(body, 1, len(body))
                made = build(kind_of(descriptor), hot.fields(body, at, len(body))[0])
                channel = int.from_bytes(data[position + 6:position + 8], "big")
                found.append((channel, type(made).__name__, made))
                if isinstance(made, p.Flow) and channel in self.sessions:
                    self.sessions[channel].window = made.incoming_window
            position += size
        return found

    def decide(self, link):
        """Called by the host: what becomes of an attach."""
        if self.plan == "now":
            self.accept(link)
        elif self.plan == "refuse":
            self.waiting.remove(link)
            raise LinkFault("amqp:not-found", "no")

    def accept(self, link):
        self.waiting.remove(link)
        self.alive.add(link.name)
        link.accept(Node(self, link), link.attach.target if link.role is p.RECEIVER else link.attach.source)

    # -- what has to come -------------------------------------------------------------------------------------

    def expect(self, *wanted):
        """Each wanted: channel and kind, or channel, kind and condition. Flows of a session may stand between."""
        found = [one for one in self.heard() if one[1] != "Flow" or one[2].handle is not None]
        told = [(channel, kind, *([made.error.condition] if getattr(made, "error", None) is not None else []))
                for channel, kind, made in found]
        assert told == list(wanted), (self.history[-12:], told, wanted)
        return [made for _, _, made in found]

    def close(self, condition):
        self.expect((0, "Close", condition))
        self.closing = True
        self.sessions.clear()

    def end(self, number, condition):
        self.expect((number, "End", condition))
        self.drop(self.sessions[number])

    def drop(self, session):
        session.ended = True
        session.links.clear()
        session.unsettled.clear()

    # -- steps of the peer --------------------------------------------------------------------------------------

    def begin(self):
        free = [number for number in range(CHANNELS) if number not in self.sessions]
        number = self.chance.choice(free) if free and not self.rarely() else self.chance.randrange(CHANNELS + 1)
        if not free and not self.rarely():
            return
        remote = self.rarely()
        self.say(number, p.Begin(0 if remote else None, 0, 100, 100))
        if number >= CHANNELS:
            self.close("amqp:connection:framing-error")
        elif number in self.sessions:
            self.close("amqp:illegal-state")
        elif remote:
            self.close("amqp:not-allowed")
        else:
            self.expect((number, "Begin"))
            self.sessions[number] = SessionModel()

    def somewhere(self):
        """A channel, and its session in the model; None: none has begun there."""
        if self.sessions and not self.rarely():
            number = self.chance.choice(list(self.sessions))
        else:
            number = self.chance.randrange(CHANNELS)
        return number, self.sessions.get(number)

    def rarely(self):
        """What ends a connection, or a session, is to be rare: else nothing is ever deep."""
        return self.chance.random() < 0.01

    def is_bare(self, session):
        """It has no links, so that mostly nothing can be said of one."""
        return session is not None and not session.ended and not session.links and not self.rarely()

    def some_handle(self, session, role=None):
        """Mostly one that is in use, for this direction."""
        if session is not None and session.links and self.chance.random() < 0.99:
            fitting = [handle for handle, link in session.links.items() if link.role is role]
            return self.chance.choice(fitting if fitting and self.chance.random() < 0.9 else list(session.links))
        return self.chance.randrange(HANDLES)

    def finish(self):
        number, session = self.somewhere()
        self.say(number, p.End())
        if session is None:
            self.close("amqp:not-allowed")
            return
        self.expect(*[] if session.ended else [(number, "End")])
        del self.sessions[number]

    def attach(self):
        number, session = self.somewhere()
        free = [one for one in range(HANDLES) if session is None or one not in session.links]
        handle = self.chance.choice(free) if free and self.chance.random() < 0.99 else self.chance.randrange(HANDLES)
        if not free and not self.rarely():
            return
        handle = HANDLES if self.rarely() else handle
        role = self.chance.random() < 0.5
        self.number += 1
        self.plan = self.chance.choice(("now", "now", "later", "refuse"))
        link = LinkModel(role, self.number)
        self.say(number, p.Attach(
            link.name, handle, role, source=p.Source("a"), target=p.Target("b"),
            initial_delivery_count=None if role is p.RECEIVER else 0))
        if session is None:
            self.close("amqp:not-allowed")
        elif session.ended:
            self.expect()
        elif handle >= HANDLES:
            self.close("amqp:connection:framing-error")
        elif handle in session.links:
            self.end(number, "amqp:session:handle-in-use")
        else:
            session.links[handle] = link
            if self.plan == "now":
                self.attached(number, link)
            elif self.plan == "refuse":
                self.expect((number, "Attach"), (number, "Detach", "amqp:not-found"))
                link.state = "gone"
            else:
                self.expect()

    def attached(self, number, link):
        flows = [(number, "Flow")] if link.role is p.SENDER else []
        made = self.expect((number, "Attach"), *flows)
        link.state = "attached"
        if flows:
            assert made[1].link_credit == CREDIT
            link.credit = CREDIT

    def detach(self):
        number, session = self.somewhere()
        if self.is_bare(session):
            return
        handle = self.some_handle(session)
        closed = self.chance.random() < 0.5
        self.say(number, p.Detach(handle, closed))
        if session is None:
            self.close("amqp:not-allowed")
        elif session.ended:
            self.expect()
        elif handle not in session.links:
            self.end(number, "amqp:session:unattached-handle")
        else:
            link = session.links.pop(handle)
            if link.state == "attached":
                (made,) = self.expect((number, "Detach"))
                assert bool(made.closed) is closed
            elif link.state == "waiting":
                self.expect((number, "Attach"), (number, "Detach", "amqp:not-allowed"))
            else:
                self.expect()
            self.forget(session, link)

    def forget(self, session, link):
        session.unsettled = {number: one for number, one in session.unsettled.items() if one is not link}

    def transfer(self):
        number, session = self.somewhere()
        if self.is_bare(session):
            return
        handle = self.some_handle(session, p.SENDER)
        settled = self.chance.random() < 0.3
        self.say(number, p.Transfer(handle, session.next if session else 0, b"t", 0, settled), MESSAGE)
        if session is None:
            self.close("amqp:not-allowed")
            return
        if session.ended:
            self.expect()
            return
        session.window -= 1
        link = session.links.get(handle)
        if session.window < 0:
            self.end(number, "amqp:session:window-violation")
            return
        if link is None:
            self.end(number, "amqp:session:unattached-handle")
            return
        session.next += 1
        if link.role is p.RECEIVER:
            if link.state == "attached":
                self.expect((number, "Detach", "amqp:not-allowed"))
                self.lost(session, link)
            else:                       # before it is attached, or after: nobody has to hear of it
                self.heard()
        elif link.state != "attached":
            self.heard()
        elif link.credit <= 0:
            self.expect((number, "Detach", "amqp:link:transfer-limit-exceeded"))
            self.lost(session, link)
        else:
            link.credit -= 1
            link.unanswered += not settled
            self.flows(number, link)

    def lost(self, session, link):
        link.state = "gone"
        self.forget(session, link)

    def flows(self, number, link):
        """Credit comes anew when half of it is used, less what waits for an answer."""
        anew = CREDIT - min(link.unanswered, CREDIT)
        if link.credit <= CREDIT >> 1 and anew > link.credit:
            (made,) = self.expect((number, "Flow"))
            assert made.link_credit == anew
            link.credit = anew
        else:
            self.expect()

    def flow(self):
        number, session = self.somewhere()
        if self.is_bare(session):
            return
        handle = self.some_handle(session, p.RECEIVER)
        link = session.links.get(handle) if session else None
        credit, drain = self.chance.randrange(5), self.chance.random() < 0.2
        count = link.sent if link is not None and link.role is p.RECEIVER else None
        self.say(number, p.Flow(session.ours if session else 0, 100, session.next if session else 0, 100, handle,
                                count, credit if count is not None else None, drain=drain or None))
        if session is None:
            self.close("amqp:not-allowed")
        elif session.ended:
            self.expect()
        elif link is None:
            self.end(number, "amqp:session:unattached-handle")
        elif link.role is p.SENDER:
            self.expect(*[(number, "Flow")] if link.state == "attached" and link.credit < CREDIT // 2 else [])
            if link.state == "attached" and link.credit < CREDIT // 2:
                link.credit = CREDIT
        elif link.state == "gone":
            self.expect()
        else:
            link.allowed = credit
            link.draining = drain
            if link.state == "attached":
                self.drained(number, link)
            else:
                self.expect()

    def drained(self, number, link):
        if getattr(link, "draining", False):
            (made,) = self.expect((number, "Flow"))
            assert (made.link_credit, made.delivery_count) == (0, link.sent + link.allowed)
            link.sent += link.allowed
            link.allowed, link.draining = 0, False
        else:
            self.expect()

    def disposition(self):
        number, session = self.somewhere()
        known = list(session.unsettled) if session else []
        first = self.chance.choice([*known, self.chance.randrange(8)])
        last = self.chance.choice([None, first, first + self.chance.randrange(4), max(first - 1, 0)])
        settled = self.chance.random() < 0.7
        self.settled.clear()
        self.say(number, p.Disposition(p.RECEIVER, first, last, settled, p.ACCEPTED))
        if session is None:
            self.close("amqp:not-allowed")
            return
        if session.ended:
            self.expect()
            return
        done = [one for one in sorted(session.unsettled) if first <= one <= (last if last is not None else first)]
        self.expect(*[(number, "Disposition")] * len([] if settled else done))
        assert self.settled == done
        for one in done:
            del session.unsettled[one]

    def reopen(self):
        self.say(0, p.Open("again"))
        self.close("amqp:illegal-state")

    def garbage(self):
        number, _ = self.somewhere()
        self.history.append((number, "garbage"))
        body = self.chance.choice((b"\x00\x53\x10", b"\x00\x53\x99\x45", b"\x01", b"\x00\x53\x12\xc0\x01"))
        self.receive(frames.frame(number, body))
        found = self.heard()
        assert [kind for _, kind, _ in found] == ["Close"] and found[0][2].error.condition == "amqp:decode-error"
        self.closing = True
        self.sessions.clear()

    def goodbye(self):
        self.say(0, p.Close())
        self.expect((0, "Close"))
        assert self.channel.is_closed and self.connection.closed
        self.closing = True
        self.sessions.clear()

    # -- steps of the nodes -------------------------------------------------------------------------------------

    def link_of(self, engine_link):
        """Where the model has a link of the engine."""
        for number, session in self.sessions.items():
            for link in session.links.values():
                if link.name == engine_link.name:
                    return number, session, link
        return None

    def decides_late(self):
        if not self.waiting:
            return
        engine_link = self.chance.choice(self.waiting)
        place = self.link_of(engine_link)
        refuses = self.chance.random() < 0.3
        if refuses:
            self.waiting.remove(engine_link)
            engine_link.refuse(LinkFault("amqp:not-found", "no"))
        else:
            self.accept(engine_link)
        self.history.append(("node", "refuses" if refuses else "accepts", engine_link.name))
        if place is None or place[2].state != "waiting":
            self.expect()
            return
        number, session, link = place
        if refuses:
            self.expect((number, "Attach"), (number, "Detach", "amqp:not-found"))
            self.lost(session, link)
        elif link.role is p.SENDER:
            self.attached(number, link)
        elif getattr(link, "draining", False):
            made = self.expect((number, "Attach"), (number, "Flow"))
            link.state = "attached"
            assert made[1].delivery_count == link.allowed
            link.sent, link.allowed, link.draining = link.allowed, 0, False
        else:
            self.attached(number, link)

    def node_of(self, role):
        """An attached link of the engine, and where the model has it."""
        found = [(engine_link, self.link_of(engine_link)) for session in self.connection.sessions.values()
                 for engine_link in session.links.values() if engine_link.is_attached and engine_link.role is role]
        return self.chance.choice(found) if found else (None, None)

    def sends(self):
        engine_link, place = self.node_of(p.SENDER)
        if engine_link is None:
            return
        number, session, link = place
        assert engine_link.room() == link.allowed
        if not link.allowed:
            return
        settled = self.chance.random() < 0.3
        self.history.append(("node", "sends", link.name))
        engine_link.send(MESSAGE, session.ours, settled=settled)
        (made,) = self.expect((number, "Transfer"))
        assert (made.delivery_id, bool(made.settled)) == (session.ours, settled)
        if not settled:
            session.unsettled[session.ours] = link
        session.ours += 1
        link.allowed -= 1
        link.sent += 1

    def answers(self):
        engine_link, place = self.node_of(p.RECEIVER)
        if engine_link is None or not any(not one.settled for one in engine_link.node.taken):
            return
        number, _, link = place
        delivery = next(one for one in engine_link.node.taken if not one.settled)
        engine_link.node.taken.remove(delivery)
        self.history.append(("node", "answers", link.name))
        delivery.answer(p.ACCEPTED)
        link.unanswered -= 1
        flows = [one for one in self.heard() if one[1] == "Flow" and one[2].handle is not None]
        anew = CREDIT - min(link.unanswered, CREDIT)
        if link.credit <= CREDIT >> 1 and anew > link.credit:
            assert [made.link_credit for _, _, made in flows] == [anew]
            link.credit = anew
        else:
            assert not flows
        self.connection.flush_answers()
        (made,) = self.expect((number, "Disposition"))
        assert made.first == delivery.delivery_id and made.settled

    def fails(self):
        engine_link, place = self.node_of(self.chance.random() < 0.5)
        if engine_link is None:
            return
        number, session, link = place
        self.history.append(("node", "fails", link.name))
        engine_link.fail(LinkFault("amqp:resource-deleted", "gone"))
        self.expect((number, "Detach", "amqp:resource-deleted"))
        self.lost(session, link)

    # -- the whole ----------------------------------------------------------------------------------------------

    LEGAL = ("begin", "attach", "attach", "attach", "transfer", "transfer", "transfer", "flow", "flow", "disposition",
             "transfer", "flow", "detach", "decides_late", "decides_late", "sends", "sends", "answers", "answers",
             "fails")
    RARE = ("finish", "finish", "finish", "reopen", "garbage", "goodbye")

    def step(self):
        if not self.sessions and self.chance.random() < 0.8:
            name = "begin"
        else:
            name = self.chance.choice(self.RARE if self.chance.random() < 0.01 else self.LEGAL)
        getattr(self, name)()

    def check(self):
        """What the engine keeps is what the model keeps."""
        assert not self.connection.closed or self.closing
        kept = self.connection.sessions
        assert kept.keys() == self.sessions.keys(), self.history[-12:]
        for number, session in self.sessions.items():
            engine = kept[number]
            assert engine.ended is session.ended, (number, self.history[-6:])
            if session.ended:
                continue
            assert session.window > 0, "the peer may always send on"
            states = {handle: link.state.name.lower() for handle, link in engine.links.items()}
            assert states == {handle: "detached" if link.state == "gone" else link.state
                              for handle, link in session.links.items()}, self.history[-12:]
            assert engine.unsettled.keys() == session.unsettled.keys(), self.history[-12:]
        attached = {link.name for session in self.sessions.values() for link in session.links.values()
                    if link.state == "attached"}
        assert self.alive == attached, "a node hears when its link has gone"
        assert self.connection.partial_bytes == self.connection.waiting_bytes == 0


@pytest.mark.parametrize("part", range(3))
def test_random_orders(part):
    steps = closed = 0
    for seed in range(part, SEEDS, 3):
        world = World(seed)
        try:
            for _ in range(STEPS):
                world.step()
                steps += 1
                if world.closing:
                    closed += 1
                    break
                world.check()
        except Exception:
            print(f"seed {seed}")
            raise
        world.say(0, p.Close())
        assert world.connection.closed or world.connection.state is State.CLOSED
        assert len(world.gone) == len(set(map(id, world.gone))), "a node hears once that its link has gone"
        assert not world.alive and not world.connection.sessions
    assert steps > 10 * SEEDS and closed, steps
