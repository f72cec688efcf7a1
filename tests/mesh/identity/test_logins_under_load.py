"""What was not decided in time is "busy, try again": never "wrong", never a failure. K6."""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.configuration.rules import rules_of
from mesh.configuration.settings import Config
from mesh.identity import identity as identity_module
from mesh.identity.auth_settings import LoginSettings, UserSettings
from mesh.identity.identity import Authenticator
from mesh.identity.remembered import Remembered
from mesh.identity.users import User, hash_password
from routing.errors import Reason, Refusal
from routing.rights.policy import Identity, Policy
from tests.support.wait import DEADLINE_S

HASH = hash_password("right")
USERS = [User(f"dev-{number}", ("device",), HASH) for number in range(50)]
HOME, AWAY = "192.0.2.1:5000", "192.0.2.2:5000"


class Argon:
    """Verifications that wait until they may go on."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.asked: list[bytes] = []

    def verify(self, stored: str, password: bytes) -> bool:
        self.asked.append(password)
        assert self.permits.acquire(timeout=DEADLINE_S)
        return password == b"right"

    def go_on(self, count: int = 1_000) -> None:
        self.permits.release(count)


class Stand:
    def __init__(self, settings: LoginSettings, remembered: Remembered | None = None) -> None:
        self.now_s = 1_000.0
        self.policy = Policy(rules_of(Config(users=tuple(UserSettings(user.name) for user in USERS))))
        self.it = Authenticator(
            USERS, self.policy, call_on_loop=asyncio.get_running_loop().call_soon_threadsafe, clock_ms=lambda: 0,
            now_s=lambda: self.now_s, settings=settings, remembered=remembered)
        self.cancels: list[object] = []

    def ask(self, user: str, password: str = "right", address: str = HOME) -> asyncio.Future[Identity | Refusal]:
        answer: asyncio.Future[Identity | Refusal] = asyncio.get_running_loop().create_future()
        self.cancels.append(self.it.authenticate(user, password.encode(), "mqtt", "c", address, answer.set_result))
        return answer

    async def answer(self, future: asyncio.Future[Identity | Refusal]) -> Identity | Refusal:
        return await asyncio.wait_for(future, DEADLINE_S)


@pytest.fixture
def argon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Argon]:
    argon = Argon()
    monkeypatch.setattr(identity_module, "verify_password", argon.verify)
    yield argon
    argon.go_on()


def is_busy(answer: Identity | Refusal) -> bool:
    return isinstance(answer, Refusal) and answer.reason is Reason.BUSY and bool(answer.retry_after_s)


async def test_a_flood_of_bogus_logins_does_not_delay_an_honest_one_from_elsewhere(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1))
    flood = [stand.ask(f"bogus-{number}", "x") for number in range(200)]
    honest = stand.ask("dev-1", address=AWAY)
    argon.go_on(4)                              # two were under way, then one of each address
    assert isinstance(await stand.answer(honest), Identity)
    assert sum(done.done() for done in flood) <= 4
    stand.it.close()


async def test_who_waited_too_long_is_told_to_come_back_and_nothing_is_counted(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1, waiting_s=5))
    waiting = [stand.ask(f"dev-{number}") for number in range(40)]
    stand.now_s += 6
    argon.go_on()
    answers = [await stand.answer(one) for one in waiting]
    assert sum(isinstance(answer, Identity) for answer in answers) == 2, "those that had begun"
    assert sum(map(is_busy, answers)) == 38
    assert stand.it.locked_count == 0 and stand.it.outcomes["mqtt", "bad credentials"] == 0
    for round in range(6):                      # again and again: still nobody is locked out
        again = [stand.ask(f"dev-{number}") for number in range(2, 40)]
        if round < 5:
            stand.now_s += 6
        answers = [await stand.answer(one) for one in again]
        assert all(isinstance(answer, Identity) or is_busy(answer) for answer in answers)
    assert stand.it.locked_count == 0


async def test_a_full_line_is_busy_for_the_address_that_fills_it(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1, waiting_max=20))
    flood = [stand.ask(f"bogus-{number}", "x") for number in range(60)]
    assert sum(one.done() and is_busy(one.result()) for one in flood) == 60 - 20 - 2
    honest = [stand.ask(f"dev-{number}", address=AWAY) for number in range(5)]
    assert not any(one.done() for one in honest)
    assert sum(one.done() and is_busy(one.result()) for one in flood) == 60 - 20 - 2 + 5
    argon.go_on()
    assert all([isinstance(await stand.answer(one), Identity) for one in honest])


async def test_no_more_wait_than_can_be_served_in_time(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1, waiting_s=1, waiting_max=2_000))
    stand.it._cost_s = 0.1
    asked = [stand.ask(f"bogus-{number}", "x") for number in range(100)]
    assert sum(one.done() for one in asked) == 100 - 2 - 11
    assert all(is_busy(one.result()) for one in asked if one.done())


async def test_a_client_that_leaves_frees_its_place_and_costs_no_check(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1, waiting_max=4))
    for number in range(6):
        stand.ask(f"dev-{number}")
    assert stand.it.waiting_count == 4
    for cancel in stand.cancels[2:]:
        cancel()
    assert stand.it.waiting_count == 0
    late = stand.ask("dev-9")
    argon.go_on()
    assert isinstance(await stand.answer(late), Identity)
    assert argon.asked.count(b"right") == 3     # a thread of the test before may bring one of its own
    stand.cancels[0]()                          # after its answer: nothing
    assert isinstance(await stand.answer(stand.ask("dev-9")), Identity)


async def test_a_wrong_guess_counts_also_when_its_client_has_gone(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1))
    argon.go_on()
    for number in range(5):
        stand.ask("dev-1", f"guess {number}")
        stand.cancels[-1]()
        await stand.answer(stand.ask(f"dev-{number + 2}"))      # behind it; who was in once is let in at once
    answer = await stand.answer(stand.ask("dev-1"))
    assert isinstance(answer, Refusal) and answer.reason is Reason.LOCKED_OUT
    assert isinstance(await stand.answer(stand.ask("dev-1", address=AWAY)), Identity), "not from another address"


async def test_many_connections_with_one_wrong_password_are_one_failure(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1))
    asked = [stand.ask("dev-1", "old") for _ in range(20)]
    argon.go_on()
    answers = [await stand.answer(one) for one in asked]
    assert {answer.reason for answer in answers if isinstance(answer, Refusal)} == {Reason.BAD_CREDENTIALS}
    assert isinstance(await stand.answer(stand.ask("dev-1")), Identity)


async def test_a_user_who_changed_while_he_was_checked_is_neither_in_nor_counted(argon: Argon) -> None:
    stand = Stand(LoginSettings(threads=1))
    first, second = stand.ask("dev-1"), stand.ask("dev-2")
    stand.it.replace([User("dev-1", (), hash_password("new")), User("dev-2", ("other",), HASH)])
    argon.go_on()
    assert is_busy(await stand.answer(first))
    answer = await stand.answer(second)
    assert isinstance(answer, Identity) and answer.roles == ("other", "authenticated")


async def test_who_was_known_before_the_restart_needs_no_check_after_it(argon: Argon, tmp_path: Path) -> None:
    argon.go_on()
    before = Remembered(tmp_path, 100, 3_600.0)
    before.load(0.0, 0)
    stand = Stand(LoginSettings(threads=1), before)
    for number in range(10):
        await stand.answer(stand.ask(f"dev-{number}"))
    stand.it.close()
    argon.permits = threading.Semaphore(0)      # from here on a check would wait for ever
    after = Remembered(tmp_path, 100, 3_600.0)
    after.load(0.0, 0)
    stand = Stand(LoginSettings(threads=1), after)
    for number in range(10):
        assert stand.ask(f"dev-{number}").done()
    wrong = stand.ask("dev-1", "guess")
    assert not wrong.done()
    argon.go_on()
    assert isinstance(await stand.answer(wrong), Refusal)
