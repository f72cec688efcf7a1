"""What a neighbour may not: send documents that nobody asked it for, or speak for somebody behind it."""
from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mesh.administration.administration import Administration, Invalid
from mesh.administration.book import Book, Change
from mesh.administration.documents import Stored
from mesh.administration.effective import Base, Place
from mesh.administration.messages import BadMessage, Documents, Have, Listed, ListPlease, Want, decode, encode, told
from mesh.administration.spread import Spread
from mesh.configuration.settings import Config, UserSettings
from mesh.identity.users import User
from mesh.link.prepare import PreparedLinks
from tests.support.routing import Desk

EVIL = Stored("user", "mallory", {"roles": ["admin"]}, 9, "plant", {"plant": 9}, "mallory")


class Overlay:
    """Neighbours, and what was said to them."""

    def __init__(self) -> None:
        self.came_by: Any = None
        self.said: list[Any] = []
        self.nodes: dict[str, Any] = {}

    def neighbours(self) -> list[Any]:
        return []

    def behind(self, neighbour: Any) -> dict[str, str]:
        return {}

    def send_beside(self, neighbour: Any, body: bytes) -> bool:
        self.said.append(decode(body))
        return True


class Stand:
    def __init__(self, desk: Any, *, administer: bool) -> None:
        self.overlay = Overlay()
        router = desk.router
        self.administration = Administration(
            Book(router.streams.open_internal("$security"), router.request_turn), Place("hub", "cloud"),
            lambda: 1_000, lambda base, rights: None)
        root = User("root", ("admin",), "$argon2id$")
        self.administration.start(Base(Config(users=(UserSettings("root", "$argon2id$", ("admin",)),)), [root], {},
                                       PreparedLinks([], [], anonymous=False)))
        self.unasked: list[tuple[str, int]] = []
        self.spread = Spread(self.administration, self.overlay, lambda: 1.0)  # type: ignore[arg-type]
        self.spread.on_unasked = lambda neighbour, count: self.unasked.append((neighbour, count))
        self.neighbour = SimpleNamespace(node="plant", site="graz", administer=administer)

    def hear(self, message: Any, source: str = "plant") -> None:
        self.overlay.came_by = self.neighbour
        self.spread.on_message(source, encode(message))


def test_documents_from_a_neighbour_that_may_not_administer_are_refused_and_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=False)
        stand.hear(Have("00"))
        assert stand.overlay.said == []                     # it is not even asked
        stand.hear(Documents([told(EVIL)]))
        stand.hear(Listed([("user", "mallory", 9, "plant", "x")], False))
        assert stand.administration.book.documents == {} and stand.spread.counts["unasked"] == 2
        assert stand.unasked == [("plant", 1)]              # once a minute
    asyncio.run(scenario())


def test_documents_that_nobody_asked_for_are_refused_also_from_who_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=True)
        stand.hear(Documents([told(EVIL)]))
        assert stand.administration.book.documents == {} and stand.unasked == [("plant", 1)]
        stand.hear(Have("00"))
        assert stand.overlay.said == [ListPlease()]
    asyncio.run(scenario())


def test_nobody_speaks_through_a_neighbour(tmp_path: Path) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=True)
        stand.hear(Have("00"), source="somebody behind it")
        stand.hear(Documents([told(EVIL)]), source="somebody behind it")
        assert stand.overlay.said == [] and stand.spread.counts["from afar"] == 2
    asyncio.run(scenario())


@pytest.mark.parametrize("body", [
    b"", b"\x91", b"\x92\x28", b"\x92\x2c\x91\x90", b"\x92\x28\xc1", b"\x92\x28" + b"\xff" * 90])
def test_bytes_that_are_no_message_raise_the_one_error(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(body)


@pytest.mark.parametrize("fields", [{"number": 0}, {"number": 2**60}, {"name": ""}, {"name": "x" * 300},
                                    {"node": "n" * 65}, {"seen": {str(one): 1 for one in range(1_001)}}])
def test_every_field_has_a_bound(fields: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        decode(encode(Documents([msgspec.structs.replace(told(EVIL), **fields)])))


def test_a_message_comes_back_as_it_was() -> None:
    for message in (Have("ab"), ListPlease("user", "ana"), Listed([("user", "a", 1, "n", "d")], True),
                    Want([("user", "a")]), Documents([told(EVIL)])):
        assert decode(encode(message)) == message


ILL = [
    Stored("peer", "graz-2", {"token_hash": "no hash"}, 1, "plant", {"plant": 1}),
    Stored("user", "ana", {"password_hash": "no hash", "roles": ["admin"]}, 1, "plant", {"plant": 1}),
    Stored("key", "till", {"key_hash": "no hash"}, 1, "plant", {"plant": 1}),
    Stored("policy", "both", {"allow": ["publish"], "deny": ["view"], "to": ["*"]}, 1, "plant", {"plant": 1}),
    Stored("role", "boss", {"held_by": [], "of a later version": 1}, 1, "plant", {"plant": 1}),
]


async def finished(desk: Any, task: Any) -> Any:
    while not task.done():
        desk.run()
        await asyncio.sleep(0)
    return task.result()


def test_what_nobody_could_have_made_here_does_nothing_and_stops_nothing(tmp_path: Path) -> None:
    """A hash of a peer that is none ended each pull, each look at the clock and each start with an exception."""
    async def scenario() -> None:
        desk = Desk(tmp_path)
        stand = Stand(desk, administer=True)
        administration = stand.administration
        await finished(desk, asyncio.ensure_future(administration.take(ILL, "plant")))
        assert {administration.state_of(one.key) for one in ILL} == {"not understood"}
        assert [user.name for user in administration.rights.users] == ["root"] and not administration.rights.keys
        change = Change("role", "till", {"held_by": ["boss"]})
        await finished(desk, asyncio.ensure_future(administration.change([change], author="root")))
        assert administration.state_of(("role", "till")) == "in force"
    asyncio.run(scenario())


def test_keys_of_one_draft_differ_and_looking_for_that_costs_one_pass(tmp_path: Path) -> None:
    async def scenario() -> None:
        administration = Stand(Desk(tmp_path), administer=True).administration
        body = {"key_hash": "sha256:" + "0" * 64}
        with pytest.raises(Invalid, match="the same key as one"):
            administration.check([Change("key", "one", body), Change("key", "two", body)])
        passes = 0
        alive = administration.book.alive

        def counted(kind: str = "") -> Any:
            nonlocal passes
            passes += 1
            return alive(kind)

        administration.book.alive = counted  # type: ignore[method-assign]
        administration.check([Change("key", f"k{one}", {"key_hash": f"sha256:{one:064x}"}) for one in range(500)])
        assert passes == 1
    asyncio.run(scenario())


@pytest.mark.parametrize("names", [["b", "a"], ["a", "a"], []])
def test_a_list_that_does_not_go_on_ends_the_pull(tmp_path: Path, names: list[str]) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=True)
        stand.hear(Have("00"))
        stand.hear(Listed([("user", "a", 1, "plant", "x")], True))
        assert stand.overlay.said[1:] == [ListPlease("user", "a")]
        stand.hear(Listed([("user", name, 1, "plant", "x") for name in names or ["a"]], True))
        assert len(stand.overlay.said) == 2 and stand.spread.counts["bad"] == 1
        assert not stand.spread.snapshot()[0]["pulling"]
    asyncio.run(scenario())
