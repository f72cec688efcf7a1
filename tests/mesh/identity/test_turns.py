"""mesh/identity/turns.py: who logs in next."""
from __future__ import annotations

import random
from collections import Counter, deque
from typing import NamedTuple

from mesh.identity.turns import Turns


class Login(NamedTuple):
    user: str
    network: str
    number: int = 0


def filled(*logins: Login, room: int = 1_000) -> Turns[Login]:
    turns: Turns[Login] = Turns(room)
    for login in logins:
        assert turns.add(login) is None
    return turns


def drained(turns: Turns[Login]) -> list[Login]:
    return list(iter(turns.take, None))


def test_one_address_with_many_logins_waits_behind_itself() -> None:
    flood = [Login(f"bogus{number}", "1.1.1.1", number) for number in range(100)]
    turns = filled(*flood, Login("ana", "2.2.2.2"), Login("bob", "3.3.3.3"))
    assert drained(turns)[:3] == [flood[0], Login("ana", "2.2.2.2"), Login("bob", "3.3.3.3")]


def test_within_an_address_users_take_turns() -> None:
    guesses = [Login("victim", "1.1.1.1", number) for number in range(50)]
    turns = filled(*guesses, Login("ana", "1.1.1.1"))
    assert turns.ahead_of("bob", "1.1.1.1") == 2 and turns.ahead_of("victim", "1.1.1.1") == 51
    assert turns.ahead_of("victim", "2.2.2.2") == 0
    assert drained(turns)[:2] == [guesses[0], Login("ana", "1.1.1.1")]


def test_when_the_room_is_full_the_longest_address_gives_up_its_newest() -> None:
    flood = [Login(f"bogus{number % 3}", "1.1.1.1", number) for number in range(10)]
    turns = filled(*flood, room=10)
    assert turns.add(Login("more", "1.1.1.1")) == Login("more", "1.1.1.1"), "its own newcomer has no place"
    assert turns.add(Login("ana", "2.2.2.2")) == flood[9]
    assert turns.count == 10 and Login("ana", "2.2.2.2") in drained(turns)


def test_who_leaves_frees_the_place() -> None:
    turns = filled(Login("a", "1"), Login("b", "1"), Login("a", "2"), room=3)
    assert turns.discard(Login("b", "1")) and not turns.discard(Login("b", "1"))
    assert turns.add(Login("c", "3")) is None
    assert drained(turns) == [Login("a", "1"), Login("a", "2"), Login("c", "3")]


def test_random_logins_are_served_once_and_evenly() -> None:
    """Against a plain model: per network and user in order, and nobody twice before the others once."""
    for seed in range(50):
        rng = random.Random(seed)
        turns: Turns[Login] = Turns(200)
        waiting: dict[tuple[str, str], deque[Login]] = {}
        for number in range(400):
            if rng.random() < 0.6:
                login = Login(f"u{rng.randrange(4)}", f"n{rng.randrange(5)}", number)
                gone = turns.add(login)
                if gone is not login:
                    waiting.setdefault((login.network, login.user), deque()).append(login)
                if gone is not None and gone is not login:
                    waiting[gone.network, gone.user].remove(gone)
            elif (taken := turns.take()) is not None:
                assert waiting[taken.network, taken.user].popleft() == taken, seed
            assert turns.count == sum(map(len, waiting.values())) <= 200, seed
        networks = {network for (network, _), line in waiting.items() if line}
        first = [login.network for login in drained(turns)[:len(networks)]]
        assert Counter(first) == Counter(networks), seed
