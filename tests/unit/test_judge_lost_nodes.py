"""Who ended a pod that the cluster ended: a node that is gone is told from a deletion, and Kueue from an eviction."""

import copy
from typing import Any

import pytest

from dispatcher.status import FailureReason
from tests.support.judging import JobController, spec_of
from tests.support.recordings import steps
from worker.rules.verdict import AttemptEnded, Running

RUNNING = steps("force-deleted")[4].pod
ENDED = steps("evicted-through-api")[-1].pod
STAMP = "2026-11-22T09:06:30Z"


def changed(
    pod: dict[str, Any],
    *,
    ready: tuple[str, str] | None = None,
    condition: tuple[str, str] | None = None,
    status: dict[str, Any] | None = None,
    is_deleted: bool = False,
) -> dict[str, Any]:
    """The pod with another Ready condition, one more condition, other fields of its status, or a forced deletion."""
    pod = copy.deepcopy(pod)
    pod["status"] |= status or {}
    conditions = [c for c in pod["status"]["conditions"] if c["type"] != "DisruptionTarget"]
    for found in conditions:
        if found["type"] == "Ready" and ready is not None:
            found |= {"status": ready[0], "reason": ready[1]}
    if condition is not None:
        kind, reason = condition
        conditions.append(
            {"type": kind, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": STAMP}
        )
    pod["status"]["conditions"] = conditions
    if is_deleted:
        pod["metadata"] |= {"deletionTimestamp": STAMP, "deletionGracePeriodSeconds": 0, "generation": 2}
    return pod


def reason_when_gone(pod: dict[str, Any]) -> FailureReason | None:
    """What is told when this was the last look, and then the pod is proved to be absent."""
    follower = JobController(spec_of())
    verdict = follower.see(pod, 1)
    if not isinstance(verdict, AttemptEnded):
        verdict = follower.see(None, 2)
    assert isinstance(verdict, AttemptEnded)
    return verdict.reason


GONE = {
    "forced on a node that answers": (changed(RUNNING, is_deleted=True), FailureReason.POD_DELETED),
    "forced, the node given up": (changed(RUNNING, ready=("False", ""), is_deleted=True), FailureReason.NODE_LOST),
    "gone unseen, the node given up": (changed(RUNNING, ready=("False", "")), FailureReason.NODE_LOST),
    "gone, the node unknown": (changed(RUNNING, ready=("Unknown", "NodeStatusUnknown")), FailureReason.NODE_LOST),
    "not ready by the kubelet's word": (
        changed(RUNNING, ready=("False", "ContainersNotReady")),
        FailureReason.POD_DELETED,
    ),
    "NodeLost": (changed(RUNNING, status={"reason": "NodeLost"}), FailureReason.NODE_LOST),
    "by the garbage collector": (
        changed(
            RUNNING, condition=("DisruptionTarget", "DeletionByPodGC"), status={"phase": "Failed"}, is_deleted=True
        ),
        FailureReason.NODE_LOST,
    ),
    "by the garbage collector, before the phase": (
        changed(RUNNING, condition=("DisruptionTarget", "DeletionByPodGC")),
        FailureReason.NODE_LOST,
    ),
    "out of service: failed without a word": (
        changed(RUNNING, status={"phase": "Failed"}, is_deleted=True),
        FailureReason.NODE_LOST,
    ),
    "by the taint manager, no end reported": (
        changed(RUNNING, condition=("DisruptionTarget", "DeletionByTaintManager"), is_deleted=True),
        FailureReason.NODE_LOST,
    ),
    "by the taint manager, then collected": (
        changed(
            RUNNING,
            condition=("DisruptionTarget", "DeletionByTaintManager"),
            status={"phase": "Failed"},
            is_deleted=True,
        ),
        FailureReason.NODE_LOST,
    ),
    "by the taint manager on a node that answers": (
        changed(ENDED, condition=("DisruptionTarget", "DeletionByTaintManager")),
        FailureReason.EVICTED,
    ),
    "preempted, then the node given up": (
        changed(RUNNING, ready=("False", ""), condition=("DisruptionTarget", "PreemptionByScheduler"), is_deleted=True),
        FailureReason.PREEMPTED,
    ),
    "while its container was made": (
        changed(
            steps("success")[2].pod,
            condition=("DisruptionTarget", "DeletionByPodGC"),
            status={"phase": "Failed"},
            is_deleted=True,
        ),
        FailureReason.NODE_LOST,
    ),
    "unscheduled, deleted and collected": (
        changed(steps("unschedulable-cpu")[-1].pod, status={"phase": "Failed"}, is_deleted=True),
        FailureReason.POD_DELETED,
    ),
}


@pytest.mark.parametrize("case", GONE)
def test_a_pod_that_was_removed_says_whether_its_node_is_gone(case: str) -> None:
    pod, reason = GONE[case]
    assert reason_when_gone(pod) is reason


def test_a_node_that_came_back_is_not_lost() -> None:
    follower = JobController(spec_of())
    assert isinstance(follower.see(changed(RUNNING, ready=("False", "")), 1), Running)
    follower.see(changed(RUNNING, ready=("True", "")), 2)
    verdict = follower.see(None, 3)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.POD_DELETED


KUEUE = [
    "WorkloadEvictedDueToPreempted",
    "WorkloadEvictedDueToPodsReadyTimeout",
    "WorkloadEvictedDueToClusterQueueStopped",
    "WorkloadEvicted",
    "WorkloadDeleted",
    "SomethingNew",
]


@pytest.mark.parametrize("why", KUEUE)
@pytest.mark.parametrize("pod", [RUNNING, ENDED], ids=["gone before its end was told", "ended"])
def test_a_pod_that_kueue_ends_was_preempted(pod: dict[str, Any], why: str) -> None:
    follower = JobController(spec_of())
    verdict = follower.see(changed(pod, condition=("TerminationTarget", why), is_deleted=True), 1)
    verdict = verdict if isinstance(verdict, AttemptEnded) else follower.see(None, 2)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.PREEMPTED
    assert f"Kueue ended the pod: {why}: m" in verdict.message


def test_an_end_before_kueues_deletion_stands() -> None:
    verdict = JobController(spec_of()).see(
        changed(steps("exit-code")[5].pod, condition=("TerminationTarget", "WorkloadEvictedDueToPreempted")), 1
    )
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EXIT_CODE
