"""What an observation of a pod means for its job: the outcome, the progress, or what to do with the pod.

A pure function of what is there now. The controller calls it on each watch event and when a verdict's ``recheck_at``
has come, and carries the verdict out. Nothing depends on how the present came about, so a crash, a redelivery and a
repeated observation are one case; what only earlier observations tell is in :class:`worker.rules.history.PodHistory`,
and may be lost.

Two clocks, never compared: ``now``, ``record.reached`` and ``seen`` are seconds of Redis' clock; the times in the pod
are the cluster's.
"""

from typing import Final

from dispatcher.record import DeletionIntent, JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from worker.cluster.observation import Container, Observation
from worker.rules.causes import advised
from worker.rules.failures import (
    Failure,
    advised_failure,
    by_status_reason,
    disrupted,
    ended_by_cluster,
    exit_failure,
    exit_words,
    first_termination,
    init_failure,
    may_restart,
    node_lost,
    rejected,
    restarted,
    unreachable_node,
    was_killed,
)
from worker.rules.history import PodHistory, deletion_came_first
from worker.rules.job_end import awaited, listed
from worker.rules.running import progress, running
from worker.rules.startup import starting
from worker.rules.verdict import AttemptEnded, DeletePod, Facts, Settled, Verdict

#: A pod that is to be deleted and has not ended this long after its grace is on a node that does not answer.
NODE_LOST_AFTER_S: Final = 60.0

#: A cancelled pod of which nothing runs any more goes within a moment, unless somebody's finalizer holds it: its job
#: waits no longer than this.
HELD_AFTER_S: Final = 5.0

_DISRUPTED_WITHOUT_DELETION: Final = "TerminationByKubelet"


def judge(
    spec: JobSpec, record: JobRecord, observation: Observation | None, now: float, *, seen: PodHistory | None = None
) -> Verdict:
    """Judge the pod of the record's present attempt.

    Args:
        observation: None where the pod existed and is *proved* absent: a GET of its name answered 404 or another uid,
            or the watch said DELETED (judge that event's object first, it may be the only one that tells the end).
        now: seconds of Redis' clock.
        seen: what earlier observations told. The caller keeps ``seen.after(observation, spec.base_container, now)``.
    """
    seen = seen or PodHistory()
    if record.status.is_final or record.deletion_intent in (DeletionIntent.FINISHED, DeletionIntent.NEXT_ATTEMPT):
        return Settled()
    if observation is None:
        return _absent(record, seen)
    if _is_of_another_attempt(record, observation):
        return Settled()
    base = observation.container(spec.base_container) or Container(spec.base_container, "main")
    base = first_termination(base) or base
    others = awaited(spec, observation)
    after = seen.after(observation, spec.base_container, now)
    facts = Facts(spec, record, observation, base, others, now=now, before=seen, seen=after)
    if record.deletion_intent is DeletionIntent.CANCELLED:
        return _being_cancelled(facts)
    return _ended(facts) or _to_be_cancelled(facts) or _inprogress(facts)


def _is_of_another_attempt(record: JobRecord, pod: Observation) -> bool:
    """Whether the pod is another attempt's by its label.

    The pod that the record names never is, whatever its labels.
    """
    return pod.attempt not in (0, record.attempt) and pod.uid != record.pod_uid


def _absent(record: JobRecord, seen: PodHistory) -> AttemptEnded:
    # Whoever never looked cannot know whether user code started: then it did.
    started = seen.user_code_started is not False or record.reached_at("running") is not None
    if record.cancel_requested or record.deletion_intent is DeletionIntent.CANCELLED:
        return AttemptEnded(Status.CANCELLED, None, _cancelled_by(record), None, started)
    if record.deletion_intent is DeletionIntent.FAILED:
        failure = _intended(record)
    else:
        failure = ended_by_cluster(seen.disruption, seen.unreachable_node) or _deleted(record.namespace)
    return AttemptEnded(Status.FAILED, failure.reason, failure.message, None, started)


