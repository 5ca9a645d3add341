"""Tasks whose pods have more containers than base end as KPO's tasks do: by KPO's own code, and on a pocket cluster."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException
from kubernetes import client as k8s

from airflow_bridge.outcome import PodRelayFailure
from airflow_bridge.parameters import arguments_of
from airflow_bridge.pod_arguments import job_spec
from airflow_bridge.task_identity import TaskIdentity
from dispatcher.client import Dispatcher
from dispatcher.events import StatusChanged
from dispatcher.record import JobRecord
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.support.task_run import TaskLog, TaskRun, fired_by
from worker.cluster.pod_json import observe
from worker.logs.reader import STILL_RUNNING
from worker.rules.judge import judge
from worker.rules.verdict import AttemptEnded


def pod_of(*others: dict[str, Any] | str) -> dict[str, Any]:
    """``full_pod_spec`` with base and these containers."""
    made = [{"name": other, "image": "x"} if isinstance(other, str) else other for other in others]
    return {"metadata": {}, "spec": {"containers": [{"name": "base"}, *made]}}


def asked(run: TaskRun, **arguments: Any) -> JobSpec:
    """The job that the operator asks for."""
    operator = run.make(**arguments)
    context: Any = run.context
    identity = TaskIdentity.of(context, deployment="here", airflow_version="3")
    manifest = operator.build_pod_request_obj()
    return job_spec(manifest, arguments_of(operator), identity, defaults={"queue": "default", "namespace": None})


# What is asked


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ({}, {}),
        ({"do_xcom_push": True, "container_logs": True}, {}),
        ({"init_containers": [{"name": "prep", "image": "x"}], "init_container_logs": True}, {}),
        ({"full_pod_spec": pod_of()}, {}),
        ({"full_pod_spec": pod_of("side")}, {"end_when": "all"}),
        ({"full_pod_spec": pod_of("side"), "container_logs": ["base", "side"]}, {"end_when": "all"}),
        ({"full_pod_spec": pod_of("side"), "get_logs": False}, {"end_when": "all"}),
        ({"pod_template_dict": pod_of("side")}, {"end_when": "all"}),
        ({"podrelay_options": {"containers": [{"name": "side", "image": "x"}]}}, {"end_when": "all"}),
        ({"full_pod_spec": pod_of("side"), "do_xcom_push": True}, {}),
        ({"full_pod_spec": pod_of("side"), "do_xcom_push": True, "container_logs": ["base"]}, {}),
        (
            {"full_pod_spec": pod_of("side"), "do_xcom_push": True, "container_logs": ["base", "side"]},
            {"end_when": "all", "fail_on": "base"},
        ),
        (
            {"full_pod_spec": pod_of("side", "other"), "do_xcom_push": True, "container_logs": True},
            {"end_when": "all", "fail_on": "base"},
        ),
        ({"full_pod_spec": pod_of("side", "other"), "do_xcom_push": True, "container_logs": ["side"]}, {}),
        ({"full_pod_spec": pod_of("side"), "podrelay_options": {"end_when": "base"}}, {}),
        ({"podrelay_options": {"end_when": "all"}}, {"end_when": "all"}),
        (
            {"full_pod_spec": pod_of("side"), "podrelay_options": {"fail_on": "base"}},
            {"end_when": "all", "fail_on": "base"},
        ),
    ],
)
def test_the_end_is_kpo_s_and_said_only_where_it_is_not_base_s(
    arguments: dict[str, Any], meant: dict[str, str], task_run: TaskRun
) -> None:
    spec = json.loads(asked(task_run, **arguments).encode())
    assert {name: spec[name] for name in ("end_when", "fail_on") if name in spec} == meant


# By KPO's own code


class Waits(Exception):
    """KPO would look again."""


def state(code: int | None) -> dict[str, Any]:
    times = {"startedAt": "2026-11-22T09:06:10Z", "finishedAt": "2026-11-22T09:06:30Z"}
    return {"running": {}} if code is None else {"terminated": {"exitCode": code, "reason": "", **times}}


def observed(**codes: int | None) -> dict[str, Any]:
    """A pod whose containers ended with these codes; None: it runs. The phase is the kubelet's."""
    names = {name.replace("_", "-"): code for name, code in codes.items()}
    phase = "Running"
    if None not in names.values():
        phase = "Failed" if any(names.values()) else "Succeeded"
    statuses = [
        {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state(code)}
        for name, code in names.items()
    ]
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [{"name": name, "image": "x"} for name in names]},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def kpo_succeeds(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> bool | None:
    """Whether KPO's task succeeds by this pod, whose logs are read; None: it waits."""

    class Answer:
        data = json.dumps(pod)

    found = k8s.ApiClient().deserialize(Answer, "V1Pod")

    class Manager(PodManager):
        def read_pod(self, _: object) -> k8s.V1Pod:
            return found

    def waits(_: float) -> None:
        raise Waits

    monkeypatch.setattr("airflow.providers.cncf.kubernetes.utils.pod_manager.time.sleep", waits)
    with DAG("nightly", schedule=None):
        operator = KubernetesPodOperator(task_id="t", on_finish_action="keep_pod", **arguments)
    operator.__dict__["pod_manager"] = Manager(kube_client=k8s.CoreV1Api())
    monkeypatch.setattr(operator, "patch_already_checked", lambda *_, **__: None)
    try:
        istio = operator.is_istio_enabled(found)
        remote = operator.pod_manager.await_pod_completion(found, istio, "base", operator.do_xcom_push)
        operator.cleanup(found, remote)
    except Waits:
        return None
    except AirflowException:
        return False
    return True


def ours_succeeds(pod: dict[str, Any], spec: JobSpec) -> bool | None:
    record = JobRecord("j", spec, spec.digest, Status.RUNNING, attempt=1, reached={"running": 1.0})
    verdict = judge(spec, record, observe(pod), 2.0)
    return verdict.status is Status.SUCCEEDED if isinstance(verdict, AttemptEnded) else None


@pytest.mark.parametrize("side", [None, 0, 9])
@pytest.mark.parametrize("base", [0, 3])
@pytest.mark.parametrize("istio", [{}, {"istio_proxy": None}, {"istio_proxy": 1}], ids=["", "istio", "istio ended"])
@pytest.mark.parametrize("do_xcom_push", [False, True])
def test_the_task_ends_when_and_as_kpo_s_own_code_says(
    base: int,
    side: int | None,
    istio: dict[str, Any],
    do_xcom_push: bool,
    task_run: TaskRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments: dict[str, Any] = {"do_xcom_push": do_xcom_push, "full_pod_spec": pod_of("side")}
    pod = observed(base=base, side=side, **istio)
    kpo = kpo_succeeds(pod, monkeypatch, do_xcom_push=do_xcom_push)
    assert ours_succeeds(pod, asked(task_run, **arguments)) is kpo


# On a pocket cluster


Task = Callable[..., Any]


@pytest.fixture(params=["sync", "deferred"])
def task(request: pytest.FixtureRequest, real_run: TaskRun) -> Task:
    """Run a task to its end; returns its value."""

    def execute(**arguments: Any) -> Any:
        if request.param == "sync":
            return real_run.execute(**arguments)
        deferred = real_run.defer(**arguments)
        event = fired_by(deferred.trigger)
        return real_run.resume(deferred.method_name, {"event": event}, **arguments)

    return execute


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"image": "busybox:1.36", "command": ["sh", "-c", script], **fields}


BASE = {"image": "busybox:1.36", "cmds": ["sh", "-c"]}
SLOW = "for i in 1 2 3; do echo s$i; sleep 0.5; done; echo SIDE-DONE"
WARNING = "The job ended with its base container, before side"


def test_a_container_that_works_longer_than_base_is_waited_for_and_its_log_is_whole(
    task: Task, task_log: TaskLog
) -> None:
    two = pod_of(shell(SLOW, name="side"))
    task(**BASE, arguments=["sleep 1; echo base"], full_pod_spec=two, container_logs=True)
    assert task_log.containers_lines() == ["[base] base"]
    assert task_log.containers_lines("side") == ["[side] s1", "[side] s2", "[side] s3", "[side] SIDE-DONE"]
    assert any("base has ended; waiting for side" in line for line in task_log.lines)
    assert task_log.at("warning") == []


@pytest.mark.parametrize(("base", "side"), [("sleep 1", "true"), ("sleep 0.3", "sleep 1")])
def test_a_container_that_fails_fails_the_task_before_and_after_base_s_end_with_its_last_lines(
    task: Task, task_log: TaskLog, base: str, side: str
) -> None:
    two = pod_of(shell(f"{side}; echo the reason; exit 9", name="side"))
    with pytest.raises(PodRelayFailure, match=r"'side'\s+exited\s+with\s+code\s+9") as failure:
        task(**BASE, arguments=[base], full_pod_spec=two)
    assert failure.value.result is not None
    assert failure.value.result.exit_code == 0
    assert any("the reason" in line for line in task_log.lines)


def test_a_return_value_is_base_s_and_waits_for_the_logs_that_were_asked_for_alone(
    task: Task, task_log: TaskLog
) -> None:
    base = "sleep 1; echo '{\"a\": 1}' > /airflow/xcom/return.json"
    two = pod_of(shell(SLOW + "; exit 9", name="side"))
    arguments = {**BASE, "arguments": [base], "full_pod_spec": two, "do_xcom_push": True}
    assert task(**arguments, container_logs=["base", "side"]) == {"a": 1}
    assert task_log.containers_lines("side")[-1] == "[side] SIDE-DONE"
    assert any("'side' exited with code 9" in line for line in task_log.at("warning"))


def test_the_other_meaning_can_be_had_and_says_what_it_cut_off(task: Task, task_log: TaskLog) -> None:
    two = pod_of(shell("while echo s; do sleep 0.2; done", name="side"), shell("exit 9", name="other"))
    options = {"podrelay_options": {"end_when": "base"}, "container_logs": ["base", "side"]}
    task(**BASE, arguments=["sleep 1"], full_pod_spec=two, **options)
    warnings = "\n".join(task_log.at("warning"))
    assert WARNING in warnings
    assert "container 'other' exited with code 9" in warnings
    assert STILL_RUNNING in warnings


def test_a_native_sidecar_is_not_waited_for(task: Task, task_log: TaskLog) -> None:
    native = shell("while :; do sleep 0.2; done", name="native", restartPolicy="Always")
    two = pod_of(shell("echo side", name="side"))
    two["spec"]["initContainers"] = [native]
    task(**BASE, arguments=["sleep 1"], full_pod_spec=two, container_logs=True)
    assert task_log.at("warning") == []


def test_a_task_that_is_killed_while_it_waits_cancels_its_job(real_run: TaskRun) -> None:
    two = pod_of(shell("while :; do sleep 0.2; done", name="side"))
    arguments = {**BASE, "arguments": ["echo base"], "full_pod_spec": two, "termination_grace_period": 1}
    job_id = real_run.defer(**arguments).trigger.serialize()[1]["job_id"]
    with Dispatcher(ClientSettings(redis_url=real_run.redis_url)) as dispatcher:
        for update in dispatcher.follow(job_id):
            if isinstance(update.event, StatusChanged) and "waiting for side" in update.event.detail:
                break
    operator = real_run.make(**arguments)
    operator._job_id = job_id
    operator.on_kill()
    assert real_run.result(job_id).status is Status.CANCELLED
