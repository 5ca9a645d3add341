"""Another Celery application, with Celery's defaults, whose Redis database and queue name are ours too. Its one task
writes what it was given to a list. Started as ``celery -A tests.chaos.their_celery_app worker``."""

import os

import redis
from celery import Celery

URL = os.environ.get("THEIR_REDIS_URL", "")
RESULTS = "theirs:results"
app = Celery("theirs", broker=URL, set_as_current=False)
app.conf.update(task_default_queue="default", broker_connection_retry_on_startup=True)


@app.task(name="theirs.task", ignore_result=True)  # type: ignore[untyped-decorator]
def task(number: int) -> None:
    with redis.Redis.from_url(URL) as client:
        client.rpush(RESULTS, number)
