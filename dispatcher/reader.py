"""Reading one job to its end, whatever happens to its streams and to Redis. Pure: no clock, no socket.

A shell (the synchronous client, the multiplexer of the asynchronous one) does what :attr:`JobReader.next` says, hands
in what Redis answered, and passes on the updates. Only here is decided when a job is over, what a read of an emptied
Redis is worth, and what a person is told about a job that is silent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from dispatcher import steps
from dispatcher.channel import Entry
from dispatcher.channel_reader import ChannelReader
from dispatcher.cursor import Cursor
from dispatcher.errors import JobUnknownError, PodrelayError, RedisUnavailableError
from dispatcher.events import JobUpdate, Silence, SilenceKind
from dispatcher.record import UNREADABLE, as_datetime
from dispatcher.steps import Presence


class Next(Enum):
    """What a reader needs next."""

    READ = "read"  #: read both streams, without waiting
    WAIT = "wait"  #: read them when there is something new
    LOOK = "look"  #: nothing new was there: look who could say something (:func:`dispatcher.steps.presence`)
    OVER = "over"  #: nothing more will come


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reader was when Redis was asked. The answer is handed in with it: the reader may have moved since."""

    event_id: str
    log_id: str
    was_final: bool  #: a look before had found that the job has ended


class JobReader:
    """Reads one job from the cursor (default: the beginning) to its end.

    The last update is :class:`~dispatcher.events.Ended`; a cursor behind it gives none.

    Attributes:
        next: what to do next.
    """

    def __init__(self, job_id: str, cursor: Cursor | None = None) -> None:
        self.job_id = job_id
        self.next = Next.WAIT
        self._channel = ChannelReader(job_id, cursor)
        self._given = cursor
        self._silence = SilenceWatch()
        self._is_final = False  # the record said so when it was last looked at
        self._unknown_since: float | None = None

    @property
    def position(self) -> Position:
        """Read what comes after it."""
        return Position(self._channel.event_id, self._channel.log_id, self._is_final)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.next is Next.OVER

    def start(self, present: Presence) -> None:
        """Take who is there, as looked up before the first read.

        Raises:
            JobUnknownError: there is no such job, and no cursor that says there was.
            PodrelayError: its record cannot be read.
        """
        check_known(self.job_id, present, self._given)
        self._channel.note_generation(present.generation)
        self._heed(present, self.position)

    def on_read(
        self, asked: Position, events: Sequence[Entry], log: Sequence[Entry], *, generation: str
    ) -> list[JobUpdate]:
        """Take what a read of both streams found. ``generation`` was read after them."""
        if self.is_over:
            return []
        if generation != self._channel.cursor.generation:
            # Redis was emptied since the reader got its place: that place, and so this read, means nothing.
            self._channel.note_generation(generation)
            self._is_final, self.next = False, Next.READ
            return []
        if not self._is_still_at(asked):
            self.next = Next.READ
            return []
        updates = self._channel.take(events, log)
        if not log:
            updates += self._channel.log_is_drained()
        has_news = bool(events or log)
        self.next = self._after_read(has_news=has_news, was_final=asked.was_final)
        if has_news:
            self._unknown_since = None
        return updates

    def _after_read(self, *, has_news: bool, was_final: bool) -> Next:
        if self._channel.is_done:
            return Next.OVER
        if self._channel.awaits_log:
            return Next.READ
        if has_news:
            return Next.WAIT
        # Final by a look before the read, and no final event any more: the cursor stood behind it.
        return Next.OVER if was_final else Next.LOOK

    def on_look(self, asked: Position, present: Presence, now: float) -> list[JobUpdate]:
        """Take who is there, as looked up after a silence. ``now``: monotonic seconds.

        Raises:
            JobUnknownError: there has been no record for :data:`UNKNOWN_GRACE_S`.
            PodrelayError: what is there could not be read for so long.
        """
        if self.is_over:
            return []
        self._heed(present, asked)
        self._unknown_since = missing_since(self.job_id, present, self._unknown_since, now)
        return self._updates_of(self._silence.look(present), as_datetime(present.at))

    def _heed(self, present: Presence, asked: Position) -> None:
        self._is_final = present.is_final
        if present.status is not None and self._is_still_at(asked):
            at, last_log_id = present.at, present.last_log_id
            if present.is_final:
                # A final event that was not read stands before a place beyond the events' end in any case, and says
                # itself what there is of the log.
                at, last_log_id = 0.0, asked.log_id
            if self._channel.note_ends(present.last_event_id, last_log_id, at):
                self._is_final, self.next = False, Next.READ
                return
        self.next = self._after_pause()

    def on_unavailable(self, error: RedisUnavailableError, at: datetime, *, away_s: float) -> list[JobUpdate]:
        """Take that Redis has not answered for ``away_s`` seconds. Pause before what is next."""
        self.next = self._after_pause()
        return self._updates_of(self._silence.redis_away(error, away_s), at)

    def _after_pause(self) -> Next:
        if self.is_over:
            return Next.OVER
        return Next.READ if self._is_final else Next.WAIT

    def _is_still_at(self, asked: Position) -> bool:
        return (asked.event_id, asked.log_id) == (self._channel.event_id, self._channel.log_id)

    def _updates_of(self, news: Silence | None, at: datetime) -> list[JobUpdate]:
        return [] if news is None else [JobUpdate(self.job_id, news, self._channel.cursor, at)]


