"""A deferred task's execution timeout, between machines whose clocks are minutes apart."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from devcluster.local.redis_server import RedisServer
from tests.support.clocks import WrongClock, redis_binary, why_not
from tests.support.scripted_worker import ScriptedWorker
from tests.support.task_run import TaskRun, fired_by


@pytest.fixture(params=[300, -300], ids=["ahead", "behind"])
def wrong_redis(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisServer]:
    """A Redis, known to Airflow, whose clock is not this process'."""
    if why := why_not(tmp_path):
        pytest.skip(why)
    clock = WrongClock(tmp_path / "redis", request.param)
    with RedisServer(binary=redis_binary(), environment=clock.environment) as server:
        monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", f"podrelay://127.0.0.1:{server.port}/0")
        yield server


def test_the_triggerer_ends_a_task_in_redis_time(wrong_redis: RedisServer) -> None:
    """A triggerer on another machine shares no clock with the task's first part, but Redis'."""
    task_run = TaskRun(wrong_redis.url)
    with ScriptedWorker(wrong_redis.url, lambda job: job.running()) as worker:
        trigger = task_run.defer(execution_timeout=timedelta(hours=1)).trigger
        assert trigger.deadline_at == pytest.approx(worker.client.time()[0] + 3600, abs=60)
        trigger.deadline_at = worker.client.time()[0] + 2
        began = time.monotonic()
        assert fired_by(trigger)["status"] == "timeout"
        assert 1 <= time.monotonic() - began < 30
