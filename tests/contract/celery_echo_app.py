"""A Celery application for the message tests: its one task writes what it was given to a list. Started as
``celery -A tests.contract.celery_echo_app worker``."""

import json
import os
from typing import Any

import redis
from celery import Celery

from dispatcher import names

url = os.environ["ECHO_REDIS_URL"]
app = Celery("echo", broker=url)
app.conf.update(
    broker_transport_options={"global_keyprefix": names.CELERY_PREFIX, "queue_order_strategy": "priority"},
    task_default_queue="echo",
    worker_prefetch_multiplier=1,
)


@app.task(name=names.LAUNCH_TASK, bind=True, ignore_result=True)
def echo(task: Any, job: Any) -> None:
    with redis.Redis.from_url(url) as client:
        client.rpush("echoes", json.dumps([job, task.request.id]))
