"""What other protocols ask of exchanges and queues has the rights that a channel has."""
from __future__ import annotations

import pytest

from protocols.amqp091.declaring import Declaring
from protocols.amqp091.server import AmqpServer
from protocols.amqp091.settings import AmqpSettings
from protocols.authentication.scram_passwords import ScramPasswords
from routing.rights.policy import Action, Identity, Rule
from tests.protocols.mqtt.harness import Users
from tests.support.routing import Desk

RULES = [
    Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE, Action.MANAGE), to=("user:ana",)),
    Rule(allow=(Action.SUBSCRIBE,), to=("user:bob",), topics=("orders/eu/#", "$queue/eu")),
    Rule(allow=(Action.SUBSCRIBE,), to=("user:only the queue",), topics=("$queue/eu",)),
    Rule(allow=(Action.SUBSCRIBE,), to=("user:only the exchange",), topics=("orders/#",)),
]
ASKED = ("orders", "eu", False)


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, rules=RULES)


@pytest.fixture
def declaring(desk):
    users = Users()
    declaring = Declaring(AmqpServer(desk.router, users, AmqpSettings(), scram=ScramPasswords(desk.router, users),
                                     version="1", node="n").broker)
    done = []
    declarer = declaring.declarer(Identity("ana", protocol="amqp"))
    for method, fields in (("exchange.declare", {"exchange": "orders", "type": "topic", "durable": True}),
                           ("queue.declare", {"queue": "eu", "durable": True}),
                           ("queue.bind", {"queue": "eu", "exchange": "orders", "routing_key": "eu.#"})):
        declarer.do(method, fields, done.append)
        desk.run()
    assert [outcome.code for outcome in done] == [200, 200, 200], done
    return declaring


def listed(declaring, user, source="orders", destination="eu", to_exchange=False):
    found = []
    declaring.declarer(Identity(user, protocol="amqp")).bindings(source, destination, to_exchange, found.append)
    outcome, = found
    return outcome


@pytest.mark.parametrize("user", ["ana", "bob"])
def test_bindings_are_told_to_who_may_know_of_both_ends(declaring, user):
    outcome = listed(declaring, user)
    assert outcome.code == 200 and [one["key"] for one in outcome.values["bindings"]] == ["eu.#"]


@pytest.mark.parametrize("user", ["eve", "only the queue", "only the exchange"])
@pytest.mark.parametrize("there", [True, False])
def test_nobody_else_hears_whether_there_is_one(desk, declaring, user, there):
    """By the /management of AMQP 1.0 anybody who had logged in could read all of them."""
    outcome = listed(declaring, user, *(("orders", "eu") if there else ("orders", "nothing")))
    assert outcome.code == 403 and not outcome.values
    assert desk.router.policy.denials[-1]["user"] == user


def test_those_of_an_exchange_that_is_bound_to_another_have_the_rights_of_both(declaring):
    assert listed(declaring, "ana", "orders", "eu", True).code == 200
    assert listed(declaring, "only the exchange", "orders", "secrets", True).code == 403
