"""The exit codes: a table that scripts rely on."""

import pytest

from dispatcher.cli.app import app
from dispatcher.cli.exits import MEANING, ExitCode, exit_code, table
from dispatcher.events import JobResult
from dispatcher.status import FailureReason, Status


@pytest.mark.parametrize(
    ("status", "reason", "container_code", "code"),
    [
        (Status.SUCCEEDED, None, 0, 0),
        (Status.FAILED, FailureReason.EXIT_CODE, 1, 1),
        (Status.FAILED, FailureReason.EXIT_CODE, 255, 255),
        (Status.FAILED, FailureReason.OOM_KILLED, 137, 137),
        (Status.FAILED, FailureReason.EXIT_CODE, 256, 70),  # more than an exit code can hold
        (Status.FAILED, FailureReason.START_ERROR, 128, 70),  # the runtime's number, not the container's
        (Status.FAILED, FailureReason.EVICTED, 137, 70),
        (Status.FAILED, FailureReason.RETURN_VALUE, 0, 70),
        (Status.FAILED, FailureReason.IMAGE_PULL, None, 70),
        (Status.CANCELLED, None, 143, 71),
    ],
)
def test_a_followed_job_ends_the_command_with(
    status: Status, reason: FailureReason | None, container_code: int | None, code: int
) -> None:
    assert exit_code(JobResult(job_id="j", status=status, reason=reason, exit_code=container_code)) == code


@pytest.mark.parametrize("reason", FailureReason)
def test_no_failure_is_told_as_success(reason: FailureReason) -> None:
    for code in (None, 0, 1, 137, 256, -1):
        assert exit_code(JobResult(job_id="j", status=Status.FAILED, reason=reason, exit_code=code)) != 0


def test_every_code_has_its_meaning_in_the_help() -> None:
    assert MEANING.keys() == set(ExitCode)
    assert table() in str(app.info.epilog)
