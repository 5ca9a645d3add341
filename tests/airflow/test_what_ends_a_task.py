"""What ends a task and what that does to its job: the table of the migration page, cell by cell. Never a success."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralError, TaskDeferralTimeout, TaskDeferred
from airflow.sdk.execution_time.task_runner import _run_execute_callable
from airflow.triggers.base import BaseTrigger

from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.outcome import PodRelayFailure
from airflow_bridge.task_identity import BY_A_USER
from dispatcher.status import Status
from tests.support.scripted_worker import PlayedJob, Script, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, anew, fired_by, run


@contextmanager
def term_calls_on_kill(operator: PodRelayOperator) -> Iterator[None]:
    """The handler that Airflow's task runner installs."""
    former = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def term_while_running(task_log: TaskLog) -> Script:
    """Airflow's supervisor ends the task's process; the pod traps TERM and ends with 0."""

    def script(job: PlayedJob) -> None:
        job.starting().running().log(b"working\n")
        task_log.wait_for("[base] working")
        term()
        by = job.await_cancel()
        job.end(Status.CANCELLED, cancelled_by=by, exit_code=0)

    return script


# Sync


def test_sync_user_ends_the_task_and_the_job_is_cancelled(task_run: TaskRun, task_log: TaskLog) -> None:
    operator = task_run.make()
    with (
        ScriptedWorker(task_run.redis_url, term_while_running(task_log)) as worker,
        term_calls_on_kill(operator),
        pytest.raises(PodRelayFailure, match=r"The task was killed; job \w+ is being cancelled"),
    ):
        task_run.execute(operator)
    worker.join()
    assert worker.played[0].record().status is Status.CANCELLED
    assert worker.played[0].record().cancel_requested_by == "Airflow: the task was killed"


def test_sync_user_ends_the_task_and_the_job_goes_on_with_keep_pod(task_run: TaskRun, task_log: TaskLog) -> None:
    def term_then_succeed(job: PlayedJob) -> None:
        job.starting().running().log(b"working\n")
        task_log.wait_for("[base] working")
        term()
        job.succeed()

    operator = task_run.make(on_kill_action="keep_pod")
    with (
        ScriptedWorker(task_run.redis_url, term_then_succeed) as worker,
        term_calls_on_kill(operator),
        pytest.raises(PodRelayFailure, match="goes on"),
    ):
        task_run.execute(operator)
    worker.join()
    assert worker.played[0].record().status is Status.SUCCEEDED
    assert worker.played[0].record().cancel_requested_by is None


@pytest.mark.parametrize("on_kill_action", ["delete_pod", "keep_pod"])
def test_sync_execution_timeout_cancels_the_job(on_kill_action: str, task_run: TaskRun) -> None:
    operator = task_run.make(execution_timeout=timedelta(seconds=0.3), on_kill_action=on_kill_action)
    with (
        ScriptedWorker(task_run.redis_url, lambda job: job.running().cancelled()) as worker,
        pytest.raises(AirflowTaskTimeout),
    ):
        _run_execute_callable(task_run.context, operator.execute, operator)
    worker.join()
    assert worker.played[0].record().cancel_requested_by == "Airflow: the execution timeout is over"


@pytest.mark.parametrize("deferrable", [False, True])
def test_term_between_submit_and_what_follows_cancels_and_fails(deferrable: bool, task_run: TaskRun) -> None:
    task_run.ti.when_submitted = term
    operator = task_run.make(deferrable=deferrable)
    with (
        ScriptedWorker(task_run.redis_url),
        term_calls_on_kill(operator),
        pytest.raises(PodRelayFailure, match="killed"),
    ):
        task_run.execute(operator)
    assert task_run.record(task_run.ti.xcoms["podrelay_job_id"]).status is Status.CANCELLED


