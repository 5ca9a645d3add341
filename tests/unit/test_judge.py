import copy
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dispatcher.record import DeletionIntent
from dispatcher.status import FailureReason, Status
from tests.support.judging import EPOCH_S, JobController, record_of, spec_of
from tests.support.recordings import SITUATIONS, steps
from worker.cluster.pod_json import observe
from worker.rules.history import PodHistory
from worker.rules.judge import HELD_AFTER_S, NODE_LOST_AFTER_S, judge
from worker.rules.verdict import AttemptEnded, DeletePod, Running, Settled, Starting, Verdict

GOLDEN = Path(__file__).parent / "golden" / "verdicts.txt"
WATCHED = [s for s in SITUATIONS if steps(s)]


def follow(situation: str, **fields: Any) -> list[Verdict]:
    return [verdict for _, verdict in JobController(spec_of(**fields)).follow(steps(situation))]


def outcome(situation: str, **fields: Any) -> AttemptEnded:
    return next(v for v in follow(situation, **fields) if isinstance(v, AttemptEnded))


def told(verdict: Verdict) -> str:
    match verdict:
        case Starting(detail, recheck_at) | Running(detail, recheck_at):
            again = "" if recheck_at is None else f" (again at {recheck_at - EPOCH_S:g})"
            return f"{type(verdict).__name__} {detail!r}{again}"
        case AttemptEnded(status, reason, message, exit_code, user_code_started):
            began = "user code started" if user_code_started else "no user code"
            return f"AttemptEnded {status} {reason or '-'} {exit_code} ({began}) {message}"
        case DeletePod(intent, reason, message):
            return f"DeletePod {intent} {reason or '-'} {message}"
        case Settled():
            return "Settled"


def render() -> str:
    """The golden file: ``python -m tests.unit.test_judge`` prints it anew."""
    out = []
    for situation in WATCHED:
        out.append(situation)
        before = ""
        for step, verdict in JobController(spec_of()).follow(steps(situation)):
            out += [f"  {step.t:6} {step.type:8} {told(verdict)}"] if told(verdict) != before else []
            before = told(verdict)
    return "\n".join(out) + "\n"


def test_every_step_of_every_recording_is_judged_as_before() -> None:
    assert render() == GOLDEN.read_text()


OUTCOMES = {
    "command-not-found": (Status.FAILED, FailureReason.START_ERROR, None, False),
    "deadline-exceeded": (Status.FAILED, FailureReason.RUN_TIMEOUT, 137, True),
    "deleted-while-running": (Status.FAILED, FailureReason.POD_DELETED, 0, True),
    "deleted-while-running-ignores-term": (Status.FAILED, FailureReason.POD_DELETED, 137, True),
    "evicted-through-api": (Status.FAILED, FailureReason.EVICTED, 137, True),
    "exit-code": (Status.FAILED, FailureReason.EXIT_CODE, 3, True),
    "finalizer-holds-pod": (Status.FAILED, FailureReason.POD_DELETED, 137, True),
    "force-deleted": (Status.FAILED, FailureReason.POD_DELETED, None, True),
    "image-pull-failure": (Status.FAILED, FailureReason.IMAGE_PULL, None, False),
    "init-container-fails": (Status.FAILED, FailureReason.INIT_FAILED, None, True),
    "init-container-ok": (Status.SUCCEEDED, None, 0, True),
    "killed-by-signal": (Status.FAILED, FailureReason.EXIT_CODE, 1, True),
    "log-follow-across-delete": (Status.FAILED, FailureReason.POD_DELETED, 0, True),
    "log-follow-details": (Status.SUCCEEDED, None, 0, True),
    "native-sidecar-return-value": (Status.SUCCEEDED, None, 0, True),
    "oom-killed": (Status.FAILED, FailureReason.OOM_KILLED, 137, True),
    "plain-sidecar-keeps-running": (Status.SUCCEEDED, None, 0, True),
    "restart-on-failure": (Status.FAILED, FailureReason.EXIT_CODE, 1, True),
    "scheduling-gate": (Status.SUCCEEDED, None, 0, True),
    "secret-env-ok": (Status.SUCCEEDED, None, 0, True),
    "success": (Status.SUCCEEDED, None, 0, True),
    "termination-message": (Status.SUCCEEDED, None, 0, True),
}


@pytest.mark.parametrize("situation", OUTCOMES)
def test_a_recorded_situation_ends_as_it_should(situation: str) -> None:
    found = outcome(situation)
    assert (found.status, found.reason, found.exit_code, found.user_code_started) == OUTCOMES[situation]