def _being_cancelled(facts: Facts) -> Verdict:
    if not facts.pod.is_being_deleted and facts.pod.has_ended:  # by itself: its deletion was not heard, or refused
        return _end(facts, Status.CANCELLED, None, _cancelled_by(facts.record))
    if not facts.pod.is_being_deleted:
        return DeletePod(DeletionIntent.CANCELLED, None, _cancelled_by(facts.record))
    if _is_overdue(facts):
        text = f"{_cancelled_by(facts.record)}; its node {facts.pod.node!r} does not answer, so the pod may still run"
        return _end(facts, Status.CANCELLED, None, text)
    held_at = _held_at(facts)
    if held_at is not None and facts.now >= held_at:
        return _end(facts, Status.CANCELLED, None, _cancelled_by(facts.record))
    return progress(facts, "cancelled, waiting for the pod to go", held_at or _overdue_at(facts))


def _held_at(facts: Facts) -> float | None:
    """Return when a pod should be gone that is deleted and of which nothing runs; None while something may run.

    A pod without a node never gets one once it is deleted.
    """
    pod, since = facts.pod, facts.seen.deletion_seen_at
    is_running = any(container.state == "running" for container in pod.containers)
    may_run = is_running or not (pod.has_ended or pod.node is None)
    return None if may_run or since is None else since + pod.deletion_grace_s + HELD_AFTER_S


def _to_be_cancelled(facts: Facts) -> DeletePod | None:
    if not facts.record.cancel_requested:
        return None
    return DeletePod(DeletionIntent.CANCELLED, None, _cancelled_by(facts.record))


def _ended(facts: Facts) -> AttemptEnded | None:
    if _all_have_ended(facts):
        failure = _failure_of(facts, facts.base) or _failure_of_others(facts)
    elif broken := _failed_init(facts.pod):
        failure = _from_outside(facts, broken) or init_failure(broken)
    elif facts.pod.has_ended:
        failure = _without_an_end(facts) or rejected(facts.pod)
    elif facts.pod.reason == "NodeLost" or _is_overdue(facts):
        failure = _intended(facts.record) if facts.record.deletion_intent else _lost(facts.pod)
    else:
        return None
    note = _restart_note(facts)
    if failure is None:
        return _end(facts, Status.SUCCEEDED, None, note)
    if facts.record.cancel_requested and failure.reason.traits.is_transient:
        return _end(facts, Status.CANCELLED, None, _cancelled_by(facts.record))
    return _end(facts, Status.FAILED, failure.reason, " ".join(x for x in (failure.message, note) if x))


def _all_have_ended(facts: Facts) -> bool:
    """Whether the containers have ended whose ends are the job's.

    A pod that is over has nothing more to tell of the others.
    """
    if facts.base.state != "terminated":
        return False
    return facts.pod.has_ended or all(other.state == "terminated" for other in facts.others)


def _failure_of(facts: Facts, container: Container) -> Failure | None:
    """Return the failure that this container's end means; None where it ended by itself and well."""
    return _from_outside(facts, container) or _not_its_own(facts, container) or exit_failure(container)


def _failure_of_others(facts: Facts) -> Failure | None:
    """Return what fails the job although its base container succeeded.

    What ended the pod from outside before all had ended that were waited for; and the failures of other containers,
    where they count (``fail_on``).
    """
    for other in facts.others:
        if other.state != "terminated":
            if facts.pod.phase == "Succeeded":
                continue
            text = f"the base container succeeded, but the pod failed, and container {other.name!r} reported no end"
            return _without_an_end(facts) or advised_failure(FailureReason.CONTAINER_FAILED, text)
        if (failure := _from_outside(facts, other) or _not_its_own(facts, other)) is not None:
            return failure
    return _exits_that_count(facts) if facts.spec.counts_all_failures else None


def _exits_that_count(facts: Facts) -> Failure | None:
    """Return the other containers' failures: of those that were waited for, else of those that ended before base."""
    ended = [other for other in facts.others if other.state == "terminated"]
    if facts.spec.end_when == "base":
        ended = [c for c in facts.pod.plain_containers if _ended_before_base(facts, c)]
    failures = [said for other in ended if (said := exit_words(other))]
    if not failures:
        return None
    return advised_failure(FailureReason.CONTAINER_FAILED, f"the base container succeeded, but {listed(failures)}")


def _ended_before_base(facts: Facts, other: Container) -> bool:
    if other.state != "terminated" or other.name == facts.base.name:
        return False
    return not (other.finished_at and facts.base.finished_at and other.finished_at > facts.base.finished_at)


