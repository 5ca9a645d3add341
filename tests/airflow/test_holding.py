"""A deferred task's event is held back until Airflow's scheduler can have seen the end of the process that deferred."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from airflow_bridge.provider import get_provider_info
from airflow_bridge.trigger import DEFERRED_AT_LEAST_S, PodRelayTrigger, hold_s
from dispatcher.client import Dispatcher
from dispatcher.settings import ClientSettings
from tests.support.scripted_worker import ScriptedWorker
from tests.support.task_run import TaskRun, anew


@pytest.mark.parametrize(
    ("waited_s", "at_least_s", "held_s"),
    [(0.0, 3.0, 3.0), (1.25, 3.0, 1.75), (3.0, 3.0, 0.0), (9e9, 3.0, 0.0), (1, 0, 0)],
)
def test_how_long_an_event_is_held(waited_s: float, at_least_s: float, held_s: float) -> None:
    assert hold_s(waited_s, at_least_s) == held_s


def what_happens(trigger: PodRelayTrigger, waited_s: float) -> list[Any]:
    """Run the trigger, which takes so long by its clock; returns its pauses and its event's status, in order."""
    happened: list[Any] = []
    times = iter([100.0, 100.0 + waited_s])

    async def sleep(seconds: float) -> None:
        happened.append(seconds)

    async def run() -> None:
        async for event in trigger.run():
            happened.append(event.payload["status"])

    trigger._clock, trigger._sleep = lambda: next(times), sleep
    asyncio.run(run())
    return happened


@pytest.fixture(autouse=True)
def _as_configured_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__PODRELAY__DEFERRED_AT_LEAST_S")


def ended(task_run: TaskRun, **arguments: Any) -> PodRelayTrigger:
    """The trigger of a job that ends soon."""
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(), arrives_after=task_run.is_deferred.wait
    ):
        trigger = task_run.defer(**arguments).trigger
    return anew(trigger)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("waited_s", "held_s"), [(1.25, 1.75), (600.0, 0.0)])
def test_a_short_task_is_held_and_a_long_one_is_not(waited_s: float, held_s: float, task_run: TaskRun) -> None:
    assert what_happens(ended(task_run), waited_s) == [held_s, "success"]


def test_an_event_that_was_lost_while_it_was_held_is_fired_again(task_run: TaskRun) -> None:
    trigger = ended(task_run)
    assert what_happens(anew(trigger), 0.5) == what_happens(trigger, 0.5) == [2.5, "success"]


def test_a_task_whose_time_is_over_at_once_is_held_too(task_run: TaskRun) -> None:
    trigger = task_run.defer(execution_timeout=timedelta(seconds=0.1)).trigger
    assert what_happens(anew(trigger), 0.5) == [2.5, "timeout"]


def test_a_job_that_is_unknown_is_held_too(task_run: TaskRun) -> None:
    trigger = task_run.defer().trigger
    with Dispatcher(ClientSettings(redis_url=task_run.redis_url)) as dispatcher:
        dispatcher._redis.flushall()
    assert what_happens(anew(trigger), 0.5) == [2.5, "error"]


def test_the_configuration_says_for_how_long(task_run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = ended(task_run)
    monkeypatch.setenv("AIRFLOW__PODRELAY__DEFERRED_AT_LEAST_S", "10")
    assert what_happens(trigger, 0.5) == [9.5, "success"]
    config: Any = get_provider_info()["config"]
    assert float(config["podrelay"]["options"]["deferred_at_least_s"]["default"]) == DEFERRED_AT_LEAST_S