@pytest.mark.parametrize("situation", OUTCOMES)
def test_a_worker_that_comes_late_finds_the_same_outcome(situation: str) -> None:
    """Whichever step of the watch is the first that it sees, up to the first that tells the end."""
    expected = OUTCOMES[situation]
    watched = steps(situation)
    for first in range(len(watched)):
        follower = JobController(spec_of(), record_of(spec_of(), status=Status.RUNNING))
        if situation in ("command-not-found", "init-container-fails", "image-pull-failure"):
            follower = JobController(spec_of(image_pull_grace_s=0))
        ends = [v for _, v in follower.follow(watched[first:]) if isinstance(v, AttemptEnded)]
        if (situation, watched[first].pod["metadata"].get("deletionGracePeriodSeconds")) in UNTOLD:
            continue
        if situation == "restart-on-failure" and base_restarts(watched[first].pod) > 1:
            continue  # how the first run ended is not told any more: test_judge_second_run
        assert (ends[0].status, ends[0].reason) == expected[:2], watched[first].t


def base_restarts(pod: dict[str, Any]) -> int:
    return max((s["restartCount"] for s in pod["status"].get("containerStatuses", [])), default=0)


#: Seen for the first time in the milliseconds in which the kubelet has hidden when the deletion was asked for, or has
#: already deleted a pod that was never seen in trouble.
UNTOLD = {("plain-sidecar-keeps-running", 0), ("image-pull-failure", 0)}


def test_a_false_success_is_never_read_out_of_a_pod_that_no_longer_tells() -> None:
    last = steps("plain-sidecar-keeps-running")[-1]
    verdict = JobController(spec_of()).see(last.pod, last.t)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.POD_DELETED


@pytest.mark.parametrize("minutes", [-5, 5])
@pytest.mark.parametrize("situation", WATCHED)
def test_the_difference_between_the_two_clocks_changes_nothing(situation: str, minutes: int) -> None:
    def shifted(match: re.Match[str]) -> str:
        found = datetime.fromisoformat(match[0])
        return match[0] if found.year == 1970 else f"{found + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"

    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    other = [s._replace(pod=json.loads(stamp.sub(shifted, json.dumps(s.pod)))) for s in steps(situation)]
    spec = spec_of(run_timeout_s=3)
    expected = [told(v) for _, v in JobController(spec).follow(steps(situation))]
    assert [told(v) for _, v in JobController(spec).follow(other)] == expected


@pytest.mark.parametrize("situation", WATCHED)
def test_looking_twice_is_looking_once(situation: str) -> None:
    follower = JobController(spec_of())
    for step in steps(situation):
        verdict = follower.see(step.pod, step.t)
        again = judge(spec_of(), follower.record, observe(step.pod), EPOCH_S + step.t, seen=follower.seen)
        if not isinstance(verdict, AttemptEnded | DeletePod):
            assert again == verdict


# --- starting -----------------------------------------------------------------------------------------------------


def test_the_message_of_a_start_error_keeps_what_a_person_can_act_on() -> None:
    found = outcome("command-not-found")
    assert '"python": executable file not found in $PATH' in found.message
    assert "containerd" not in found.message
    assert "check command and args, or use another image" in found.message


def test_image_trouble_is_given_its_grace_from_when_it_was_first_seen() -> None:
    watched = steps("image-pull-failure")
    follower = JobController(spec_of(image_pull_grace_s=15))
    verdicts = {s.t: follower.see(s.pod, s.t) for s in watched[:6]}
    assert verdicts[1.732] == Starting(verdicts[1.732].detail, EPOCH_S + 16.732)  # type: ignore[union-attr]
    assert isinstance(verdicts[13.343], Starting)  # ImagePullBackOff is the same trouble
    assert verdicts[13.343].recheck_at == EPOCH_S + 16.732
    late = follower.see(watched[5].pod, 16.732)
    assert isinstance(late, DeletePod)
    assert (late.intent, late.reason) == (DeletionIntent.FAILED, FailureReason.IMAGE_PULL)
    assert "no such host" in late.message


def test_image_trouble_that_healed_and_comes_back_has_its_grace_anew() -> None:
    trouble, fine = steps("image-pull-failure")[4], steps("image-pull-failure")[3]
    follower = JobController(spec_of(image_pull_grace_s=15))
    follower.see(trouble.pod, 0)
    follower.see(fine.pod, 10)
    verdict = follower.see(trouble.pod, 20)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + 35


