"""Celery with a node as its broker and RPC backend: real workers, unchanged applications."""
from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

import pytest
from celery.exceptions import TaskRevokedError
from kombu import Queue

from tests.support.node import Node
from tests.support.process import ServerProcess
from tests.support.wait import DEADLINE_S, wait_until

HERE = Path(__file__).parent


class Worker(ServerProcess):
    def __init__(self, folder: Path, name: str, broker: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--autoscale=2,1", "-l",
                   "INFO", "-n", f"{name}@test"]
        super().__init__(command, folder / f"{name}.log", HERE, {"BROKER": broker, "PYTHONPATH": str(HERE)})

    def ready(self):
        wait_until(lambda: self.log_text().count(" ready.") > 0, "the worker is ready", also=self.log_tail)
        return self


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("celery")
    node = Node(folder / "node", listeners=("amqp", "console"))
    node.start()
    broker = f"amqp://guest:guest@127.0.0.1:{node.ports['amqp']}//"
    os.environ["BROKER"] = broker
    sys.path.insert(0, str(HERE))
    module = importlib.import_module("celery_app")
    worker = Worker(folder, "one", broker)
    worker.start()
    try:
        worker.ready()
        yield folder, node, module, broker
    finally:
        module.app.close()
        sys.path.remove(str(HERE))
        del os.environ["BROKER"]
        worker.kill9()
        node.kill9()


def test_tasks_run_and_their_results_come_back(stand):
    _, _, tasks, _ = stand
    assert [one.get(timeout=DEADLINE_S) for one in [tasks.add.delay(n, n) for n in range(50)]] == [
        2 * n for n in range(50)]


def test_a_task_is_retried_after_its_countdown(stand):
    _, _, tasks, _ = stand
    assert tasks.third_time_lucky.delay().get(timeout=DEADLINE_S) == 2


def test_a_task_for_later_does_not_keep_the_others_waiting(stand):
    """The worker holds it and asks for one more (basic.qos on a consumer that runs)."""
    _, _, tasks, _ = stand
    started = time.monotonic()
    later = [tasks.add.apply_async((n, 1), countdown=2) for n in range(3)]
    assert tasks.add.delay(5, 5).get(timeout=DEADLINE_S) == 10
    assert time.monotonic() - started < 2, "it came before those that are for later"
    assert [one.get(timeout=DEADLINE_S) for one in later] == [1, 2, 3]
    assert time.monotonic() - started >= 2


def test_workers_answer_to_remote_control(stand):
    _, _, tasks, _ = stand
    assert tasks.app.control.inspect(timeout=3, destination=["one@test"]).ping() == {"one@test": {"ok": "pong"}}
    stats = tasks.app.control.inspect(timeout=3, destination=["one@test"]).stats()
    assert stats["one@test"]["broker"]["transport"] == "amqp"


def test_a_worker_grows_when_there_is_more_to_do(stand):
    """Autoscale: it asks for more (basic.qos on a consumer that runs), and two tasks run at a time."""
    folder, _, tasks, _ = stand
    path = folder / "beside"
    results = [tasks.note.delay(str(path), 2.5) for _ in range(3)]
    assert [one.get(timeout=DEADLINE_S) for one in results] == ["done"] * 3
    assert "begin\nbegin\n" in path.read_text()


def test_a_revoked_task_is_not_done(stand):
    folder, _, tasks, _ = stand
    path = folder / "revoked"
    result = tasks.note.apply_async((str(path), 0), countdown=1.5)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=DEADLINE_S)
    assert not path.exists()


def test_tasks_of_higher_priority_go_first(stand):
    """They wait in a queue that has priorities until a worker takes from it."""
    folder, _, tasks, _ = stand
    ranked = Queue("ranked", max_priority=9)
    with tasks.app.connection_for_write() as connection:
        ranked(connection.default_channel).declare()
    path = folder / "ranked"
    results = [tasks.write.apply_async((str(path), f"{priority} "), queue=ranked, priority=priority)
               for priority in (0, 3, 9, 5, 1)]
    tasks.app.control.add_consumer("ranked", options={"max_priority": 9}, destination=["one@test"], reply=True,
                                   timeout=3)
    for one in results:
        one.get(timeout=DEADLINE_S)
    tasks.app.control.cancel_consumer("ranked", destination=["one@test"], reply=True, timeout=3)
    done = path.read_text().split()
    assert sorted(done) == ["0", "1", "3", "5", "9"]
    assert max(done.index("9"), done.index("5")) < done.index("0"), f"two at a time: {done}"


def test_what_a_killed_worker_had_goes_to_the_next_one(stand):
    """acks_late: the message was delivered and not acked."""
    folder, _, tasks, broker = stand
    tasks.app.control.cancel_consumer("celery", destination=["one@test"], reply=True, timeout=3)
    victim = Worker(folder, "victim", broker)
    victim.start()
    path = folder / "notes"
    try:
        victim.ready()
        result = tasks.note.delay(str(path), 1.5)
        wait_until(lambda: path.exists() and path.read_text() == "begin\n", "the victim has begun")
        victim.kill9()
        tasks.app.control.add_consumer("celery", destination=["one@test"], reply=True, timeout=3)
        assert result.get(timeout=DEADLINE_S) == "done"
        assert path.read_text() == "begin\nbegin\nend\n"
    finally:
        victim.kill9()


def test_tasks_outlive_a_killed_node(stand):
    """Sent with confirms, then kill -9 of the node: a worker that comes then does them. The last test: it takes the
    consumer from the worker of the others.
    """
    folder, node, tasks, broker = stand
    tasks.app.control.cancel_consumer("celery", destination=["one@test"], reply=True, timeout=3)
    path = folder / "outlived"
    with tasks.app.connection_for_write(transport_options={"confirm_publish": True}) as connection:
        for _ in range(5):
            tasks.note.apply_async((str(path), 0), connection=connection, ignore_result=True)
    node.kill9()
    assert not path.exists()
    node.restart()
    worker = Worker(folder, "after", broker)
    worker.start()
    try:
        wait_until(lambda: path.exists() and path.read_text().count("end\n") == 5, "all are done", also=worker.log_tail)
    finally:
        worker.kill9()
