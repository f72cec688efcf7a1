"""One link connection: handshake, heartbeat, queues, what it can carry. Sans-IO; time comes in as an argument.

    dialler   AWAIT_WELCOME ── Welcome ──► CHECKING_WELCOME ── admit() ──► UP ── close() or Goodbye ──► CLOSING
    acceptor  AWAIT_HELLO ──── Hello ────► CHECKING_HELLO ──── admit() ──► UP ── close() or Goodbye ──► CLOSING

TABLE has every frame that may come in a phase; any other one ends the connection. transport.py moves the messages,
manager.py decides who is admitted.
"""
from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from mesh.link.protocol.bucket import TokenBucket, Uplink
from mesh.link.protocol.codes import TEXTS, Code
from mesh.link.protocol.frames import (
    LENGTH,
    PRIORITY_CONTROL,
    TEXT_MAX,
    BadFrame,
    Frame,
    Goodbye,
    Gossip,
    Hello,
    Ping,
    Pong,
    Refuse,
    Relay,
    Welcome,
    encode_frame,
    frames_of,
)
from mesh.link.protocol.health import Health, LinkState
from mesh.link.protocol.meter import Meter
from mesh.link.protocol.outbox import Outbox
from mesh.link.protocol.peer import Me, Peer, agree, bad_name, peer_of_hello, peer_of_welcome
from mesh.link.settings import LinkLimits

STATES_AT_ONCE = 4          # of a Gossip frame, and …
STATE_BYTES_AT_ONCE = 16 * 1024     # … no more of them than this, unless one is larger: 4,096 filters take some 10 ms
GOSSIP_CHARGE_MIN = 1_024   # bytes that a small Gossip frame counts for, so that tiny ones are bounded too
STRIKES_MAX = 200.0         # Gossip frames dropped, less 10 per second, before the peer is sent away
STRIKES_DECAY = 10.0
LATE_S = 0.5                # a tick that is so late tells that this process stood still


class Phase(enum.Enum):
    AWAIT_HELLO = "awaiting hello"
    CHECKING_HELLO = "checking hello"
    AWAIT_WELCOME = "awaiting welcome"
    CHECKING_WELCOME = "checking welcome"
    UP = "up"
    CLOSING = "closing"


class End(msgspec.Struct, frozen=True):
    """Why a connection ended."""

    code: int
    text: str
    by_peer: bool


class Introduced(Protocol):
    def __call__(self, peer: Peer, token: str | None) -> None:
        """The peer said who it is. Must lead to admit() or close(), now or later. token: of a Hello."""
        ...


