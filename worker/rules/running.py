"""The limits on a pod whose base container has started: on its run, and on the start of others that are waited for."""

from dispatcher.record import DeletionIntent
from dispatcher.status import FailureReason, Status
from worker.rules.causes import advised
from worker.rules.job_end import progress_detail
from worker.rules.startup import start_limit
from worker.rules.verdict import DeletePod, Facts, Running, Starting


def running(facts: Facts) -> Starting | Running | DeletePod:
    """Judge a pod whose base container has started, or has ended and others are waited for."""
    limits = [limit for limit in (_run_limit(facts), _others_limit(facts)) if limit is not None]
    for limit in limits:
        if isinstance(limit, DeletePod):
            return limit
    recheck_at = min((limit for limit in limits if not isinstance(limit, DeletePod)), default=None)
    return progress(facts, progress_detail((facts.base, *facts.others)), recheck_at)


def _run_limit(facts: Facts) -> float | DeletePod | None:
    """Return when ``run_timeout_s`` is over, or its verdict."""
    limit_s = facts.spec.run_timeout_s
    if limit_s is None:
        return None
    since = facts.record.reached_at("running")
    if since is None and facts.base.state == "terminated":  # it could not be started, and others are waited for
        since = facts.record.reached_at("starting")
    if since is not None and facts.now >= since + limit_s:
        detail = progress_detail((facts.base, *facts.others))
        what = f"the job ran longer than run_timeout_s ({limit_s:g} s; {detail})"
        if not detail:
            what = f"the base container ran longer than run_timeout_s ({limit_s:g} s)"
        return DeletePod(DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT, advised(FailureReason.RUN_TIMEOUT, what))
    return (facts.now if since is None else since) + limit_s


def _others_limit(facts: Facts) -> float | DeletePod | None:
    """Return until when a container that is waited for must have started, or the verdict on one that has not.

    A kubelet says why a container waits: of one that has no status (any more), nobody knows that it does.
    """
    late = next((c for c in facts.others if c.state == "waiting" and c.reason and not c.has_started), None)
    return None if late is None else start_limit(facts, late)


def progress(facts: Facts, detail: str, recheck_at: float | None) -> Starting | Running:
    """Say that the pod is there and goes on: running once its base container has started."""
    if facts.base.has_started or facts.record.status is Status.RUNNING:
        return Running(detail, recheck_at)
    return Starting(detail, recheck_at)
