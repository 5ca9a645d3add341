"""Which results a worker keeps, and which of them Redis may have lost."""

from typing import Any

import pytest

from dispatcher.events import Ended, JobResult
from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from dispatcher.steps import Beat, SurveyRow
from worker.jobs.recent_results import KEPT_S, RecentResults
from worker.lease import Lease
from worker.logs.outbox import LogBudget

SPEC = JobSpec(id="job-1", image="x")


class Worker:
    """Its lease, at a Redis whose life it is told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lease = Lease(30.0, clock=lambda: self.now)
        self.hears_of("first run")
        self.results = RecentResults(self.lease, LogBudget(0))

    def hears_of(self, redis_life: str) -> None:
        beat = Beat(at=self.now, generation="g", lease_was_alive=True, redis_life=redis_life, runs_since=None)
        self.lease.renewed(beat, sent_at=self.now, heard_at=self.now)

    def doubtful(self, row: SurveyRow | None = None, known: JobRecord | None = None) -> list[str]:
        rows, controlled = {"job-1": row} if row else {}, {"job-1": known} if known else {}
        return [finished.record.job_id for finished in self.results.doubtful(rows, controlled)]


def a_record(status: Status = Status.FAILED, **fields: Any) -> JobRecord:
    return JobRecord("job-1", SPEC, SPEC.digest, status, **fields)


def a_row(status: Status | None) -> SurveyRow:
    empty = dict.fromkeys(("owner", "cancel_by", "namespace", "pod_uid", "last_step"), "")
    numbers = dict.fromkeys(("submitted_at", "owner_seen_at", "epoch", "attempt"), 0)
    given: Any = {**empty, **numbers, "owner_is_alive": True, "is_overdue": False}
    return SurveyRow(job_id="job-1", status=status, **given)


@pytest.fixture
def worker() -> Worker:
    worker = Worker()
    result = JobResult(job_id="job-1", status=Status.FAILED)
    worker.results.keep(a_record(attempt=1, pod="p"), Ended(result=result), {})
    return worker


@pytest.mark.parametrize(
    ("row", "known", "is_doubtful"),
    [
        (None, None, False),
        (a_row(Status.FAILED), None, False),
        (a_row(Status.RUNNING), None, True),
        (a_row(None), None, True),
        (a_row(Status.RUNNING), a_record(), True),
        (a_row(Status.RUNNING), a_record(Status.RUNNING), False),
    ],
    ids=[
        "it is forgotten",
        "it stands there",
        "it is active again",
        "it is listed and has no record",
        "its pod still goes",
        "it runs again here",
    ],
)
def test_a_result_is_doubtful_where_its_job_has_not_ended_in_redis(
    worker: Worker, row: SurveyRow | None, known: JobRecord | None, is_doubtful: bool
) -> None:
    assert worker.doubtful(row, known) == ["job-1"] * is_doubtful


def test_a_result_that_is_nowhere_is_doubtful_once_in_each_run_of_redis(worker: Worker) -> None:
    worker.hears_of("second run")
    assert worker.doubtful() == ["job-1"]
    worker.results.confirm("job-1", "second run")
    assert worker.doubtful() == []


def test_a_result_is_kept_for_its_time_and_for_as_long_as_its_job_is_controlled(worker: Worker) -> None:
    worker.now += KEPT_S
    worker.doubtful()
    assert "job-1" in worker.results
    worker.now += 1.0
    worker.doubtful(known=a_record())
    assert "job-1" in worker.results
    worker.doubtful()
    assert "job-1" not in worker.results


def test_a_result_is_that_of_the_same_job_only_where_this_is_new_and_has_the_same_spec(worker: Worker) -> None:
    found = worker.results.of_resubmitted(a_record(Status.QUEUED))
    assert found is not None
    assert found.record.pod == "p"
    assert worker.results.of_resubmitted(a_record(Status.QUEUED, attempt=1)) is None
    assert worker.results.of_resubmitted(a_record(Status.STARTING, pod="p")) is None
    other = JobSpec(id="job-1", image="y")
    assert worker.results.of_resubmitted(JobRecord("job-1", other, other.digest, Status.QUEUED)) is None
