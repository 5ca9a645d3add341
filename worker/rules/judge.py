"""What a look at a pod makes of its job: a pure decision from what is there now.

The caller judges on each watch event and when a verdict's ``look_again_at`` has come, and carries the verdict out; it
decides nothing itself. A crash, a redelivery and a second look are one case, because nothing here depends on the way by
which the present came about (the few things that only earlier looks tell are in
:class:`worker.rules.history.PodHistory`, and losing them is safe).

Two clocks, never compared: ``now``, ``record.reached`` and ``seen`` are seconds of Redis' clock; what the pod says is
the cluster's.
"""

from dataclasses import dataclass
from typing import Final

from dispatcher.record import DeletionIntent, JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from worker.cluster.observation import Container, Observation
from worker.rules.failures import (
    Failure,
    by_status_reason,
    disrupted,
    ended_by_cluster,
    first_end,
    init_failure,
    killed,
    lost_node,
    may_run_again,
    node_lost,
    own_end,
    rejected,
    second_run,
    trouble,
)
from worker.rules.history import PodHistory, blocker, deletion_came_first
from worker.rules.waiting import for_a_node, is_news, waits_for

#: How long a missing secret or config map may take to appear.
CONFIG_GRACE_S: Final = 30.0

#: A pod that is to be deleted and has not ended this long after its grace is on a node that does not answer.
NODE_LOST_AFTER_S: Final = 60.0

#: A cancelled pod of which nothing runs any more goes within a moment, unless somebody's finalizer holds it: its job
#: waits no longer than this.
HELD_AFTER_S: Final = 5.0

_DISRUPTED_WITHOUT_DELETION: Final = "TerminationByKubelet"


@dataclass(frozen=True, slots=True)
class Starting:
    """The pod exists, the base container has not started. ``detail`` says what it waits for."""

    detail: str
    look_again_at: float | None


