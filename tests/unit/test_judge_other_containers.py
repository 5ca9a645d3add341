"""What other containers than base mean for a job's end: ``end_when``, ``fail_on``, and what is told of them."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.record import DeletionIntent
from dispatcher.spec import JobSpec, OnFinish
from dispatcher.status import FailureReason, Status
from tests.support.judging import EPOCH_S, JobController, record_of, spec_of
from tests.support.recordings import steps
from worker.cluster.pod_json import observe
from worker.rules.history import PodHistory
from worker.rules.job_end import told_beside
from worker.rules.judge import judge
from worker.rules.verdict import AttemptEnded, DeletePod, Running, Starting, Verdict

DELETED = {"deletionTimestamp": "2026-11-22T09:07:00Z", "deletionGracePeriodSeconds": 30}


def ended(code: int = 0, at: int = 30, **fields: Any) -> dict[str, Any]:
    """A container's state after its end; ``at``: the second of the minute."""
    reason = "Completed" if code == 0 else "Error"
    times = {"startedAt": "2026-11-22T09:06:10Z", "finishedAt": f"2026-11-22T09:06:{at:02}Z"}
    return {"terminated": {"exitCode": code, "reason": reason, **times, **fields}}


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-11-22T09:06:10Z"}}
CREATING: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}


def pod(phase: str = "Running", *, sidecar: bool = False, **states: Any) -> dict[str, Any]:
    """A pod whose containers have these states; None: the status does not tell (yet)."""
    found = copy.deepcopy(steps("plain-sidecar-keeps-running")[4].pod)
    found["spec"]["containers"] = [{"name": name.replace("_", "-"), "image": "x"} for name in states]
    found["status"]["phase"] = phase
    found["status"]["containerStatuses"] = [
        {"name": name.replace("_", "-"), "restartCount": 0, "state": state}
        for name, state in states.items()
        if state is not None
    ]
    if sidecar:
        native = {"name": "podrelay-return-value", "image": "x", "restartPolicy": "Always"}
        found["spec"]["initContainers"] = [native]
        found["status"]["initContainerStatuses"] = [{"name": native["name"], "restartCount": 0, "state": RUNNING}]
    return found


def look(observed: dict[str, Any] | None, *, t: float = 1, **fields: Any) -> Verdict:
    """One look of a worker that knows nothing else of the pod."""
    spec = spec_of(**fields)
    running = record_of(spec, status=Status.RUNNING, reached={"starting": EPOCH_S, "running": EPOCH_S})
    return JobController(spec, running).see(observed, t)


def outcome(observed: dict[str, Any], **fields: Any) -> AttemptEnded:
    verdict = look(observed, **fields)
    assert isinstance(verdict, AttemptEnded), verdict
    return verdict


# --- when the job ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "side", "is_end", "detail"),
    [
        (RUNNING, RUNNING, False, ""),
        (RUNNING, ended(), False, "side has ended; waiting for base"),
        (RUNNING, ended(9), False, "side exited with code 9; waiting for base"),
        (ended(), RUNNING, False, "base has ended; waiting for side"),
        (ended(3), RUNNING, False, "base exited with code 3; waiting for side"),
        (ended(), CREATING, False, "base has ended; waiting for side (not started)"),
        (ended(), None, False, "base has ended; waiting for side (not started)"),
        (ended(), ended(), True, ""),
        (ended(), ended(9), True, ""),
        (ended(3), ended(), True, ""),
    ],
)
def test_the_job_ends_when_all_plain_containers_have_and_says_for_what_it_waits(
    base: dict[str, Any], side: dict[str, Any], is_end: bool, detail: str
) -> None:
    verdict = look(pod(base=base, side=side), end_when="all")
    assert isinstance(verdict, AttemptEnded) is is_end
    if not is_end:
        assert isinstance(verdict, Running)
        assert verdict.detail == detail


def test_a_job_that_waits_names_only_some_of_very_many_containers() -> None:
    states: dict[str, Any] = {f"side-{n}": RUNNING for n in range(40)}
    verdict = look(pod(base=ended(), **states), end_when="all")
    assert isinstance(verdict, Running)
    assert verdict.detail.endswith("side-8, side-9, and 30 more")


