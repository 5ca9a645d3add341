"""The table of moves and the closed list of reasons."""

import pytest

from dispatcher.status import FINAL, LEGAL_MOVES, TRAITS, Blame, FailureReason, Status, may_start_from

QUEUED, STARTING, RUNNING = Status.QUEUED, Status.STARTING, Status.RUNNING
SUCCEEDED, FAILED, CANCELLED = Status.SUCCEEDED, Status.FAILED, Status.CANCELLED

LEGAL = {
    (source, target)
    for source, targets in {
        QUEUED: [QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, CANCELLED],
        STARTING: [QUEUED, STARTING, RUNNING, SUCCEEDED, FAILED, CANCELLED],
        RUNNING: [QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED],
    }.items()
    for target in targets
}


@pytest.mark.parametrize("source", list(Status))
@pytest.mark.parametrize("target", list(Status))
def test_every_move(source: Status, target: Status) -> None:
    assert (target in LEGAL_MOVES[source]) == ((source, target) in LEGAL)
    assert (source in may_start_from(target)) == ((source, target) in LEGAL)


def test_final_statuses_are_those_without_a_way_out() -> None:
    assert {status for status in Status if not LEGAL_MOVES[status]} == FINAL
    assert {status for status in Status if status.is_final} == FINAL


def test_every_reason_has_its_traits() -> None:
    assert set(TRAITS) == set(FailureReason)
    assert {reason.traits.blame for reason in FailureReason} == set(Blame)


def test_only_what_the_cluster_did_is_transient() -> None:
    transient = {reason for reason in FailureReason if reason.traits.is_transient}
    assert {reason.traits.blame for reason in transient} == {Blame.CLUSTER}
    assert not any(reason.traits.user_code_started for reason in transient)


def test_a_reason_that_was_once_on_the_wire_stays() -> None:
    written = {
        *("exit_code", "oom_killed", "start_error", "image_pull", "config_error", "unschedulable", "start_timeout"),
        *("run_timeout", "queue_timeout", "quota_timeout", "evicted", "preempted", "node_lost", "pod_deleted"),
        *("init_failed", "policy", "invalid_spec", "gave_up", "cluster_error"),
    }
    assert written <= {reason.value for reason in FailureReason}
