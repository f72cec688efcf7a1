"""What a neighbour may not: send documents that nobody asked it for, be given any that are not for it, or speak for
somebody behind it.
"""
from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mesh.administration.administration import Administration, Invalid
from mesh.administration.book import Book, Change
from mesh.administration.documents import Stored
from mesh.administration.effective import Base, Place
from mesh.administration.giving import Giving
from mesh.administration.messages import BadMessage, Documents, Have, Listed, ListPlease, Want, decode, encode, told
from mesh.administration.spread import Spread
from mesh.configuration.settings import Config
from mesh.identity.auth_settings import UserSettings
from mesh.identity.users import User
from mesh.link.proof.prepare import PreparedLinks
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
    def __init__(self, desk: Any, *, administer: bool, entrust: bool = False) -> None:
        self.desk = desk
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
        self.asked: list[str] = []
        self.spread.on_asked = self.asked.append
        self.neighbour = SimpleNamespace(node="plant", site="graz", administer=administer, entrust=entrust)

    def hear(self, message: Any, source: str = "plant") -> None:
        self.overlay.came_by = self.neighbour
        self.spread.on_message(source, encode(message))

    async def make(self, *changes: Change) -> None:
        await finished(self.desk, asyncio.ensure_future(self.administration.change(changes, author="root")))

    async def say(self) -> list[Any]:
        """What is said once the loop has had its turns."""
        for _ in range(20):
            await asyncio.sleep(0)
        said, self.overlay.said = self.overlay.said, []
        return said


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


def test_a_version_with_the_last_number_that_there_is_is_not_taken(tmp_path: Path) -> None:
    """The next one, made here, would be none that others could read, and with it all that goes with it."""
    async def scenario() -> None:
        desk = Desk(tmp_path)
        stand = Stand(desk, administer=True)
        last, usual = (msgspec.structs.replace(EVIL, name=name, number=number, seen={"plant": number})
                       for name, number in (("last", 2**53), ("usual", 7)))
        stand.hear(Have("01"))
        stand.hear(Listed([(one.kind, one.name, *one.rank) for one in (last, usual)], False))
        stand.hear(Documents([told(last), told(usual)]))
        await finished(desk, asyncio.ensure_future(asyncio.sleep(0.01)))
        for _ in range(20):
            desk.run()
            await asyncio.sleep(0)
        assert list(stand.administration.book.documents) == [("user", "usual")]
        assert stand.spread.counts["ill-formed"] == 1
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


KEY = {"key_hash": "sha256:" + "ab" * 32}
WORD = "ab" * 32


@pytest.mark.parametrize("message", [
    ListPlease(), ListPlease("key", "a"), Want([("key", "till")]), Want([("user", "root"), ("key", "till")])])
def test_who_is_not_trusted_gets_no_document_whatever_it_asks(tmp_path: Path, message: Any) -> None:
    """It holds a good link. Hashes of passwords and keys once left for any of those, also those without nodes."""
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=False)
        stand.hear(Have("00"))                              # it is known, and would be told of changes
        await stand.make(Change("key", "till", KEY), Change("policy", "p", {"allow": ["publish"], "to": ["*"]}))
        stand.overlay.neighbours = lambda: [stand.neighbour]  # type: ignore[method-assign]
        stand.overlay.nodes = {"plant": None}
        stand.spread.tick(100.0)
        for _ in range(3):
            stand.hear(message)
        assert await stand.say() == [] and stand.asked == ["plant"] and stand.spread.counts["not entrusted"] == 3
    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["administer", "entrust"])
