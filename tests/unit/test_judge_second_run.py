"""A job is one run of its pod: a second one is told as that, whoever caused it."""

import copy
from typing import Any

import pytest

from dispatcher.record import DeletionIntent
from dispatcher.status import FailureReason, Status
from tests.support.judging import JobController, spec_of
from tests.support.recordings import steps
from worker.cluster.pod_json import observe
from worker.cluster.restart_rules import restart_rules
from worker.rules.retry import Conclude, next_step
from worker.rules.verdict import AttemptEnded, DeletePod, Running, Starting

RUNNING = steps("success")[4].pod
STAMP = "2026-11-22T09:04:00Z"
FAILED = {"exitCode": 7, "reason": "Error", "startedAt": STAMP, "finishedAt": STAMP}
SUCCEEDED = {"exitCode": 0, "reason": "Completed", "startedAt": STAMP, "finishedAt": STAMP}
KILLED = {"exitCode": 137, "reason": "Error", "startedAt": STAMP, "finishedAt": STAMP}
NEVER_RAN = {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z", "finishedAt": STAMP}


def again(restarts: int, last: dict[str, Any] | None, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """The running pod, its base container in its second run or a later one."""
    pod = copy.deepcopy(RUNNING)
    status = pod["status"]["containerStatuses"][0]
    status |= {"restartCount": restarts, "lastState": {} if last is None else {"terminated": last}}
    status["state"] = state or status["state"]
    return pod


def with_spec(**fields: Any) -> dict[str, Any]:
    """The running pod as an admission webhook has changed it."""
    pod = copy.deepcopy(RUNNING)
    pod["spec"] |= fields
    return pod


@pytest.mark.parametrize(
    ("last", "status", "reason", "exit_code"),
    [
        (SUCCEEDED, Status.SUCCEEDED, None, 0),
        (FAILED, Status.FAILED, FailureReason.EXIT_CODE, 7),
        ({**KILLED, "reason": "OOMKilled"}, Status.FAILED, FailureReason.OOM_KILLED, 137),
    ],
)
@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize(
    "state", [None, {"terminated": SUCCEEDED}, {"terminated": FAILED}, {"waiting": {"reason": "CrashLoopBackOff"}}]
)
def test_the_first_runs_end_is_the_outcome_where_it_is_known(
    last: dict[str, Any],
    status: Status,
    reason: FailureReason | None,
    exit_code: int,
    restarts: int,
    state: dict[str, Any] | None,
) -> None:
    verdict = JobController(spec_of()).see(again(restarts, last, state), 1)
    assert isinstance(verdict, AttemptEnded)
    assert (verdict.status, verdict.reason, verdict.exit_code) == (status, reason, exit_code)
    assert "container 'base' was started again by the cluster" in verdict.message
    assert "a job is one run" in verdict.message


@pytest.mark.parametrize(("restarts", "last"), [(1, None), (2, FAILED), (2, SUCCEEDED), (1, KILLED), (99, None)])
def test_a_second_run_whose_first_end_nobody_knows_ends_the_pod_and_is_never_tried_again(
    restarts: int, last: dict[str, Any] | None
) -> None:
    follower = JobController(spec_of())
    verdict = follower.see(again(restarts, last), 1)
    assert isinstance(verdict, DeletePod)
    assert (verdict.intent, verdict.reason) == (DeletionIntent.FAILED, FailureReason.CLUSTER_ERROR)
    assert "container 'base' was started again by the cluster" in verdict.message
    gone = follower.see(None, 2)
    assert isinstance(gone, AttemptEnded)
    assert (gone.reason, gone.user_code_started) == (FailureReason.CLUSTER_ERROR, True)
    assert isinstance(next_step(follower.spec, follower.record, gone), Conclude)


def test_the_end_of_a_later_run_is_no_outcome() -> None:
    verdict = JobController(spec_of()).see(again(2, FAILED, {"terminated": SUCCEEDED}), 1)
    assert isinstance(verdict, AttemptEnded)
    assert (verdict.status, verdict.reason) == (Status.FAILED, FailureReason.CLUSTER_ERROR)


@pytest.mark.parametrize("restarts", [1, 3])
def test_a_container_that_was_made_again_and_had_never_run_runs_once(restarts: int) -> None:
    """The runtime lost what it had made before it was started; the kubelet counts that."""
    assert isinstance(JobController(spec_of()).see(again(restarts, NEVER_RAN), 1), Running)
    pod = again(restarts, None)
    pod["status"]["containerStatuses"][0]["lastState"] = {"waiting": {"reason": "ContainerCreating"}}
    assert isinstance(JobController(spec_of()).see(pod, 1), Running)
    verdict = JobController(spec_of()).see(again(restarts, NEVER_RAN, {"terminated": SUCCEEDED}), 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.SUCCEEDED


def with_other(field: str, **status: Any) -> dict[str, Any]:
    pod = copy.deepcopy(RUNNING)
    spec_field, status_field = {
        "init": ("initContainers", "initContainerStatuses"),
        "sidecar": ("initContainers", "initContainerStatuses"),
        "main": ("containers", "containerStatuses"),
    }[field]
    other = {"name": "other", **({"restartPolicy": "Always"} if field == "sidecar" else {})}
    pod["spec"][spec_field] = [*pod["spec"].get(spec_field, []), other]
    pod["status"][status_field] = [*pod["status"].get(status_field, []), {"name": "other", **status}]
    return pod


@pytest.mark.parametrize("field", ["init", "main"])
def test_a_second_run_of_any_container_of_the_job_counts(field: str) -> None:
    verdict = JobController(spec_of()).see(
        with_other(field, restartCount=1, state={"running": {"startedAt": STAMP}}), 1
    )
    assert isinstance(verdict, DeletePod)
    assert "container 'other' was started again" in verdict.message


def test_a_sidecar_may_be_started_again() -> None:
    pod = with_other(
        "sidecar", restartCount=5, lastState={"terminated": FAILED}, state={"running": {"startedAt": STAMP}}
    )
    assert isinstance(JobController(spec_of()).see(pod, 1), Running)


def restarting(state: dict[str, Any] | None = None) -> dict[str, Any]:
    pod = again(0, None, state)
    pod["status"]["conditions"].append({"type": "AllContainersRestarting", "status": "True"})
    return pod


def test_a_pod_whose_containers_are_all_to_be_started_again_is_ended_before() -> None:
    verdict = JobController(spec_of()).see(restarting(), 1)
    assert isinstance(verdict, DeletePod)
    assert "all containers of the pod are to be started again" in verdict.message


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (KILLED, FailureReason.CLUSTER_ERROR),
        (FAILED, FailureReason.EXIT_CODE),
        (SUCCEEDED, None),
    ],
)
def test_a_container_that_was_killed_to_be_started_again_did_not_fail_by_itself(
    ended: dict[str, Any], reason: FailureReason | None
) -> None:
    verdict = JobController(spec_of()).see(restarting({"terminated": ended}), 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is reason


RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]
ADDED: list[tuple[dict[str, Any], str]] = [
    ({"restartPolicy": "OnFailure"}, "restartPolicy: 'OnFailure'"),
    ({"restartPolicy": "Always"}, "restartPolicy: 'Always'"),
    (
        {"initContainers": [{"name": "i", "restartPolicy": "Always", "restartPolicyRules": RULES}]},
        "initContainers.i.restartPolicyRules: RestartAllContainers",
    ),
    ({"initContainers": [{"name": "i", "restartPolicyRules": [{"action": "Restart"}]}]}, "initContainers.i."),
    ({"initContainers": [{"name": "i", "restartPolicy": "OnFailure"}]}, "initContainers.i.restartPolicy: 'OnFailure'"),
    ({"containers": [{"name": "base"}, {"name": "c", "restartPolicy": "Always"}]}, "containers.c.restartPolicy"),
    ({"containers": [{"name": "base", "restartPolicyRules": RULES}]}, "containers.base.restartPolicyRules"),
    ({"ephemeralContainers": [{"name": "e", "restartPolicyRules": RULES}]}, "ephemeralContainers.e."),
]


@pytest.mark.parametrize(("fields", "words"), ADDED)
@pytest.mark.parametrize("is_running", [True, False])
def test_a_pod_to_which_admission_has_added_another_run_is_ended_at_once(
    fields: dict[str, Any], words: str, is_running: bool
) -> None:
    pod = with_spec(**fields)
    if not is_running:
        pod["status"] = {"phase": "Pending"}
    follower = JobController(spec_of())
    verdict = follower.see(pod, 1)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.POLICY
    assert words in verdict.message
    gone = follower.see(None, 2)
    assert isinstance(gone, AttemptEnded)
    assert gone.user_code_started is is_running
    assert isinstance(next_step(follower.spec, follower.record, gone), Conclude)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"restartPolicy": "Never"},
        {"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "restartPolicyRules": []}]},
        {"initContainers": [{"name": "i", "restartPolicy": "Never"}], "containers": [{"restartPolicy": "Never"}]},
        {"containers": [{"restartPolicy": None}], "ephemeralContainers": None},
    ],
)
def test_a_pod_of_one_run_is_left_alone(spec: dict[str, Any]) -> None:
    assert list(restart_rules(spec)) == []


def test_an_end_of_its_own_stands_whatever_the_spec_would_do_next() -> None:
    pod = with_spec(restartPolicy="OnFailure")
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": FAILED}
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EXIT_CODE


def test_what_was_recorded_of_a_restarting_pod_is_told_run_by_run() -> None:
    watched = steps("restart-on-failure")
    told = [JobController(spec_of()).see(step.pod, step.t) for step in watched]
    assert {type(verdict) for verdict in told[:5]} == {DeletePod}
    first, second, third = told[6], told[7], told[9]
    assert isinstance(first, AttemptEnded)
    assert isinstance(second, AttemptEnded)
    assert (first.reason, second.reason) == (FailureReason.EXIT_CODE, FailureReason.EXIT_CODE)
    assert "started again by restartPolicy: 'OnFailure'" in first.message
    assert isinstance(third, DeletePod)
    assert third.reason is FailureReason.CLUSTER_ERROR


def test_how_a_former_run_ended_is_observed() -> None:
    base = observe(again(1, FAILED)).container("base")
    assert base is not None
    assert base.previous is not None
    assert (base.state, base.restarts, base.previous.exit_code) == ("running", 1, 7)
    assert not isinstance(JobController(spec_of()).see(RUNNING, 1), Starting)
