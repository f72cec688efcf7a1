"""Who may change a consumer: its owner, and who may manage. To join it as it is, is for all who may read it."""
import msgspec
import pytest

from routing.consumer import Consumer, ConsumerSpec
from routing.errors import Reason
from routing.members import Mode
from routing.policy import ALLOW_ALL, ANONYMOUS, INTERNAL, Action, Identity, Rule
from routing.push import Push
from tests.support.routing import ANA, Desk, Reader

BOB = Identity(user="bob", protocol="http")
ROOT = Identity(user="root", roles=("admin",), protocol="http")
NOBODY = Identity(user=ANONYMOUS, protocol="http")
IMPOSTOR = Identity(user=INTERNAL.user, roles=INTERNAL.roles)
READ = Rule(allow=(Action.SUBSCRIBE, Action.PUBLISH), to=("*",))
ADMINS = Rule(allow=(Action.MANAGE,), to=("role:admin",))
LOCAL = Rule(allow=(Action.MANAGE,), to=(ANONYMOUS,))
NOT_ROOT = Rule(deny=(Action.MANAGE,), to=("user:root",))
USERS, NO_USERS, NO_USERS_BUT_POLICIES = [READ, ADMINS], [ALLOW_ALL], [READ, LOCAL]

TABLE = [
    # rules, owner, who, allowed
    (USERS, ANA, ANA, True),
    (USERS, ANA, Identity("ana", ("cashier",), protocol="mqtt", client_id="2"), True),
    (USERS, ANA, BOB, False),
    (USERS, ANA, ROOT, True),
    ([*USERS, NOT_ROOT], ANA, ROOT, False),
    ([*USERS, NOT_ROOT], ROOT, ROOT, True),
    (USERS, ANA, NOBODY, False),
    (USERS, NOBODY, NOBODY, True),
    (USERS, NOBODY, ANA, False),
    (USERS, INTERNAL, ANA, False),
    (USERS, INTERNAL, IMPOSTOR, False),
    (USERS, INTERNAL, ROOT, True),
    (USERS, INTERNAL, INTERNAL, True),
    (USERS, ANA, INTERNAL, True),
    (NO_USERS, NOBODY, NOBODY, True),
    (NO_USERS, INTERNAL, NOBODY, True),
    (NO_USERS, ANA, NOBODY, True),
    (NO_USERS_BUT_POLICIES, INTERNAL, NOBODY, True),
    ([READ], INTERNAL, NOBODY, False),
]


def opened(desk, owner=ANA, **options):
    spec = ConsumerSpec("c", **{"filters": ("a/#",), "mode": Mode.SHARED, **options})
    consumer = desk.router.open_consumer(spec, owner)
    assert isinstance(consumer, Consumer), consumer
    return consumer


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, rules=USERS)
    desk.router.registry.check_push = lambda spec: None
    yield desk
    desk.close()


@pytest.mark.parametrize(("rules", "owner", "who", "allowed"), TABLE)
def test_who_may_change_a_consumer(tmp_path, rules, owner, who, allowed):
    desk = Desk(tmp_path, rules=rules)
    consumer = opened(desk, owner)
    assert desk.router.rights.may_change(who, consumer) is allowed
    refusal = desk.router.rights.refuse_change(who, consumer)
    assert (refusal is None) is allowed
    assert refusal is None or refusal.reason is Reason.NOT_AUTHORIZED
    desk.close()


def test_a_refused_change_is_counted_and_listed(desk):
    consumer = opened(desk)
    assert "ana" in desk.router.rights.refuse_change(BOB, consumer).text
    assert desk.router.policy.denied["http", "manage"] == 1
    assert desk.router.policy.denials[-1]["user"] == "bob"
    assert desk.router.rights.may_change(BOB, consumer) is False        # to ask is no denial
    assert desk.router.policy.denied["http", "manage"] == 1


CHANGES = [
    {"filters": ("a/#", "b/#")}, {"filters": ("a/1",)}, {"max_in_flight": 1}, {"ack_timeout_s": 1.0},
    {"max_deliveries": 1}, {"expires_s": 1.0}, {"streams": ("events",)}, {"durable": False},
    {"push": Push(url="https://203.0.113.7/hook")},
]


@pytest.mark.parametrize("change", CHANGES)
def test_who_opens_it_with_other_options_changes_it(desk, change):
    consumer = opened(desk)
    before = consumer.spec
    spec = msgspec.structs.replace(before, **change)
    refusal = desk.router.open_consumer(spec, BOB)
    assert refusal.reason is Reason.NOT_AUTHORIZED
    assert (consumer.spec, list(consumer.filters)) == (before, ["a/#"])
    assert desk.router.open_consumer(spec, ROOT) is consumer
    assert consumer.identity == ANA, "who manages it does not own it"
    assert desk.router.open_consumer(before, ANA) is consumer


@pytest.mark.parametrize("same", [{}, {"filters": ()}, {"start": "earliest"}])
def test_who_may_read_it_joins_it_as_it_is(desk, same):
    """filters: none means those that it has; start counts only when it is made."""
    consumer = opened(desk)
    assert desk.router.open_consumer(msgspec.structs.replace(consumer.spec, **same), BOB) is consumer
    assert list(consumer.filters) == ["a/#"]
    assert consumer.attach(Reader(identity=BOB)) is None


def test_the_order_of_filters_is_no_change(desk):
    consumer = opened(desk, filters=("a/#", "b/#"))
    assert desk.router.open_consumer(msgspec.structs.replace(consumer.spec, filters=("b/#", "a/#")), BOB) is consumer


def test_who_joins_may_make_it_durable(desk):
    """A share group of MQTT is durable as soon as one of its sessions is, whoever came first."""
    consumer = opened(desk, durable=False)
    assert desk.router.open_consumer(msgspec.structs.replace(consumer.spec, durable=True), BOB) is consumer
    assert consumer.spec.durable


def test_who_may_not_read_it_is_told_so_first(desk):
    """Not whose it is."""
    opened(desk)
    desk.router.apply_rules([*USERS, Rule(deny=(Action.SUBSCRIBE,), to=("user:bob",), topics=("a/secret",))])
    refusal = desk.router.open_consumer(ConsumerSpec("c", ("a/1",), Mode.SHARED), BOB)
    assert refusal.reason is Reason.NOT_AUTHORIZED and "ana" not in refusal.text


def test_ownership_survives_a_restart(tmp_path):
    desk = Desk(tmp_path, rules=USERS)
    opened(desk)
    desk.close()
    again = Desk(tmp_path, rules=USERS)
    consumer = again.router.consumers["c"]
    assert again.router.rights.may_change(ANA, consumer)
    assert not again.router.rights.may_change(BOB, consumer)
    again.close()
