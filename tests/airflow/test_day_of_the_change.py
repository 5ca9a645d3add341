"""The import is changed while tasks of KubernetesPodOperator are under way: KPO itself, against the pocket cluster."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferred

from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.outcome import PodRelayFailure
from tests.support.installation import Installation
from tests.support.task_run import TaskLog, TaskRun, fired_by, run

WAIT = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.05)\nprint('done')"


@pytest.fixture
def kpo(real_run: TaskRun, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes KPO's task, which talks to the pocket cluster."""
    extra = {"kube_config_path": str(installation.kubeconfig), "namespace": "default"}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))

    def make(**arguments: Any) -> KubernetesPodOperator:
        with DAG(real_run.ti.dag_id, schedule=None):
            return KubernetesPodOperator(**{**TASK, "on_finish_action": "keep_pod", **arguments})

    return make


TASK: dict[str, Any] = {"task_id": "transform", "image": "python:3.12", "cmds": ["python", "-c"], "name": "load"}


DONE = ["print('done')"]


def wait_for(path: Any) -> dict[str, Any]:
    return {"arguments": [WAIT, str(path)], "get_logs": False, "log_events_on_startup": False}


def pods_of_the_task(installation: Installation, operator: KubernetesPodOperator, run: TaskRun) -> list[str]:
    """What `kubectl get pods -l` shows for the labels by which KPO finds its pods."""
    selector = operator._build_find_pod_label_selector(run.context, exclude_checked=False)
    found = installation.pocket.call("GET", f"/api/v1/namespaces/default/pods?labelSelector={quote(selector)}")
    return [pod["metadata"]["name"] for pod in found["items"]]


def ours(real_run: TaskRun, **arguments: Any) -> PodRelayOperator:
    with DAG(real_run.ti.dag_id, schedule=None):
        return PodRelayOperator(**{**TASK, "on_finish_action": "keep_pod", "arguments": DONE, **arguments})


def test_a_task_that_kpo_deferred_fails_with_a_sentence_and_its_next_try_runs_anew(
    kpo: Any, real_run: TaskRun, task_log: TaskLog, installation: Installation, tmp_path: Path
) -> None:
    operator = kpo(deferrable=True, **wait_for(tmp_path / "go"))
    with pytest.raises(TaskDeferred) as deferred:
        run(operator, operator.execute, context=real_run.context)
    (tmp_path / "go").touch()
    event = fired_by(deferred.value.trigger)
    (kpos_pod,) = pods_of_the_task(installation, operator, real_run)

    # Here the import is changed: Airflow resumes the task with the operator that the DAG has now.
    resumed = ours(real_run, deferrable=True)
    with pytest.raises(PodRelayFailure) as told:
        resumed.resume_execution(deferred.value.method_name, {"event": event}, real_run.context)
    assert str(told.value) == (
        "This task was deferred by KubernetesPodOperator (or another operator) before its import was changed: its "
        f"trigger has fired with status success for pod default/{kpos_pod}, which may still be there (All containers "
        "inside pod have started successfully.). podrelay has no job for it: clear the task, or let it retry, and it "
        "runs anew. See docs/migrating-from-kpo.md, 'The day of the change'"
    )
    real_run.next_try()
    real_run.execute(ours(real_run))
    assert task_log.containers_lines() == ["[base] done"]
    assert set(pods_of_the_task(installation, operator, real_run)) == {kpos_pod, real_run.ti.xcoms["pod_name"]}


def test_a_task_whose_trigger_of_kpo_cannot_be_loaded_any_more_fails_as_airflow_says(real_run: TaskRun) -> None:
    """The provider was uninstalled on the same day."""
    error = {"error": "Trigger failure", "traceback": ["ModuleNotFoundError: airflow.providers.cncf"]}
    with pytest.raises(TaskDeferralError):
        ours(real_run, deferrable=True).resume_execution("__fail__", error, real_run.context)


def test_a_task_that_is_to_go_on_in_a_method_of_another_operator_says_so(real_run: TaskRun) -> None:
    with pytest.raises(PodRelayFailure, match=r"it is to go on in 'execute_complete', which is not here"):
        ours(real_run).resume_execution("execute_complete", {"event": {}}, real_run.context)


def test_a_task_of_kpo_that_runs_is_killed_and_its_next_try_is_ours(
    kpo: Any, real_run: TaskRun, task_log: TaskLog, installation: Installation, tmp_path: Path
) -> None:
    """Both pods are there, as the page says, and one selector of labels shows both."""
    operator = kpo(**wait_for(tmp_path / "go"))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            operator.await_pod_start = lambda pod: os.write(write, b"!") and signal.pause()
            run(operator, operator.execute, context=real_run.context)
        finally:
            os._exit(1)
    assert os.read(read, 1) == b"!"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)

    real_run.next_try()
    real_run.execute(ours(real_run))
    assert task_log.containers_lines() == ["[base] done"]
    own = real_run.ti.xcoms["pod_name"]
    (kpos_pod,) = set(pods_of_the_task(installation, operator, real_run)) - {own}
    (tmp_path / "go").touch()
    installation.pocket.delete_pod(kpos_pod, grace_s=0)
