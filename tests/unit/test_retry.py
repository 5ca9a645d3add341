from typing import Any

import pytest

from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from worker.rules.retry import Conclude, Retry, next_step
from worker.rules.verdict import AttemptEnded

LOST_EARLY = AttemptEnded(Status.FAILED, FailureReason.NODE_LOST, "lost", None, user_code_started=False)
LOST_LATE = AttemptEnded(Status.FAILED, FailureReason.NODE_LOST, "lost", None, user_code_started=True)
EXIT = AttemptEnded(Status.FAILED, FailureReason.EXIT_CODE, "exit", 1, user_code_started=True)
PULL = AttemptEnded(Status.FAILED, FailureReason.IMAGE_PULL, "pull", None, user_code_started=False)
DONE = AttemptEnded(Status.SUCCEEDED, None, "", 0, user_code_started=True)


def step(ended: AttemptEnded, *, attempt: int = 1, cancel: str | None = None, **fields: Any) -> Retry | Conclude:
    spec = JobSpec(image="x", **fields)
    record = JobRecord(spec.id, spec, spec.digest, Status.RUNNING, attempt=attempt, cancel_requested_by=cancel)
    return next_step(spec, record, ended)


@pytest.mark.parametrize(
    ("ended", "fields", "is_retried"),
    [
        (LOST_EARLY, {}, True),
        (LOST_EARLY, {"launch_retries": 0}, False),
        (LOST_EARLY, {"attempt": 2}, True),
        (LOST_EARLY, {"attempt": 3}, False),
        (LOST_EARLY, {"cancel": "ada"}, False),
        (LOST_LATE, {}, False),
        (LOST_LATE, {"retry_on": {FailureReason.NODE_LOST}}, True),
        (LOST_LATE, {"retry_on": {FailureReason.EVICTED}}, False),
        (EXIT, {}, False),
        (EXIT, {"retry_on": {FailureReason.EXIT_CODE}}, True),
        (EXIT, {"retry_on": {FailureReason.EXIT_CODE}, "attempt": 3}, False),
        (PULL, {}, False),
        (PULL, {"retry_on": {FailureReason.IMAGE_PULL}}, True),
        (DONE, {"retry_on": set(FailureReason)}, False),
    ],
)
def test_an_attempt_is_followed_by_another_only_where_that_is_safe_or_asked_for(
    ended: AttemptEnded, fields: dict[str, Any], is_retried: bool
) -> None:
    found = step(ended, **fields)
    assert isinstance(found, Retry if is_retried else Conclude)


def test_the_next_attempt_waits_longer_each_time_up_to_a_limit() -> None:
    waits = [step(LOST_EARLY, attempt=n, launch_retries=100) for n in range(1, 10)]
    assert [w.backoff_s for w in waits if isinstance(w, Retry)] == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert [w.attempt for w in waits if isinstance(w, Retry)] == list(range(2, 11))


def test_a_retry_says_what_went_wrong() -> None:
    found = step(LOST_EARLY)
    assert isinstance(found, Retry)
    assert found.why == "attempt 1 of 3 failed (node_lost): lost"