@dataclass(frozen=True, slots=True)
class Running:
    """The base container has started. ``look_again_at``: when (seconds, Redis' clock) a time limit matters next."""

    detail: str
    look_again_at: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt is over and this is its outcome; ask :func:`worker.rules.retry.next_step` whether there is another.

    The pod may still be there, with other containers running: it is the caller's to remove.
    """

    status: Status
    reason: FailureReason | None
    message: str
    exit_code: int | None
    user_code_started: bool


@dataclass(frozen=True, slots=True)
class MustEnd:
    """Record this intent, then delete the pod; the outcome comes with a later look. Also said again while an intent
    stands in the record and the deletion was not asked for yet (a worker died between the two)."""

    intent: DeletionIntent
    reason: FailureReason | None
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """There is nothing more to find out from this pod: the job has its outcome, or another attempt. Only remove it."""


Verdict = Starting | Running | Ended | MustEnd | Settled


@dataclass(frozen=True, slots=True)
class _Look:
    spec: JobSpec
    record: JobRecord
    pod: Observation
    base: Container
    now: float
    before: PodHistory  #: earlier looks
    seen: PodHistory  #: and this one


def judge(
    spec: JobSpec, record: JobRecord, observation: Observation | None, now: float, *, seen: PodHistory | None = None
) -> Verdict:
    """Judge the pod of the record's present attempt.

    Args:
        observation: None where the pod existed and is *proved* absent: a GET of its name answered 404 or another uid,
            or the watch said DELETED (judge the object of that event first, it may be the only one that tells the end).
        now: seconds of Redis' clock.
        seen: what earlier looks taught. The caller keeps ``seen.after(observation, spec.base_container, now)``.
    """
    seen = seen or PodHistory()
    if record.status.is_final or record.deletion_intent in (DeletionIntent.FINISHED, DeletionIntent.NEXT_ATTEMPT):
        return Settled()
    if observation is None:
        return _absent(record, seen)
    if _is_of_another_attempt(record, observation):
        return Settled()
    base = observation.container(spec.base_container) or Container(spec.base_container, "main")
    base = first_end(base) or base
    look = _Look(spec, record, observation, base, now, seen, seen.after(observation, spec.base_container, now))
    if record.deletion_intent is DeletionIntent.CANCELLED:
        return _being_cancelled(look)
    return _ended(look) or _to_be_cancelled(look) or _in_progress(look)


def _is_of_another_attempt(record: JobRecord, pod: Observation) -> bool:
    """The record's own pod is its attempt's, whatever somebody has made of its labels."""
    return pod.attempt not in (0, record.attempt) and pod.uid != record.pod_uid


def _absent(record: JobRecord, seen: PodHistory) -> Ended:
    # Whoever never looked cannot know whether user code started: then it did.
    started = seen.user_code_started is not False or record.reached_at("running") is not None
    if record.cancel_requested or record.deletion_intent is DeletionIntent.CANCELLED:
        return Ended(Status.CANCELLED, None, _cancelled_by(record), None, started)
    if record.deletion_intent is DeletionIntent.FAILED:
        failure = _intended(record)
    else:
        failure = ended_by_cluster(seen.disruption, seen.lost_node) or _deleted(record.namespace)
    return Ended(Status.FAILED, failure.reason, failure.message, None, started)


def _being_cancelled(look: _Look) -> Verdict:
    if not look.pod.is_being_deleted and look.pod.has_ended:  # by itself: its deletion was not heard, or refused
        return _end(look, Status.CANCELLED, None, _cancelled_by(look.record))
    if not look.pod.is_being_deleted:
        return MustEnd(DeletionIntent.CANCELLED, None, _cancelled_by(look.record))
    if _is_overdue(look):
        text = f"{_cancelled_by(look.record)}; its node {look.pod.node!r} does not answer, so the pod may still run"
        return _end(look, Status.CANCELLED, None, text)
    held_at = _held_at(look)
    if held_at is not None and look.now >= held_at:
        return _end(look, Status.CANCELLED, None, _cancelled_by(look.record))
    return _progress(look, "cancelled, waiting for the pod to go", held_at or _overdue_at(look))


def _held_at(look: _Look) -> float | None:
    """When a pod that is deleted and of which nothing runs should be gone; None while something may run. A pod without
    a node never gets one once it is to be deleted."""
    pod, since = look.pod, look.seen.deletion_seen_at
    is_running = any(container.state == "running" for container in pod.containers)
    may_run = is_running or not (pod.has_ended or pod.node is None)
    return None if may_run or since is None else since + pod.deletion_grace_s + HELD_AFTER_S


def _to_be_cancelled(look: _Look) -> MustEnd | None:
    if not look.record.cancel_requested:
        return None
    return MustEnd(DeletionIntent.CANCELLED, None, _cancelled_by(look.record))


def _ended(look: _Look) -> Ended | None:
    if look.base.state == "terminated":
        failure = _from_outside(look, look.base) or _not_its_own(look) or own_end(look.base) or _other_failure(look)
    elif broken := _failed_init(look.pod):
        failure = _from_outside(look, broken) or init_failure(broken)
    elif look.pod.has_ended:
        failure = _without_an_end(look)
    elif look.pod.reason == "NodeLost" or _is_overdue(look):
        failure = _intended(look.record) if look.record.deletion_intent else _node_lost(look.pod)
    else:
        return None
    note = _second_run_note(look)
    if failure is None:
        return _end(look, Status.SUCCEEDED, None, note)
    if look.record.cancel_requested and failure.reason.traits.is_transient:
        return _end(look, Status.CANCELLED, None, _cancelled_by(look.record))
    return _end(look, Status.FAILED, failure.reason, " ".join(x for x in (failure.message, note) if x))


def _second_run_note(look: _Look) -> str:
    """Where the end of the base container's first run is the outcome: that there was another."""
    observed = look.pod.container(look.base.name)
    is_first_end = observed is not None and observed.former is look.base
    again = second_run(look.pod) if is_first_end else None
    return f"The end of the first run counts: {again.message}" if again else ""


def _without_an_end(look: _Look) -> Failure:
    """The pod is over and its base container never reported an end: its node refused it, or is lost."""
    pod = look.pod
    if pod.is_being_deleted and look.record.deletion_intent is DeletionIntent.FAILED:
        return _intended(look.record)
    failure = by_status_reason(pod) or ended_by_cluster(pod.disruption, lost_node(pod, look.base))
    if failure is None and pod.is_being_deleted and not pod.reason:
        return _deleted(pod.namespace)
    return failure or rejected(pod)


