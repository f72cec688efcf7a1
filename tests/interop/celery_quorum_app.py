"""The application of test_celery_quorum.py: quorum queues, delays made by the broker, results in files (FOLDER)."""
from __future__ import annotations

import os

from celery import Celery

app = Celery("celery_quorum_app", broker=os.environ["BROKER"], backend=f"file://{os.environ['FOLDER']}")
app.conf.update(task_default_queue_type="quorum", worker_detect_quorum_queues=True,
                broker_native_delayed_delivery_queue_type="quorum", broker_connection_retry_on_startup=True,
                task_acks_late=True, worker_prefetch_multiplier=1, broker_connection_max_retries=50,
                task_default_queue="quorate", broker_transport_options={"confirm_publish": True})


@app.task
def add(one, other):
    return one + other


@app.task
def total(numbers):
    return sum(numbers)
