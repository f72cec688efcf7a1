"""The book is bounded: revisions in memory and on disk, deletions that are forgotten, and that none comes back."""
from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mesh.administration import book as book_module
from mesh.administration import revisions as revisions_module
from mesh.administration.administration import Administration, Invalid
from mesh.administration.book import TOMBSTONES_KEPT_MS, Book, Change
from mesh.administration.documents import Stored
from mesh.administration.effective import Base, Place
from mesh.configuration.settings import Config
from mesh.identity.auth_settings import UserSettings
from mesh.identity.users import User
from mesh.link.proof.prepare import PreparedLinks
from tests.support.routing import Desk

DAY_MS = 86_400_000


class Stand:
    """An administration on a real log, whose clock stands."""

    def __init__(self, folder: Path, node: str = "hub", now_ms: int = 1_800_000_000_000) -> None:
        self.folder = folder
        self.node = node
        self.now_ms = now_ms
        self.open()

    def open(self) -> None:
        self.desk = Desk(self.folder)
        router = self.desk.router
        self.administration = Administration(
            Book(router.streams.open_internal("$security"), router.request_turn), Place(self.node, "site"),
            lambda: self.now_ms, lambda base, rights: None)
        self.administration.start(Base(Config(users=(UserSettings("root", "$argon2id$", ("admin",)),)),
                                       [User("root", ("admin",), "$argon2id$")], {},
                                       PreparedLinks([], [], anonymous=False)))

    @property
    def book(self) -> Book:
        return self.administration.book

    def again(self) -> None:
        self.desk.close()
        self.open()

    def do(self, work: Any) -> Any:
        async def scenario() -> Any:
            task = asyncio.ensure_future(work)
            while not task.done():
                self.desk.run()
                await asyncio.sleep(0)
            return task.result()
        return asyncio.run(scenario())

    def put(self, name: str, size: int = 10, **more: Any) -> None:
        body = {"description": name, "held_by": ["x" * 1_000] * (size // 1_000 or 1), **more}
        self.do(self.administration.change([Change("role", name, body, self.book.version_of(("role", name)))],
                                           author="root"))

    def delete(self, name: str) -> None:
        self.do(self.administration.change([Change("role", name, None, self.book.version_of(("role", name)))],
                                           author="root"))

    def take(self, *stored: Stored, source: str = "plant") -> None:
        self.do(self.administration.take(stored, source))


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_old_revisions_are_on_disk_and_can_be_shown_and_brought_back(stand: Stand,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions_module, "HELD_BYTES_MAX", 100_000)
    for number in range(30):
        stand.put("big", 20_000, enabled=number % 2 == 0)
    for again in (False, True):
        if again:
            stand.again()
        revisions = stand.book.revisions
        assert len(revisions) == 30 and revisions._held_bytes <= 100_000 and len(revisions._held) < 5
        assert [revisions.get(number).number for number in (1, 2, 15, 30)] == [1, 2, 15, 30]
        assert [head.number for head in revisions.with_document(("role", "big"))] == list(range(30, 0, -1))
        assert not list(revisions.with_document(("role", "another")))
    change, = stand.do(stand.administration.back_to(1))
    assert change.body["enabled"] is True
    stand.put("later", 1_000)
    assert stand.book.revision == 31


def test_revisions_on_disk_are_bounded_in_bytes_and_number(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions_module, "LOGGED_BYTES_MAX", 100_000)
    monkeypatch.setattr(revisions_module, "REVISIONS_KEPT", 20)
    for number in range(8):
        stand.put("big", 20_000, enabled=number % 2 == 0)
    assert 1 < len(stand.book.revisions) < 5 and stand.book.revisions._logged_bytes <= 100_000
    for number in range(40):
        stand.put("small", 10, enabled=number % 2 == 0)
    stand.again()
    assert len(stand.book.revisions) == 20 and stand.book.revision == 48
    with pytest.raises(Invalid, match="too far back"):
        stand.do(stand.administration.back_to(2))


def test_deletions_are_forgotten_after_a_while_and_count_no_more(stand: Stand) -> None:
    for name in ("one", "two", "three"):
        stand.put(name)
    stand.delete("one")
    stand.now_ms += 10 * DAY_MS
    stand.delete("two")
    stand.now_ms += TOMBSTONES_KEPT_MS - 10 * DAY_MS
    stand.do(stand.administration.forget_deleted())
    for again in (False, True):
        if again:
            stand.again()
        assert sorted(stand.book.documents) == [("role", "three"), ("role", "two")] == stand.book.keys
        assert (stand.book.alive_count, stand.book.tombstone_count) == (1, 1)
        assert stand.book.horizon_ms == 1_800_000_000_000
    assert set(stand.book.marks) == set(stand.book.ranks) == set(stand.book.documents)


def test_only_so_many_deletions_are_remembered_however_many_there_were(stand: Stand,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 documents that were once deleted left no room for another one, for ever."""
    monkeypatch.setattr(book_module, "TOMBSTONES_MAX", 5)
    monkeypatch.setattr("mesh.administration.administration.DOCUMENTS_MAX", 3)
    for number in range(12):
        stand.now_ms += 1_000
        stand.put(f"r{number}")
        stand.delete(f"r{number}")
    assert stand.book.tombstone_count == 12
    stand.do(stand.administration.forget_deleted())
    assert [name for _, name in stand.book.keys] == ["r10", "r11", "r7", "r8", "r9"]
    for number in range(3):
        stand.put(f"new {number}")
    with pytest.raises(Invalid, match="at most 3 documents"):
        stand.put("one too many")


def old(name: str, time_ms: int, node: str = "plant", **more: Any) -> Stored:
    return Stored("role", name, {"held_by": ["x"]}, 1, node, {node: 1}, "somebody", time_ms, **more)


def test_what_was_deleted_and_forgotten_is_not_brought_back_by_who_was_away(stand: Stand) -> None:
    made_ms = stand.now_ms
    stand.take(old("gone", made_ms))
    stand.now_ms += DAY_MS
    stand.delete("gone")
    stand.now_ms += TOMBSTONES_KEPT_MS
    stand.do(stand.administration.forget_deleted())
    assert not stand.book.documents
    stand.take(old("gone", made_ms), old("made since", stand.now_ms - 1_000))
    assert list(stand.book.documents) == [("role", "made since")]
    assert stand.administration.not_taken["plant"] == 1
    deletion = Stored("role", "gone", None, 2, "hub", {"hub": 2, "plant": 1}, "root", made_ms + DAY_MS)
    stand.take(deletion, source="shop")                         # of one that has not forgotten it yet
    assert list(stand.book.documents) == [("role", "made since")]


def test_a_node_without_a_past_takes_everything(tmp_path: Path) -> None:
    fresh = Stand(tmp_path)
    fresh.take(old("very old", 1_000))
    assert list(fresh.book.documents) == [("role", "very old")]
    assert fresh.book.documents["role", "very old"].by == "plant"


def test_what_the_neighbour_it_came_from_has_forgotten_does_nothing_any_more(tmp_path: Path) -> None:
    stand = Stand(tmp_path, node="plant")
    stand.take(old("of the hub", 1_000, "hub"), source="hub")
    stand.take(old("of the shop", 1_000, "shop"), source="shop")
    stand.put("own")
    stand.do(stand.administration.withdraw([("role", name) for name in ("of the hub", "of the shop", "own")], "hub"))
    states = stand.administration.rights.states
    assert states["role", "of the hub"] == "elsewhere" and states["role", "of the shop"] == "in force"
    assert states["role", "own"] == "in force"
    stand.take(Stored("role", "of the hub", {"held_by": ["y"]}, 2, "hub", {"hub": 2}, "", 2_000), source="hub")
    assert stand.administration.rights.states["role", "of the hub"] == "in force"      # somebody made it anew
