"""What both clients make of Redis' replies, and how much they ask for at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher import names
from dispatcher.errors import JobUnknownError, PodrelayError
from dispatcher.record import MAX_SECONDS, decode_worker
from dispatcher.steps import AcknowledgeOutcome, CancelOutcome

#: Records per script: it must not hold up the server.
RECORDS_AT_ONCE = 100
#: Keys per script that says which there are: queues and workers are as many as anybody has written down.
KEYS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as its queue lists it, dead ones included. Times in seconds of Redis' clock."""

    incarnation: str
    queue: str
    is_alive: bool
    last_seen_at: float
    info: dict[str, Any]


def indexes_of(queues: Sequence[str]) -> Sequence[str]:
    """Name the keys in which the jobs of these queues are listed."""
    return [index for queue in queues for index in (names.active(queue), names.recent(queue))]


def lease_keys(incarnations: Iterable[bytes]) -> dict[bytes, str]:
    """Name the key of each incarnation's lease."""
    return {name: names.worker(name.decode("utf-8", "backslashreplace")) for name in incarnations}


def worker_view(queue: str, incarnation: bytes, text: bytes, *, is_alive: bool) -> WorkerView:
    """Read a queue's entry of one worker."""
    info = decode_worker(text)
    seen = info.pop("last_seen", 0)
    is_time = isinstance(seen, int | float) and 0 <= seen < MAX_SECONDS
    seen_at = float(seen) if is_time else 0.0  # type: ignore[arg-type]
    return WorkerView(incarnation.decode("utf-8", "backslashreplace"), queue, is_alive, seen_at, info)


def last_seen_first(view: WorkerView) -> tuple[bool, float]:
    """Sort by it: the living first, then the last seen."""
    return not view.is_alive, -view.last_seen_at


def checked_cancel(job_id: str, outcome: CancelOutcome) -> CancelOutcome:
    """Pass on what a cancel did.

    Raises:
        JobUnknownError: there is no such job.
        PodrelayError: its record cannot be read.
    """
    if outcome is CancelOutcome.MISSING:
        raise JobUnknownError(job_id)
    if outcome is CancelOutcome.UNREADABLE:
        raise _unreadable_record(job_id)
    return outcome


def _unreadable_record(job_id: str) -> PodrelayError:
    return PodrelayError(f"the record of job {job_id} cannot be read (see `podrelay status`): nothing was done")


def check_acknowledged(job_id: str, outcome: AcknowledgeOutcome) -> None:
    """Make sure that the result is acknowledged.

    Raises:
        JobUnknownError: there is no such job.
        PodrelayError: it has not ended, or its record cannot be read.
    """
    match outcome:
        case AcknowledgeOutcome.MISSING:
            raise JobUnknownError(job_id)
        case AcknowledgeOutcome.UNREADABLE:
            raise _unreadable_record(job_id)
        case AcknowledgeOutcome.ILLEGAL:
            raise PodrelayError(f"job {job_id} has not ended: only a result can be acknowledged")
        case AcknowledgeOutcome.ACKNOWLEDGED:
            pass
