"""What a person reads about a job."""

from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.cli import words
from dispatcher.events import Cursor, Heard, JobResult, LogChunk, LogGap, ReturnValueOutcome, StatusChanged
from dispatcher.status import FailureReason, Status

AT = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def test_a_move_names_the_pod_and_what_it_waits_for() -> None:
    event = StatusChanged(status=Status.STARTING, detail="pulling", pod="p-1", namespace="jobs", node="n")
    assert words.move(event) == "STARTING (pulling) pod jobs/p-1 on n"
    assert words.move(StatusChanged(status=Status.QUEUED)) == "QUEUED"


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (None, "gap in the log of base: an unknown number of bytes after byte 10: lost"),
        (30, "gap in the log of base: 20 bytes after byte 10: lost"),
    ],
)
def test_a_gap_says_how_much_is_missing_and_why(end: int | None, text: str) -> None:
    assert words.gap_line(LogGap("base", 1, 10, end, "lost")) == text


def test_the_last_line_tells_how_it_ended_and_what_to_do() -> None:
    times = {
        "submitted": AT,
        "queued": AT,
        "claimed": AT,
        "starting": AT + timedelta(seconds=0.5),
        "running": AT + timedelta(seconds=2),
        "failed": AT + timedelta(seconds=64),
    }
    result = JobResult(
        job_id="j",
        status=Status.FAILED,
        reason=FailureReason.EXIT_CODE,
        exit_code=7,
        message="read the log",
        times=times,
    )
    told = words.end(result)
    assert told == (
        "FAILED, exit_code, exit code 7 after 0:01:04 (queued 0.5 s, starting 1.5 s, running 0:01:02): read the log"
    )


def test_the_last_line_of_a_success_holds_the_return_value() -> None:
    result = JobResult(
        job_id="j",
        status=Status.SUCCEEDED,
        exit_code=0,
        return_value={"rows": 3},
        return_value_outcome=ReturnValueOutcome.PRESENT,
        log_complete=False,
    )
    assert words.end(result) == 'SUCCEEDED, exit code 0; it returned {"rows": 3}; its log is not complete'


def test_log_bytes_are_no_line() -> None:
    assert words.line(Heard("j", LogChunk("base", 1, 0, b"x"), Cursor(), AT)) is None
