from __future__ import annotations

import pytest

from tests.protocols.mqtt.harness import Broker


@pytest.fixture
def make_broker(tmp_path):
    """make_broker(mqtt=…, rules=…) gives a broker with its own data."""
    made = []

    def make(**options):
        broker = Broker(tmp_path / f"data-{len(made)}", **options)
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.store.close()


@pytest.fixture
def broker(make_broker):
    return make_broker()
