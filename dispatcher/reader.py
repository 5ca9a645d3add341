"""Telling why nothing is heard of a job, so that nobody waits in the dark: pure, on one look at who is there."""

from typing import Any

from dispatcher.errors import JobUnknownError, PodrelayError, RedisUnavailableError
from dispatcher.events import Cursor, Silence, SilenceKind
from dispatcher.record import UNREADABLE, as_datetime
from dispatcher.steps import Presence


def explain(found: Presence) -> Silence | None:
    """What a person should be told; None: somebody is at work, wait."""
    if found.status is None:
        text = "Redis has no record of this job (any more); a worker that follows its pod makes it again"
        return Silence(SilenceKind.JOB_UNKNOWN, found.queue, None, text)
    if found.status.is_final or found.owner_is_alive or found.is_overdue:
        return None  # overdue: whoever looks ends it now
    if found.workers_alive == 0:
        seen = _ago(found.last_seen_at, found.at)
        whose = f" for namespace {found.namespace!r}" if found.namespace else ""
        text = f"no worker is alive on queue {found.queue!r}{whose} ({seen}); waiting until one is there"
        return Silence(SilenceKind.NO_WORKER, found.queue, _when(found.last_seen_at), text)
    if found.owner:
        seen = _ago(found.owner_last_seen_at, found.at)
        text = f"worker {found.owner} is lost ({seen}); another one takes over"
        return Silence(SilenceKind.OWNER_LOST, found.queue, _when(found.owner_last_seen_at), text)
    return None


def _when(seconds: float | None) -> Any:
    return None if seconds is None else as_datetime(seconds)


def _ago(seconds: float | None, at: float) -> str:
    if seconds is None:
        return "none was ever seen"
    return f"last seen {max(0, at - seconds):.0f} s ago, at {as_datetime(seconds):%Y-%m-%d %H:%M:%S} UTC"


#: A Redis that is back within this was not away.
AWAY_S = 4.0


class SilenceWatch:
    """Tells each kind of silence once, until it is over."""

    def __init__(self) -> None:
        self._told: SilenceKind | None = None

    def look(self, found: Presence) -> Silence | None:
        """The silence to tell now, if it is news."""
        heard = explain(found)
        return self._tell(heard)

    def redis_away(self, error: RedisUnavailableError, for_s: float = AWAY_S) -> Silence | None:
        """Redis has not answered for so long: the silence to tell, if it is news. A short interruption is none."""
        if for_s < AWAY_S:
            return None
        text = f"{error}; the job goes on, and is read on when Redis is back"
        return self._tell(Silence(SilenceKind.REDIS_AWAY, "", None, text))

    def _tell(self, heard: Silence | None) -> Silence | None:
        told, self._told = self._told, heard.kind if heard else None
        return heard if heard and heard.kind is not told else None


#: How long Redis may have no record of a job (it was emptied, and the job's worker makes it again) before a reader
#: gives up.
UNKNOWN_GRACE_S = 60.0


def check_known(job_id: str, found: Presence, cursor: Cursor | None) -> None:
    """Make sure that there is something to follow. Whoever was following already (has a cursor) may wait for a record
    that Redis has lost.

    Raises:
        JobUnknownError: there is no record.
        PodrelayError: what is there tells no status.
    """
    if found.status is None and cursor is None:
        raise JobUnknownError(job_id)
    if found.status == UNREADABLE:
        raise PodrelayError(f"the record of job {job_id} cannot be read (see `podrelay status`)")


def missing_since(job_id: str, found: Presence, since: float | None, now: float) -> float | None:
    """Since when (monotonic seconds) the record has been missing; None where it is there.

    Raises:
        JobUnknownError: it has been missing for longer than :data:`UNKNOWN_GRACE_S`.
        PodrelayError: something else has been in its place for so long.
    """
    if found.is_known:
        return None
    if since is not None and now - since > UNKNOWN_GRACE_S:
        check_known(job_id, found, None)
    return now if since is None else since
