"""The launch task: what becomes of a message whose job cannot be launched."""

import json
from concurrent.futures import CancelledError
from typing import Any

import pytest
from celery.exceptions import Reject

from dispatcher.errors import InvalidSpecError, JobIdTakenError
from dispatcher.spec import JobSpec
from dispatcher.steps import ClaimOutcome
from worker.queue.gate import DELIVERIES, Refusal
from worker.queue.launch_task import launch

SPEC = JobSpec(id="j", image="x")


class Supervisor:
    """Answers every launch with an outcome, or an error."""

    def __init__(self, answer: ClaimOutcome | Exception) -> None:
        self.answer = answer
        self.launched: list[str | JobSpec] = []

    def launch(self, job: str | JobSpec) -> ClaimOutcome:
        self.launched.append(job)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Letters:
    def __init__(self) -> None:
        self.put_ones: list[tuple[bytes, Refusal]] = []

    def put(self, message: bytes, refusal: Refusal) -> None:
        self.put_ones.append((message, refusal))


def launched(job: str, answer: ClaimOutcome | Exception, *, deliveries: int = 0) -> tuple[str, Supervisor, Letters]:
    supervisor = Supervisor(answer)
    letters: Any = Letters()
    return launch(job, deliveries, claim=supervisor.launch, dead_letters=letters), supervisor, letters


@pytest.mark.parametrize(("job", "expected"), [("j", "j"), (SPEC.encode(), SPEC)])
def test_a_job_is_launched_by_its_id_or_its_spec(job: str, expected: str | JobSpec) -> None:
    said, supervisor, letters = launched(job, ClaimOutcome.CLAIMED)
    assert (said, supervisor.launched, letters.put_ones) == ("claimed", [expected], [])


@pytest.mark.parametrize(
    "error",
    [InvalidSpecError(["too large"]), JobIdTakenError("j", queue="other", status="QUEUED", differs=["image"])],
)
def test_a_spec_that_no_worker_can_record_is_a_dead_letter_at_once(error: Exception) -> None:
    said, supervisor, letters = launched(SPEC.encode(), error)
    ((message, refusal),) = letters.put_ones
    assert (said, len(supervisor.launched), json.loads(message)["id"]) == ("dead letter", 1, "j")
    assert refusal.reason == str(error)


@pytest.mark.parametrize("error", [TimeoutError(), CancelledError(), ValueError("x")])
def test_a_spec_that_nobody_may_have_recorded_goes_back_and_in_the_end_to_the_dead_letters(error: Exception) -> None:
    with pytest.raises(Reject) as raised:
        launched(SPEC.encode(), error, deliveries=DELIVERIES - 2)
    assert raised.value.requeue
    said, _, letters = launched(SPEC.encode(), error, deliveries=DELIVERIES - 1)
    ((message, refusal),) = letters.put_ones
    assert said == "dead letter"
    assert json.loads(message)["id"] == "j"
    assert type(error).__name__ in refusal.reason


@pytest.mark.parametrize("error", [TimeoutError(), CancelledError(), ValueError("x")])
def test_a_recorded_job_needs_no_message(error: Exception) -> None:
    assert launched("j", error)[0] == "later"
