"""Connections, sessions and links of AMQP 1.0 in random legal and illegal orders, against a model of the specification.

The engine stands alone, with nodes that do what chance says: they accept an attach at once, later or never, answer
deliveries, send, and detach. After each step what the engine says has to be what the model says, frame by frame, and
what it keeps has to be what the model keeps. MESHGATE_SOAK=1 runs it for longer.
"""
from __future__ import annotations

import os

import pytest

from protocols.amqp.codec import frames
from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.conditions import LinkFault
from protocols.amqp.engine.states import State
from tests.fuzz.amqp10_model import LinkModel, Model, SessionModel
from tests.fuzz.amqp10_stand import CHANNELS, CREDIT, HANDLES, MESSAGE

SEEDS = 3_000 if os.environ.get("MESHGATE_SOAK") == "1" else 150
STEPS = 200


class World(Model):
    """Its steps: those of the peer, and those of the nodes."""

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
        keeps = role is p.SENDER and self.chance.random() < 0.8
        if keeps:
            self.resume(link)
        self.say(number, p.Attach(
            link.name, handle, role, rcv_settle_mode=p.SECOND if keeps else None, source=p.Source("a"),
            target=p.Target("b"), unsettled=dict.fromkeys(link.theirs) if keeps else None,
            incomplete_unsettled=link.incomplete or None,
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

    def resume(self, link):
        """Of an earlier name, where one is free; the sender knows of some of its deliveries, and of others."""
        link.keeps = True
        link.incomplete = self.chance.random() < 0.2
        taken = {one.name for session in self.sessions.values() for one in session.links.values()} | {
            one.name for one in self.waiting}
        free = [name for name, known in self.kept.items() if known and name not in taken]
        if free and self.chance.random() < 0.9:
            link.name = self.chance.choice(free)
        known = self.kept.get(link.name, {})
        link.theirs = {tag for tag in known if self.chance.random() < 0.8} | {b"unknown"}

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

    def transfer(self):
        number, session = self.somewhere()
        if self.is_bare(session):
            return
        handle = self.some_handle(session, p.SENDER)
        settled = self.chance.random() < 0.3
        there = session.links.get(handle) if session else None
        tag, known = b"t", None
        if there is not None and there.keeps:
            self.tags += 1
            known = self.kept.get(there.name, {})
            tag = b"%d" % self.tags
            if known and self.chance.random() < 0.75:
                tag = self.chance.choice(list(known))
        resumes = known is not None and tag in known and self.chance.random() < 0.8
        self.say(number, p.Transfer(handle, session.next if session else 0, tag, 0, settled,
                                    resume=resumes or None), MESSAGE)
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
            if link.keeps and not self.comes(number, session, link, tag, settled, resumes):
                return
            self.flows(number, link)

    def comes(self, number, session, link, tag, settled, resumes):
        """A transfer on a link that may be resumed. False: the answer has been looked at."""
        known, again = self.kept[link.name], self.again.setdefault(link.name, {})
        delivery_id = session.next - 1
        if settled:
            known.pop(tag, None)
            again.pop(tag, None)
        elif not resumes or tag not in known:
            known.pop(tag, None)
            known[tag] = None
        elif known[tag] is None:
            again[tag] = link, (number, delivery_id)
        else:
            self.known += 1
            link.unanswered -= 1
            session.to_settle[delivery_id] = link.name, tag
            found = [one for one in self.heard() if one[1] != "Flow"]
            assert [(one[1], one[2].first, one[2].settled) for one in found] == [("Disposition", delivery_id, False)]
            engine = next(one for one in self.connection.sessions[number].links.values() if one.name == link.name)
            link.credit = engine.credit
            return False
        return True

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

    def settles(self):
        """The sender has heard the outcomes."""
        number, session = self.somewhere()
        if session is None or session.ended or not session.to_settle:
            return
        first = self.chance.choice(list(session.to_settle))
        last = first + self.chance.randrange(4)
        self.say(number, p.Disposition(p.SENDER, first, last, True))
        self.expect()
        for one in [one for one in session.to_settle if first <= one <= last]:
            name, tag = session.to_settle.pop(one)
            self.kept[name].pop(tag, None)
            self.again.get(name, {}).pop(tag, None)

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
        self.over()

    def goodbye(self):
        self.say(0, p.Close())
        self.expect((0, "Close"))
        assert self.channel.is_closed and self.connection.closed
        self.over()

    # -- steps of the nodes -------------------------------------------------------------------------------------

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
        elif link.draining:
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
        number, session, link = place
        delivery = next(one for one in engine_link.node.taken if not one.settled)
        engine_link.node.taken.remove(delivery)
        self.history.append(("node", "answers", link.name))
        delivery.answer(p.ACCEPTED)
        link.unanswered -= 1
        if link.keeps:
            session.to_settle[delivery.delivery_id] = link.name, delivery.tag
            if self.decided(link.name, delivery.tag, (number, delivery.delivery_id)):
                return
        self.flows(number, link)
        self.connection.flush_answers()
        (made,) = self.expect((number, "Disposition"))
        assert made.first == delivery.delivery_id and bool(made.settled) is not link.keeps

    def decided(self, name, tag, *told):
        """The outcome of a delivery of a link that may be resumed. True: one that was resumed has got it, too."""
        if tag in self.kept.get(name, {}):
            self.kept[name][tag] = p.ACCEPTED
        link, place = self.again.get(name, {}).pop(tag, (None, None))
        if link is None or place in told:
            return False
        self.connection.flush_answers()
        found = {(channel, made.first) for channel, kind, made in self.heard() if kind == "Disposition"}
        session = self.sessions.get(place[0])
        is_there = session is not None and link in session.links.values() and link.state == "attached"
        if is_there:
            engine = next(one for one in self.connection.sessions[place[0]].links.values() if one.name == name)
            link.credit, link.unanswered = engine.credit, engine.unanswered
            session.to_settle[place[1]] = name, tag
        assert found == {*told, *((place,) if is_there else ())}, self.history[-12:]
        self.late += is_there
        return True

    def answers_late(self):
        """What was brought by a link that has gone."""
        late = [one for engine in self.gone if engine.unsettled is not None for one in self.left.get(id(engine), ())]
        if late:
            delivery = self.chance.choice(late)
            self.left[id(delivery.link)].remove(delivery)
            self.history.append(("node", "answers late", delivery.link.name, delivery.tag))
            delivery.answer(p.ACCEPTED)
            if not self.decided(delivery.link.name, delivery.tag):
                self.expect()

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
             "answers_late", "settles", "fails")
    RARE = ("finish", "finish", "finish", "reopen", "garbage", "goodbye")

    def step(self):
        if not self.sessions and self.chance.random() < 0.8:
            name = "begin"
        else:
            name = self.chance.choice(self.RARE if self.chance.random() < 0.01 else self.LEGAL)
        getattr(self, name)()


@pytest.mark.parametrize("part", range(3))
def test_random_orders(part):
    steps = closed = known = late = 0
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
        known, late = known + world.known, late + world.late
        world.say(0, p.Close())
        assert world.connection.closed or world.connection.state is State.CLOSED
        assert len(world.gone) == len(set(map(id, world.gone))), "a node hears once that its link has gone"
        assert not world.alive and not world.connection.sessions
    assert steps > 10 * SEEDS and closed, steps
    assert known > SEEDS // 50 and late, "deliveries were resumed, with an outcome and before there was one"