def test_who_is_trusted_gets_what_counts_there_and_nothing_else(tmp_path: Path, way: str) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=way == "administer", entrust=way == "entrust")
        await stand.make(Change("key", "everywhere", KEY),
                         Change("key", "of graz", {"key_hash": "sha256:" + "cd" * 32, "sites": ["graz"]}),
                         Change("key", "of wien", {"key_hash": "sha256:" + "ef" * 32, "nodes": ["wien"]}))
        stand.hear(ListPlease())
        listed, = await stand.say()
        assert [entry[1] for entry in listed.entries] == ["everywhere", "of graz"]
        stand.hear(Want([("key", "everywhere"), ("key", "of wien")]))
        given, = await stand.say()
        assert [one.name for one in given.documents] == ["everywhere", "of wien"]
        assert WORD in str(given.documents[0].body)
        assert given.documents[1].withheld and given.documents[1].body == {"nodes": ["wien"]}
        assert given.documents[1].author == ""
    asyncio.run(scenario())


def test_what_does_not_count_here_any_more_ends_here(tmp_path: Path) -> None:
    """A key whose `nodes` were changed to others was never heard of again where it had counted, and went on."""
    async def scenario() -> None:
        hub = Stand(Desk(tmp_path / "hub"), administer=False, entrust=True)
        plant = Stand(Desk(tmp_path / "plant"), administer=True)
        plant.administration.place = Place("plant", "graz")

        async def exchange() -> None:
            digest = await Giving(hub.administration.book, hub.overlay, hub.neighbour).digest()  # type: ignore[arg-type]
            plant.hear(Have(digest))
            for _ in range(20):
                for message in await plant.say():
                    hub.hear(message)
                for message in await hub.say():
                    plant.hear(message)
                plant.desk.run()

        await hub.make(Change("key", "till", KEY))
        await exchange()
        assert list(plant.administration.rights.keys) == [KEY["key_hash"]]
        version = hub.administration.book.version_of(("key", "till"))
        await hub.make(Change("key", "till", {**KEY, "nodes": ["wien"]}, version))
        await exchange()
        assert not plant.administration.rights.keys
        assert plant.administration.state_of(("key", "till")) == "elsewhere"
        stub = plant.administration.book.documents["key", "till"]
        assert stub.withheld and WORD not in str(stub.body)
        version = hub.administration.book.version_of(("key", "till"))
        await hub.make(Change("key", "till", {**KEY, "nodes": ["plant"]}, version))
        await exchange()
        assert list(plant.administration.rights.keys) == [KEY["key_hash"]]
        assert not plant.spread.snapshot()[0]["pulling"]
    asyncio.run(scenario())


@pytest.mark.measured
def test_thousands_of_documents_cost_no_neighbour_a_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=False, entrust=True)
        book = stand.administration.book
        for number in range(20_000):
            book._put(Stored("role", f"r{number}", {"held_by": ["x"]}, 1, "hub", {"hub": 1}))
        stand.hear(ListPlease())
        longest_s = 0.0
        for _ in range(60):
            began_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - began_s)
        listed, = stand.overlay.said
        assert len(listed.entries) == 1_000 and listed.more
        digest = Giving(book, stand.overlay, stand.neighbour).digest()  # type: ignore[arg-type]
        task = asyncio.ensure_future(digest)
        while not task.done():
            began_s = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - began_s)
        assert longest_s < 0.02, longest_s
    asyncio.run(scenario())


def test_a_neighbour_that_may_administer_and_gives_nothing_is_named(tmp_path: Path) -> None:
    """The other end lacks `entrust`: nothing is refused and nothing comes, so somebody has to be told."""
    async def scenario() -> None:
        stand = Stand(Desk(tmp_path), administer=True)
        now_s = [100.0]
        stand.spread._clock_s = lambda: now_s[0]
        stand.overlay.neighbours = lambda: [stand.neighbour]  # type: ignore[method-assign]
        stand.spread.tick(now_s[0])
        assert stand.spread.silent() == []
        now_s[0] += 30
        stand.spread.tick(now_s[0])
        assert stand.spread.silent() == ["plant"]
        stand.hear(Have("00"))
        assert stand.spread.silent() == []
    asyncio.run(scenario())
