"""What is gathered at an attempt's end: the return value, the cluster's warnings, and the result made of it all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dispatcher.events import ClusterEvent, JobResult, LogSummary, ReturnValueOutcome
from dispatcher.record import JobRecord
from dispatcher.status import FailureReason, Status
from worker.cluster.client import Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Observation, container_ends
from worker.cluster.pod_json import text_of
from worker.jobs.return_value import ReturnValue
from worker.rules.causes import advised, cause_of, explained
from worker.rules.failures import BACKGROUND_WARNINGS, quoted
from worker.rules.verdict import AttemptEnded

MOST_WARNINGS: Final = 10
MOST_EVENTS: Final = 30


async def read_events(cluster: Cluster, namespace: str, uid: str) -> tuple[ClusterEvent, ...] | None:
    """Return the events about the pod, in their order.

    None where the API server does not answer: events explain, they do not decide.
    """
    try:
        found = await cluster.pod_events(namespace, uid)
    except (ClusterRefusedError, ClusterUnavailableError):
        return None
    events = (event for event in map(_cluster_event, found) if event is not None)
    return tuple(sorted(events, key=_seen_at))


def last_warnings(events: tuple[ClusterEvent, ...]) -> tuple[ClusterEvent, ...]:
    """Return the last warnings of a pod, without those that explain nothing."""
    warnings = [event for event in events if event.is_warning and event.reason not in BACKGROUND_WARNINGS]
    return tuple(event.model_copy(update={"type": None}) for event in warnings[-MOST_WARNINGS:])


def _seen_at(event: ClusterEvent) -> datetime:
    """Return the second, which is all that kubelets tell; the scheduler's microseconds would put its events last."""
    seen_at = (event.last_seen_at or datetime.min.replace(tzinfo=UTC)).replace(microsecond=0)
    return seen_at if seen_at.tzinfo else seen_at.replace(tzinfo=UTC)


def _cluster_event(event: Any) -> ClusterEvent | None:
    """Read an event of the cluster; None where it cannot be read: anybody may write events about a pod."""
    if not isinstance(event, dict):
        return None
    series = event.get("series")
    try:
        return ClusterEvent(
            reason=text_of(event.get("reason")),
            message=quoted(text_of(event.get("message"))),
            count=event.get("count") or (series.get("count") if isinstance(series, dict) else None) or 1,
            last_seen_at=event.get("lastTimestamp") or event.get("eventTime"),
            type="Normal" if event.get("type") == "Normal" else "Warning",
        )
    except ValueError:
        return None


def make_result(
    record: JobRecord,
    ended: AttemptEnded,
    pod: Observation | None,
    *,
    return_value: ReturnValue,
    events: tuple[ClusterEvent, ...] | None,
    logs: Mapping[str, LogSummary],
    log_url: str | None,
    last_lines: Mapping[str, str],
) -> JobResult:
    """Make the job's result; a return value that cannot be used fails a job that has succeeded."""
    status, reason, message = ended.status, ended.reason, ended.message
    if status is Status.SUCCEEDED and return_value.outcome in _UNUSABLE:
        status, reason = Status.FAILED, FailureReason.RETURN_VALUE
        message = advised(reason, return_value.message)
    warnings = last_warnings(events or ())
    if reason is not None:
        message = explained(reason, message, warnings)
    return JobResult(
        job_id=record.job_id,
        status=status,
        reason=reason,
        message=message,
        responsible=cause_of(reason, message).responsible if reason else None,
        exit_code=ended.exit_code,
        return_value=return_value.value,
        return_value_outcome=return_value.outcome,
        attempt=record.attempt,
        pod=record.pod,
        pod_uid=record.pod_uid,
        namespace=record.namespace,
        node=(pod.node if pod else None) or record.node,
        containers=container_ends(pod) if pod else (),
        warnings=warnings,
        events=None if events is None else events[-MOST_EVENTS:],
        logs=dict(logs),
        log_complete=all(summary.is_complete for summary in logs.values()) and not _is_unread(record, pod, logs),
        log_url=log_url,
        last_lines=dict(last_lines) or None,
        cancelled_by=record.cancel_requested_by if status is Status.CANCELLED else None,
    )


def plain_result(record: JobRecord, message: str) -> JobResult:
    """Make the result of a job that its worker could not follow, from nothing but the record."""
    is_cancelled = record.cancel_requested
    return JobResult(
        job_id=record.job_id,
        status=Status.CANCELLED if is_cancelled else Status.FAILED,
        reason=None if is_cancelled else FailureReason.CLUSTER_ERROR,
        message=f"cancelled by {record.cancel_requested_by}; {message}" if is_cancelled else message,
        attempt=record.attempt,
        pod=record.pod,
        pod_uid=record.pod_uid,
        namespace=record.namespace,
        node=record.node,
        log_complete=record.pod is None,
        cancelled_by=record.cancel_requested_by,
    )


def _is_unread(record: JobRecord, pod: Observation | None, logs: Mapping[str, LogSummary]) -> bool:
    """Whether the pod may have written something before it went, and nobody read any of it."""
    if not record.spec.get_logs or record.spec.container_logs == () or logs or record.pod is None:
        return False
    base = pod.container(record.spec.base_container) if pod is not None else None
    return pod is None or (base is not None and base.has_started)


_UNUSABLE: Final = frozenset({ReturnValueOutcome.TRUNCATED, ReturnValueOutcome.NOT_JSON, ReturnValueOutcome.TOO_LARGE})
