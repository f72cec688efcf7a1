"""HELLO, WELCOME, REFUSE: who comes in, and what ends a connection before it is up."""
from __future__ import annotations

import pytest

from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import Frame, Goodbye, Gossip, Hello, Ping, Pong, Refuse, Relay, Welcome
from mesh.link.protocol.health import LinkState
from mesh.link.protocol.session import TABLE, Phase
from tests.mesh.link.wires import START_MS, Pair, me, relay

HELLO = Hello(1, 1, "a", "s", "e", "b", "0.1", START_MS, "l1")
WELCOME = Welcome(1, "b", "s", "e", "b", "0.1", START_MS)
ONE_OF_EACH: list[Frame] = [
    HELLO, WELCOME, Refuse(3), Ping(1, 1), Pong(1, 1), Gossip([b"x"]), relay(), Goodbye(1),
]


def in_phase(phase: Phase):
    """One end of a pair in that phase."""
    pair = Pair(dial=phase in (Phase.AWAIT_WELCOME, Phase.CHECKING_WELCOME))
    if phase in (Phase.AWAIT_HELLO, Phase.AWAIT_WELCOME):
        end = pair.a if phase is Phase.AWAIT_WELCOME else pair.b
    elif phase is Phase.CHECKING_WELCOME:
        end = pair.a
        end.later = True
        end.take_frames(WELCOME)
    else:
        end = pair.b
        end.later = phase is Phase.CHECKING_HELLO
        end.take_frames(HELLO)
        if phase is Phase.CLOSING:
            end.session.close(Code.KICKED)
    assert end.session.phase is phase
    end.session.outbox.clear()
    return end


def test_both_ends_come_up_and_know_each_other() -> None:
    pair = Pair(token="secret")
    pair.pump()
    assert pair.up and pair.b.token == "secret"
    a, b = pair.b.peer, pair.a.peer
    assert a is not None and b is not None
    assert (a.node, a.site, a.epoch, a.boot, a.link, a.cost) == ("a", "site-a", "epoch-a", "boot-a", "l1", 3)
    assert (b.node, b.site, b.epoch, b.boot, b.link, b.cost) == ("b", "site-b", "epoch-b", "boot-b", "l1", 3)


def test_nothing_is_sent_before_hello() -> None:
    pair = Pair(dial=False)
    pair.run(1)
    assert not pair.a.sent_frames() and not pair.b.sent_frames()


@pytest.mark.parametrize(("ours", "theirs", "agreed"), [
    ((1, 1), (1, 1), 1), ((1, 2), (1, 1), 1), ((1, 1), (1, 2), 1), ((2, 3), (1, 2), 2), ((1, 3), (2, 5), 3),
])
def test_a_node_one_version_older_keeps_working(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: int,
) -> None:
    pair = Pair(a=me("a", ours), b=me("b", theirs))
    pair.pump()
    assert pair.up
    assert pair.a.peer is not None and pair.a.peer.protocol == agreed
    assert pair.b.peer is not None and pair.b.peer.protocol == agreed


def test_without_a_common_version_the_answer_says_both_ranges() -> None:
    pair = Pair(a=me("a", (3, 4)), b=me("b", (1, 2)))
    pair.pump()
    assert pair.a.ended == (Code.PROTOCOL_VERSION, True)
    assert pair.b.ended == (Code.PROTOCOL_VERSION, False)
    assert pair.a.session.end is not None and "1 to 2" in pair.a.session.end.text


def test_a_version_that_was_not_offered_is_refused() -> None:
    end = Pair().a
    end.take_frames(Welcome(9, "b", "s", "e", "b", "0.1", START_MS))
    assert end.ended == (Code.PROTOCOL_VERSION, False)


def test_a_refusal_reaches_the_dialler_with_its_reason() -> None:
    pair = Pair(token="wrong")
    pair.b.refuse = Code.BAD_CREDENTIALS
    pair.pump()
    assert pair.a.ended == (Code.BAD_CREDENTIALS, True)
    assert pair.b.ended == (Code.BAD_CREDENTIALS, False)
    assert pair.b.session.phase is Phase.CLOSING


@pytest.mark.parametrize("field", ["node", "site", "epoch", "boot", "link", "version"])
@pytest.mark.parametrize("bad", ["a\x00b", "a\nb", "ä", "a\x1b[2J"])
def test_control_characters_in_names_are_refused(field: str, bad: str) -> None:
    values = {"node": "a", "site": "s", "epoch": "e", "boot": "b", "link": "l", "version": "1", field: bad}
    end = Pair(dial=False).b
    end.take_frames(Hello(
        1, 1, values["node"], values["site"], values["epoch"], values["boot"], values["version"], 0, values["link"]))
    assert end.ended == (Code.BAD_FRAME, False)
    assert end.peer is None


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("frame", ONE_OF_EACH, ids=lambda frame: type(frame).__name__)
def test_a_frame_that_is_not_in_the_table_ends_the_connection(phase: Phase, frame: Frame) -> None:
    end = in_phase(phase)
    end.take_frames(frame)
    if (phase, type(frame)) in TABLE or (phase is Phase.UP and isinstance(frame, Relay)):
        assert end.session.end is None or end.session.end.code != Code.UNEXPECTED_FRAME
    elif phase is not Phase.CLOSING:
        assert end.ended == (Code.UNEXPECTED_FRAME, False)
    kept = phase is Phase.UP and isinstance(frame, (Gossip, Relay))
    assert end.frames == ([frame] if kept else [])


def test_data_before_hello_changes_nothing_and_is_refused() -> None:
    end = Pair(dial=False).b
    end.take_frames(relay(), HELLO)
    assert end.frames == [] and end.peer is None
    [answer] = end.sent_frames()
    assert isinstance(answer, Refuse) and answer.code == Code.UNEXPECTED_FRAME


def test_a_second_hello_ends_the_connection() -> None:
    end = Pair(dial=False).b
    end.take_frames(HELLO, HELLO)
    assert end.ended == (Code.UNEXPECTED_FRAME, False)


def test_garbage_is_answered_with_a_reason() -> None:
    end = Pair(dial=False).b
    end.take(b"\x00\x00\x00\x03\xc1\xc1\xc1")
    [answer] = end.sent_frames()
    assert isinstance(answer, Refuse) and answer.code == Code.BAD_FRAME


def test_a_handshake_has_ten_seconds() -> None:
    pair = Pair()
    pair.cut = {"b"}
    pair.run(9.9)
    assert pair.a.ended is None
    pair.run(0.2)
    assert pair.a.ended == (Code.TIMEOUT, False)
    silent = Pair(dial=False)
    silent.run(10.1)
    assert silent.b.ended == (Code.TIMEOUT, False)
    assert silent.b.session.state(silent.now_s) is LinkState.DOWN


def test_an_admission_may_take_a_moment() -> None:
    pair = Pair()
    pair.b.later = True
    pair.run(1)
    assert pair.b.session.phase is Phase.CHECKING_HELLO and not pair.up
    pair.b.session.admit(pair.now_s, pair.now_ms)
    pair.pump()
    assert pair.up


def test_frames_that_come_while_the_dialler_still_checks_are_lost_not_fatal() -> None:
    pair = Pair()
    pair.a.later = True
    pair.pump()
    assert pair.b.session.send(relay(), 3)
    pair.pump()
    assert pair.a.frames == [] and pair.a.ended is None
    pair.a.session.admit(pair.now_s, pair.now_ms)
    pair.pump()
    assert pair.b.session.send(relay(), 3)
    pair.pump()
    assert len(pair.a.frames) == 1
