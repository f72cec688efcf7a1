"""examples/workers.py: MQTT, a queue, two workers over AMQP, dead letters, redrive."""
from __future__ import annotations

import subprocess
import sys

from tests.support.node import ROOT, Node


def test_every_job_is_done_once_the_ones_turned_down_after_a_redrive(tmp_path):
    node = Node(tmp_path, listeners=("mqtt", "amqp", "http", "console")).start()
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "workers.py"), "--mqtt", str(node.ports["mqtt"]), "--amqp",
             str(node.ports["amqp"]), "--http", str(node.ports["http"])],
            capture_output=True, text=True, timeout=120, check=False)
    finally:
        node.kill9()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 jobs published over MQTT; 30 wait in the queue" in done.stdout
    assert "20 done, by ['one', 'two']; 10 dead letters, the first: 1" in done.stdout
    assert "mended, redriven: 30 of 30 jobs done, each once" in done.stdout