@pytest.mark.parametrize("situation", ["invalid-image-name", "image-never-pull"])
def test_an_image_that_can_never_come_gets_no_grace(situation: str) -> None:
    verdict = follow(situation, image_pull_grace_s=600)[-1]
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.IMAGE_PULL


def test_a_missing_secret_is_a_config_error_after_its_grace() -> None:
    last = steps("missing-secret-env")[-1]
    follower = JobController(spec_of())
    assert isinstance(follower.see(last.pod, 2), Starting)
    verdict = follower.see(last.pod, 32)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.CONFIG_ERROR
    assert 'secret "nope" not found' in verdict.message


def test_the_schedule_timeout_does_not_count_once_a_node_took_the_pod() -> None:
    last = steps("missing-secret-volume")[-1]
    verdict = JobController(spec_of(schedule_timeout_s=5)).see(last.pod, 100)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + 600


def test_a_pod_that_does_not_start_in_time_fails_and_says_how_far_it_came() -> None:
    last = steps("missing-secret-volume")[-1]
    verdict = JobController(spec_of(startup_timeout_s=20)).see(last.pod, 20)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.START_TIMEOUT
    assert "preparing volumes and network" in verdict.message


def test_the_startup_timeout_ends_image_trouble_with_a_longer_grace() -> None:
    trouble = steps("image-pull-failure")[4]
    verdict = JobController(spec_of(image_pull_grace_s=600, startup_timeout_s=20)).see(trouble.pod, 20)
    assert isinstance(verdict, DeletePod)
    assert verdict.reason is FailureReason.IMAGE_PULL


def test_no_time_limit_counts_before_its_status_is_recorded() -> None:
    spec = spec_of(startup_timeout_s=20)
    record = record_of(spec, status=Status.QUEUED, reached={"queued": EPOCH_S - 9999})
    scheduled = steps("success")[1]
    assert judge(spec, record, observe(scheduled.pod), EPOCH_S) == Starting(
        "preparing volumes and network", EPOCH_S + 20
    )


def test_details_tell_init_containers_apart() -> None:
    pod = copy.deepcopy(steps("init-container-ok")[4].pod)
    pod["spec"]["initContainers"].append({"name": "more"})
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, Starting)
    assert verdict.detail == "init container 1 of 2 (prep)"


def test_a_running_job_never_goes_back_to_starting() -> None:
    first = steps("success")[0]
    verdict = JobController(spec_of(), record_of(spec_of(), status=Status.RUNNING)).see(first.pod, 1)
    assert isinstance(verdict, Running)


# --- running ------------------------------------------------------------------------------------------------------


def test_the_run_timeout_counts_from_when_running_was_recorded() -> None:
    running = steps("success")[4]
    follower = JobController(spec_of(run_timeout_s=10))
    assert follower.see(running.pod, 100) == Running("", EPOCH_S + 110)
    assert follower.see(running.pod, 109) == Running("", EPOCH_S + 110)
    verdict = follower.see(running.pod, 110)
    assert isinstance(verdict, DeletePod)
    assert (verdict.intent, verdict.reason) == (DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT)


def test_the_base_containers_end_is_the_jobs_end_before_the_phase_says_so() -> None:
    step = steps("success")[5]
    assert step.pod["status"]["phase"] == "Running"
    assert isinstance(JobController(spec_of()).see(step.pod, step.t), AttemptEnded)


def test_a_later_deletion_does_not_change_an_end_that_was_seen() -> None:
    verdicts = follow("plain-sidecar-keeps-running")
    ends = [v for v in verdicts if isinstance(v, AttemptEnded)]
    assert ends[0].status is Status.SUCCEEDED
    assert all(isinstance(v, Settled) for v in verdicts[verdicts.index(ends[0]) + 1 :])


def test_the_order_of_the_looks_wins_over_the_clocks_of_api_server_and_node() -> None:
    *_, running, ended = steps("log-follow-across-delete")
    pod = copy.deepcopy(ended.pod)
    state = pod["status"]["containerStatuses"][0]["state"]
    state["terminated"]["finishedAt"] = "2026-11-22T09:08:06Z"  # the node's clock is behind
    follower = JobController(spec_of())
    follower.see(running.pod, running.t)
    verdict = follower.see(pod, ended.t)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.POD_DELETED


