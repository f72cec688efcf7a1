"""What MQTT's rules say that each client gets: retained events, sessions, shares, QoS 0, 1 and 2.

Nothing here knows how the node works. The oracle is told what clients do and writes down what is owed to whom; whatever
a client receives must be owed to it, and in the end nothing that must come may be left. What the rules leave open (QoS
0 while a client is away or slow, a retained event that was replaced before it was sent) is owed, but need not come.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from routing.topic import filter_matches  # held against its definition in tests/routing/test_topic.py


class Violation(AssertionError):
    """rule: which one it is, the same in a smaller program."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


@dataclass
class Event:
    number: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    publisher: str
    node: str
    ends_s: float = float("inf")


@dataclass
class Subscription:
    pattern: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    handling: int = 0
    identifier: int | None = None

    @property
    def share(self) -> tuple[str, str] | None:
        if not self.pattern.startswith("$share/"):
            return None
        _, group, wanted = self.pattern.split("/", 2)
        return group, wanted


@dataclass
class Owed:
    event: Event
    qos: int
    retain: bool
    identifiers: tuple[int, ...]
    must: bool = True
    loose: bool = False             # subscriptions changed meanwhile, or fresh
    kept: bool = False              # as a retained event of a new subscription
    fresh: bool = False             # it was published while a subscription began, so it may be live or retained
    again: bool = False             # it was sent before and not answered
    unread: bool = False            # it may have been sent before, and the client did not read it
    held_back: bool = False         # of the client's own, No Local: a later subscription may take it while it waits
    patterns: frozenset[str] = frozenset()      # the subscriptions by which it is owed, when it was published


@dataclass
class Got:
    """What a client has received with QoS 1 or 2."""

    owed: Owed
    group: Group | None
    answered: bool = False          # PUBACK or PUBREC
    crashes: int = 0                # of its node, when it came


@dataclass
class Session:
    client: str
    node: str
    version: int
    expiry_s: float
    receive_maximum: int
    slow: bool
    keeps_retain: bool = False                                  # some subscription ever had Retain As Published
    connected: bool = True
    ends_s: float = float("inf")
    crashes: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    open: dict[int, Got] = field(default_factory=dict)          # packet id → until PUBACK or PUBCOMP
    window: set[int] = field(default_factory=set)               # those of them that came on this connection
    seen: dict[tuple[str, bytes], list[Got]] = field(default_factory=dict)      # of QoS 1, each copy that came
    last: dict[tuple[str, str, bool], int] = field(default_factory=dict)        # number, by topic, node and lane
    newest: dict[str, int] = field(default_factory=dict)        # number of the last one that was retained, by topic

    @property
    def persistent(self) -> bool:
        return self.expiry_s > 0


@dataclass
class Group:
    """The sessions of one node that share a filter."""

    members: set[str] = field(default_factory=set)
    owed: list[Owed] = field(default_factory=list)
    seen: dict[tuple[str, bytes], list[Got]] = field(default_factory=dict)