def _from_outside(look: _Look, container: Container) -> Failure | None:
    """Who ended this container, where it did not end by itself."""
    is_deletions = _deletion_came_first(look, container)
    if is_deletions and look.record.deletion_intent is DeletionIntent.FAILED:
        return _intended(look.record)
    if (failure := by_status_reason(look.pod)) is not None:
        return failure
    disruption = look.pod.disruption
    if is_deletions:
        return disrupted(disruption) if disruption else _deleted(look.pod.namespace)
    if disruption is None or disruption.reason != _DISRUPTED_WITHOUT_DELETION:
        return None
    ended_before = container.finished_at and disruption.since and container.finished_at < disruption.since
    return None if ended_before else disrupted(disruption)


def _deletion_came_first(look: _Look, container: Container) -> bool:
    if container is look.base and look.seen.came_first is not None:
        return look.seen.came_first == "deletion"
    return deletion_came_first(look.pod, container)


def _not_its_own(look: _Look) -> Failure | None:
    """This end of the base container is not that of its one run, or was made so that it could run again."""
    is_killed = look.pod.is_restarting and killed(look.base)
    return second_run(look.pod) if look.base.is_second_run or is_killed else None


def _failed_init(pod: Observation) -> Container | None:
    for container in pod.containers:
        if container.kind == "init" and container.state == "terminated" and container.exit_code != 0:
            return container
    return None


def _other_failure(look: _Look) -> Failure | None:
    """With ``fail_on: all``: a plain extra container that failed before the base container ended."""
    if look.spec.fail_on != "all":
        return None
    for other in look.pod.containers:
        if other.kind != "main" or other.state != "terminated" or other.name == look.base.name:
            continue
        is_later = other.finished_at and look.base.finished_at and other.finished_at > look.base.finished_at
        if not is_later and (failure := own_end(other)) is not None:
            return Failure(FailureReason.CONTAINER_FAILED, f"the base container succeeded, but {failure.message}")
    return None


def _in_progress(look: _Look) -> Verdict:
    record = look.record
    if record.deletion_intent is DeletionIntent.FAILED and not look.pod.is_being_deleted:
        return MustEnd(DeletionIntent.FAILED, record.intent_reason, record.intent_message)
    if look.pod.is_being_deleted:
        return _progress(look, "being deleted", _overdue_at(look))
    if (failure := second_run(look.pod) or may_run_again(look.pod)) is not None:
        return MustEnd(DeletionIntent.FAILED, failure.reason, failure.message)
    if look.base.has_started or record.status is Status.RUNNING:
        return _running(look)
    return _starting(look)


def _running(look: _Look) -> Running | MustEnd:
    limit_s = look.spec.run_timeout_s
    if limit_s is None:
        return Running("", None)
    since = look.record.reached_at("running")
    if since is not None and look.now >= since + limit_s:
        text = f"the base container ran longer than run_timeout_s ({limit_s:g} s). Raise it or make the job shorter."
        return MustEnd(DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT, text)
    return Running("", (look.now if since is None else since) + limit_s)


def _starting(look: _Look) -> Starting | MustEnd:
    waits = blocker(look.pod, look.spec.base_container) or look.base
    detail = waits_for(look.pod, waits)
    if not is_news(detail, told=look.record.detail, kinds=look.before.kinds):
        detail = look.record.detail
    if not look.pod.scheduling.is_scheduled:
        return _unscheduled(look, detail)
    failure, heals_until = _trouble_limit(look, waits)
    startup_at = _starting_since(look) + look.pod.scheduling.waited_s + look.spec.startup_timeout_s
    if failure is not None and look.now >= min(heals_until, startup_at):
        return MustEnd(DeletionIntent.FAILED, failure.reason, failure.message)
    if look.now >= startup_at:
        failure = _start_timeout(look, waits)
        return MustEnd(DeletionIntent.FAILED, failure.reason, failure.message)
    return Starting(detail, min(heals_until, startup_at))


def _starting_since(look: _Look) -> float:
    """Since when the pod exists; now, while that is not recorded yet. A record that was made again for a pod of which
    Redis knew nothing any more has only the time at which it was made."""
    since = look.record.reached_at("starting")
    if since is None and look.record.status is Status.STARTING:
        since = look.record.reached_at("queued")
    return look.now if since is None else since