def test_native_sidecars_and_the_return_value_s_are_not_waited_for() -> None:
    verdict = outcome(pod(base=ended(), side=ended(), sidecar=True), end_when="all")
    assert verdict.status is Status.SUCCEEDED


def test_a_container_that_admission_has_added_is_waited_for_as_the_pod_s_phase_is() -> None:
    assert isinstance(look(pod(base=ended(), agent=RUNNING), end_when="all"), Running)


def test_beside_istio_s_proxy_base_alone_counts_as_for_kpo() -> None:
    verdict = outcome(pod(base=ended(), side=RUNNING, istio_proxy=RUNNING), end_when="all")
    assert verdict.status is Status.SUCCEEDED
    verdict = outcome(pod(base=ended(3), side=ended(), istio_proxy=RUNNING), end_when="all")
    assert verdict.reason is FailureReason.EXIT_CODE


def test_base_alone_counts_where_nobody_asks_for_more() -> None:
    assert outcome(pod(base=ended(), side=RUNNING)).status is Status.SUCCEEDED
    assert outcome(pod(base=ended(), side=ended(9))).status is Status.SUCCEEDED


# --- whose failure it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [20, 30, 40], ids=["before base", "with base", "after base"])
def test_any_container_s_failure_fails_the_job_whenever_it_came(at: int) -> None:
    verdict = outcome(pod(base=ended(), side=ended(9, at=at, message="disk full")), end_when="all")
    assert (verdict.status, verdict.reason) == (Status.FAILED, FailureReason.CONTAINER_FAILED)
    assert "the base container succeeded, but container 'side' exited with code 9: disk full" in verdict.message
    assert verdict.exit_code == 0


def test_base_s_own_failure_goes_first_with_its_exit_code() -> None:
    verdict = outcome(pod(base=ended(3, at=40), side=ended(9, at=20)), end_when="all")
    assert (verdict.reason, verdict.exit_code) == (FailureReason.EXIT_CODE, 3)
    assert "container 'base' exited with code 3" in verdict.message


def test_every_container_that_failed_is_named() -> None:
    verdict = outcome(pod(base=ended(), a=ended(1), b=ended(), c=ended(137)), end_when="all")
    assert "'a' exited with code 1" in verdict.message
    assert "'c' exited with code 137 (SIGKILL)" in verdict.message


@pytest.mark.parametrize("reason", ["OOMKilled", "StartError", "ContainerStatusUnknown"])
def test_other_ends_than_exits_fail_it_too(reason: str) -> None:
    verdict = outcome(pod(base=ended(), side=ended(137, reason=reason)), end_when="all")
    assert verdict.reason is FailureReason.CONTAINER_FAILED


def test_fail_on_base_waits_for_all_and_takes_base_s_outcome() -> None:
    waits: dict[str, Any] = {"end_when": "all", "fail_on": "base"}
    assert isinstance(look(pod(base=ended(), side=RUNNING), **waits), Running)
    assert outcome(pod(base=ended(), side=ended(9)), **waits).status is Status.SUCCEEDED
    assert outcome(pod(base=ended(3), side=ended()), **waits).reason is FailureReason.EXIT_CODE


def test_fail_on_says_nothing_where_end_when_has_said_it() -> None:
    for both in ("base", "all"):
        assert spec_of(end_when=both, fail_on=both).digest == spec_of(end_when=both).digest
        assert spec_of(end_when=both, fail_on=both).encode() == spec_of(end_when=both).encode()
    again = JobSpec.model_validate_json(spec_of(end_when="all", fail_on="base").encode())
    assert (again.end_when, again.fail_on) == ("all", "base")
    assert "end_when" not in spec_of().encode()


# --- limits, and what ends a pod from outside while others are waited for -----------------------------------------


