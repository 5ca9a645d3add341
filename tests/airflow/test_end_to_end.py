"""The operator with a real worker and the pocket cluster: the same promises, with nothing played."""

import json
import os
import signal
from typing import Any

import pytest
import redis
from airflow.sdk.exceptions import AirflowSkipException

from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.outcome import PodRelayFailure
from airflow_bridge.task_identity import safe_label_value
from dispatcher import names
from dispatcher.client import Dispatcher
from tests.airflow.test_what_ends_a_task import Triggerer, term, term_calls_on_kill
from tests.support.installation import QUICK, Installation
from tests.support.task_run import TaskLog, TaskRun, fired_by

PYTHON = {"image": "python:3.6", "cmds": ["python", "-c"]}


def pods_of(installation: Installation, run: TaskRun) -> list[dict[str, Any]]:
    """Every pod that the task instance ever had."""
    run_id = safe_label_value(run.ti.run_id)
    return [pod for pod in installation.pocket.ever_created() if pod["labels"].get("run_id") == run_id]


def test_the_sample_dags_tasks_end_as_they_should(real_run: TaskRun, task_log: TaskLog) -> None:
    real_run.execute(**PYTHON, arguments=["print('hello world')"], labels={"foo": "bar"}, name="passing-test")
    assert task_log.containers_lines() == ["[base] hello world"]
    real_run.ti.task_id = "failing-task"
    with pytest.raises(
        PodRelayFailure, match=r'(?s)start_error: .*"python":\s+executable\s+file\s+not\s+found'
    ) as failure:
        real_run.execute(image="ubuntu:1604", cmds=["python", "-c"], arguments=["print('hello world')"], name="fail")
    assert "Responsible: the image." in str(failure.value)
    assert "Kubernetes warning" not in str(failure.value)  # it says the same


def test_a_task_whose_ids_have_no_ascii_letters_runs_and_its_pod_is_found_by_label(
    real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    real_run.ti.dag_id, real_run.ti.task_id = "отчёт", "日報"
    real_run.execute(**PYTHON, arguments=["print('hello')"], name=None)
    assert task_log.containers_lines() == ["[base] hello"]
    (pod,) = pods_of(installation, real_run)
    assert (pod["labels"]["dag_id"], pod["labels"]["task_id"]) == (safe_label_value("отчёт"), safe_label_value("日報"))


@pytest.mark.parametrize("deferrable", [False, True])
def test_three_hundred_kilobytes_of_return_value(deferrable: bool, real_run: TaskRun) -> None:
    code = "import json, os; json.dump({'x': 'y' * 300_000}, open('/airflow/xcom/return.json', 'w')); print('done')"
    arguments = {**PYTHON, "arguments": [code], "do_xcom_push": True}
    if deferrable:
        deferred = real_run.defer(**{**arguments, "arguments": ["import time; time.sleep(1); " + code]})
        event = fired_by(deferred.trigger)
        assert len(json.dumps(event)) < 2_000
        value = real_run.resume(deferred.method_name, {"event": event}, **arguments)
    else:
        value = real_run.execute(**arguments)
    assert value == {"x": "y" * 300_000}


def test_an_exit_code_skips(real_run: TaskRun) -> None:
    with pytest.raises(AirflowSkipException):
        real_run.execute(**PYTHON, arguments=["raise SystemExit(99)"], skip_on_exit_code=99)


#: Traps TERM and reports 0: what KPO may take for success.
STUBBORN = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print('working', flush=True)\n"
    "while True: time.sleep(0.05)"
)


