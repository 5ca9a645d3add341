"""One full value of everything that crosses the wire, by the name of its golden file."""

from datetime import UTC, datetime

from dispatcher.events import (
    ClusterEvent,
    ContainerEnd,
    Cursor,
    Ended,
    JobResult,
    LogSummary,
    Notice,
    ReturnValueOutcome,
    StatusChanged,
)
from dispatcher.record import Checkpoint
from dispatcher.status import Blame, FailureReason, Status

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

RESULT = JobResult(
    job_id="job-1",
    status=Status.FAILED,
    reason=FailureReason.EXIT_CODE,
    message="the container exited with 3 – see its log",
    exit_code=3,
    return_value={"rows": [1, None, "ü"]},
    return_value_outcome=ReturnValueOutcome.PRESENT,
    attempt=2,
    pod="passing-test-0123456789-2",
    pod_uid="uid-1",
    namespace="jobs",
    node="node-1",
    containers=(
        ContainerEnd(
            name="base",
            state="terminated",
            exit_code=3,
            reason="Error",
            message="tail",
            started_at=AT,
            finished_at=AT,
        ),
    ),
    warnings=(ClusterEvent(reason="BackOff", message="Back-off pulling image", count=4, last_seen_at=AT),),
    times={"queued": AT},
    logs={"base": LogSummary(bytes=12, sha256="ab" * 32, is_complete=True)},
    log_complete=True,
    log_url="https://logs.example/job-1",
    cancelled_by="alice",
)

EVENTS = {
    "event-status.json": StatusChanged(
        status=Status.STARTING,
        detail="pulling busybox",
        attempt=2,
        pod="passing-test-0123456789-2",
        namespace="jobs",
        node="node-1",
        reason=FailureReason.EVICTED,
    ),
    "event-status-plain.json": StatusChanged(status=Status.QUEUED),
    "event-notice.json": Notice(level="warning", text="worker w2 took over from w1"),
    "event-ended.json": Ended(result=RESULT, log_end="5-1"),
    "event-ended-responsible.json": Ended(
        result=JobResult(
            job_id="job-1",
            status=Status.FAILED,
            reason=FailureReason.START_TIMEOUT,
            message='secret "db" not found. Create the secret.',
            responsible=Blame.SPEC,
        )
    ),
    "event-ended-events.json": Ended(
        result=JobResult(
            job_id="job-1",
            status=Status.FAILED,
            reason=FailureReason.EXIT_CODE,
            events=(ClusterEvent(reason="Started", message="Container started", last_seen_at=AT, type="Normal"),),
        )
    ),
    "event-ended-last-lines.json": Ended(
        result=JobResult(
            job_id="job-1",
            status=Status.FAILED,
            reason=FailureReason.INIT_FAILED,
            last_lines={"setup": "no such table\nroll back"},
        )
    ),
    "event-ended-plain.json": Ended(result=JobResult(job_id="job-1", status=Status.SUCCEEDED)),
}

CURSOR = Cursor("0123abcd", "17-0", "18-2", ((1, "base", 12), (2, "side-car", 0)))
CHECKPOINT = Checkpoint(12, "2026-01-02T03:04:05.678901234Z", 3, 5, "cd" * 32, "ab" * 32)
CHECKPOINT_AT_START = Checkpoint()
