"""Who may change a consumer: its owner, and who may manage. To join it as it is, is for all who may read it."""
import msgspec
import pytest

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.consumers.definition.push import Push
from routing.direct.subscription import Subscription
from routing.errors import Reason
from routing.rights.policy import ALLOW_ALL, ANONYMOUS, INTERNAL, Action, Identity, Rule
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


def test_a_dead_letter_is_read_only_by_who_may_read_its_original(tmp_path):
    """allow #, deny secret/#: the payload must not come out as dead-letter/<consumer>, on no lane."""
    reader = Identity("reader", protocol="test", client_id="r")
    rules = (Rule(deny=(Action.SUBSCRIBE,), to=("user:reader",), topics=("secret/#",)),
             Rule(allow=tuple(Action), to=("*",)))
    desk = Desk(tmp_path, rules=rules)
    failing = desk.router.open_consumer(ConsumerSpec("failing", ("secret/#", "open/#"), max_deliveries=1), ANA)
    got = {}
    for name, who in (("of-reader", reader), ("of-ana", ANA)):
        got[name] = Taker(who)
        consumer = desk.router.open_consumer(ConsumerSpec(name, ("dead-letter/#",)), who)
        assert consumer.attach(got[name]) is None
        sink = got[f"{name} live"] = LiveSink(who)
        desk.router.subscribe(Subscription("dead-letter/#", sink))
    giving_up = Taker(ANA, answer=lambda consumer, delivery: consumer.nack(delivery))
    assert failing.attach(giving_up) is None
    desk.publish("secret/a", "open/b")
    desk.tick(1.0)
    assert got["of-reader"].payloads == [b"open/b"] == got["of-reader live"].payloads
    assert got["of-ana"].payloads == [b"secret/a", b"open/b"] == got["of-ana live"].payloads
    assert desk.router.consumers["of-reader"].lag().events == 0, "what may not be read is done with"
    desk.close()


class Taker:
    """A member that acks, or does what it is told."""

    def __init__(self, identity, answer=lambda consumer, delivery: consumer.ack((delivery,))):
        self.identity, self.credit, self.payloads, self._answer = identity, 1_000, [], answer

    def deliver(self, consumer, deliveries):
        self.payloads += [delivery.event.payload for delivery in deliveries]
        for delivery in deliveries:
            self._answer(consumer, delivery)

    def consumer_closed(self, consumer, reason):
        pass


class LiveSink:
    def __init__(self, identity):
        self.identity, self.consumer, self.inbox, self.inbox_scheduled, self.payloads = identity, None, [], False, []

    def flush_inbox(self):
        inbox, self.inbox = self.inbox, []
        self.payloads += [event.payload for run, _, _ in inbox for event in run]