def test_term_ends_task_and_pod_and_is_never_success(
    real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    class TermAtTheFirstLine(PodRelayCallback):
        @staticmethod
        def progress_callback(**_: Any) -> None:
            term()

    operator = real_run.make(**PYTHON, arguments=[STUBBORN], callbacks=TermAtTheFirstLine)
    with term_calls_on_kill(operator), pytest.raises(PodRelayFailure, match="killed"):
        real_run.execute(operator)
    result = real_run.result(real_run.ti.xcoms["podrelay_job_id"])
    assert result.status == "CANCELLED"
    assert task_log.containers_lines() == ["[base] working"]


def test_a_pod_that_somebody_deletes_is_never_success(real_run: TaskRun, installation: Installation) -> None:
    class Delete(PodRelayCallback):
        @staticmethod
        def progress_callback(*, pod: Any, **_: Any) -> None:
            installation.pocket.delete_pod(pod.metadata.name)

    with pytest.raises(PodRelayFailure, match="pod_deleted"):
        real_run.execute(**PYTHON, arguments=[STUBBORN], callbacks=Delete)


WAITS = (
    "import os, sys, time\n"
    "print('one', flush=True)\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.05)\n"
    "print('two')"
)


def test_a_killed_tasks_next_try_attaches_to_its_pod(
    real_run: TaskRun, task_log: TaskLog, installation: Installation, tmp_path: Any
) -> None:
    read, write = os.pipe()
    arguments = {**PYTHON, "arguments": [WAITS, str(tmp_path / "go")]}
    child = os.fork()
    if child == 0:
        try:
            hooks = {"progress_callback": staticmethod(lambda **_: os.write(write, b"!"))}
            real_run.execute(**arguments, callbacks=type("Tell", (PodRelayCallback,), hooks))
        finally:
            os._exit(0)
    assert os.read(read, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    real_run.next_try()
    (tmp_path / "go").touch()
    real_run.execute(**arguments)
    assert task_log.containers_lines() == ["[base] one", "[base] two"]
    assert len(pods_of(installation, real_run)) == 1
    os.close(read)
    os.close(write)


def test_triggerer_and_worker_are_both_replaced_and_the_log_is_told_once(
    real_run: TaskRun, task_log: TaskLog, installation: Installation, tmp_path: Any
) -> None:
    arguments = {**PYTHON, "arguments": [WAITS, str(tmp_path / "go")]}
    deferred = real_run.defer(**arguments)
    Triggerer(deferred.trigger).until(task_log.has("[base] one"))
    installation.workers[-1].kill()
    installation.start_worker("second", **QUICK)
    (tmp_path / "go").touch()
    event = fired_by(deferred.trigger)
    real_run.resume(deferred.method_name, {"event": event}, **arguments)
    assert task_log.containers_lines() == ["[base] one", "[base] two"]
    assert len(pods_of(installation, real_run)) == 1


def test_a_user_who_ends_a_deferred_task_ends_its_pod(
    real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    deferred = real_run.defer(**PYTHON, arguments=[STUBBORN])
    Triggerer(deferred.trigger).until(task_log.has("[base] working"), then_on_kill=True)
    result = real_run.result(deferred.trigger.job_id)  # type: ignore[attr-defined]
    assert (result.status, result.cancelled_by) == ("CANCELLED", "a user who ended its task in Airflow")


class BreaksAtTheStart(PodRelayCallback):
    """Called in the triggerer too, where KPO would call it in the task's process."""

    @staticmethod
    def on_pod_creation(**_: Any) -> None:
        raise SystemExit("bug")


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("on_finish_action", ["delete_pod", "keep_pod"])
def test_a_callback_that_raises_in_the_last_try_leaves_no_pod(
    deferrable: bool, on_finish_action: str, real_run: TaskRun, installation: Installation
) -> None:
    arguments = {**PYTHON, "arguments": [STUBBORN], "callbacks": BreaksAtTheStart, "on_finish_action": on_finish_action}
    with pytest.raises(PodRelayFailure if deferrable else SystemExit):
        real_run.run_through(deferrable=deferrable, **arguments)
    assert real_run.result(real_run.ti.xcoms["podrelay_job_id"]).status == "CANCELLED"
    wait_until_gone(installation, real_run)


def wait_until_gone(installation: Installation, run: TaskRun) -> None:
    run_id = safe_label_value(run.ti.run_id)
    installation.pocket.wait_for_pods(
        lambda pods: all(pod["metadata"].get("labels", {}).get("run_id") != run_id for pod in pods)
    )


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failed_task_has_its_value_its_events_and_its_pod_marked_as_kpos(
    deferrable: bool, real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    code = "import time; time.sleep(1); open('/airflow/xcom/return.json', 'w').write('[3]'); raise SystemExit(4)"
    with pytest.raises(PodRelayFailure, match="exit_code"):
        real_run.run_through(
            deferrable=deferrable,
            **PYTHON,
            arguments=[code],
            do_xcom_push=True,
            log_events_on_failure=True,
            on_finish_action="keep_pod",
        )
    assert real_run.ti.xcoms["return_value"] == [3]
    events = [line.split(" - ")[0] for line in task_log.lines if line.startswith("Pod Event: ")]
    assert {"Pod Event: Scheduled", "Pod Event: Started"} <= set(events)
    assert any(line.startswith("Container 'base': state='TERMINATED'") for line in task_log.at("error"))
    run_id = safe_label_value(real_run.ti.run_id)
    marked = {"run_id": run_id, "already_checked": "True", "kubernetes_pod_operator": "True"}
    installation.pocket.wait_for_pods(
        lambda pods: any(marked.items() <= pod["metadata"].get("labels", {}).items() for pod in pods)
    )


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_mistyped_namespace_fails_the_task_and_names_those_that_are_served(
    deferrable: bool, real_run: TaskRun, installation: Installation
) -> None:
    def its_time_is_over() -> None:
        job_id = real_run.ti.xcoms["podrelay_job_id"]
        with Dispatcher(installation.client_settings()) as dispatcher:
            for heard in dispatcher.follow(job_id):
                if getattr(heard.event, "detail", "") == "no worker serves namespace defualt":
                    break
        with redis.Redis.from_url(installation.redis_url) as server:
            server.hset(names.job(job_id), "unserved_until", "1.0")

    real_run.ti.when_submitted = its_time_is_over
    with pytest.raises(PodRelayFailure, match=r"those\s+that\s+are\s+alive\s+serve:\s+default\."):
        real_run.run_through(deferrable=deferrable, **PYTHON, arguments=["pass"], namespace="defualt")
