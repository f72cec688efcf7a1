"""The Celery application of test_celery.py; the worker is a process of its own. BROKER: the broker's URL."""
from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("celery_app", broker=os.environ["BROKER"], backend="rpc://")
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, broker_connection_retry_on_startup=True,
                worker_prefetch_multiplier=1, result_expires=60, broker_connection_max_retries=50)


@app.task
def add(one, other):
    return one + other


@app.task(bind=True, max_retries=3)
def third_time_lucky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task
def write(path, text):
    with open(path, "a") as file:
        file.write(text)


@app.task
def note(path, seconds):
    """Writes down that it has begun, and that it has ended."""
    with open(path, "a") as file:
        file.write("begin\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write("end\n")
    return "done"
