"""Airflow without a database: an operator's task, run in this process with a real connection to a real Redis."""

import atexit
import json
import os
import shutil
import tempfile

# Before Airflow is imported, which happens when the tests are.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="podrelay-airflow-home-")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__PODRELAY__DEFERRED_AT_LEAST_S"] = "0"  # there is no scheduler; tests/airflow/test_holding.py

from collections.abc import Iterator

import pytest
import structlog.testing

from devcluster.local.redis_server import RedisServer
from tests.support.installation import QUICK, Installation, connection_of, running_installation
from tests.support.task_run import TaskLog, TaskRun

atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.fixture
def connection(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection ``podrelay_default``; returns the Redis URL."""
    monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", f"podrelay://127.0.0.1:{redis_server.port}/0")
    return redis_server.url


@pytest.fixture
def task_run(connection: str) -> TaskRun:
    return TaskRun(connection)


@pytest.fixture
def task_log() -> Iterator[TaskLog]:
    log = TaskLog()
    with structlog.testing.capture_logs(processors=[log.hear]):
        yield log


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as installation:
        installation.start_worker(**QUICK)
        yield installation


@pytest.fixture
def real_run(installation: Installation, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> TaskRun:
    monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", json.dumps(connection_of(installation)))
    run = TaskRun(installation.redis_url)
    run.ti.run_id = f"manual__{request.node.name}"
    return run
