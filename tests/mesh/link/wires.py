"""Two sessions wired in memory with a clock of the test's. Nothing moves unless pump() or run() is called."""
from __future__ import annotations

from typing import Any

from mesh.link.protocol.bucket import Uplink
from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import Frame, Gossip, Relay, decode_message, encode_frame
from mesh.link.protocol.peer import Me, Peer
from mesh.link.protocol.session import LinkSession, Phase
from mesh.link.settings import LinkLimits

START_MS = 1_700_000_000_000


def me(node: str, protocols: tuple[int, int] = (1, 1)) -> Me:
    return Me(node, f"site-{node}", f"epoch-{node}", f"boot-{node}", "0.1", *protocols)


def relay(size: int = 100) -> Relay:
    return Relay("b", "a", 16, 3, b"x" * size)


class End:
    """One session with what came out of it."""

    def __init__(self, who: Me, limits: LinkLimits, pair: Pair, uplink: Uplink | None) -> None:
        self.session = LinkSession(who, limits, self.introduced, pair.now_s, uplink=uplink)
        self.peer: Peer | None = None
        self.token: str | None = None
        self.refuse: Code | None = None
        self.later = False
        self.frames: list[Gossip | Relay] = []
        self.messages: list[bytes] = []         # sent, not delivered
        self.skew_ms = 0
        self._pair = pair

    def introduced(self, peer: Peer, token: str | None) -> None:
        self.peer, self.token = peer, token
        if self.refuse is not None:
            self.session.close(self.refuse)
        elif not self.later:
            self.session.admit(self._pair.now_s, self.now_ms)

    @property
    def now_ms(self) -> int:
        return self._pair.now_ms + self.skew_ms

    @property
    def ended(self) -> tuple[int, bool] | None:
        end = self.session.end
        return None if end is None else (end.code, end.by_peer)

    def collect(self) -> None:
        while message := self.session.message(self._pair.now_s):
            self.messages.append(message)

    def take(self, message: bytes) -> None:
        self.session.heard(self._pair.now_s)
        self.frames += self.session.receive(message, self._pair.now_s, self.now_ms)

    def take_frames(self, *frames: Frame) -> None:
        self.take(b"".join(map(encode_frame, frames)))

    def sent_frames(self) -> list[Frame]:
        """What waits to be delivered, decoded."""
        self.collect()
        return [frame for message in self.messages for frame in decode_message(message)]


class Pair:
    """a dials b."""

    def __init__(
        self, *, a: Me | None = None, b: Me | None = None, token: str | None = None, uplink: Uplink | None = None,
        dial: bool = True, **limits: Any,
    ) -> None:
        self.now_s = 100.0
        self.now_ms = START_MS
        self.limits = LinkLimits(**limits)
        self.a = End(a or me("a"), self.limits, self, uplink)
        self.b = End(b or me("b"), self.limits, self, None)
        self.cut: set[str] = set()              # "a": what a sends is lost
        if dial:
            self.a.session.dial("l1", token, 3, self.a.now_ms)

    def pump(self) -> None:
        """Deliver until nothing moves."""
        moved = True
        while moved:
            moved = False
            for name, source, sink in (("a", self.a, self.b), ("b", self.b, self.a)):
                source.collect()
                messages, source.messages = source.messages, []
                for message in messages:
                    moved = True
                    if name not in self.cut:
                        sink.take(message)

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.now_ms += round(seconds * 1000)

    def tick(self) -> None:
        for end in (self.a, self.b):
            end.session.tick(self.now_s, end.now_ms)

    def run(self, seconds: float, *, one_way_s: float = 0.0, step_s: float = 0.05) -> None:
        """Tick and deliver for a time. one_way_s: what each delivery takes."""
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            self.pass_time(step_s)
            self.tick()
            if not one_way_s:
                self.pump()
                continue
            for name, source, sink in (("a", self.a, self.b), ("b", self.b, self.a)):
                source.collect()
                messages, source.messages = source.messages, []
                self.pass_time(one_way_s)
                for message in messages:
                    if name not in self.cut:
                        sink.take(message)

    @property
    def up(self) -> bool:
        return self.a.session.phase is Phase.UP and self.b.session.phase is Phase.UP
