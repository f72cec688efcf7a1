"""The model of AMQP 1.0's connections, sessions and links: what has to come back, and what has to be kept."""
from __future__ import annotations

import random

from protocols.amqp.codec import frames, hot
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.composite import composed, encode_composite
from protocols.amqp.codec.conditions import LinkFault
from protocols.amqp.engine.connection import Connection
from protocols.amqp.engine.unsettled import UnsettledMap, tags_of
from tests.fuzz.amqp10_stand import CHANNELS, CREDIT, HANDLES, WINDOW, Channel, Host, Node


class LinkModel:
    def __init__(self, role, number):
        self.role = role                # of the peer
        self.number = number
        self.state = "waiting"          # attached; gone: we have detached, and the peer has not
        self.credit = 0                 # the peer's to send, where it sends
        self.unanswered = 0
        self.allowed = 0                # ours to send, where it receives
        self.draining = False
        self.sent = 0                   # delivery-count
        self.name = f"link-{number}"
        self.keeps = False              # it may be resumed: what it knows is in Model.kept
        self.theirs, self.incomplete = set(), False     # what the peer's attach says is unsettled


class SessionModel:
    def __init__(self):
        self.links = {}
        self.ended = False              # we have, and the peer has not
        self.window = WINDOW            # transfers that the peer may send
        self.next = 0                   # its next delivery id
        self.ours = 0                   # our next delivery id, and next outgoing id
        self.unsettled = {}             # ours: id → link
        self.to_settle = {}             # the peer's: id → name of the link, tag


class Model:
    """One run: the engine, the model, and what chance picks. The steps are in test_amqp10_links.py."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.now = 0.0
        self.waiting, self.settled, self.gone = [], [], []
        self.alive = set()              # names of links whose nodes have not heard that they have gone
        self.plan = "now"
        self.kept = {}                  # name of a link that may be resumed → tag → outcome, None: there is none
        self.again = {}                 # the same → tags that were resumed before there was one → channel, id
        self.maps = {}                  # the engine's
        self.tags = self.known = self.late = 0
        self.left = {}                  # of the engine's links that have gone: what was not answered
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
                made = hot.decode_performative(body, 0, len(body))
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
        if link.role is p.RECEIVER and link.attach.rcv_settle_mode == p.SECOND:
            link.unsettled = self.maps.setdefault(link.name, UnsettledMap(1_000))
            link.unsettled.compare(tags_of(link.attach.unsettled), is_complete=not link.attach.incomplete_unsettled)
            link.accept(Node(self, link), link.attach.target, unsettled=dict(link.unsettled.states))
        else:
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
        self.over()

    def over(self):
        """The connection is closed."""
        self.closing = True
        self.sessions.clear()

    def end(self, number, condition):
        self.expect((number, "End", condition))
        self.drop(self.sessions[number])

    def drop(self, session):
        session.ended = True
        session.links.clear()
        session.unsettled.clear()
        session.to_settle.clear()

    def attached(self, number, link):
        flows = [(number, "Flow")] if link.role is p.SENDER else []
        made = self.expect((number, "Attach"), *flows)
        link.state = "attached"
        if link.keeps:
            self.compare(link)
            assert {tag: composed(state) for tag, state in (made[0].unsettled or {}).items()} == self.kept[link.name]
        if flows:
            assert made[1].link_credit == CREDIT
            link.credit = CREDIT

    def flows(self, number, link):
        """Credit comes anew when half of it is used, less what waits for an answer."""
        anew = CREDIT - min(link.unanswered, CREDIT)
        if link.credit <= CREDIT >> 1 and anew > link.credit:
            (made,) = self.expect((number, "Flow"))
            assert made.link_credit == anew
            link.credit = anew
        else:
            self.expect()

    def drained(self, number, link):
        if link.draining:
            (made,) = self.expect((number, "Flow"))
            assert (made.link_credit, made.delivery_count) == (0, link.sent + link.allowed)
            link.sent += link.allowed
            link.allowed, link.draining = 0, False
        else:
            self.expect()

    def lost(self, session, link):
        link.state = "gone"
        self.forget(session, link)

    def compare(self, link):
        """What the sender does not know any more is settled, unless it has not said all."""
        kept = self.kept.setdefault(link.name, {})
        if not link.incomplete:
            self.kept[link.name] = {tag: state for tag, state in kept.items() if tag in link.theirs}

    def forget(self, session, link):
        session.to_settle = {number: one for number, one in session.to_settle.items() if one[0] != link.name}
        session.unsettled = {number: one for number, one in session.unsettled.items() if one is not link}

    # -- what chance picks --------------------------------------------------------------------------------------

    def rarely(self):
        """What ends a connection, or a session, is to be rare: else nothing is ever deep."""
        return self.chance.random() < 0.01

    def somewhere(self):
        """A channel, and its session in the model; None: none has begun there."""
        if self.sessions and not self.rarely():
            number = self.chance.choice(list(self.sessions))
        else:
            number = self.chance.randrange(CHANNELS)
        return number, self.sessions.get(number)

    def is_bare(self, session):
        """It has no links, so that mostly nothing can be said of one."""
        return session is not None and not session.ended and not session.links and not self.rarely()

    def some_handle(self, session, role=None):
        """Mostly one that is in use, for this direction."""
        if session is not None and session.links and self.chance.random() < 0.99:
            fitting = [handle for handle, link in session.links.items() if link.role is role]
            return self.chance.choice(fitting if fitting and self.chance.random() < 0.9 else list(session.links))
        return self.chance.randrange(HANDLES)

    # -- what is kept -------------------------------------------------------------------------------------------

    def link_of(self, engine_link):
        """Where the model has a link of the engine."""
        for number, session in self.sessions.items():
            for link in session.links.values():
                if link.name == engine_link.name:
                    return number, session, link
        return None

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
            for link in session.links.values():
                if link.keeps and link.state == "attached":
                    assert self.maps[link.name].states == self.kept[link.name], self.history[-12:]
        attached = {link.name for session in self.sessions.values() for link in session.links.values()
                    if link.state == "attached"}
        assert self.alive == attached, "a node hears when its link has gone"
        assert self.connection.partial_bytes == self.connection.waiting_bytes == 0
