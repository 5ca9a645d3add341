"""What a job's result is for Airflow's task: a value, a skip or a failure that tells what to do next. Pure.

A job that was cancelled, or whose pod somebody deleted, is never anything but a failure, whatever exit code its process
had when it was stopped.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from dispatcher.status import Blame, FailureReason, Status

if TYPE_CHECKING:
    from dispatcher.events import JobResult

#: Reasons that say that the pod was stopped from outside: its exit code is not the code's own.
_STOPPED = frozenset(
    {
        FailureReason.POD_DELETED,
        FailureReason.EVICTED,
        FailureReason.PREEMPTED,
        FailureReason.NODE_LOST,
        FailureReason.RUN_TIMEOUT,
        FailureReason.START_TIMEOUT,
    }
)

_NEXT: dict[Blame, str] = {
    Blame.USER_CODE: "look at the container's last lines above",
    Blame.SPEC: "mend the task's arguments; the message says which",
    Blame.IMAGE: "check the image's name and tag, that the cluster may pull it, and that it has the command",
    Blame.CLUSTER: "clear the task to run it again; if it comes back, ask those who run the cluster",
    Blame.POLICY: "ask those who run the cluster which pods its policy allows",
    Blame.TIME_LIMIT: "raise the limit that the message names, or find out what the pod waited for",
}


class PodRelayFailure(AirflowException):
    """The job failed, or it was cancelled. ``result`` is all that is known."""

    def __init__(self, message: str, result: "JobResult | None" = None) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class Success:
    """The task succeeds; ``value`` is for XCom."""

    value: Any


@dataclass(frozen=True, slots=True)
class Skip:
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    message: str


Outcome = Success | Skip | Failure


def outcome_of(result: "JobResult", skip_on_exit_code: Container[int]) -> Outcome:
    """Decide; ``skip_on_exit_code`` as KPO takes it."""
    is_own_end = result.status is not Status.CANCELLED and result.reason not in _STOPPED
    if is_own_end and result.exit_code is not None and result.exit_code in skip_on_exit_code:
        return Skip(f"Pod {result.pod} returned exit code {result.exit_code}. Skipping.")
    if result.status is Status.SUCCEEDED:
        return Success(result.return_value)
    return Failure(failure_message(result))


def failure_message(result: "JobResult") -> str:
    """What happened, whose turn it is, and what to do next; then the last Kubernetes warnings."""
    pod = f"pod {result.namespace}/{result.pod}" if result.pod else "no pod"
    if result.status is Status.CANCELLED:
        by = f" by {result.cancelled_by}" if result.cancelled_by else ""
        return f"Job {result.job_id} was cancelled{by} ({pod}). {result.message}".rstrip()
    reason = result.reason or FailureReason.CLUSTER_ERROR
    blame = reason.traits.blame
    lines = [
        f"Job {result.job_id} failed: {reason.value} ({pod}). {result.message}".rstrip(),
        f"Responsible: {blame.value}. What to do: {_NEXT[blame]}.",
    ]
    lines += [f"Kubernetes warning: {w.reason} - {w.message}" for w in result.warnings[-3:]]
    return "\n".join(lines)


def container_states(result: "JobResult") -> list[str]:
    """Every container's last known state, for ``log_events_on_failure``."""
    return [
        f"Container {c.name!r}: {c.state}"
        + (f", exit code {c.exit_code}" if c.exit_code is not None else "")
        + (f", {c.reason}" if c.reason else "")
        + (f": {c.message}" if c.message else "")
        for c in result.containers
    ]
