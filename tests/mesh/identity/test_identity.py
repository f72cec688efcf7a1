"""mesh/identity/identity.py: who is there. The worker is real, the clock is not."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from mesh.configuration.rules import rules_of
from mesh.configuration.settings import Config
from mesh.identity.auth_settings import UserSettings, user_problem
from mesh.identity.identity import Authenticator
from mesh.identity.users import User, hash_password, resolve_users
from routing.errors import ConfigError, Reason, Refusal
from routing.rights.policy import Action, Identity, Policy, Rule

HASH = hash_password("correct horse")
ANA = User("ana", ("operator",), HASH)
HOME, AWAY = "192.0.2.1:5000", "192.0.2.2:5000"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(users: list[User], clock: Clock, rules: tuple[Rule, ...] = ()) -> Authenticator:
    settings = tuple(UserSettings(user.name) for user in users)
    policy = Policy(rules_of(Config(users=settings, policies=rules)))
    return Authenticator(
        users, policy, call_on_loop=asyncio.get_running_loop().call_soon_threadsafe, clock_ms=lambda: 0, now_s=clock)


@pytest.fixture
async def known(clock: Clock) -> Iterator[Authenticator]:
    authenticator = make([ANA], clock)
    yield authenticator
    authenticator.close()


async def login(
    authenticator: Authenticator, user: str | None, password: str | None, address: str = HOME,
    certificate: str | None = None,
) -> Identity | Refusal:
    answer: asyncio.Future[Identity | Refusal] = asyncio.get_running_loop().create_future()
    authenticator.authenticate(
        user, None if password is None else password.encode(), "mqtt", "c1", address, answer.set_result, certificate)
    return await answer


def refused(answer: Identity | Refusal, reason: Reason) -> bool:
    return isinstance(answer, Refusal) and answer.reason is reason


async def test_the_right_password_gives_the_identity_with_its_roles(known: Authenticator) -> None:
    answer = await login(known, "ana", "correct horse")
    assert isinstance(answer, Identity)
    assert (answer.user, answer.protocol, answer.client_id) == ("ana", "mqtt", "c1")
    assert answer.roles == ("operator", "authenticated")


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(known: Authenticator) -> None:
    """hostile.md row 85."""
    wrong, unknown = await login(known, "ana", "x"), await login(known, "bob", "x")
    assert wrong == unknown and refused(wrong, Reason.BAD_CREDENTIALS)


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(known: Authenticator) -> None:
    async def seconds(user: str) -> float:
        start = time.perf_counter()
        await login(known, user, str(start))
        return time.perf_counter() - start

    await seconds("ana")
    wrong = min([await seconds("ana") for _ in range(5)])
    unknown = min([await seconds("bob") for _ in range(5)])
    assert unknown > wrong / 3, "argon2 must run for unknown users too"


async def test_the_decoy_password_of_unknown_users_lets_nobody_in(known: Authenticator) -> None:
    certificate_only = User("robot", (), None)
    known.replace([ANA, certificate_only])
    assert refused(await login(known, "robot", ""), Reason.BAD_CREDENTIALS)


async def test_nobody_gets_in_without_a_name_when_users_are_configured(known: Authenticator) -> None:
    assert refused(await login(known, None, None), Reason.BAD_CREDENTIALS)
    assert refused(await login(known, "ana", None), Reason.BAD_CREDENTIALS)


async def test_a_policy_may_let_anonymous_clients_connect(clock: Clock) -> None:
    rule = Rule(allow=(Action.CONNECT,), to=("anonymous",))
    authenticator = make([ANA], clock, (rule,))
    answer = await login(authenticator, None, None)
    assert isinstance(answer, Identity) and (answer.user, answer.roles) == ("anonymous", ())


async def test_a_policy_may_keep_a_user_from_connecting(clock: Clock) -> None:
    authenticator = make([ANA], clock, (Rule(deny=(Action.CONNECT,), to=("user:ana",)),))
    assert refused(await login(authenticator, "ana", "correct horse"), Reason.NOT_AUTHORIZED)


async def test_without_users_everybody_on_this_machine_is_anonymous_and_nobody_else(clock: Clock) -> None:
    authenticator = make([], clock)
    for user in (None, "whoever"):
        answer = await login(authenticator, user, "x", "127.0.0.1:1")
        assert isinstance(answer, Identity) and answer.user == "anonymous"
    assert isinstance(await login(authenticator, None, None, "[::1]:1"), Identity)
    assert refused(await login(authenticator, None, None, HOME), Reason.BAD_CREDENTIALS)


async def test_the_sixth_attempt_after_five_failures_is_locked_out_even_with_the_right_password(
    known: Authenticator, clock: Clock,
) -> None:
    for number in range(5):
        assert refused(await login(known, "ana", f"wrong {number}"), Reason.BAD_CREDENTIALS)
    assert refused(await login(known, "ana", "correct horse"), Reason.LOCKED_OUT)
    assert known.locked_count == 1
    assert isinstance(await login(known, "ana", "correct horse", AWAY), Identity), "per user and address"
    clock.now_s += 598.5
    answer = await login(known, "ana", "correct horse")
    assert refused(answer, Reason.LOCKED_OUT)
    assert isinstance(answer, Refusal) and answer.retry_after_s == 2 and answer.text.endswith("try again in 2s")
    clock.now_s += 2
    assert isinstance(await login(known, "ana", "correct horse"), Identity)


async def test_an_unknown_user_is_locked_out_in_the_same_way(known: Authenticator) -> None:
    for number in range(5):
        await login(known, "bob", f"wrong {number}")
    assert refused(await login(known, "bob", "x"), Reason.LOCKED_OUT)


async def test_a_lock_out_holds_against_a_login_that_was_proven_before(known: Authenticator) -> None:
    assert isinstance(await login(known, "ana", "correct horse"), Identity)
    for number in range(5):
        await login(known, "ana", f"wrong {number}")
    assert refused(await login(known, "ana", "correct horse"), Reason.LOCKED_OUT)


async def test_guesses_in_parallel_do_not_get_around_the_lock_out(known: Authenticator) -> None:
    answers = await asyncio.gather(*(login(known, "ana", f"guess {number}") for number in range(40)))
    assert sum(refused(answer, Reason.BAD_CREDENTIALS) for answer in answers) == 5
    assert sum(refused(answer, Reason.BUSY) for answer in answers) == 35, "not decided, so neither right nor wrong"


async def test_many_connections_with_one_password_cost_one_verification(
    known: Authenticator, monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    verify = known._verify
    monkeypatch.setattr(known, "_verify", lambda *arguments: (runs.append(1), verify(*arguments)))
    answers = await asyncio.gather(*(login(known, "ana", "correct horse") for _ in range(500)))
    assert all(isinstance(answer, Identity) for answer in answers)
    await login(known, "ana", "correct horse", AWAY)
    assert len(runs) == 1


async def test_failures_and_denials_are_listed_without_the_password(known: Authenticator) -> None:
    await login(known, "ana", "hunter2-secret")
    assert known.outcomes["mqtt", "bad credentials"] == 1
    denial = known._policy.denials[-1]
    assert (denial["user"], denial["address"], denial["rule"]) == ("ana", HOME, "bad credentials")
    assert "hunter2" not in str(denial)


async def test_a_client_certificate_names_the_user(known: Authenticator) -> None:
    answer = await login(known, None, None, certificate="ana")
    assert isinstance(answer, Identity) and answer.roles == ("operator", "authenticated")
    robot = await login(known, "robot-7", None, certificate="robot-7")
    assert isinstance(robot, Identity) and robot.roles == ("authenticated",)


@pytest.mark.parametrize(("user", "certificate"), [
    ("ana", "robot"), (None, ""), (None, "anonymous"), (None, "$node"),
])
async def test_a_certificate_cannot_be_used_for_somebody_else(
    known: Authenticator, user: str | None, certificate: str,
) -> None:
    assert refused(await login(known, user, "correct horse", certificate=certificate), Reason.BAD_CREDENTIALS)


async def test_a_changed_password_takes_effect_with_the_reload(known: Authenticator) -> None:
    assert isinstance(await login(known, "ana", "correct horse"), Identity)
    known.replace([User("ana", ("operator",), hash_password("battery staple"))])
    assert refused(await login(known, "ana", "correct horse"), Reason.BAD_CREDENTIALS)
    assert isinstance(await login(known, "ana", "battery staple"), Identity)


async def test_names_and_passwords_of_absurd_length_are_refused_without_work(known: Authenticator) -> None:
    assert refused(await login(known, "a" * 70_000, "x"), Reason.BAD_CREDENTIALS)
    assert refused(await login(known, "ana", "x" * 70_000), Reason.BAD_CREDENTIALS)
    assert not known._attempts


def test_secrets_come_from_the_environment_or_a_file(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pathlib import Path
    assert isinstance(tmp_path, Path)
    monkeypatch.setenv("ANA_HASH", HASH)
    (tmp_path / "bob").write_text(HASH + "\n")
    users = resolve_users([
        UserSettings("ana", "env:ANA_HASH"), UserSettings("bob", f"file:{tmp_path}/bob"), UserSettings("robot")])
    assert [user.password_hash for user in users] == [HASH, HASH, None]


@pytest.mark.parametrize(("reference", "expected"), [
    ("env:NOT_SET_ANYWHERE", "the environment has no NOT_SET_ANYWHERE"),
    ("file:/nowhere/at/all", "No such file"),
    ("$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b9dWRWJTmaaJObG", "argon2id"),
])
def test_a_secret_that_is_not_there_names_the_setting_and_not_the_secret(reference: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_users([UserSettings("ana", reference)])
    assert str(caught.value).startswith("users[0].password_hash: ") and expected in str(caught.value)


@pytest.mark.parametrize("name", ["$node", "$node/hub", "anonymous", "a\nb", "a\0b", "x" * 256, ""])
async def test_no_proof_makes_somebody_the_node_itself_or_nobody(known: Authenticator, name: str) -> None:
    """Internal identities are objects, not names: here no door even takes such a name."""
    known.replace([ANA, User(name, ("admin",), HASH)])
    assert refused(await login(known, None, None, certificate=name), Reason.BAD_CREDENTIALS)
    if name:
        assert user_problem(name) is not None, "so neither [[users]], [[api_keys]] nor a JWT has it"


async def test_an_odd_certificate_name_gets_in_and_gets_nothing_of_others(clock: Clock) -> None:
    rules = (Rule(allow=(Action.PUBLISH,), to=("*",), topics=("of/%u/#", "of/%c/#")),)
    authenticator = make([ANA], clock, rules)
    for name in ("%c", "%u", "+", "#", "a/b"):
        answer = await login(authenticator, None, None, certificate=name)
        assert isinstance(answer, Identity)
        for topic in ("of/ana/x", f"of/{name}/x", "of/%c/x"):
            assert not authenticator._policy.decide(answer, Action.PUBLISH, topic).allowed
        assert authenticator._policy.decide(answer, Action.PUBLISH, "of/c1/x").allowed, "the client id is a good one"
