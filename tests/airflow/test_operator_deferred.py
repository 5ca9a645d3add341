"""The operator that waits in the triggerer: what trigger and operator do to the log, the job and the outcome."""

from tests.support.scripted_worker import PlayedJob, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, fired_by


def hello(job: PlayedJob) -> None:
    job.starting().running().log(b"hello world\n").succeed()


def test_a_deferred_task_shows_its_log_and_succeeds(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait) as worker:
        deferred = task_run.defer()
        event = fired_by(deferred.trigger)
        assert task_run.resume(deferred.method_name, {"event": event}) is None
    assert task_log.containers_lines() == ["[base] hello world"]
    assert task_run.ti.xcoms["pod_name"] == worker.played[0].pod
    assert worker.played[0].record().acknowledged