def _unscheduled(look: _Look, detail: str) -> Starting | MustEnd:
    """Waiting for room, or for whoever holds the pod back, is not starting: it goes on until a limit that is about
    waiting ends it."""
    said, spec, record = for_a_node(look.pod.scheduling), look.spec, look.record
    queued_at = record.reached_at("queued")
    queue_at = (_starting_since(look) if queued_at is None else queued_at) + spec.queue_timeout_s
    schedule_at = float("inf")
    if spec.schedule_timeout_s is not None:
        schedule_at = _starting_since(look) + spec.schedule_timeout_s
    if look.now >= schedule_at:
        text = f"no node took the pod within schedule_timeout_s ({spec.schedule_timeout_s:g} s): {said}"
        return MustEnd(DeletionIntent.FAILED, FailureReason.UNSCHEDULABLE, f"{text}. {_room(look.pod)}")
    if look.now >= queue_at:
        text = f"no node took the pod within queue_timeout_s ({spec.queue_timeout_s:g} s, counted from submit): {said}"
        return MustEnd(DeletionIntent.FAILED, FailureReason.QUEUE_TIMEOUT, f"{text}. {_room(look.pod)}")
    return Starting(detail, min(schedule_at, queue_at))


def _room(pod: Observation) -> str:
    if pod.scheduling.reason == "SchedulingGated":
        return "Find out why whoever set the gate does not lift it (a quota in a queue of Kueue?), or raise the limit."
    return "Ask for less, mend node_selector, affinity and tolerations, add nodes, or raise the limit."


def _trouble_limit(look: _Look, waits: Container) -> tuple[Failure | None, float]:
    """What is wrong with the container that should start, and until when that may heal."""
    found = trouble(waits) if waits.state == "waiting" else None
    if found is None:
        return None, float("inf")
    if not found.may_heal:
        return found.failure, look.now
    is_image = found.failure.reason is FailureReason.IMAGE_PULL
    grace_s = look.spec.image_pull_grace_s if is_image else CONFIG_GRACE_S
    since = look.seen.trouble_since
    return found.failure, (look.now if since is None else since) + grace_s


def _start_timeout(look: _Look, waits: Container) -> Failure:
    limit_s, detail = look.spec.startup_timeout_s, waits_for(look.pod, waits)
    text = f"the base container did not start within startup_timeout_s ({limit_s:g} s, counted from its node): {detail}"
    advice = "See the pod's warnings (a volume, secret or network that is missing?), or raise the limit."
    return Failure(FailureReason.START_TIMEOUT, f"{text}. {advice}")


def _progress(look: _Look, detail: str, look_again_at: float | None) -> Starting | Running:
    if look.base.has_started or look.record.status is Status.RUNNING:
        return Running(detail, look_again_at)
    return Starting(detail, look_again_at)


def _overdue_at(look: _Look) -> float | None:
    """When (Redis' clock) the pod should long be gone, counted from when its deletion was first seen."""
    if look.seen.deletion_seen_at is None:
        return None
    return look.seen.deletion_seen_at + look.pod.deletion_grace_s + NODE_LOST_AFTER_S


def _is_overdue(look: _Look) -> bool:
    overdue_at = _overdue_at(look)
    return overdue_at is not None and look.now >= overdue_at


def _end(look: _Look, status: Status, reason: FailureReason | None, message: str) -> Ended:
    exit_code = look.base.exit_code if look.base.has_started else None
    started = look.seen.user_code_started is not False or look.record.reached_at("running") is not None
    return Ended(status, reason, message, exit_code, started)


def _intended(record: JobRecord) -> Failure:
    return Failure(record.intent_reason or FailureReason.CLUSTER_ERROR, record.intent_message)


def _cancelled_by(record: JobRecord) -> str:
    return f"cancelled by {record.cancel_requested_by}" if record.cancel_requested_by else "cancelled"


def _deleted(namespace: str | None) -> Failure:
    text = f"the pod was deleted, and not by podrelay. Find out who deletes pods in namespace {namespace!r}"
    return Failure(FailureReason.POD_DELETED, f"{text} (kubectl, a drain, a cleaner), then submit the job again.")


def _node_lost(pod: Observation) -> Failure:
    return _deleted(pod.namespace) if pod.node is None else node_lost(pod.node)