def _restart_note(facts: Facts) -> str:
    """Say that there was another run, where the end of a container's first run is the outcome."""
    counted = (facts.base, *facts.others)
    is_first_end = any(c.previous is first for c in facts.pod.plain_containers for first in counted)
    again = restarted(facts.pod) if is_first_end else None
    return f"The end of the first run counts: {again.message}" if again else ""


def _without_an_end(facts: Facts) -> Failure | None:
    """Return why the pod is over although a container reported no end, where the pod tells."""
    pod = facts.pod
    if pod.is_being_deleted and facts.record.deletion_intent is DeletionIntent.FAILED:
        return _intended(facts.record)
    failure = by_status_reason(pod) or ended_by_cluster(pod.disruption, unreachable_node(pod))
    if failure is None and pod.is_being_deleted and not pod.reason:
        return _deleted(pod.namespace)
    return failure


def _from_outside(facts: Facts, container: Container) -> Failure | None:
    """Return why this container ended, where it did not end by itself."""
    is_deletions = _deletion_came_first(facts, container)
    if is_deletions and facts.record.deletion_intent is DeletionIntent.FAILED:
        return _intended(facts.record)
    if (failure := by_status_reason(facts.pod)) is not None:
        return failure
    disruption = facts.pod.disruption
    if is_deletions:
        return disrupted(disruption) if disruption else _deleted(facts.pod.namespace)
    if disruption is None or disruption.reason != _DISRUPTED_WITHOUT_DELETION:
        return None
    ended_before = container.finished_at and disruption.since and container.finished_at < disruption.since
    return None if ended_before else disrupted(disruption)


def _deletion_came_first(facts: Facts, container: Container) -> bool:
    if (first := facts.seen.came_first.get(container.name)) is not None:
        return first == "deletion"
    return deletion_came_first(facts.pod, container)


def _not_its_own(facts: Facts, container: Container) -> Failure | None:
    """Return the failure where this end is a later run's, or was brought about so that the container could restart."""
    is_killed = facts.pod.is_restarting and was_killed(container)
    return restarted(facts.pod) if container.was_restarted or is_killed else None


def _failed_init(pod: Observation) -> Container | None:
    for container in pod.containers:
        if container.kind == "init" and container.state == "terminated" and container.exit_code != 0:
            return container
    return None


def _inprogress(facts: Facts) -> Verdict:
    record = facts.record
    if record.deletion_intent is DeletionIntent.FAILED and not facts.pod.is_being_deleted:
        return DeletePod(DeletionIntent.FAILED, record.intent_reason, record.intent_message)
    if facts.pod.is_being_deleted:
        return progress(facts, "being deleted", _overdue_at(facts))
    if (failure := restarted(facts.pod) or may_restart(facts.pod)) is not None:
        return DeletePod(DeletionIntent.FAILED, failure.reason, failure.message)
    if facts.base.has_started or facts.base.state == "terminated" or record.status is Status.RUNNING:
        return running(facts)
    return starting(facts)


def _overdue_at(facts: Facts) -> float | None:
    """Return when (Redis' clock) the pod should long be gone, counted from when it was first seen to be deleted."""
    if facts.seen.deletion_seen_at is None:
        return None
    return facts.seen.deletion_seen_at + facts.pod.deletion_grace_s + NODE_LOST_AFTER_S


def _is_overdue(facts: Facts) -> bool:
    overdue_at = _overdue_at(facts)
    return overdue_at is not None and facts.now >= overdue_at


def _end(facts: Facts, status: Status, reason: FailureReason | None, message: str) -> AttemptEnded:
    exit_code = facts.base.exit_code if facts.base.has_started else None
    started = facts.seen.user_code_started is not False or facts.record.reached_at("running") is not None
    return AttemptEnded(status, reason, message, exit_code, started)


def _intended(record: JobRecord) -> Failure:
    return Failure(record.intent_reason or FailureReason.CLUSTER_ERROR, record.intent_message)


def _cancelled_by(record: JobRecord) -> str:
    return f"cancelled by {record.cancel_requested_by}" if record.cancel_requested_by else "cancelled"


def _deleted(namespace: str | None) -> Failure:
    text = f"the pod was deleted in namespace {namespace!r}, and not by podrelay"
    return Failure(FailureReason.POD_DELETED, advised(FailureReason.POD_DELETED, text))


def _lost(pod: Observation) -> Failure:
    return _deleted(pod.namespace) if pod.node is None else node_lost(pod.node)