def after_look(job_id: str, present: Presence) -> steps.Step[steps.ExpireOutcome] | None:
    """Return the step to carry out after a look: it ends a job that has waited in its queue beyond its limit."""
    return steps.expire(job_id, present.queue) if present.is_overdue else None


def explain(found: Presence) -> Silence | None:
    """Say why a job is silent, for a person; None where somebody is at work on it."""
    if found.status is None:
        text = "Redis has no record of this job (any more); a worker that follows its pod makes it again"
        return Silence(SilenceKind.JOB_UNKNOWN, found.queue, None, text)
    if found.status.is_final or found.owner_is_alive or found.is_overdue:
        return None  # overdue: whoever looks ends it now
    if found.too_old:
        text = f"the job {found.too_old} (queue {found.queue!r}); waiting until such a one is there"
        return Silence(SilenceKind.NO_WORKER, found.queue, _when(found.last_seen_at), text)
    if found.unserved_until is not None:
        left_s = max(0.0, found.unserved_until - found.at)
        whom = f"no worker of queue {found.queue!r} serves namespace {found.namespace!r}"
        text = f"{whom}; the job fails in {left_s:.0f} s, unless one does by then"
        return Silence(SilenceKind.NO_WORKER, found.queue, _when(found.last_seen_at), text)
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
#: After how long a reader tries again where Redis does not answer: at first, and at last.
RETRY_S = 0.2
LONGEST_RETRY_S = 5.0


class SilenceWatch:
    """Reports each kind of silence once, until it is over."""

    def __init__(self) -> None:
        self._reported: SilenceKind | None = None

    def look(self, found: Presence) -> Silence | None:
        """Return the silence to report now, if it is news."""
        return self._if_new(explain(found))

    def redis_away(self, error: RedisUnavailableError, for_s: float = AWAY_S) -> Silence | None:
        """Return the silence of a Redis that has not answered for ``for_s``, if it is news. A short one is none."""
        if for_s < AWAY_S:
            return None
        text = f"{error}; the job goes on, and is read on when Redis is back"
        return self._if_new(Silence(SilenceKind.REDIS_AWAY, "", None, text))

    def _if_new(self, silence: Silence | None) -> Silence | None:
        before, self._reported = self._reported, silence.kind if silence else None
        return silence if silence and silence.kind is not before else None


#: How long Redis may have no record of a job (it was emptied, and the job's worker makes it again) before a reader
#: gives up.
UNKNOWN_GRACE_S = 60.0


def check_known(job_id: str, found: Presence, cursor: Cursor | None) -> None:
    """Make sure that there is something to follow.

    Whoever has a cursor was following already, and may wait for a record that Redis has lost.

    Raises:
        JobUnknownError: there is no record.
        PodrelayError: what is there has no status.
    """
    if found.status is None and cursor is None:
        raise JobUnknownError(job_id)
    if found.status == UNREADABLE:
        raise PodrelayError(f"the record of job {job_id} cannot be read (see `podrelay status`)")


def missing_since(job_id: str, found: Presence, since: float | None, now: float) -> float | None:
    """Return since when (monotonic seconds) the record has been missing; None where it is there.

    Raises:
        JobUnknownError: it has been missing for longer than :data:`UNKNOWN_GRACE_S`.
        PodrelayError: something else has been in its place for so long.
    """
    if found.is_known:
        return None
    if since is not None and now - since > UNKNOWN_GRACE_S:
        check_known(job_id, found, None)
    return now if since is None else since