def test_the_run_timeout_ends_the_wait_and_says_for_what_it_was() -> None:
    waiting = pod(base=ended(), side=RUNNING)
    verdict = look(waiting, t=10, end_when="all", run_timeout_s=20)
    assert isinstance(verdict, Running)
    assert verdict.recheck_at == EPOCH_S + 20
    verdict = look(waiting, t=20, end_when="all", run_timeout_s=20)
    assert isinstance(verdict, DeletePod)
    assert (verdict.intent, verdict.reason) == (DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT)
    assert "base has ended; waiting for side" in verdict.message


@pytest.mark.parametrize("fail_on", ["base", "all"])
def test_a_job_that_its_run_timeout_ended_has_failed_although_base_succeeded(fail_on: str) -> None:
    spec = spec_of(end_when="all", fail_on=fail_on, run_timeout_s=20)
    follower = JobController(spec, record_of(spec, status=Status.RUNNING, reached={"running": EPOCH_S}))
    follower.see(pod(base=ended(), side=RUNNING), 19)
    assert isinstance(follower.see(pod(base=ended(), side=RUNNING), 20), DeletePod)
    killed = pod(base=ended(), side=ended(143, at=59))
    killed["metadata"] |= DELETED
    verdict = follower.see(killed, 21)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.RUN_TIMEOUT


def test_a_base_that_could_not_be_started_is_under_the_run_timeout_too() -> None:
    unstarted = pod(base=ended(128, reason="StartError", startedAt="1970-01-01T00:00:00Z"), side=RUNNING)
    spec = spec_of(end_when="all", run_timeout_s=20)
    follower = JobController(spec, record_of(spec))
    assert isinstance(follower.see(unstarted, 19), Starting)
    assert isinstance(follower.see(unstarted, 20), DeletePod)


def test_a_cancel_ends_the_wait() -> None:
    spec = spec_of(end_when="all")
    follower = JobController(spec, record_of(spec, status=Status.RUNNING, cancel_requested_by="ada"))
    verdict = follower.see(pod(base=ended(), side=RUNNING), 1)
    assert isinstance(verdict, DeletePod)
    assert verdict.intent is DeletionIntent.CANCELLED
    assert follower.see(None, 2) == AttemptEnded(Status.CANCELLED, None, "cancelled by ada", None, True)


@pytest.mark.parametrize("code", [0, 143])
def test_a_pod_that_somebody_deletes_while_others_run_has_failed_whatever_they_say(code: int) -> None:
    deleted = pod(base=ended(at=20), side=ended(code, at=40))
    deleted["metadata"] |= {**DELETED, "deletionTimestamp": "2026-11-22T09:07:05Z"}
    assert outcome(deleted, end_when="all").reason is FailureReason.POD_DELETED
    assert look(None, end_when="all") == look(None)


def test_an_end_of_all_that_was_seen_before_a_deletion_stands() -> None:
    follower = JobController(spec_of(end_when="all"))
    whole = pod(base=ended(at=20), side=ended(at=30))
    seen = PodHistory().after(observe(whole), "base", EPOCH_S)
    deleted = copy.deepcopy(whole)
    deleted["metadata"] |= {"deletionTimestamp": "2026-11-22T09:06:31Z", "deletionGracePeriodSeconds": 0}
    verdict = judge(follower.spec, follower.record, observe(deleted), EPOCH_S + 1, seen=seen)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.SUCCEEDED


def test_base_s_failure_that_came_before_a_deletion_is_the_job_s() -> None:
    deleted = pod(base=ended(3, at=20), side=ended(143, at=40))
    deleted["metadata"] |= {**DELETED, "deletionTimestamp": "2026-11-22T09:07:05Z"}
    assert outcome(deleted, end_when="all").reason is FailureReason.EXIT_CODE


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"reason": "Evicted"}, FailureReason.EVICTED),
        ({"reason": "DeadlineExceeded"}, FailureReason.RUN_TIMEOUT),
        ({"reason": "NodeLost"}, FailureReason.NODE_LOST),
    ],
)
def test_a_pod_that_the_cluster_ends_while_others_run_says_so(status: dict[str, str], reason: FailureReason) -> None:
    for side in (ended(137), RUNNING):
        found = pod("Failed", base=ended(), side=side)
        found["status"] |= status
        assert outcome(found, end_when="all").reason is reason


