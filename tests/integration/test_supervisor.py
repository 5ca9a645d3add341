"""The thread that a worker's loop runs in: started, asked from other threads, ended."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from dispatcher.status import Status
from dispatcher.steps import ClaimOutcome
from tests.support.worker_in_process import QUICK, InProcess, simulated
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

NOWHERE = "redis://127.0.0.1:1/0"


def a_supervisor(url: str, set_consuming: Callable[[bool], None] = lambda _: None, **settings: Any) -> Supervisor:
    return Supervisor(
        WorkerSettings.from_environment({}, redis_url=url, **QUICK, **settings), set_consuming=set_consuming
    )


async def test_jobs_are_launched_from_other_threads_until_it_is_stopped(running: InProcess) -> None:
    wishes = list[bool]()
    supervisor = a_supervisor(running.redis_url, wishes.append, max_jobs=1)
    await asyncio.to_thread(supervisor.start)
    supervisor.tell_ready()
    spec = simulated("--lines=1")
    assert await asyncio.to_thread(supervisor.launch, spec) is ClaimOutcome.CLAIMED
    assert (await running.client.result(spec.id, timeout_s=30)).status is Status.SUCCEEDED
    await asyncio.to_thread(supervisor.stop)
    assert supervisor.failure is None
    assert wishes[:1] == [False]  # it was full
    with pytest.raises((TimeoutError, CancelledError)):
        supervisor.launch(spec.id)


async def test_told_to_end_before_it_has_begun_it_returns_from_its_start(running: InProcess) -> None:
    supervisor = a_supervisor(running.redis_url)
    supervisor.begin_hand_over()
    await asyncio.to_thread(supervisor.start)
    await asyncio.to_thread(supervisor.stop)
    assert supervisor.failure is None


async def test_told_to_end_while_redis_is_away_it_returns_from_its_start(running: InProcess) -> None:
    supervisor = a_supervisor(NOWHERE)
    starting = asyncio.create_task(asyncio.to_thread(supervisor.start))
    await asyncio.sleep(0)
    assert not starting.done()
    supervisor.begin_hand_over()
    await starting
    assert supervisor.failure is None
    await asyncio.to_thread(supervisor.stop)
    assert "podrelay supervisor" not in {thread.name for thread in threading.enumerate()}


async def test_what_keeps_it_from_starting_is_raised_by_its_start(
    running: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    supervisor = a_supervisor(running.redis_url)
    with pytest.raises(Exception, match="/nowhere"):
        await asyncio.to_thread(supervisor.start)