def test_an_end_that_was_seen_first_stands_when_the_pod_no_longer_tells() -> None:
    ended, hidden = steps("plain-sidecar-keeps-running")[4], steps("plain-sidecar-keeps-running")[-1]
    seen = PodHistory().after(observe(ended.pod), "base", EPOCH_S)
    verdict = judge(spec_of(), record_of(spec_of()), observe(hidden.pod), EPOCH_S + 9, seen=seen)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.SUCCEEDED


# --- our own deletions --------------------------------------------------------------------------------------------


def test_a_cancel_deletes_the_pod_and_is_cancelled_when_it_is_gone() -> None:
    spec = spec_of()
    follower = JobController(spec, record_of(spec, cancel_requested_by="ada"))
    verdicts = [v for _, v in follower.follow(steps("deleted-while-running"))]
    assert isinstance(verdicts[0], DeletePod)
    assert verdicts[0].intent is DeletionIntent.CANCELLED
    assert [type(v) for v in verdicts].count(AttemptEnded) == 1
    assert verdicts[-1] == AttemptEnded(Status.CANCELLED, None, "cancelled by ada", None, True)
    assert isinstance(verdicts[-2], Running)  # trapped TERM and reported 0: still waiting for the pod to go


def test_a_cancelled_pod_that_a_finalizer_holds_keeps_its_job_from_its_end_for_a_moment_only() -> None:
    spec, watched = spec_of(), steps("finalizer-holds-pod")
    held = watched[-2]
    assert held.pod is not None
    follower = JobController(spec, record_of(spec, cancel_requested_by="ada"))
    assert not any(isinstance(verdict, AttemptEnded) for _, verdict in follower.follow(watched[:-1]))
    deleted_at = next(step.t for step in watched if "deletionTimestamp" in step.pod["metadata"])
    assert follower.see(held.pod, deleted_at + HELD_AFTER_S) == AttemptEnded(
        Status.CANCELLED, None, "cancelled by ada", 137, user_code_started=True
    )


def test_a_cancelled_pod_that_is_held_before_it_has_a_node_does_not_hold_its_job() -> None:
    spec, waiting = spec_of(), copy.deepcopy(steps("scheduling-gate")[0].pod)
    waiting["metadata"] |= {"deletionTimestamp": "2026-11-22T09:07:39Z", "deletionGracePeriodSeconds": 0}
    follower = JobController(spec, record_of(spec, deletion_intent=DeletionIntent.CANCELLED))
    verdict = follower.see(waiting, 0)
    assert isinstance(verdict, Starting)
    assert verdict.recheck_at == EPOCH_S + HELD_AFTER_S
    assert isinstance(follower.see(waiting, HELD_AFTER_S), AttemptEnded)


def test_a_cancel_that_comes_after_the_end_changes_nothing() -> None:
    spec = spec_of()
    step = steps("success")[5]
    verdict = JobController(spec, record_of(spec, cancel_requested_by="ada")).see(step.pod, step.t)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.SUCCEEDED


def test_a_cancel_that_comes_after_a_failure_of_the_jobs_own_changes_nothing() -> None:
    spec = spec_of()
    step = steps("exit-code")[5]
    verdict = JobController(spec, record_of(spec, cancel_requested_by="ada")).see(step.pod, step.t)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EXIT_CODE


def test_a_cancel_wins_over_an_eviction() -> None:
    spec = spec_of()
    step = steps("evicted-through-api")[-1]
    verdict = JobController(spec, record_of(spec, cancel_requested_by="ada")).see(step.pod, step.t)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.CANCELLED


def test_a_cancel_whose_node_does_not_answer_comes_to_an_end() -> None:
    spec = spec_of()
    deleted = steps("deleted-while-running")[6]
    record = record_of(spec, cancel_requested_by="ada", deletion_intent=DeletionIntent.CANCELLED)
    follower = JobController(spec, record)
    assert isinstance(follower.see(deleted.pod, 0), Running)
    verdict = follower.see(deleted.pod, 5 + NODE_LOST_AFTER_S)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.CANCELLED
    assert "may still run" in verdict.message


TIMED_OUT: dict[str, Any] = {
    "deletion_intent": DeletionIntent.FAILED,
    "intent_reason": FailureReason.RUN_TIMEOUT,
    "intent_message": "too long",
}