def test_a_node_that_goes_while_others_run_is_lost() -> None:
    spec = spec_of(end_when="all")
    going = pod(base=ended(), side=RUNNING)
    going["status"]["conditions"] = [
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "not ready"}
    ]
    going["metadata"] |= DELETED
    follower = JobController(spec, record_of(spec, status=Status.RUNNING))
    assert isinstance(follower.see(going, 1), Running)
    verdict = follower.see(None, 2)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.NODE_LOST


@pytest.mark.parametrize(("phase", "reason"), [("Succeeded", None), ("Failed", FailureReason.CONTAINER_FAILED)])
def test_a_pod_that_is_over_has_no_more_to_tell_of_a_container_without_a_status(
    phase: str, reason: FailureReason | None
) -> None:
    assert outcome(pod(phase, base=ended(), side=None), end_when="all").reason is reason


def test_a_container_that_cannot_start_does_not_hold_the_job_for_ever() -> None:
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nope"'}}
    spec = spec_of(end_when="all", image_pull_grace_s=15)
    follower = JobController(spec)
    verdict = follower.see(pod(base=RUNNING, side=pulling), 1)
    assert isinstance(verdict, Running)
    assert verdict.recheck_at == EPOCH_S + 16
    verdict = follower.see(pod(base=ended(), side=pulling), 16)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.IMAGE_PULL
    assert "'side'" in verdict.message


def test_a_container_that_does_not_start_in_time_fails_the_job_by_name() -> None:
    verdict = look(pod(base=ended(), side=CREATING), t=601, end_when="all")
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.START_TIMEOUT
    assert "container 'side' did not start within startup_timeout_s" in verdict.message


def test_a_status_that_is_lost_for_a_moment_is_no_start_that_is_late() -> None:
    assert isinstance(look(pod(base=RUNNING, side=None), t=9999, end_when="all"), Running)


def test_a_container_that_was_started_again_counts_by_its_first_run() -> None:
    again = pod(base=ended(), side=RUNNING)
    again["status"]["containerStatuses"][1] |= {"restartCount": 1, "lastState": ended(9)}
    verdict = outcome(again, end_when="all")
    assert verdict.reason is FailureReason.CONTAINER_FAILED
    assert "The end of the first run counts" in verdict.message


def test_a_failed_init_container_is_the_end_whatever_is_waited_for() -> None:
    found = pod(base=None, side=None)
    found["spec"]["initContainers"] = [{"name": "prep", "image": "x"}]
    found["status"]["initContainerStatuses"] = [{"name": "prep", "restartCount": 0, "state": ended(1)}]
    assert outcome(found, end_when="all").reason is FailureReason.INIT_FAILED


# --- what is told beside the end ----------------------------------------------------------------------------------


def beside(observed: dict[str, Any], *, has_failed: bool = False, **fields: Any) -> str:
    asked = [{"name": c["name"], "image": "x"} for c in observed["spec"]["containers"]]
    spec = spec_of(pod_template={"spec": {"containers": asked}}, **fields)
    return told_beside(spec, observe(observed), has_failed=has_failed)


def test_a_container_that_the_end_cuts_off_is_told() -> None:
    text = beside(pod(base=ended(), side=RUNNING, other=CREATING, third=ended()))
    assert "before side, other: what still runs is ended with its pod (end_when: all would wait for it)" in text
    assert "kept" in beside(pod(base=ended(), side=RUNNING), on_finish=OnFinish.KEEP_POD)


def test_a_container_that_we_have_ended_by_now_is_one_that_was_cut_off() -> None:
    deleted = pod(base=ended(at=20), side=ended(137, at=40))
    deleted["metadata"] |= DELETED | {"deletionTimestamp": "2026-11-22T09:07:05Z"}
    assert "before side" in beside(deleted)
    assert "137" not in beside(deleted)


def test_a_failure_that_does_not_count_is_told() -> None:
    text = beside(pod(base=ended(), side=ended(9, message="disk full")))
    assert text.startswith("Other containers failed, and only base counts: container 'side' exited with code 9: disk f")
    text = beside(pod(base=ended(3), side=ended(9), other=RUNNING), has_failed=True)
    assert text.startswith("Others failed too: container 'side'")
    assert "other" not in text


