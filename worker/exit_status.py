"""What a worker process ends with when nobody told it to: one line, and an exit code that is not 0.

Whoever starts workers again looks at the code; whoever reads its output looks for one line and not for a traceback.
"""

import sys
from dataclasses import dataclass

from redis.exceptions import RedisError

from dispatcher import connection
from dispatcher.errors import PodrelayError, SettingsError
from worker.cluster.client import ClusterUnavailableError

#: Settings and usage; nothing else ends a worker before it has tried anything.
BAD_SETTINGS = 2
FAILED = 1


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """An exit code and its line. ``is_defect``: nobody foresaw it, and its traceback is worth having."""

    code: int
    line: str
    is_defect: bool = False


def exit_status_for(error: BaseException, *, redis: str) -> ExitStatus:
    """Return the exit code, and the line that says why and holds no secret."""
    match error:
        case BaseExceptionGroup():
            return exit_status_for(error.exceptions[0], redis=redis)
        case SettingsError():
            return ExitStatus(BAD_SETTINGS, _one_line(str(error)))
        case PodrelayError() | ClusterUnavailableError():
            return ExitStatus(FAILED, _one_line(str(error)))
        case RedisError():
            return ExitStatus(FAILED, _one_line(str(connection.unavailable(redis, error))))
    return ExitStatus(FAILED, _one_line(f"the worker failed: {type(error).__name__}: {error}"), is_defect=True)


def print_line(status: ExitStatus) -> None:
    """Write the line to stderr, beside the log in whatever format that is."""
    sys.stderr.write(f"{status.line}\n")
    sys.stderr.flush()


def _one_line(text: str) -> str:
    return f"podrelay: {' '.join(text.split())}"
