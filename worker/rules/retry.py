"""Whether an ended attempt is the job's end, or another one follows.

A transient failure before user code started is the cluster's, and tried again by itself. Once user code started, only
its owner can say that running it twice is harmless: by naming the reason in the spec's ``retry_on``.
"""

from dataclasses import dataclass
from typing import Final

from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from worker.rules.verdict import AttemptEnded

FIRST_BACKOFF_S: Final = 5.0
MAX_BACKOFF_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Begin attempt ``attempt`` after ``backoff_s``; ``why`` is for the job's channel."""

    attempt: int
    backoff_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Conclude:
    """End the job: this is its outcome."""

    ended: AttemptEnded


def next_step(spec: JobSpec, record: JobRecord, ended: AttemptEnded) -> Retry | Conclude:
    """Decide what follows the record's present attempt."""
    if not _deserves_another(spec, record, ended):
        return Conclude(ended)
    attempts = spec.launch_retries + 1
    backoff_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (record.attempt - 1))
    why = f"attempt {record.attempt} of {attempts} failed ({ended.reason}): {ended.message}"
    return Retry(record.attempt + 1, backoff_s, why)


def _deserves_another(spec: JobSpec, record: JobRecord, ended: AttemptEnded) -> bool:
    if ended.status is not Status.FAILED or ended.reason is None or record.cancel_requested:
        return False
    if record.attempt > spec.launch_retries:
        return False
    if ended.reason in spec.retry_on:
        return True
    return ended.reason.traits.is_transient and not ended.user_code_started
