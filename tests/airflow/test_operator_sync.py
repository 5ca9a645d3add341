"""The operator that stays with its job: what the task's log, its XComs and its outcome are."""

from scripted_worker import NAMESPACE, PlayedJob, ScriptedWorker
from task_run import TaskLog, TaskRun


def hello(job: PlayedJob) -> None:
    job.starting().running().log(b"hello world\n").succeed()


def test_a_task_shows_its_log_and_succeeds(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, hello) as worker:
        assert task_run.execute(cmds=["python", "-c"], arguments=["print('hello world')"]) is None
    assert "[base] hello world" in task_log.lines
    assert task_run.ti.xcoms["pod_name"] == worker.played[0].pod
    assert task_run.ti.xcoms["pod_namespace"] == NAMESPACE