class LinkSession:
    """Frames of one WebSocket connection, from its opening on."""

    def __init__(
        self, me: Me, limits: LinkLimits, introduced: Introduced, now_s: float, *, uplink: Uplink | None = None,
    ) -> None:
        """now_s: when the peer's first byte can come; the time of the handshake counts from there."""
        self.me = me
        self.phase = Phase.AWAIT_HELLO
        self.peer: Peer | None = None
        self.end: End | None = None
        self.priority = 5
        self.bucket = TokenBucket(0)
        self.health = Health(limits, now_s)
        self.sent = Meter()
        self.received = Meter()
        self.frames_sent = 0
        self.frames_received = 0
        self.gossip_dropped = 0             # incoming, over the rate
        self.too_large = 0                  # outgoing, more than the peer takes
        self.up_since_s: float | None = None
        self.outbox = Outbox((
            limits.queue_control_bytes, limits.queue_gossip_bytes, limits.queue_direct_bytes, limits.queue_data_bytes))
        self._limits = limits
        self._introduced = introduced
        self._uplink = uplink if uplink is not None else Uplink(0)
        self._link = ""
        self._cost = 1
        self._deadline_s = now_s + limits.handshake_timeout_s
        self._heard_s = now_s
        self._ticked_s = now_s
        self._gossip = TokenBucket(limits.gossip_rate_bytes, limits.gossip_burst_bytes)
        self._strikes = 0.0
        self._strikes_s = now_s
        self._drain_until_s: float | None = None
        self._drain_code = Code.STOPPING

    # -- handshake ------------------------------------------------------------------------------------------------

    def dial(self, link: str, token: str | None, cost: int, now_ms: int) -> None:
        """Be the dialler: say Hello."""
        assert self.phase is Phase.AWAIT_HELLO and self.peer is None
        me = self.me
        self._link, self._cost = link, cost
        self.phase = Phase.AWAIT_WELCOME
        self._queue(Hello(
            me.protocol_min, me.protocol_max, me.node, me.site, me.epoch, me.boot, me.version, now_ms, link, token,
            me.features, cost, self._limits.frame_bytes_max))

    def admit(self, now_s: float, now_ms: int) -> None:
        """The peer is who it says and may come in: the link is up."""
        assert self.peer is not None
        if self.phase is Phase.CHECKING_HELLO:
            me = self.me
            self._queue(Welcome(
                self.peer.protocol, me.node, me.site, me.epoch, me.boot, me.version, now_ms, me.features,
                self._limits.frame_bytes_max))
        else:
            assert self.phase is Phase.CHECKING_WELCOME
        self.phase = Phase.UP
        self.up_since_s = self._heard_s = now_s
        self.health.restart(now_s)
        self._ping(now_s, now_ms)

    def close(self, code: Code, text: str = "") -> None:
        """Say why and end. What is queued is thrown away; see drain()."""
        self._finish(End(code, (text or TEXTS[code])[:TEXT_MAX], by_peer=False))

    def gone(self) -> None:
        """The socket is gone without a word."""
        self.phase = Phase.CLOSING
        self.outbox.clear()
        self._uplink.done(self)

    def drain(self, code: Code, now_s: float) -> None:
        """Take nothing more to send, send what is queued, then close; at the latest after drain_timeout_s."""
        self._drain_code = code
        self._drain_until_s = now_s + self._limits.drain_timeout_s

    @property
    def draining(self) -> bool:
        return self._drain_until_s is not None

    # -- in -------------------------------------------------------------------------------------------------------

    def heard(self, now_s: float) -> None:
        """Bytes came, perhaps a part of a message."""
        self._heard_s = now_s

    def receive(self, message: bytes | bytearray, now_s: float, now_ms: int) -> list[Gossip | Relay]:
        """One WebSocket message at once. What is for the overlay comes back, in order."""
        return [frame for frame in self.steps(message, lambda: now_s, lambda: now_ms) if frame is not None]

    def steps(self, message: bytes | bytearray, clock_s: Callable[[], float],
              clock_ms: Callable[[], int]) -> Iterator[Gossip | Relay | None]:
        """One WebSocket message, a step per frame; one with many states in parts. What is for the overlay is yielded.

        A message is as good as its frames: those before a bad one count.
        """
        if self.phase is Phase.CLOSING:
            return
        self.received.add(len(message), clock_s())
        try:
            for frame in frames_of(message, self._limits.frame_bytes_max):
                self.frames_received += 1
                if type(frame) is Relay and self.phase is Phase.UP:
                    yield frame
                    continue
                handler = TABLE.get((self.phase, type(frame)))
                if handler is None:
                    self.close(Code.UNEXPECTED_FRAME, f"{type(frame).__name__} while {self.phase.value}")
                    return
                kept = handler(self, frame, clock_s(), clock_ms())
                if isinstance(kept, Gossip) and len(kept.states) > 1:
                    yield from _parts(kept.states)
                else:
                    yield kept
        except BadFrame as error:
            self.close(Code.BAD_FRAME, str(error))

    def _on_hello(self, frame: Frame, now_s: float, now_ms: int) -> None:
        assert isinstance(frame, Hello)
        problem = bad_name(frame)
        if problem is not None:
            self.close(Code.BAD_FRAME, problem)
            return
        protocol = agree(self.me, frame)
        if protocol is None:
            self.close(Code.PROTOCOL_VERSION, (
                f"we speak versions {self.me.protocol_min} to {self.me.protocol_max}, "
                f"you {frame.protocol_min} to {frame.protocol_max}"))
            return
        self.peer = peer_of_hello(frame, protocol)
        self.phase = Phase.CHECKING_HELLO
        self._introduced(self.peer, frame.token)

    def _on_welcome(self, frame: Frame, now_s: float, now_ms: int) -> None:
        assert isinstance(frame, Welcome)
        problem = bad_name(frame)
        if problem is not None:
            self.close(Code.BAD_FRAME, problem)
            return
        if not self.me.protocol_min <= frame.protocol <= self.me.protocol_max:
            self.close(Code.PROTOCOL_VERSION, f"version {frame.protocol} was not offered")
            return
        self.peer = peer_of_welcome(frame, self._link, self._cost)
        self.phase = Phase.CHECKING_WELCOME
        self._introduced(self.peer, None)

    def _on_end(self, frame: Frame, now_s: float, now_ms: int) -> None:
        assert isinstance(frame, (Refuse, Goodbye))
        self._finish(End(frame.code, frame.text, by_peer=True))

    def _on_ping(self, frame: Frame, now_s: float, now_ms: int) -> None:
        assert isinstance(frame, Ping)
        self._queue(Pong(frame.id, now_ms))

    def _on_pong(self, frame: Frame, now_s: float, now_ms: int) -> None:
        assert isinstance(frame, Pong)
        self.health.pong(frame, now_s)

    def _on_gossip(self, frame: Frame, now_s: float, now_ms: int) -> Gossip | None:
        assert isinstance(frame, Gossip)
        size = max(GOSSIP_CHARGE_MIN, sum(map(len, frame.states)))
        if self._gossip.room(now_s) > 0:
            self._gossip.spend(size)
            return frame
        self.gossip_dropped += 1
        self._strikes = max(0.0, self._strikes - (now_s - self._strikes_s) * STRIKES_DECAY) + 1
        self._strikes_s = now_s
        if self._strikes > STRIKES_MAX:
            self.close(Code.FLOOD, f"more than {self._limits.gossip_rate_bytes} bytes of gossip per second")
        return None

    def _ignore(self, frame: Frame, now_s: float, now_ms: int) -> None:
        """The acceptor is up before we are: any frame may be lost."""

    # -- out ------------------------------------------------------------------------------------------------------

    def send(self, frame: Frame, priority: int) -> bool:
        """Queue a frame of the overlay. False: it was dropped and counted."""
        if self.phase is not Phase.UP or self._drain_until_s is not None or self.peer is None:
            return False
        data = encode_frame(frame)
        if len(data) - LENGTH.size > self.peer.frame_bytes_max:
            self.too_large += 1
            return False
        return self.outbox.put(data, priority)

    def message(self, now_s: float) -> bytes:
        """The next message for the network; b"" when there is none or the rate is used up."""
        outbox = self.outbox
        if not outbox.frames:
            return b""
        room = self.bucket.room(now_s)
        if room > 0:
            room = min(room, self._uplink.room(self, self.priority, now_s))
        else:
            self._uplink.done(self)         # held back by its own rate: it must not hold back others
        if room <= 0 and not outbox.urgent_bytes:
            return b""
        waiting = outbox.frames
        frames = outbox.take(min(self._batch_bytes(), max(room, 1)), urgent_only=room <= 0)
        message = frames[0] if len(frames) == 1 else b"".join(frames)
        self.frames_sent += waiting - outbox.frames
        self.bucket.spend(len(message))
        self._uplink.spend(len(message))
        self.sent.add(len(message), now_s)
        self.health.message_sent(outbox.taken_bytes, emptied=not outbox.frames)
        if not outbox.frames:
            self._uplink.done(self)
        return message

    def step_aside(self) -> None:
        """The network takes nothing now: other links may have our share of the uplink."""
        self._uplink.done(self)

    def _batch_bytes(self) -> int:
        """A message is never larger than the largest frame that the peer takes."""
        batch = self._limits.batch_bytes
        return batch if self.peer is None else min(batch, self.peer.frame_bytes_max)

    def _queue(self, frame: Frame) -> None:
        self.outbox.put(encode_frame(frame), PRIORITY_CONTROL)

    def _ping(self, now_s: float, now_ms: int) -> None:
        self._queue(self.health.ping(now_s, now_ms))

    def _finish(self, end: End) -> None:
        if self.phase is Phase.CLOSING:
            return
        before, self.phase, self.end = self.phase, Phase.CLOSING, end
        self.outbox.clear()
        self._uplink.done(self)
        if end.by_peer or before is Phase.AWAIT_WELCOME:
            return                                  # the peer is gone, or does not know us yet
        refusing = before in (Phase.AWAIT_HELLO, Phase.CHECKING_HELLO)
        self._queue(Refuse(end.code, end.text) if refusing else Goodbye(end.code, end.text))

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float, now_ms: int) -> None:
        """Deadlines and heartbeats. Called some 20 times a second."""
        late_s, self._ticked_s = now_s - self._ticked_s, now_s
        if late_s > LATE_S:                 # we slept, not the peer: what it said meanwhile has not been read yet
            self._deadline_s += late_s
            self._heard_s = min(now_s, self._heard_s + late_s)
            self.health.forgive(late_s, now_s)
        if self.phase is Phase.CLOSING:
            return
        if self.phase is not Phase.UP:
            if now_s >= self._deadline_s:
                self.close(Code.TIMEOUT, f"no handshake within {self._limits.handshake_timeout_s:g} s")
            return
        if now_s - self._heard_s >= self._limits.stale_after_s:
            self.close(Code.TIMEOUT, f"nothing was heard for {self._limits.stale_after_s:g} s")
            return
        if self._drain_until_s is not None and (now_s >= self._drain_until_s or self._idle):
            self.close(self._drain_code)
            return
        self.health.note(now_s, waiting=self.outbox.frames > 0, idle=self._idle)
        if self.health.ping_due(now_s, idle=self._idle):
            self._ping(now_s, now_ms)

    def set_rules(self, rate_bytes: int, priority: int) -> None:
        """Rate and priority of the link, also while it is up."""
        if rate_bytes != self.bucket.rate:
            self.bucket.set_rate(rate_bytes)
        self.priority = priority
        self._uplink.done(self)

    def probe(self, now_s: float, now_ms: int) -> None:
        """Ask for a sign of life now."""
        if self.phase is Phase.UP:
            self._ping(now_s, now_ms)

    @property
    def _idle(self) -> bool:
        return not self.outbox.frames and not self.unconfirmed_bytes

    @property
    def unconfirmed_bytes(self) -> int:
        """Payload that was sent and that no Pong has confirmed yet."""
        return self.outbox.taken_bytes - self.health.confirmed.total

    def backlog_s(self, now_s: float) -> float | None:
        """Seconds until what waits is at the other end, at the speed of the last seconds; None when nothing moves."""
        waiting = self.outbox.size_bytes + self.unconfirmed_bytes
        rate = self.health.confirmed.rate(now_s)
        return 0.0 if not waiting else waiting / rate if rate >= 1 else None

    def state(self, now_s: float) -> LinkState:
        if self.phase is not Phase.UP:
            return LinkState.DOWN
        return self.health.state(now_s, idle=self._idle)


