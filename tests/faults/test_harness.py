"""The harness itself, against Mosquitto: real brokers keep the promises when nobody kills them."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.faults.rig import Rig
from tests.support.certificates import Certificates
from tests.support.mosquitto import BINARY, Mosquitto


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Mosquitto]:
    """A fresh one per test, because the clients keep their names and sessions."""
    require_peer(BINARY, "mosquitto")
    server = Mosquitto(tmp_path_factory.mktemp("mosquitto"), certificates)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("version", [4, 5])
def test_the_harness_finds_nothing_at_a_broker_that_works(mosquitto: Mosquitto, tmp_path: Path, version: int) -> None:
    rig = Rig(tmp_path, broker_port=mosquitto.ports["mqtt"], producers=("one", "two"), version=version)
    with rig.running():
        for _ in range(3):
            rig.wait_for_load()
        figures = rig.check()
    assert figures.clean, str(figures)
    assert figures.acked > 100 and figures.indeterminate == 0


def test_the_harness_finds_what_a_consumer_did_not_get(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """A line taken out of a consumer's journal is a lost message: the whole chain can fail."""
    rig = Rig(tmp_path, broker_port=mosquitto.ports["mqtt"], producers=("one",))
    with rig.running():
        assert rig.check().clean
        journal = rig.readers["c-all"][0].journal
        lines = journal.read_text().splitlines(keepends=True)
        gone = next(index for index, line in enumerate(lines) if line.startswith("G 0"))
        journal.write_text("".join(lines[:gone] + lines[gone + 1:]))
        assert rig.check().faults["LOST"] == 1