def test_a_pod_that_we_ended_fails_for_our_reason_although_it_reported_0() -> None:
    spec = spec_of()
    follower = JobController(spec, record_of(spec, **TIMED_OUT))
    ends = [v for _, v in follower.follow(steps("deleted-while-running")[6:]) if isinstance(v, AttemptEnded)]
    assert ends == [AttemptEnded(Status.FAILED, FailureReason.RUN_TIMEOUT, "too long", 0, True)]


def test_an_end_before_our_deletion_stands() -> None:
    spec = spec_of()
    for step in steps("plain-sidecar-keeps-running")[4:8]:
        verdict = JobController(spec, record_of(spec, **TIMED_OUT)).see(step.pod, step.t)
        assert isinstance(verdict, AttemptEnded)
        assert verdict.status is Status.SUCCEEDED


def test_an_intent_whose_delete_was_never_sent_is_said_again() -> None:
    spec = spec_of()
    running = steps("success")[4]
    verdict = JobController(spec, record_of(spec, **TIMED_OUT)).see(running.pod, 1)
    assert verdict == DeletePod(DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT, "too long")


def test_a_pod_that_is_gone_by_our_intent_fails_for_our_reason() -> None:
    spec = spec_of()
    verdict = JobController(spec, record_of(spec, **TIMED_OUT)).see(None, 1)
    assert verdict == AttemptEnded(Status.FAILED, FailureReason.RUN_TIMEOUT, "too long", None, True)


@pytest.mark.parametrize("intent", [DeletionIntent.FINISHED, DeletionIntent.NEXT_ATTEMPT])
@pytest.mark.parametrize("situation", WATCHED)
def test_a_settled_pod_is_judged_no_more(situation: str, intent: DeletionIntent) -> None:
    spec = spec_of()
    record = record_of(spec, deletion_intent=intent)
    assert {type(v) for _, v in JobController(spec, record).follow(steps(situation))} == {Settled}


def test_a_pod_of_another_attempt_is_only_to_be_removed() -> None:
    pod = copy.deepcopy(steps("success")[4].pod)
    pod["metadata"]["labels"]["podrelay.dev/attempt"] = "2"
    assert JobController(spec_of()).see(pod, 1) == Settled()


def test_the_record_s_own_pod_counts_whatever_somebody_makes_of_its_attempt_label() -> None:
    pod = copy.deepcopy(steps("success")[4].pod)
    pod["metadata"]["labels"]["podrelay.dev/attempt"] = "7"
    record = replace(record_of(spec_of()), pod_uid=pod["metadata"]["uid"])
    assert isinstance(JobController(spec_of(), record).see(pod, 1), Running)


# --- the cluster's doing ------------------------------------------------------------------------------------------


def test_a_pod_that_vanished_unseen_may_have_run_user_code() -> None:
    verdict = JobController(spec_of()).see(None, 1)
    assert isinstance(verdict, AttemptEnded)
    assert (verdict.reason, verdict.user_code_started) == (FailureReason.POD_DELETED, True)


def test_a_pod_that_vanished_while_it_was_watched_starting_ran_no_user_code() -> None:
    follower = JobController(spec_of())
    follower.see(steps("success")[2].pod, 1)
    verdict = follower.see(None, 2)
    assert isinstance(verdict, AttemptEnded)
    assert not verdict.user_code_started


def test_a_lost_node_is_judged_when_the_deletion_is_overdue() -> None:
    deleted = steps("deleted-while-running")[6]
    follower = JobController(spec_of())
    verdict = follower.see(deleted.pod, 0)
    assert verdict == Running("being deleted", EPOCH_S + 5 + NODE_LOST_AFTER_S)
    verdict = follower.see(deleted.pod, 5 + NODE_LOST_AFTER_S)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.NODE_LOST


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("PreemptionByScheduler", FailureReason.PREEMPTED),
        ("DeletionByTaintManager", FailureReason.EVICTED),
        ("EvictionByEvictionAPI", FailureReason.EVICTED),
        ("TerminationByKubelet", FailureReason.EVICTED),
        ("DeletionByPodGC", FailureReason.NODE_LOST),
        ("SomethingNew", FailureReason.EVICTED),
    ],
)
def test_a_disruption_names_its_reason(why: str, reason: FailureReason) -> None:
    pod = copy.deepcopy(steps("evicted-through-api")[-1].pod)
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget")
    condition["reason"] = why
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is reason


def test_a_pod_that_vanished_after_a_disruption_was_ended_by_it() -> None:
    follower = JobController(spec_of())
    follower.see(steps("evicted-through-api")[5].pod, 1)
    verdict = follower.see(None, 2)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EVICTED