Handler = Callable[[LinkSession, Frame, float, int], Gossip | Relay | None]
TABLE: dict[tuple[Phase, type[Frame]], Handler] = {
    (Phase.AWAIT_HELLO, Hello): LinkSession._on_hello,
    (Phase.AWAIT_WELCOME, Welcome): LinkSession._on_welcome,
    (Phase.AWAIT_WELCOME, Refuse): LinkSession._on_end,
    (Phase.AWAIT_WELCOME, Goodbye): LinkSession._on_end,
    (Phase.CHECKING_WELCOME, Ping): LinkSession._on_ping,
    (Phase.CHECKING_WELCOME, Gossip): LinkSession._ignore,
    (Phase.CHECKING_WELCOME, Relay): LinkSession._ignore,
    (Phase.CHECKING_WELCOME, Goodbye): LinkSession._on_end,
    (Phase.UP, Ping): LinkSession._on_ping,
    (Phase.UP, Pong): LinkSession._on_pong,
    (Phase.UP, Gossip): LinkSession._on_gossip,
    (Phase.UP, Goodbye): LinkSession._on_end,
}


def _parts(states: list[bytes]) -> Iterator[Gossip]:
    """A Gossip frame in parts that can be looked at in one go."""
    part: list[bytes] = []
    size = 0
    for state in states:
        if part and (len(part) >= STATES_AT_ONCE or size + len(state) > STATE_BYTES_AT_ONCE):
            yield Gossip(part)
            part, size = [], 0
        part.append(state)
        size += len(state)
    if part:
        yield Gossip(part)