@pytest.mark.parametrize("deferrable", [False, True])
def test_term_before_the_submit_returns_cancels_what_it_submits(deferrable: bool, task_run: TaskRun) -> None:
    class TermWhenManifestIsMade(PodRelayCallback):
        @staticmethod
        def on_pod_manifest_created(**_: Any) -> None:
            term()

    operator = task_run.make(callbacks=TermWhenManifestIsMade, deferrable=deferrable)
    with (
        ScriptedWorker(task_run.redis_url),
        term_calls_on_kill(operator),
        pytest.raises(PodRelayFailure, match="killed") as failure,
    ):
        task_run.execute(operator)
    (job_id,) = re.findall(r"job (\w+) is being cancelled", str(failure.value))
    assert task_run.record(job_id).status is Status.CANCELLED
    assert task_run.ti.xcoms == {}, "nothing was done after the submit"


def test_sync_term_while_a_success_is_being_finished_fails_the_try_and_the_next_takes_the_result(
    task_run: TaskRun,
) -> None:
    class TermAtTheEnd(PodRelayCallback):
        @staticmethod
        def on_pod_completion(**_: Any) -> None:
            term()

    operator = task_run.make(callbacks=TermAtTheEnd)
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed(return_value=5)) as worker:
        with term_calls_on_kill(operator), pytest.raises(PodRelayFailure, match="killed"):
            task_run.execute(operator)
        worker.join()
        task_run.next_try()
        assert task_run.execute(do_xcom_push=False) is None
    assert len(worker.played) == 1
    assert worker.played[0].record().acknowledged


def test_sync_a_killed_try_is_followed_by_a_successor(task_run: TaskRun, task_log: TaskLog) -> None:
    operator = task_run.make()
    with ScriptedWorker(
        task_run.redis_url, term_while_running(task_log), lambda job: job.running().succeed()
    ) as worker:
        with term_calls_on_kill(operator), pytest.raises(PodRelayFailure):
            task_run.execute(operator)
        worker.await_end_of(0)
        task_run.next_try()
        task_run.execute()
    assert worker.played[1].job_id != worker.played[0].job_id


def test_sync_a_dead_process_detaches_and_the_next_try_attaches(task_run: TaskRun) -> None:
    """A real process, killed while it shows the log."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            task_run.execute(
                callbacks=type("Tell", (PodRelayCallback,), {"on_pod_starting": lambda **_: os.write(write, b"!")})
            )
        finally:
            os._exit(0)
    with ScriptedWorker(task_run.redis_url, lambda job: (job.running(), task_run.second_try.wait(30), job.succeed())):
        assert os.read(read, 1) == b"!"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        task_run.next_try()
        task_run.second_try.set()
        task_run.execute()
    os.close(read)
    os.close(write)


# Deferred


class Triggerer:
    """Runs one trigger as the triggerer does, until something else happens."""

    def __init__(self, trigger: BaseTrigger) -> None:
        self.trigger = anew(trigger)
        self.events: list[Any] = []

    async def _run(self) -> None:
        try:
            async for event in self.trigger.run():
                self.events.append(event.payload)
        finally:
            await self.trigger.cleanup()

    def until(self, wait: Any, *, then_on_kill: bool = False) -> "Triggerer":
        """Run until ``wait`` (blocking, called in a thread) returns; then the trigger's task is cancelled."""

        async def main() -> None:
            task = asyncio.create_task(self._run())
            await asyncio.to_thread(wait)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if then_on_kill:
                await self.trigger.on_kill()

        asyncio.run(main())
        return self


def test_deferred_user_ends_the_task_and_the_job_is_cancelled(task_run: TaskRun, task_log: TaskLog) -> None:
    def working(job: PlayedJob) -> None:
        job.running().log(b"working\n").cancelled()

    with ScriptedWorker(task_run.redis_url, working) as worker:
        trigger = task_run.defer().trigger
        triggerer = Triggerer(trigger).until(task_log.has("[base] working"), then_on_kill=True)
    assert triggerer.events == []
    assert worker.played[0].record().cancel_requested_by == "a user who ended its task in Airflow"
    assert worker.played[0].record().status is Status.CANCELLED


