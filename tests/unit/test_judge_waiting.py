"""Waiting for room, or behind a scheduling gate, is not starting; and what a pod waits for is told once."""

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.record import DeletionIntent
from dispatcher.status import FailureReason
from tests.support.judging import EPOCH_S, JobController, record_of, spec_of
from tests.support.recordings import steps
from worker.rules.history import PodHistory
from worker.rules.verdict import DeletePod, Starting

UNSCHEDULABLE = steps("unschedulable-cpu")[-1].pod
GATED = steps("scheduling-gate")[0].pod
CREATED_AT = datetime(2026, 11, 22, 9, 6, 11, tzinfo=UTC)
DAY_S = 86400


def saying(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    """The pod that waits, with the scheduler's words."""
    pod = copy.deepcopy(UNSCHEDULABLE)
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    condition |= {"message": message, "reason": reason}
    return pod


def scheduled_after(waited_s: float, step: int = 2) -> dict[str, Any]:
    """A pod that got its node so long after it was made, and has not started."""
    pod = copy.deepcopy(steps("success")[step].pod)
    pod["metadata"]["creationTimestamp"] = f"{CREATED_AT:%Y-%m-%dT%H:%M:%SZ}"
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    condition["lastTransitionTime"] = f"{CREATED_AT + timedelta(seconds=waited_s):%Y-%m-%dT%H:%M:%SZ}"
    return pod


@pytest.mark.parametrize("pod", [UNSCHEDULABLE, GATED, steps("success")[0].pod], ids=["no room", "gate", "unseen"])
def test_a_pod_that_waits_for_a_node_outlives_the_startup_timeout(pod: dict[str, Any]) -> None:
    follower = JobController(spec_of(startup_timeout_s=20))
    verdict = follower.see(pod, DAY_S - 1)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + DAY_S


@pytest.mark.parametrize(
    ("limits", "reason", "name"),
    [
        ({"schedule_timeout_s": 20}, FailureReason.UNSCHEDULABLE, "schedule_timeout_s (20 s)"),
        ({"schedule_timeout_s": 20, "startup_timeout_s": 5}, FailureReason.UNSCHEDULABLE, "schedule_timeout_s (20 s)"),
        ({"queue_timeout_s": 20}, FailureReason.QUEUE_TIMEOUT, "queue_timeout_s (20 s"),
    ],
)
@pytest.mark.parametrize(
    ("pod", "words", "advice"),
    [
        (UNSCHEDULABLE, "0/1 nodes are available: 1 Insufficient cpu", "Ask for less"),
        (steps("unschedulable-selector")[-1].pod, "0/1 nodes are available: 1 node(s) didn't match", "node_selector"),
        (GATED, "held by scheduling gates: example.com/wait", "whoever set the gate"),
    ],
    ids=["cpu", "selector", "gate"],
)
def test_only_a_limit_that_is_about_waiting_ends_it(
    limits: dict[str, Any], reason: FailureReason, name: str, pod: dict[str, Any], words: str, advice: str
) -> None:
    follower = JobController(spec_of(**limits))
    verdict = follower.see(pod, 19)
    assert isinstance(verdict, Starting)
    assert verdict.detail.startswith("unscheduled: ")
    assert verdict.recheck_at == EPOCH_S + 20
    verdict = follower.see(pod, 20)
    assert isinstance(verdict, DeletePod)
    assert (verdict.intent, verdict.reason) == (DeletionIntent.FAILED, reason)
    assert all(part in verdict.message for part in (name, words, advice))


def test_the_queue_timeout_counts_from_when_the_job_was_queued() -> None:
    spec = spec_of(queue_timeout_s=100)
    record = record_of(spec, reached={"queued": EPOCH_S - 90, "starting": EPOCH_S})
    assert isinstance(JobController(spec, record).see(UNSCHEDULABLE, 9), Starting)
    assert isinstance(JobController(spec, record).see(UNSCHEDULABLE, 10), DeletePod)


@pytest.mark.parametrize("waited_s", [0, 7200])
def test_the_startup_timeout_counts_from_the_pods_node(waited_s: int) -> None:
    pod = scheduled_after(waited_s)
    verdict = JobController(spec_of(startup_timeout_s=20)).see(pod, waited_s + 19)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + waited_s + 20
    verdict = JobController(spec_of(startup_timeout_s=20)).see(pod, waited_s + 20)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.START_TIMEOUT


def test_a_takeover_does_not_count_the_startup_timeout_anew() -> None:
    """What says since when is the record's and the pod's own; no worker's memory has a part in it."""
    pod, spec = scheduled_after(7200), spec_of(startup_timeout_s=20)
    follower = JobController(spec)
    follower.see(UNSCHEDULABLE, 0)
    follower.see(pod, 7200)
    verdicts = []
    for t in (7205, 7215):
        follower.seen = PodHistory()  # another worker
        verdicts.append(follower.see(pod, t))
    assert {v.recheck_at for v in verdicts if isinstance(v, Starting)} == {EPOCH_S + 7220}


def test_a_rebuilt_record_counts_from_when_it_was_made() -> None:
    """Redis was emptied: nobody knows when the pod was recorded."""
    spec = spec_of(startup_timeout_s=20)
    record = record_of(spec, reached={"queued": EPOCH_S})
    assert isinstance(JobController(spec, record).see(scheduled_after(0), 19), Starting)
    assert isinstance(JobController(spec, record).see(scheduled_after(0), 20), DeletePod)


def test_a_pod_with_times_that_run_backwards_has_not_waited() -> None:
    verdict = JobController(spec_of(startup_timeout_s=20)).see(scheduled_after(-500), 0)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + 20


def tellings(follower: JobController, pods: list[dict[str, Any]], *, with_takeovers: bool = False) -> list[str]:
    """What is told, as the follower tells it: whatever differs from what the record has."""
    told = []
    for t, pod in enumerate(pods):
        verdict = follower.see(pod, t)
        assert isinstance(verdict, Starting)
        if verdict.detail != follower.record.detail:
            told.append(verdict.detail)
            follower.record = replace(follower.record, detail=verdict.detail)
        if with_takeovers:
            follower.seen = PodHistory()
    return told


@pytest.mark.parametrize("with_takeovers", [False, True])
def test_the_schedulers_numbers_are_told_once(with_takeovers: bool) -> None:
    pods = [saying(f"0/{n} nodes are available: {n} Insufficient cpu.") for n in range(1, 60)]
    assert tellings(JobController(spec_of()), pods, with_takeovers=with_takeovers) == [
        "unscheduled: 0/1 nodes are available: 1 Insufficient cpu"
    ]


def test_troubles_that_take_turns_are_each_told_once() -> None:
    cpu, taint = saying("0/3 nodes are available: 3 Insufficient cpu."), saying("0/2 nodes are available: 2 tainted.")
    assert len(tellings(JobController(spec_of()), [cpu, taint] * 30)) == 2


def test_a_message_that_is_new_for_ever_is_told_some_times() -> None:
    pods = [saying("pod x" + "".join(chr(97 + int(d)) for d in str(n))) for n in range(200)]
    assert len(tellings(JobController(spec_of()), pods)) < 20


def test_what_a_pod_waits_for_next_is_told() -> None:
    gate, room, node = GATED, saying("0/1 nodes are available: 1 Insufficient cpu."), scheduled_after(0)
    assert tellings(JobController(spec_of()), [gate, room, room, node]) == [
        "unscheduled: held by scheduling gates: example.com/wait",
        "unscheduled: 0/1 nodes are available: 1 Insufficient cpu",
        "preparing volumes and network",
    ]


def test_a_gate_that_was_just_lifted_holds_nothing_back() -> None:
    verdict = JobController(spec_of()).see(steps("scheduling-gate")[1].pod, 1)
    assert isinstance(verdict, Starting)
    assert verdict.detail == "waiting to be scheduled"


@pytest.mark.parametrize("with_takeovers", [False, True])
def test_an_image_that_cannot_be_pulled_is_told_once_although_the_kubelet_takes_turns(with_takeovers: bool) -> None:
    """ErrImagePull, ImagePullBackOff, ErrImagePull …: each with the same three hundred characters."""
    pods = [step.pod for step in steps("image-pull-failure")[4:7]]
    told = tellings(JobController(spec_of(image_pull_grace_s=600)), pods * 3, with_takeovers=with_takeovers)
    assert len(told) == 1
    assert told[0].startswith("container base: ErrImagePull: failed to resolve reference")


@pytest.mark.parametrize("with_takeovers", [False, True])
def test_a_long_message_of_a_pull_is_the_same_by_turns_although_it_is_cut(with_takeovers: bool) -> None:
    pods = [copy.deepcopy(step.pod) for step in steps("image-pull-failure")[4:7]]
    for pod in pods:
        waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
        waiting["message"] += " mirror" * 400
    assert len(tellings(JobController(spec_of(image_pull_grace_s=600)), pods * 2, with_takeovers=with_takeovers)) == 1


def test_a_back_off_that_does_not_repeat_why_is_no_news() -> None:
    """Kubelets before Kubernetes 1.31."""
    first, back_off = (copy.deepcopy(step.pod) for step in steps("image-pull-failure")[4:6])
    waiting = back_off["status"]["containerStatuses"][0]["state"]["waiting"]
    waiting["message"] = 'Back-off pulling image "registry.invalid/no/such:image"'
    told = tellings(JobController(spec_of(image_pull_grace_s=600)), [first, back_off] * 3)
    assert len(told) == 1
    assert told[0].startswith("container base: ErrImagePull: failed to resolve reference")


def test_an_image_whose_trouble_changes_is_told_again() -> None:
    first = steps("image-pull-failure")[4].pod
    second = copy.deepcopy(first)
    second["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = "unauthorized"
    assert len(tellings(JobController(spec_of(image_pull_grace_s=600)), [first, second])) == 2


def test_nobody_says_pulling_of_an_image_that_may_be_there() -> None:
    verdict = JobController(spec_of()).see(scheduled_after(0, step=3), 1)
    assert isinstance(verdict, Starting)
    assert verdict.detail == "creating containers"


def test_what_is_quoted_has_an_end_and_one_line() -> None:
    verdict = JobController(spec_of()).see(saying("x\n" * 50_000), 1)
    assert isinstance(verdict, Starting)
    assert len(verdict.detail) < 1100
    assert "\n" not in verdict.detail
