"""What a start costs until the node is ready, and what a command costs: against what Python and aiohttp alone cost."""
from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.node import COMMAND, Node

YARDSTICK = "import asyncio, aiohttp.web"       # 0.28 s where a start was 0.6 s and, before, 1.0 s
START_MAX = 3.0
VERSION_MAX, STATUS_MAX = 4.0, 7.0              # against `python -c pass`: 2.6 and 3.8 measured
LATE = ("jwt", "cryptography", "jinja2", "aiokafka", "textual", "rich", "unittest")
TRIES = 2


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """As installed: with compiled modules, wherever the tests run."""
    return {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("pycache")), "PYTHONDONTWRITEBYTECODE": ""}


def cpu_s(command: list[str], environment: Mapping[str, str]) -> float:
    """Of a command, the least of some tries; one before them compiles what it loads."""
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    once()
    return min(once() for _ in range(TRIES))


def ready(folder: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """CPU time of a start without a log until it is ready, and what the node has written."""
    listeners = ("mqtt", "http", "console", "kafka", "amqp")
    node = Node(folder, listeners=listeners, environment=environment).start()
    node.stop()
    text = (folder / "node.log").read_text()
    found = re.search(r"is ready after [\d.]+ s, ([\d.]+) s of CPU", text)
    assert found is not None, text
    return float(found[1]), text


@pytest.mark.measured
def test_a_start_costs_little_more_than_the_libraries_that_it_stands_on(tmp_path, environment):
    yardstick_s = cpu_s([sys.executable, "-c", YARDSTICK], environment)
    took_s = min(ready(tmp_path / str(number), environment)[0] for number in range(TRIES))
    print(f"ready after {took_s:.2f} s of CPU, {took_s / yardstick_s:.2f} × aiohttp")
    assert took_s <= START_MAX * yardstick_s


@pytest.mark.measured
def test_a_command_does_not_load_a_node(environment):
    nothing_s = cpu_s([sys.executable, "-c", "pass"], environment)
    version_s = cpu_s([*COMMAND, "--version"], environment)
    status_s = cpu_s([*COMMAND, "status", "--url", "http://127.0.0.1:9"], environment)
    print(f"--version {version_s / nothing_s:.1f} ×, status {status_s / nothing_s:.1f} × python -c pass")
    assert version_s <= VERSION_MAX * nothing_s
    assert status_s <= STATUS_MAX * nothing_s


def test_a_start_loads_nothing_that_only_some_nodes_need(environment):
    code = (
        "from mesh.process.loop.lean import import_aiohttp; import_aiohttp(); import sys, mesh.process.service\n"
        "import mesh.protocols, protocols.mqtt.protocol, protocols.rest.protocol, protocols.kafka.server\n"
        "import protocols.amqp091.protocol, protocols.kafka.api\n"
        "protocols.kafka.api.find_apis()\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, **environment}).stdout.split()
    assert "aiohttp" in loaded
    assert not set(LATE) & set(loaded)


def test_a_start_is_not_told_as_a_turn_that_held_the_loop(tmp_path, environment):
    _, text = ready(tmp_path, environment)
    before = text.partition("is ready after")[0]
    assert "the loop was held" not in before and "the loop stood still" not in before


def test_aiohttps_own_context_trusts_nobody_and_the_systems_trust_is_there_when_asked_for(environment):
    code = (
        "from mesh.process.loop.lean import import_aiohttp; import_aiohttp(); import ssl, aiohttp.connector\n"
        "own = aiohttp.connector._SSL_CONTEXT_VERIFIED\n"
        "print(own.cert_store_stats()['x509_ca'], own.verify_mode == ssl.CERT_REQUIRED, own.check_hostname)\n"
        "print(aiohttp.connector._SSL_CONTEXT_UNVERIFIED.cert_store_stats()['x509_ca'])\n"
        "from mesh.system.tls import system_trust\n"
        "stats = ssl.create_default_context().cert_store_stats()\n"
        "print(system_trust().cert_store_stats() == stats, system_trust() is system_trust())")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, **environment}).stdout.split()
    assert said == ["0", "True", "True", "0", "True", "True"]