def test_deferred_a_clear_that_the_next_try_overtakes_runs_anew(task_run: TaskRun, task_log: TaskLog) -> None:
    """Seen in a real Airflow: the former try's trigger is cancelled when the next try has already attached."""
    with ScriptedWorker(
        task_run.redis_url,
        lambda job: job.running().log(b"working\n").cancelled(),
        lambda job: job.running().log(b"anew\n").succeed(),
    ) as worker:
        former = task_run.defer().trigger
        Triggerer(former).until(task_log.has("[base] working"))
        task_run.next_try()
        attached = task_run.defer()
        asyncio.run(anew(former).on_kill())
        event = fired_by(attached.trigger)
        with pytest.raises(TaskDeferred) as again:
            task_run.resume(attached.method_name, {"event": event})
        event = fired_by(again.value.trigger)
        task_run.resume(again.value.method_name, {"event": event})
    assert [job.record().status for job in worker.played] == [Status.CANCELLED, Status.SUCCEEDED]
    assert [job.spec.try_number for job in worker.played] == [1, 2]
    assert task_log.containers_lines()[-1] == "[base] anew"


def test_a_clear_of_a_deferred_task_that_a_next_sync_try_overtakes_runs_anew(task_run: TaskRun) -> None:
    cleared: list[str] = []

    class ClearedLate(PodRelayCallback):
        @staticmethod
        def on_pod_starting(*, client: Any, **_: Any) -> None:
            if not cleared:
                cleared.append("once")
                client.cancel(BY_A_USER)

    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().cancelled(), lambda job: job.running().succeed()
    ) as worker:
        task_run.submit_and_die()
        task_run.next_try()
        task_run.execute(callbacks=ClearedLate)
    assert [job.spec.try_number for job in worker.played] == [1, 2]


def test_a_user_who_cancels_the_try_that_submitted_the_job_is_not_contradicted(task_run: TaskRun) -> None:
    class Cancel(PodRelayCallback):
        @staticmethod
        def on_pod_starting(*, client: Any, **_: Any) -> None:
            client.cancel(BY_A_USER)

    with (
        ScriptedWorker(task_run.redis_url, lambda job: job.running().cancelled()) as worker,
        pytest.raises(PodRelayFailure, match="cancelled by a user who ended its task"),
    ):
        task_run.execute(callbacks=Cancel)
    assert len(worker.played) == 1


def test_deferred_user_ends_the_task_and_the_job_goes_on_with_keep_pod(task_run: TaskRun, task_log: TaskLog) -> None:
    def working(job: PlayedJob) -> None:
        job.running().log(b"working\n")
        task_log.wait_for("on_kill_action is keep_pod")
        job.succeed()

    with ScriptedWorker(task_run.redis_url, working) as worker:
        trigger = task_run.defer(on_kill_action="keep_pod").trigger
        Triggerer(trigger).until(task_log.has("[base] working"), then_on_kill=True)
    assert worker.played[0].record().cancel_requested_by is None


def test_deferred_execution_timeout_cancels_the_job(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().cancelled()) as worker:
        deferred = task_run.defer(execution_timeout=timedelta(seconds=0.2), on_kill_action="keep_pod")
        event = fired_by(deferred.trigger)
        assert event["status"] == "timeout"
        with pytest.raises(AirflowTaskTimeout, match="was cancelled: the task's execution timeout is over"):
            task_run.resume(deferred.method_name, {"event": event})
    assert worker.played[0].record().cancel_requested_by == "Airflow: the execution timeout is over"


