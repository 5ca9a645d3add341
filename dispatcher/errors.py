"""The error tree of the caller's side.

::

    PodrelayError
    ├── InvalidCursorError      the text is no cursor: give one as a reader returned it
    ├── InvalidSpecError        the spec, a file or a setting is wrong: mend it; nothing was published
    ├── SettingsError           a PODRELAY_* variable is misspelled or unusable
    ├── RedisUnavailableError   Redis cannot be reached, or refuses: try again later
    ├── JobIdTakenError         the id is another job's: give another one; nothing was published
    ├── JobUnknownError         no such job in this Redis (never submitted, or past its retention)
    └── ResultTimeoutError      the job has not ended within the time that the caller gave it

A job that fails is not an exception but a result (:class:`dispatcher.events.JobResult`).
"""

from collections.abc import Sequence


class PodrelayError(Exception):
    """What podrelay's own machinery raises."""


class InvalidSpecError(PodrelayError):
    """A spec that cannot be honoured. ``problems`` holds one line per mistake: path, what is wrong, what to do."""

    def __init__(self, problems: list[str], source: str = "spec") -> None:
        self.problems = [line for problem in problems for line in problem.split("\n")]
        self.source = source
        super().__init__(f"{source}: " + "; ".join(self.problems))


class InvalidCursorError(PodrelayError, ValueError):
    """A text that is no cursor."""

    def __init__(self, text: str) -> None:
        shown = ascii(text[:80]) + ("…" if len(text) > 80 else "")
        super().__init__(f"{shown} is no cursor: give one as it was told, or none to begin at the beginning")


class SettingsError(PodrelayError):
    """A setting that cannot be used; the message names it, what was expected and what was found."""


class RedisUnavailableError(PodrelayError):
    """Redis cannot be reached or does not accept the command. The message holds the URL with its password masked."""


class JobIdTakenError(PodrelayError):
    """This id was submitted before, with another spec or to another queue.

    Attributes:
        queue, status: of the job that has the id.
        differs: the spec's fields that are not the same; empty where the other spec cannot be read.
    """

    def __init__(self, job_id: str, *, queue: str, status: str, differs: Sequence[str]) -> None:
        self.job_id, self.queue, self.status, self.differs = job_id, queue, status, tuple(differs)
        what = f"with another {_listed(differs)}" if differs else "and what it asked for cannot be read"
        super().__init__(
            f"job id {job_id!r} is taken: it was submitted before {what}, and is {status or 'unreadable'} on queue "
            f"{queue!r}; nothing was published: give another id"
        )


def _listed(names: Sequence[str]) -> str:
    few = names[:5]
    return ", ".join(few) + (f" and {len(names) - len(few)} more" if len(names) > len(few) else "")


class JobUnknownError(PodrelayError):
    """No record of this job: it was never submitted to this Redis, or its retention is over."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id!r} is unknown: never submitted here, or its retention is over")


class ResultTimeoutError(PodrelayError):
    """The job is still going on; it was neither changed nor cancelled by this."""
