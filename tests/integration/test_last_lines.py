"""A container that fails, and whose log nobody asked for, says its last lines before its pod goes."""

from typing import Any

import pytest

from dispatcher.cli import words
from dispatcher.events import JobResult
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason
from tests.support.worker_in_process import InProcess, WorkerInProcess, simulated


@pytest.fixture
async def worker(running: InProcess) -> WorkerInProcess:
    return await running.start_worker()


async def result_of(running: InProcess, worker: WorkerInProcess, spec: JobSpec) -> JobResult:
    return await running.client.result(await running.submit(spec, to=worker))


def failing(name: str, lines: int = 60) -> dict[str, Any]:
    return {"name": name, "image": "simulated:latest", "args": [f"--lines={lines}", "--rate=9999", "--exit-code=9"]}


async def test_an_init_container_that_failed(running: InProcess, worker: WorkerInProcess) -> None:
    result = await result_of(running, worker, simulated(pod_template={"spec": {"initContainers": [failing("setup")]}}))
    assert result.reason is FailureReason.INIT_FAILED
    assert result.last_lines is not None
    assert list(result.last_lines) == ["setup"]
    last = result.last_lines["setup"].splitlines()
    assert len(last) == 20
    told = words.end(result)
    assert told.startswith(f"last lines of container setup:\n  {last[0]}\n")
    assert f"  {last[-1]}\nFAILED, init_failed" in told


async def test_another_container_whose_failure_counts(running: InProcess, worker: WorkerInProcess) -> None:
    spec = simulated("--duration=1", containers=[failing("side", lines=2)], end_when="all")
    result = await result_of(running, worker, spec)
    assert result.reason is FailureReason.CONTAINER_FAILED
    assert {name: len(text.splitlines()) for name, text in (result.last_lines or {}).items()} == {"side": 2}


@pytest.mark.parametrize(
    "asked",
    [{"init_container_logs": "all"}, {"get_logs": False}],
    ids=["its log was asked for", "no log is to be in Redis"],
)
async def test_nothing_is_said_twice_or_unasked(
    running: InProcess, worker: WorkerInProcess, asked: dict[str, Any]
) -> None:
    spec = simulated(pod_template={"spec": {"initContainers": [failing("setup")]}}, **asked)
    result = await result_of(running, worker, spec)
    assert (result.reason, result.last_lines) == (FailureReason.INIT_FAILED, None)
