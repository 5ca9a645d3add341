"""An exception ends a task: its job must not go on with nobody to end it, whoever raised, and wherever."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import (
    ExceptionRetryPolicy,
    RetryAction,
    RetryDecision,
    RetryPolicy,
    RetryRule,
)
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)

from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.leaving import Leaving, cancelled_by, leaving
from airflow_bridge.outcome import PodRelayFailure
from dispatcher.client import Dispatcher
from dispatcher.errors import PodrelayError, RedisUnavailableError
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.support.scripted_worker import PlayedJob, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, fired_by

LEFT_TO = {
    RuntimeError: ("nobody", "the next try attaches"),
    AirflowException: ("nobody", "the next try attaches"),
    SystemExit: ("nobody", "the next try attaches"),
    KeyboardInterrupt: ("nobody", "the next try attaches"),
    TaskDeferralError: ("nobody", "the next try attaches"),
    AirflowSkipException: ("nobody", "nobody"),
    AirflowFailException: ("nobody", "nobody"),
    AirflowTaskTimeout: ("nobody", "nobody"),
    TaskDeferralTimeout: ("nobody", "nobody"),
}


@pytest.mark.parametrize("kind", LEFT_TO, ids=lambda kind: kind.__name__)
def test_who_has_the_job_after_an_exception(kind: type[BaseException]) -> None:
    in_the_last_try, before = LEFT_TO[kind]
    assert leaving(kind(), is_durable=True, is_last_try=True) is Leaving(in_the_last_try)
    assert leaving(kind(), is_durable=True, is_last_try=False) is Leaving(before)
    for is_last_try in (False, True):
        assert leaving(kind(), is_durable=False, is_last_try=is_last_try) is Leaving.NOBODY


def test_a_try_that_waits_goes_on() -> None:
    deferred = TaskDeferred(trigger=None, method_name="trigger_reentry")
    assert leaving(deferred, is_durable=False, is_last_try=True) is Leaving.THE_TRY_GOES_ON
    again = AirflowRescheduleException(datetime.now(UTC))
    assert leaving(again, is_durable=True, is_last_try=True) is Leaving.NEXT_TRY
    assert leaving(again, is_durable=False, is_last_try=False) is Leaving.NOBODY


def test_what_cancels_is_named_without_the_exceptions_text() -> None:
    assert cancelled_by(RuntimeError("password=hunter2")) == "Airflow: the task ended with RuntimeError"


# Sync


def raising(hook: str, error: BaseException, *, once: bool = False) -> type[PodRelayCallback]:
    told: list[str] = []

    def raises(**_: Any) -> None:
        told.append(hook)
        if len(told) == 1 or not once:
            raise error

    return type("Raising", (PodRelayCallback,), {hook: staticmethod(raises)})


def until_cancelled(job: PlayedJob) -> None:
    job.running().log(b"working\n").cancelled()


WHILE_IT_RUNS = ["on_pod_creation", "on_pod_starting", "progress_callback"]
ERRORS = [RuntimeError("bug"), AirflowSkipException("not today"), SystemExit(3), AirflowTaskTimeout()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", WHILE_IT_RUNS)
def test_sync_a_hook_that_raises_leaves_no_pod(hook: str, error: BaseException, task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, until_cancelled) as worker, pytest.raises(type(error)) as raised:
        task_run.execute(callbacks=raising(hook, error))
    assert raised.value is error
    assert worker.played[0].record().status is Status.CANCELLED
    assert worker.played[0].record().cancel_requested_by == cancelled_by(error)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("hook", ["on_sync_client_creation", "on_pod_manifest_created"])
def test_a_hook_that_raises_before_the_submit_has_no_job(hook: str, deferrable: bool, task_run: TaskRun) -> None:
    with pytest.raises(RuntimeError, match="bug"):
        task_run.execute(callbacks=raising(hook, RuntimeError("bug")), deferrable=deferrable)
    assert task_run.jobs() == []


@pytest.mark.parametrize("hook", ["on_pod_completion", "on_pod_teardown", "on_pod_cleanup"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_hook_that_raises_at_the_end_leaves_the_result_to_the_next_try(
    hook: str, deferrable: bool, task_run: TaskRun
) -> None:
    task_run.ti.max_tries = 1
    callbacks = raising(hook, RuntimeError("bug"), once=True)
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(return_value=5), arrives_after=task_run.is_deferred.wait
    ) as worker:
        with pytest.raises(RuntimeError, match="bug"):
            task_run.run_through(deferrable=deferrable, callbacks=callbacks, do_xcom_push=True)
        task_run.next_try()
        assert task_run.execute(callbacks=callbacks, do_xcom_push=True) == 5
    assert len(worker.played) == 1
    assert worker.played[0].record().cancel_requested_by is None


def test_sync_a_log_formatter_that_raises_leaves_no_pod(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, until_cancelled) as worker, pytest.raises(ZeroDivisionError):
        task_run.execute(log_formatter=lambda container, line: str(1 / 0))
    assert worker.played[0].record().cancel_requested_by == "Airflow: the task ended with ZeroDivisionError"


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_xcom_that_cannot_be_pushed_after_the_submit_leaves_no_pod(deferrable: bool, task_run: TaskRun) -> None:
    def refuse() -> None:
        raise ConnectionError("Airflow's API server is away")

    task_run.ti.when_submitted = refuse
    with ScriptedWorker(task_run.redis_url), pytest.raises(ConnectionError):
        task_run.execute(deferrable=deferrable)
    assert task_run.record(task_run.ti.xcoms["podrelay_job_id"]).status is Status.CANCELLED


def test_with_a_try_left_the_job_goes_on_and_the_next_try_attaches(task_run: TaskRun, task_log: TaskLog) -> None:
    task_run.ti.max_tries = 1

    def working(job: PlayedJob) -> None:
        job.running()
        task_run.second_try.wait(30)
        job.succeed()

    callbacks = raising("on_pod_starting", RuntimeError("bug"), once=True)
    with ScriptedWorker(task_run.redis_url, working) as worker:
        with pytest.raises(RuntimeError, match="bug"):
            task_run.execute(callbacks=callbacks)
        assert any("goes on: the next try attaches" in line for line in task_log.lines)
        task_run.next_try()
        task_run.second_try.set()
        task_run.execute(callbacks=callbacks)
    assert [job.record().status for job in worker.played] == [Status.SUCCEEDED]


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (RuntimeError("bug"), {"durable": False}),
        (AirflowSkipException(), {}),
        (AirflowFailException(), {}),
        (
            RuntimeError("bug"),
            {"retry_policy": ExceptionRetryPolicy(rules=[RetryRule(exception=RuntimeError, action=RetryAction.FAIL)])},
        ),
    ],
    ids=["not durable", "skip", "fail", "policy"],
)
def test_with_a_try_left_that_will_not_attach_the_job_is_cancelled(
    error: Exception, arguments: dict[str, Any], task_run: TaskRun
) -> None:
    task_run.ti.max_tries = 3
    with ScriptedWorker(task_run.redis_url, until_cancelled) as worker, pytest.raises(type(error)):
        task_run.execute(callbacks=raising("on_pod_creation", error), **arguments)
    assert worker.played[0].record().status is Status.CANCELLED


class Asked(RetryPolicy):
    """Never ends a task; notes for which exceptions it was asked."""

    def __init__(self) -> None:
        self.exceptions: list[BaseException] = []

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        self.exceptions.append(exception)
        return RetryDecision.default()


def test_a_retry_policy_is_asked_only_about_a_failure_that_leaves_a_job(task_run: TaskRun) -> None:
    task_run.ti.max_tries, policy, bug = 1, Asked(), RuntimeError("bug")
    with ScriptedWorker(
        task_run.redis_url,
        lambda job: job.running().fail(),
        lambda job: job.running(),
        arrives_after=task_run.is_deferred.wait,
    ):
        deferred = task_run.defer(retry_policy=policy)
        event = fired_by(deferred.trigger)
        with pytest.raises(PodRelayFailure):
            task_run.resume(deferred.method_name, {"event": event}, retry_policy=policy)
        assert policy.exceptions == [], "neither the deferral nor the end of the job is of its concern"
        with pytest.raises(RuntimeError, match="bug"):
            task_run.execute(callbacks=raising("on_pod_starting", bug), retry_policy=policy)
    assert policy.exceptions == [bug]


@pytest.mark.parametrize("durable", [True, False])
def test_a_submit_that_is_refused_ends_no_other_job(durable: bool, task_run: TaskRun) -> None:
    with task_run._dispatcher() as dispatcher:
        dispatcher.submit(JobSpec(id="others", image="another"))
    with pytest.raises(PodrelayError):
        task_run.execute(durable=durable, podrelay_options={"id": "others"})
    assert task_run.record("others").cancel_requested_by is None


def test_a_last_try_that_fails_before_it_attaches_ends_the_job_of_the_try_before(task_run: TaskRun) -> None:
    task_run.submit_and_die()
    task_run.next_try()
    with pytest.raises(RuntimeError, match="bug"):
        task_run.execute(callbacks=raising("on_pod_manifest_created", RuntimeError("bug")))
    assert [job.status for job in task_run.jobs()] == [Status.CANCELLED]


@pytest.mark.parametrize("durable", [True, False])
def test_a_submit_whose_answer_is_lost_leaves_no_pod(
    durable: bool, task_run: TaskRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Dispatcher.submit

    def lost(self: Dispatcher, spec: Any) -> Any:
        submit(self, spec)
        raise RedisUnavailableError("no answer")

    monkeypatch.setattr(Dispatcher, "submit", lost)
    with pytest.raises(RedisUnavailableError):
        task_run.execute(durable=durable)
    assert [job.status for job in task_run.jobs()] == [Status.CANCELLED]


def test_a_job_that_cannot_be_cancelled_hides_nothing(
    task_run: TaskRun, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = Dispatcher.cancel

    def away(self: Dispatcher, job_id: str, by: str) -> Any:
        cancel(self, job_id, by)  # so that the worker's script ends
        raise OSError("no route")

    monkeypatch.setattr(Dispatcher, "cancel", away)
    with ScriptedWorker(task_run.redis_url, until_cancelled), pytest.raises(RuntimeError, match="bug"):
        task_run.execute(callbacks=raising("on_pod_creation", RuntimeError("bug")))
    assert any("could not be cancelled: OSError('no route')" in line for line in task_log.at("warning"))


# Deferred


def test_arguments_that_airflow_cannot_store_fail_the_task_before_it_defers(task_run: TaskRun) -> None:
    with pytest.raises(TypeError):
        task_run.execute(deferrable=True, trigger_kwargs={"mine": object()})
    assert [job.status for job in task_run.jobs()] == [Status.CANCELLED]


def test_a_trigger_that_fails_while_xcoms_cannot_be_read_leaves_no_pod(
    task_run: TaskRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_run.defer()

    def away(**_: Any) -> Any:
        raise ConnectionError("Airflow's API server is away")

    monkeypatch.setattr(task_run.ti, "xcom_pull", away)
    with pytest.raises(TaskDeferralError):
        task_run.resume("__fail__", {"error": "Trigger failure"})
    assert [job.cancel_requested_by for job in task_run.jobs()] == ["Airflow: Trigger failure"]


class Exits(PodRelayCallback):
    @staticmethod
    def on_pod_creation(**_: Any) -> None:
        raise SystemExit(3)


class Breaks(PodRelayCallback):
    @staticmethod
    async def on_pod_creation(**_: Any) -> None:
        raise RuntimeError("bug")


class GivesUp(PodRelayCallback):
    @staticmethod
    async def on_pod_creation(**_: Any) -> None:
        raise asyncio.CancelledError


@pytest.mark.parametrize("callback", [Exits, Breaks, GivesUp])
def test_deferred_what_on_pod_creation_raises_fails_the_task_as_in_kpo(
    callback: type, task_run: TaskRun, task_log: TaskLog
) -> None:
    with ScriptedWorker(task_run.redis_url, until_cancelled) as worker:
        deferred = task_run.defer(callbacks=callback)
        event = fired_by(deferred.trigger)
        assert event["status"] == "error"
        with pytest.raises(PodRelayFailure, match="callback on_pod_creation failed"):
            task_run.resume(deferred.method_name, {"event": event}, callbacks=callback)
    assert worker.played[0].record().status is Status.CANCELLED
    assert "callback on_pod_creation failed" in task_log.at("error")


class ExitsLater(PodRelayCallback):
    @staticmethod
    async def on_pod_starting(**_: Any) -> None:
        raise SystemExit(3)

    @staticmethod
    def progress_callback(**_: Any) -> None:
        raise AirflowTaskTimeout


def test_deferred_what_other_hooks_raise_is_logged_and_ends_no_triggerer(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().log(b"x\n").succeed(), arrives_after=task_run.is_deferred.wait
    ):
        event = fired_by(task_run.defer(callbacks=ExitsLater).trigger)
    assert event["status"] == "success"
    assert task_log.at("error") == ["callback on_pod_starting failed", "callback progress_callback failed"]


def exits(container: str, line: str) -> str:
    raise SystemExit(3)


def test_deferred_a_log_formatter_that_exits_ends_its_task_and_no_triggerer(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, until_cancelled) as worker:
        deferred = task_run.defer(log_formatter=exits)
        event = fired_by(deferred.trigger)
        with pytest.raises(PodRelayFailure, match="log_formatter failed: SystemExit"):
            task_run.resume(deferred.method_name, {"event": event}, log_formatter=exits)
    assert worker.played[0].record().status is Status.CANCELLED


def test_deferred_what_on_operator_resuming_raises_fails_the_task(task_run: TaskRun) -> None:
    callbacks = raising("on_operator_resuming", RuntimeError("bug"))
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(), arrives_after=task_run.is_deferred.wait
    ) as worker:
        deferred = task_run.defer(callbacks=callbacks)
        event = fired_by(deferred.trigger)
        with pytest.raises(RuntimeError, match="bug"):
            task_run.resume(deferred.method_name, {"event": event}, callbacks=callbacks)
    assert worker.played[0].record().status is Status.SUCCEEDED