@pytest.mark.parametrize("state", [ended(), RUNNING, ended(9)])
def test_nothing_is_told_of_what_nobody_asked_for_nor_where_all_is_well(state: dict[str, Any]) -> None:
    assert told_beside(spec_of(), observe(pod(base=ended(), agent=state)), has_failed=False) == ""
    assert beside(pod(base=ended(), side=ended(), sidecar=True)) == ""


# --- KubernetesPodOperator's rule ---------------------------------------------------------------------------------


def kpo(observed: dict[str, Any]) -> bool | None:
    """How a task of KubernetesPodOperator ends by this pod (no XCom is asked for); None: it looks again.

    It waits for the pod's phase to be final, and succeeds where that is Succeeded. In a pod with a container
    istio-proxy the base container's end is enough, and its exit code is what counts.
    """
    states = {s["name"]: s["state"] for s in observed["status"]["containerStatuses"]}
    phase = observed["status"]["phase"]
    base = states.get("base", {}).get("terminated")
    if any(c["name"] == "istio-proxy" for c in observed["spec"]["containers"]):
        return None if base is None else base["exitCode"] == 0
    return phase == "Succeeded" if phase in ("Succeeded", "Failed") else None


#: What a container's process does, one after the other; the kubelet may be seen at any moment.
LIVES: st.SearchStrategy[list[Any]] = st.sampled_from([0, 0, 1, 137]).map(
    lambda code: [None, CREATING, RUNNING, ended(code)]
)


@st.composite
def lives_of_pods(draw: st.DrawFn) -> list[dict[str, Any]]:
    """All that a watch could show of a pod: containers move in any order, some statuses come late, phase comes last."""
    others = draw(st.sampled_from([[], ["side"], ["side", "other"], ["side", "istio-proxy"], ["istio-proxy"]]))
    lives = {name: list(draw(LIVES)) for name in draw(st.permutations(["base", *others]))}
    at = dict.fromkeys(lives, 0)
    unknown: dict[str, Any] = dict.fromkeys(lives)
    shown = [pod("Pending", **unknown)]
    while moving := [name for name in lives if at[name] < 3]:
        at[draw(st.sampled_from(moving))] += 1
        shown.append(pod("Running", **{name: life[at[name]] for name, life in lives.items()}))
    codes = [life[3]["terminated"]["exitCode"] for life in lives.values()]
    shown.append(pod("Failed" if any(codes) else "Succeeded", **{name: life[3] for name, life in lives.items()}))
    seen = draw(st.lists(st.sampled_from(range(len(shown) - 1)), unique=True).map(sorted))
    return [*(shown[i] for i in seen), shown[-1]]


@given(lives_of_pods())
def test_the_end_of_all_never_un_ends_and_is_kpo_s(shown: list[dict[str, Any]]) -> None:
    spec = spec_of(end_when="all")
    ends: list[AttemptEnded] = []
    seen, status = PodHistory(), Status.STARTING
    for t, each in enumerate(shown):
        record = record_of(spec, status=status, reached={"starting": EPOCH_S, "running": EPOCH_S})
        verdict = judge(spec, record, observe(each), EPOCH_S + t, seen=seen)
        late_comer = judge(spec, replace(record, status=Status.RUNNING), observe(each), EPOCH_S + t)
        assert isinstance(late_comer, AttemptEnded) is isinstance(verdict, AttemptEnded)
        if isinstance(verdict, AttemptEnded):
            ends.append(verdict)
            assert late_comer == verdict
        else:
            assert not ends
            assert isinstance(verdict, Starting | Running)
            assert kpo(each) is None
            status = Status.RUNNING if isinstance(verdict, Running) else status
        seen = seen.after(observe(each), "base", EPOCH_S + t)
    assert ends
    assert all(end == ends[0] for end in ends)
    assert (ends[0].status is Status.SUCCEEDED) is kpo(shown[-1])