def test_deferred_execution_timeout_counts_from_the_start_of_the_try(task_run: TaskRun) -> None:
    task_run.ti.start_date = datetime.now(UTC) - timedelta(hours=1)
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(), arrives_after=task_run.is_deferred.wait
    ):
        deferred = task_run.defer(execution_timeout=timedelta(minutes=61))
    assert deferred.timeout is not None
    assert timedelta(seconds=60) < deferred.timeout <= timedelta(seconds=120)
    assert deferred.trigger.deadline_at == pytest.approx((task_run.ti.start_date + timedelta(minutes=61)).timestamp())


def test_deferred_execution_timeout_without_a_triggerer_cancels_the_job_too(task_run: TaskRun) -> None:
    """Airflow's scheduler gives up on the trigger and has a worker fail the task."""
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().cancelled()) as worker:
        task_run.defer(execution_timeout=timedelta(hours=1))
        assert worker.has_taken.wait(30)
        with pytest.raises(TaskDeferralTimeout):
            task_run.resume("__fail__", {"error": "Trigger timeout"})
    assert worker.played[0].record().cancel_requested_by == "Airflow: Trigger timeout"


def test_deferred_a_trigger_that_fails_leaves_the_job_to_the_next_try(task_run: TaskRun) -> None:
    task_run.ti.max_tries = 1
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(), arrives_after=task_run.is_deferred.wait
    ) as worker:
        task_run.defer()
        with pytest.raises(TaskDeferralError):
            task_run.resume("__fail__", {"error": "Trigger failure"})
        worker.join()
        task_run.next_try()
        task_run.execute()
    assert len(worker.played) == 1


@pytest.mark.parametrize("arguments", [{}, {"durable": False}])
def test_deferred_a_trigger_that_fails_in_the_last_try_leaves_no_orphan(
    arguments: dict[str, Any], task_run: TaskRun
) -> None:
    task_run.ti.max_tries = 1 if arguments else 0
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().cancelled()) as worker:
        task_run.defer(**arguments)
        assert worker.has_taken.wait(30)
        with pytest.raises(TaskDeferralError):
            task_run.resume("__fail__", {"error": "Trigger failure"}, **arguments)
    assert worker.played[0].record().cancel_requested_by == "Airflow: Trigger failure"


def test_deferred_a_triggerer_that_stops_detaches_and_the_next_goes_on_from_its_place(
    task_run: TaskRun, task_log: TaskLog
) -> None:
    def working(job: PlayedJob) -> None:
        job.running().log(b"one\ntwo, begun")
        task_log.wait_for("a second triggerer")
        job.log(b" and ended\nthree\n").succeed()

    with ScriptedWorker(task_run.redis_url, working) as worker:
        deferred = task_run.defer()
        Triggerer(deferred.trigger).until(task_log.has("[base] one"))
        task_log.hear(None, "info", {"event": "a second triggerer"})
        event = fired_by(deferred.trigger)
        task_run.resume(deferred.method_name, {"event": event})
    assert task_log.containers_lines() == ["[base] one", "[base] two, begun and ended", "[base] three"]
    assert worker.played[0].record().cancel_requested_by is None


def test_deferred_an_event_that_was_lost_is_fired_again_without_telling_the_log_again(
    task_run: TaskRun, task_log: TaskLog
) -> None:
    with ScriptedWorker(
        task_run.redis_url, lambda job: job.running().log(b"once\n").succeed(), arrives_after=task_run.is_deferred.wait
    ):
        deferred = task_run.defer()
        first, second = fired_by(deferred.trigger), fired_by(deferred.trigger)
    assert first == second
    assert task_log.containers_lines() == ["[base] once"]


def test_deferred_on_kill_is_not_called_by_cleanup(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().log(b"x\n")) as worker:
        Triggerer(task_run.defer().trigger).until(task_log.has("[base] x"))
    assert worker.played[0].record().cancel_requested_by is None


def test_a_term_that_comes_when_all_is_said_changes_nothing(task_run: TaskRun) -> None:
    operator = task_run.make()
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed()) as worker:
        run(operator, operator.execute, context=task_run.context)
        operator.on_kill()
    assert worker.played[0].record().status is Status.SUCCEEDED