def test_a_node_that_shuts_down_ends_a_pod_without_deleting_it() -> None:
    pod = copy.deepcopy(steps("evicted-through-api")[-1].pod)
    del pod["metadata"]["deletionTimestamp"]
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget")
    condition["reason"] = "TerminationByKubelet"
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EVICTED
    condition["lastTransitionTime"] = "2026-11-22T09:06:30Z"  # after the container's own end
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is FailureReason.EXIT_CODE


REFUSED = [
    ("Evicted", FailureReason.EVICTED),
    ("Preempting", FailureReason.PREEMPTED),
    ("NodeShutdown", FailureReason.EVICTED),
    ("NodeLost", FailureReason.NODE_LOST),
    ("OutOfcpu", FailureReason.CLUSTER_ERROR),
    ("NodeAffinity", FailureReason.CLUSTER_ERROR),
    ("UnexpectedAdmissionError", FailureReason.CLUSTER_ERROR),
]


@pytest.mark.parametrize(("why", "reason"), REFUSED)
def test_a_pod_that_failed_without_any_container_status_ran_no_user_code(why: str, reason: FailureReason) -> None:
    pod = copy.deepcopy(steps("success")[1].pod)
    pod["status"] = {"phase": "Failed", "reason": why, "message": "because"}
    verdict = JobController(spec_of()).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert (verdict.reason, verdict.user_code_started) == (reason, False)
    assert why in verdict.message
    assert reason.traits.is_transient


def with_base_end(**terminated: Any) -> dict[str, Any]:
    pod = copy.deepcopy(steps("exit-code")[5].pod)
    pod["status"]["containerStatuses"][0]["state"]["terminated"].update(terminated)
    return pod


@pytest.mark.parametrize(
    ("terminated", "reason", "words"),
    [
        ({"exitCode": 137, "reason": "Error"}, FailureReason.EXIT_CODE, "exited with code 137 (SIGKILL)"),
        ({"exitCode": 139, "reason": "Error"}, FailureReason.EXIT_CODE, "exited with code 139 (SIGSEGV)"),
        ({"exitCode": 255, "reason": "Error"}, FailureReason.EXIT_CODE, "exited with code 255. "),
        ({"exitCode": 1, "message": "no rows\n"}, FailureReason.EXIT_CODE, "exited with code 1: no rows. "),
        ({"exitCode": 137, "reason": "ContainerStatusUnknown"}, FailureReason.NODE_LOST, "rebooted"),
        ({"exitCode": 127, "reason": "ContainerCannotRun"}, FailureReason.START_ERROR, "could not be started"),
    ],
)
def test_the_end_of_the_base_container_is_told_in_words(
    terminated: dict[str, Any], reason: FailureReason, words: str
) -> None:
    verdict = JobController(spec_of()).see(with_base_end(**terminated), 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is reason
    assert words in verdict.message


def test_a_process_that_survived_the_death_of_its_child_by_memory_succeeded() -> None:
    verdict = JobController(spec_of()).see(with_base_end(exitCode=0, reason="OOMKilled"), 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("fail_on", "finished", "reason"),
    [
        ("base", "06:37", None),
        ("all", "06:37", FailureReason.CONTAINER_FAILED),
        ("all", "06:38", None),
    ],
)
def test_other_containers_count_only_when_asked_and_only_when_they_ended_before(
    fail_on: str, finished: str, reason: FailureReason | None
) -> None:
    pod = copy.deepcopy(steps("plain-sidecar-keeps-running")[4].pod)
    side = next(s for s in pod["status"]["containerStatuses"] if s["name"] == "side")
    stamp = f"2026-11-22T09:{finished}Z"
    side["state"] = {"terminated": {"exitCode": 9, "reason": "Error", "startedAt": stamp, "finishedAt": stamp}}
    verdict = JobController(spec_of(fail_on=fail_on)).see(pod, 1)
    assert isinstance(verdict, AttemptEnded)
    assert verdict.reason is reason


def test_times_of_the_cluster_are_datetimes_and_times_of_redis_are_floats() -> None:
    seen = PodHistory().after(observe(steps("deleted-while-running")[6].pod), "base", 1.0)
    assert isinstance(seen.deletion_seen_at, float)
    assert observe(steps("deleted-while-running")[6].pod).deletion_due_at == datetime(
        2026, 11, 22, 9, 5, 45, tzinfo=UTC
    )


if __name__ == "__main__":
    sys.stdout.write(render())
