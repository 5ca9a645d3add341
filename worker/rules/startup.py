"""The limits on a pod that has not started: on waiting for a node, and on starting its base container."""

from typing import Final

from dispatcher.record import DeletionIntent
from dispatcher.status import FailureReason, Status
from worker.cluster.observation import Container, Observation
from worker.rules.causes import advised
from worker.rules.failures import Failure, start_problem
from worker.rules.history import blocking_container
from worker.rules.verdict import DeletePod, Facts, Starting
from worker.rules.waiting import is_worth_reporting, scheduling_detail, waiting_detail

#: How long a missing secret or config map may take to appear.
CONFIG_GRACE_S: Final = 30.0


def starting(facts: Facts) -> Starting | DeletePod:
    """Judge a pod whose base container has not started."""
    waits = blocking_container(facts.pod, facts.spec.base_container) or facts.base
    detail = waiting_detail(facts.pod, waits)
    if not is_worth_reporting(detail, reported=facts.record.detail, kinds=facts.before.kinds):
        detail = facts.record.detail
    if not facts.pod.scheduling.is_scheduled:
        return _unscheduled(facts, detail)
    limit = start_limit(facts, waits)
    return limit if isinstance(limit, DeletePod) else Starting(detail, limit)


def start_limit(facts: Facts, waits: Container) -> float | DeletePod:
    """Return until when (Redis' clock) this container, or what it waits for, must have started; or the verdict."""
    failure, heals_until = _problem_limit(facts, waits)
    startup_at = _starting_since(facts) + facts.pod.scheduling.waited_s + facts.spec.startup_timeout_s
    if failure is not None and facts.now >= min(heals_until, startup_at):
        return DeletePod(DeletionIntent.FAILED, failure.reason, failure.message)
    if facts.now >= startup_at:
        failure = _start_timeout(facts, waits)
        return DeletePod(DeletionIntent.FAILED, failure.reason, failure.message)
    return min(heals_until, startup_at)


def _starting_since(facts: Facts) -> float:
    """Return since when the pod exists; now, while that is not recorded yet.

    A record that was rebuilt from its pod has only the time at which it was rebuilt.
    """
    since = facts.record.reached_at("starting")
    if since is None and facts.record.status is Status.STARTING:
        since = facts.record.reached_at("queued")
    return facts.now if since is None else since


def _unscheduled(facts: Facts, detail: str) -> Starting | DeletePod:
    """Judge a pod that has no node: only a limit on waiting ends it.

    To wait for room, or for whoever holds the pod back, is not starting.
    """
    said, spec, record = scheduling_detail(facts.pod.scheduling), facts.spec, facts.record
    queued_at = record.reached_at("queued")
    queue_at = (_starting_since(facts) if queued_at is None else queued_at) + spec.queue_timeout_s
    schedule_at = float("inf")
    if spec.schedule_timeout_s is not None:
        schedule_at = _starting_since(facts) + spec.schedule_timeout_s
    if facts.now >= schedule_at:
        text = f"no node took the pod within schedule_timeout_s ({spec.schedule_timeout_s:g} s): {said}"
        return _too_late(facts.pod, FailureReason.UNSCHEDULABLE, text)
    if facts.now >= queue_at:
        text = f"no node took the pod within queue_timeout_s ({spec.queue_timeout_s:g} s, counted from submit): {said}"
        return _too_late(facts.pod, FailureReason.QUEUE_TIMEOUT, text)
    return Starting(detail, min(schedule_at, queue_at))


def _too_late(pod: Observation, reason: FailureReason, said: str) -> DeletePod:
    if pod.scheduling.reason == "SchedulingGated" and "gate" not in said:
        said = f"{said} (SchedulingGated)"
    return DeletePod(DeletionIntent.FAILED, reason, advised(reason, said))


def _problem_limit(facts: Facts, waits: Container) -> tuple[Failure | None, float]:
    """Return what is wrong with the container that should start, and until when (Redis' clock) that may heal."""
    found = start_problem(waits) if waits.state == "waiting" else None
    if found is None:
        return None, float("inf")
    if not found.may_heal:
        return found.failure, facts.now
    is_image = found.failure.reason is FailureReason.IMAGE_PULL
    grace_s = facts.spec.image_pull_grace_s if is_image else CONFIG_GRACE_S
    since = facts.seen.problem_since
    return found.failure, (facts.now if since is None else since) + grace_s


def _start_timeout(facts: Facts, waits: Container) -> Failure:
    limit_s, detail = facts.spec.startup_timeout_s, waiting_detail(facts.pod, waits)
    is_other = waits.kind == "main" and waits.name != facts.base.name
    what = f"container {waits.name!r}" if is_other else "the base container"
    text = f"{what} did not start within startup_timeout_s ({limit_s:g} s, counted from its node): {detail}"
    return Failure(FailureReason.START_TIMEOUT, advised(FailureReason.START_TIMEOUT, text))
