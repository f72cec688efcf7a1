"""The link codec and a session under mutated and random bytes: only the documented error, in bounded time and space."""
from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.link.dialling.proxy import ProxyError, check_reply
from mesh.link.protocol.frames import (
    BadFrame,
    Goodbye,
    Gossip,
    Hello,
    Ping,
    Pong,
    Refuse,
    Relay,
    Welcome,
    decode_message,
    encode_frame,
)
from mesh.link.protocol.peer import Me, Peer
from mesh.link.protocol.session import LinkSession, Phase
from mesh.link.settings import LinkLimits

pytestmark = pytest.mark.measured

HELLO = Hello(1, 1, "graz", "site", "epoch", "boot", "0.1", 1_700_000_000_000, "l1", "token", ("x", "y"), 3, 65_536)
SEEDS = [
    encode_frame(frame) for frame in (
        HELLO, Welcome(1, "lyon", "s", "e", "b", "0.1", 1, ("x",)), Refuse(3, "no"), Ping(2**63 - 1, 2**53), Pong(1, 2),
        Gossip([b"state", b"", b"x" * 300]), Relay("lyon", "graz", 16, 3, b"body" * 100), Goodbye(1, "bye"))
]
SEEDS.append(b"".join(SEEDS))


def mutate(seed: bytes, rng: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[place:place + 1] = bytes([rng.randrange(256)])
            case 1:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del data[place:place + rng.randrange(1, 9)]
            case 3:
                data[place:place + 4] = rng.choice([b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", b"\xdd\xff\xff\xff"])
            case _:
                data += data[:place]
    return bytes(data)


def session(phase: Phase) -> LinkSession:
    def introduced(peer: Peer, token: str | None) -> None:
        if phase is not Phase.CHECKING_HELLO:
            made.admit(0.0, 0)

    made = LinkSession(Me("lyon", "s", "e", "b", "0.1"), LinkLimits(), introduced, 0.0)
    if phase is Phase.AWAIT_WELCOME:
        made.dial("l1", None, 1, 0)
    elif phase is Phase.UP:
        made.receive(SEEDS[0], 0.0, 0)
        assert made.phase is Phase.UP
    return made


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_frames_or_a_bad_frame(data: bytes) -> None:
    try:
        frames = decode_message(data)
    except BadFrame as error:
        assert len(str(error)) < 400
    else:
        assert frames and decode_message(b"".join(map(encode_frame, frames))) == frames


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_mutated_messages_are_frames_or_a_bad_frame(seed: int) -> None:
    rng = random.Random(seed)
    started = time.thread_time()
    decoded = 0
    for _ in range(3_000):
        try:
            decoded += bool(decode_message(mutate(SEEDS[seed], rng)))
        except BadFrame:
            pass
    assert decoded and time.thread_time() - started < 20


@pytest.mark.parametrize("phase", [Phase.AWAIT_HELLO, Phase.AWAIT_WELCOME, Phase.CHECKING_HELLO, Phase.UP])
def test_a_session_under_mutated_messages_goes_on_or_ends_with_a_reason(phase: Phase) -> None:
    rng = random.Random(phase.value)
    for _ in range(1_500):
        victim = session(phase)
        before = victim.phase
        now_s = 0.0
        for _ in range(rng.randrange(1, 5)):
            frames = victim.receive(mutate(rng.choice(SEEDS), rng), now_s, rng.randrange(2**53))
            assert not frames or before is Phase.UP or victim.phase is not before or phase is Phase.AWAIT_HELLO
            now_s += rng.random()
            victim.tick(now_s, 0)
            victim.state(now_s)
            victim.backlog_s(now_s)
            while victim.message(now_s):
                pass
        assert (victim.phase is Phase.CLOSING) == (victim.end is not None)
        assert victim.outbox.size_bytes == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_a_proxy_may_answer_anything(data: bytes) -> None:
    try:
        check_reply(data + b"\r\n\r\n")
    except ProxyError as error:
        assert str(error).isascii() and len(str(error)) < 300