class Oracle:
    def __init__(self, nodes: list[str]) -> None:
        self.now_s = 0.0
        self.stood: dict[str, list[Event]] = {}                 # all retained events of a topic; the last one stands
        self.crashes = dict.fromkeys(nodes, 0)
        self.repeats: Counter[tuple[str, str, bytes]] = Counter()       # (node, topic, payload): came once more
        self.shared: dict[str, set[str]] = {}                   # $share filter → nodes where it ever was
        self.shared_got: set[tuple[str, str, bytes]] = set()    # ($share filter, topic, payload)
        self.sessions: dict[str, Session] = {}
        self.groups: dict[tuple[str, str], Group] = {}          # (node, $share filter)
        self.up = set(nodes)

    # -- sessions ---------------------------------------------------------------------------------------------

    def connect(self, client: str, node: str, version: int, clean: bool, expiry_s: float, receive_maximum: int,
                slow: bool) -> bool:
        """Returns whether a session must be present."""
        self.pass_time(self.now_s)
        known = self.sessions.get(client)
        if known is not None and known.connected:
            self.leave(client)
            known = self.sessions.get(client)
        if known is not None and clean:
            self.end(client)
            known = None
        if known is None:
            self.sessions[client] = Session(client, node, version, expiry_s, receive_maximum, slow)
            return False
        if known.version != version:
            self._loosen(known)                             # 3.1.1 has no identifiers
        known.version, known.expiry_s, known.receive_maximum, known.slow = version, expiry_s, receive_maximum, slow
        known.connected, known.ends_s = True, float("inf")
        known.window.clear()
        return True

    def leave(self, client: str, *, unread: bool = False) -> None:
        """The connection is over, one way or another. unread: with something that the client did not read."""
        session = self.sessions[client]
        for owed in (*session.owed, *(one for group in self._groups_of(session) for one in group.owed)):
            owed.unread |= unread
        session.connected = False
        session.ends_s = self.now_s + session.expiry_s
        for packet_id, got in list(session.open.items()):
            if got.answered:
                continue
            if got.owed.qos == 1:                           # it is owed, it is no repeat
                key = got.owed.event.topic, got.owed.event.payload
                for seen in (session.seen, got.group.seen if got.group is not None else {}):
                    if got in seen.get(key, ()):
                        seen[key].remove(got)
            if got.group is not None and (got.owed.qos == 1 or not session.persistent):
                del session.open[packet_id]
                if got.owed.qos == 1:                       # another member may get it; QoS 2 nobody [MQTT-4.8.2-5]
                    got.group.owed.append(self._again(got.owed))
            elif got.owed.qos == 1:
                del session.open[packet_id]
                session.owed.append(self._again(got.owed))
        for owed in session.owed:
            owed.must &= owed.qos > 0
        if not session.persistent:
            self.end(client)

    @staticmethod
    def _again(owed: Owed) -> Owed:
        """What was sent does not expire, but in a share, where it begins anew."""
        return replace(owed, must=owed.event.ends_s == float("inf"), loose=True, again=True, unread=False,
                       held_back=False)

    def end(self, client: str) -> None:
        session = self.sessions.pop(client)
        for pattern in session.subscriptions:
            self._leave_group(session, pattern)

    def pass_time(self, now_s: float) -> None:
        self.now_s = now_s
        for client in [name for name, one in self.sessions.items() if one.ends_s <= now_s]:
            self.end(client)

    def kill(self, node: str) -> None:
        self.up.discard(node)
        self.crashes[node] += 1
        for session in [one for one in self.sessions.values() if one.node == node]:
            if session.connected:
                self.leave(session.client)
                session.ends_s = float("inf")               # counted from its start, see start()
            session.crashes += 1
            for owed in session.owed:       # what waits for a subscription of QoS 0 now [MQTT-3.8.4-3] is of QoS 0
                if not owed.again and not any(one.qos for one in self._matching(session, owed.event)):
                    owed.must = False
        for (at, _), group in self.groups.items():
            if at == node and not any(self.sessions[member].persistent for member in group.members):
                group.owed.clear()

    def start(self, node: str) -> None:
        self.up.add(node)
        for session in self.sessions.values():
            if session.node == node and session.ends_s == float("inf"):
                session.ends_s = self.now_s + session.expiry_s

    # -- subscriptions ----------------------------------------------------------------------------------------

    def subscribe(self, client: str, wanted: list[Subscription]) -> None:
        session = self.sessions[client]
        for one in wanted:
            known = session.subscriptions.get(one.pattern)
            session.subscriptions[one.pattern] = one
            session.keeps_retain |= one.retain_as_published and one.share is None
            self._loosen(session)
            if one.share is not None:
                self.groups.setdefault((session.node, one.pattern), Group()).members.add(client)
                self.shared.setdefault(one.pattern, set()).add(session.node)
                if not one.qos and len(self.shared[one.pattern]) > 1:       # it may be handed over to this one
                    for group in self._groups_elsewhere(session.node, one.pattern):
                        for owed in group.owed:
                            owed.must = False
                continue
            for owed in session.owed:                       # its answer begins anew
                if filter_matches(one.pattern, owed.event.topic) and (
                        owed.kept or owed.fresh or (one.no_local and owed.event.publisher == client)):
                    owed.must = False
            if one.handling == 2 or (one.handling == 1 and known is not None):
                continue
            for event, away in self._standing(session.node):
                if not filter_matches(one.pattern, event.topic) or (one.no_local and event.publisher == client):
                    continue
                session.owed.append(Owed(
                    event, min(event.qos, one.qos), True, _identifiers(session, [one]),
                    must=not away and event.ends_s == float("inf"), loose=away, kept=True))

    def unsubscribe(self, client: str, pattern: str) -> None:
        session = self.sessions[client]
        if session.subscriptions.pop(pattern, None) is None:
            return
        self._loosen(session)
        self._leave_group(session, pattern)
        for owed in session.owed:
            if owed.kept or not self._matching(session, owed.event) or (
                    not owed.again and owed.patterns.isdisjoint(session.subscriptions)):      # it MAY come, §3.10.4
                owed.must = False

    def _standing(self, node: str) -> Iterator[tuple[Event, bool]]:
        """Retained events that a new subscription at a node may get, and whether it only may.

        While the node of the newest one is down, the others know of it if they had asked before. If not, the one before
        it stands there, and so on down to one whose node is up and does not know of the newest one either, which is
        certain of this node only.
        """
        for events in self.stood.values():
            away = False
            for event in reversed(events):
                away |= event.node not in self.up
                if event.payload and event.ends_s > self.now_s:
                    yield event, away
                if event.node in self.up and (not away or event.node == node):
                    break

    def _loosen(self, session: Session) -> None:
        for owed in session.owed:
            owed.loose = True

    def _leave_group(self, session: Session, pattern: str) -> None:
        group = self.groups.get((session.node, pattern))
        if group is not None:
            group.members.discard(session.client)
            if not group.members:
                del self.groups[session.node, pattern]
                for other in self._groups_elsewhere(session.node, pattern):
                    if any(self.sessions[member].connected for member in other.members):
                        for owed in other.owed:             # it may have come here, and another one begun there since
                            owed.must = False
                for other in self._groups_elsewhere(session.node, pattern):     # it may have been handed over there
                    for owed in group.owed:
                        owed.must = False
                        other.owed.append(owed)
                    break

    def _groups_elsewhere(self, node: str, pattern: str) -> list[Group]:
        """A share group moves between nodes as any durable consumer: to where a member comes, while none is there.

        So what is owed to a group of one node may come to members of the same name at another one.
        """
        return [group for (at, name), group in self.groups.items() if name == pattern and at != node]

    def _groups_of(self, session: Session) -> list[Group]:
        return [group for (node, pattern), group in self.groups.items()
                if node == session.node and pattern in session.subscriptions]

    def _matching(self, session: Session, event: Event) -> list[Subscription]:
        return [one for one in session.subscriptions.values()
                if one.share is None and filter_matches(one.pattern, event.topic)]

    # -- events -----------------------------------------------------------------------------------------------

    def publish(self, event: Event, fresh: tuple[str, ...] = ()) -> None:
        """fresh: clients that began to subscribe a moment ago, so that the event may be live or retained for them."""
        if event.retain:
            for session in self.sessions.values():
                for owed in session.owed:
                    if owed.kept and owed.event.topic == event.topic:       # the newer one comes instead
                        owed.must = False
            self.stood.setdefault(event.topic, []).append(event)
        for session in self.sessions.values():
            matching = self._matching(session, event)
            wanted = [one for one in matching if not (one.no_local and event.publisher == session.client)]
            kept_for_it = any(one.qos for one in matching)
            if not wanted:
                if kept_for_it:
                    session.owed.append(Owed(event, event.qos, False, (), must=False, loose=True, held_back=True))
                continue
            qos = min(event.qos, max(one.qos for one in wanted))
            retain = event.retain and any(one.retain_as_published for one in wanted)
            certain = session.connected and not session.slow and session.node in self.up
            owed = Owed(event, qos, retain, _identifiers(session, wanted),
                        must=certain or (qos > 0 and kept_for_it and event.ends_s == float("inf")),
                        patterns=frozenset(one.pattern for one in wanted))
            if session.version == 4 and any(one.retain_as_published for one in wanted):
                owed.loose = True                           # asked for with MQTT 5, and 3.1.1 does not know of it
            if session.client in fresh:
                owed.loose, owed.fresh, owed.must = True, True, event.retain and bool(event.payload)
            session.owed.append(owed)
        for (node, pattern), group in self.groups.items():
            _, wanted_here, = pattern.split("/", 2)[1:]
            if filter_matches(wanted_here, event.topic):
                members = {*group.members}.union(
                    *(other.members for other in self._groups_elsewhere(node, pattern)))
                qos = min(event.qos, *(self.sessions[one].subscriptions[pattern].qos for one in members))
                group.owed.append(Owed(event, event.qos, event.retain, (), loose=True,
                                       must=qos > 0 and event.ends_s == float("inf")))

    def received(self, client: str, packet_id: int, qos: int, topic: str, payload: bytes, *, dup: bool, retain: bool,
                 identifiers: tuple[int, ...]) -> None:
        session = self.sessions[client]
        what = f"{client} got {topic} {payload!r} qos {qos} id {packet_id} dup {dup} retain {retain} {identifiers}"
        if not session.connected:
            raise Violation("it is not connected", what)
        if qos:
            session.window.add(packet_id)
            if len(session.window) > session.receive_maximum:
                raise Violation("over the Receive Maximum", f"{what} of {session.receive_maximum}")
        if qos and (known := session.open.get(packet_id)) is not None:
            if not dup or (known.owed.event.topic, known.owed.event.payload, known.owed.qos) != (topic, payload, qos):
                raise Violation("the id is in use", what)
            return
        if dup and qos and not any(
                owed.again and (owed.event.topic, owed.event.payload) == (topic, payload)
                for owed in (*session.owed, *(one for group in self._groups_of(session) for one in group.owed))):
            repeated = self._repeated(session, topic, payload, qos)
            if repeated is not None:
                session.open[packet_id] = repeated
                return
        found, group = self._find(session, topic, payload, qos, retain, identifiers, dup=dup)
        if found is None:
            self._check_repeat(session, what, topic, payload, qos, packet_id)
            return
        if dup and not found.again and not found.unread and group is None and not session.crashes:
            raise Violation("marked as sent before", what)
        if found.again and not dup and group is None and not session.crashes:
            raise Violation("it was sent before", what)
        event = found.event
        if not found.again and group is None and payload:
            place = topic, event.node, qos > 0
            if found.kept and event.number < session.newest.get(topic, 0):
                raise Violation("older than what it has got", what)
            if not found.kept and not found.loose and event.number < session.last.get(place, 0):
                raise Violation("out of order", what)
            session.last[place] = max(event.number, session.last.get(place, 0))
            if event.retain:
                session.newest[topic] = max(event.number, session.newest.get(topic, 0))
        got = None
        if qos:
            got = Got(found, group, crashes=self.crashes[session.node])
            got.owed.qos = qos
            session.open[packet_id] = got
        if qos == 1 or (group is not None and not qos):
            got = got or Got(Owed(event, 0, retain, identifiers), group, True, self.crashes[session.node])
            (session if group is None else group).seen.setdefault((topic, payload), []).append(got)

    def _find(self, session: Session, topic: str, payload: bytes, qos: int, retain: bool,
              identifiers: tuple[int, ...], *, dup: bool) -> tuple[Owed | None, Group | None]:
        places: list[tuple[list[Owed], Group | None, Subscription | None]] = [(session.owed, None, None)]
        for pattern, one in session.subscriptions.items():
            group = self.groups.get((session.node, pattern))
            if group is not None:
                places.append((group.owed, group, one))
                places.extend((other.owed, group, one) for other in self._groups_elsewhere(session.node, pattern))
        best: tuple[tuple[bool, ...], Owed, Group | None, list[Owed]] | None = None
        for entries, group, share in places:
            for owed in entries:
                if (owed.event.topic, owed.event.payload) != (topic, payload):
                    continue
                if share is None and not _may_have(owed, session, retain):
                    continue
                if owed.held_back and all(one.no_local for one in self._matching(session, owed.event)):
                    continue
                exact = (owed.qos, owed.retain, owed.identifiers) == (qos, retain, identifiers)
                if share is not None:
                    exact = (min(owed.event.qos, share.qos), owed.event.retain and share.retain_as_published,
                             _identifiers(session, [share])) == (qos, retain, identifiers)
                here = share is None or entries is group.owed
                flagged = share is None and retain and not any(         # no live one has the flag now
                    one.retain_as_published for one in self._matching(session, owed.event))
                fit = (here, exact and owed.must, owed.unread or owed.again == dup, owed.again == dup,
                       share is None and owed.again and owed.kept == retain, owed.kept or not flagged,
                       share is None and owed.qos == qos,
                       share is None and owed.must, exact, not owed.loose, owed.retain == retain)
                if (exact or owed.loose) and (best is None or fit > best[0]):
                    best = fit, owed, group, entries
        if best is None:
            return None, None
        _, found, group, entries = best
        entries.remove(found)
        if group is not None:
            self.shared_got.update((pattern, topic, payload) for pattern in session.subscriptions
                                   if self.groups.get((session.node, pattern)) is group)
        return found, group

    def _check_repeat(self, session: Session, what: str, topic: str, payload: bytes, qos: int, packet_id: int) -> None:
        """It is not owed. QoS 1 may come twice where a crash took the answer."""
        if not qos and session.crashes and any(one.share for one in session.subscriptions.values()):
            return                                          # a share repeats it, it does not know for whom
        got = self._repeated(session, topic, payload, qos) if qos else None
        if got is None:
            raise Violation("not owed", f"{what}; it is owed " + ", ".join(
                f"{one.event.topic} {one.event.payload!r} qos {one.qos} retain {one.retain} {one.identifiers}"
                for one in session.owed if one.event.topic == topic))
        session.open[packet_id] = got

    def _repeated(self, session: Session, topic: str, payload: bytes, qos: int) -> Got | None:
        """A copy with QoS 1 that came before a crash of its node: each of them may come once more after it.

        So may a copy that went to a member of QoS 0 of a group, to another member, with his QoS.
        """
        crashes = self.crashes[session.node]
        for seen in (session.seen, *(group.seen for group in self._groups_of(session))):
            for got in seen.get((topic, payload), ()):
                if got.crashes < crashes and got.owed.qos in (0, qos):
                    got.crashes = crashes
                    self.repeats[session.node, topic, payload] += 1
                    return got
        return None

    def answered(self, client: str, packet_id: int, *, over: bool) -> None:
        """PUBACK or PUBREC, over: PUBACK or PUBCOMP."""
        session = self.sessions[client]
        got = session.open.get(packet_id)
        if got is not None:
            got.answered = True
            if over:
                del session.open[packet_id]
                session.window.discard(packet_id)

    def finish(self) -> None:
        """Everybody was connected and has answered everything."""
        for session in self.sessions.values():
            left = [owed for owed in session.owed if owed.must and not self._was_a_repeat(session.node, owed.event)]
            if left:
                raise Violation("never came", f"to {session.client}: " + ", ".join(
                    f"{owed.event.topic} {owed.event.payload!r} qos {owed.qos}" + " (retained)" * owed.kept
                    for owed in left))
            if session.open:
                raise Violation("never completed", f"{session.client}: ids {list(session.open)}")
        for (node, pattern), group in self.groups.items():
            left = [owed for owed in group.owed if owed.must
                    and not (len(self.shared[pattern]) > 1      # handed over: another node's members had it
                             and (pattern, owed.event.topic, owed.event.payload) in self.shared_got)
                    and not self._was_a_repeat(node, owed.event)]
            if left:
                raise Violation("a share lost it", f"{pattern} at {node}: {[owed.event.payload for owed in left]}")

    def _was_a_repeat(self, node: str, event: Event) -> bool:
        """Of two copies nobody can tell which one was a repeat and which one was owed: they are counted."""
        key = node, event.topic, event.payload
        self.repeats[key] -= 1
        return self.repeats[key] >= 0


def _may_have(owed: Owed, session: Session, retain: bool) -> bool:
    """May it come with this RETAIN flag, whatever its subscriptions have become?      [MQTT-3.3.1-8] [MQTT-3.3.1-12]"""
    if not retain:
        return not owed.kept
    return owed.kept or owed.fresh or owed.retain or (owed.event.retain and session.keeps_retain)


def _identifiers(session: Session, subscriptions: list[Subscription]) -> tuple[int, ...]:
    if session.version == 4:
        return ()
    return tuple(sorted(one.identifier for one in subscriptions if one.identifier is not None))
