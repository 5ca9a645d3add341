"""The command's exit codes. Scripts rely on them: README and `--help` show this table, and tests hold both to it."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.events import JobResult


class ExitCode(IntEnum):
    """Every exit code of the command.

    A followed job's container may end with any of these numbers too: `--json` and `podrelay status` tell them apart.
    """

    DONE = 0
    NO = 1
    BAD_INPUT = 2
    REDIS_UNAVAILABLE = 3
    JOB_UNKNOWN = 4
    JOB_FAILED = 70
    JOB_CANCELLED = 71
    INTERRUPTED = 130


MEANING = {
    ExitCode.DONE: "done; with --follow: the job succeeded",
    ExitCode.NO: "`workers --check` found no worker that can run jobs; or podrelay itself failed, with a message",
    ExitCode.BAD_INPUT: "bad input: a flag, a spec, an id that is taken, a cursor or a setting; nothing was published",
    ExitCode.REDIS_UNAVAILABLE: "Redis cannot be used; a job that was submitted goes on",
    ExitCode.JOB_UNKNOWN: "no such job",
    ExitCode.JOB_FAILED: "with --follow: the job failed and no exit code of its base container says so",
    ExitCode.JOB_CANCELLED: "with --follow: the job was cancelled",
    ExitCode.INTERRUPTED: "Ctrl-C; the job goes on",
}

#: Above the table: the one case that it cannot list.
CONTAINER_RULE = (
    "submit --follow and logs --follow exit with the base container's own exit code where it ended with one"
)


def exit_code(result: "JobResult") -> int:
    """Choose the exit code of a command that followed the job to this end.

    The container's own code counts only where the container ended by itself: the 128 of a command that was never
    found, or the 137 of an evicted pod, is no word of the user's code.
    """
    from dispatcher.status import FailureReason, Status

    if result.status is Status.SUCCEEDED:
        return ExitCode.DONE
    if result.status is Status.CANCELLED:
        return ExitCode.JOB_CANCELLED
    ended_itself = result.reason in (FailureReason.EXIT_CODE, FailureReason.OOM_KILLED)
    if ended_itself and result.exit_code is not None and 0 < result.exit_code < 256:
        return result.exit_code
    return ExitCode.JOB_FAILED


def table() -> str:
    """Write the table as `--help` shows it."""
    return "\n".join(f"  {code.value:>3}  {MEANING[code]}" for code in ExitCode)
