"""Celery on quorum queues: its 28 delay exchanges and queues, chords, and what it waits for outlives the node."""
from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import pytest
from celery import chord, group

from tests.support.node import Node
from tests.support.process import ServerProcess
from tests.support.wait import DEADLINE_S, wait_until

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("celery-quorum")
    (folder / "results").mkdir()
    node = Node(folder / "node", listeners=("amqp", "console"))
    node.start()
    environment = {"BROKER": f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}//", "FOLDER": f"{folder}/results"}
    os.environ.update(environment)
    sys.path.insert(0, str(HERE))
    tasks = importlib.import_module("celery_quorum_app")
    worker = ServerProcess(
        [sys.executable, "-m", "celery", "-A", "celery_quorum_app", "worker", "-c", "1", "-l", "INFO", "-n", "q@test"],
        folder / "worker.log", HERE, {**environment, "PYTHONPATH": str(HERE)})
    worker.start()
    try:
        wait_until(lambda: " ready." in worker.log_text(), "the worker is ready", also=worker.log_tail)
        yield node, tasks, worker
    finally:
        tasks.app.close()
        sys.path.remove(str(HERE))
        for name in environment:
            del os.environ[name]
        worker.kill9()
        node.kill9()


def test_the_worker_finds_quorum_queues_and_declares_its_delays(stand):
    node, _, _ = stand
    names = {row["name"] for row in node.get("/api/v1/consumers?limit=200").json["consumers"]}
    assert {f"celery_delayed_{level}" for level in range(28)} <= names and "quorate" in names


def test_tasks_run_and_a_chord_comes_together(stand):
    _, tasks, _ = stand
    assert group(tasks.add.s(n, n) for n in range(20))().get(timeout=DEADLINE_S) == [2 * n for n in range(20)]
    assert chord([tasks.add.s(n, n) for n in range(10)])(tasks.total.s()).get(timeout=DEADLINE_S) == 90


def test_a_task_for_later_waits_in_the_broker_as_long_as_it_should(stand):
    """3 seconds: two levels of the 28. The worker is free meanwhile."""
    _, tasks, _ = stand
    started = time.monotonic()
    later = [tasks.add.apply_async((n, 1), countdown=3) for n in range(3)]
    assert tasks.add.delay(5, 5).get(timeout=DEADLINE_S) == 10
    assert time.monotonic() - started < 2.5
    assert [one.get(timeout=DEADLINE_S) for one in later] == [1, 2, 3]
    assert time.monotonic() - started >= 2.9


def test_a_task_for_later_outlives_a_kill_of_the_node(stand):
    node, tasks, worker = stand
    later = tasks.add.apply_async((20, 1), countdown=4)
    node.kill9()
    node.restart()
    try:
        assert later.get(timeout=DEADLINE_S) == 21
    except Exception as error:
        raise AssertionError(worker.log_tail()) from error
