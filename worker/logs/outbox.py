"""What was read of one log and has to reach Redis: a window of chunks and gaps that moves along the log.

Its front is kept although Redis has confirmed it, because Redis may lose it again, in a failover or when it is emptied,
and by then the pod may be gone. Behind the mark *published* waits what Redis does not have yet. A sender that finds
Redis elsewhere moves the mark (:meth:`Outbox.seek`), back to send again, forward over what is there already; only where
Redis ends outside the window, the log has to be read again.

The front is forgotten some seconds later, and both ends are bounded, for each log and for all of a worker together
(:class:`LogBudget`): what waits too long becomes a gap.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from dispatcher.record import Checkpoint, checkpoint_field, gap_field
from dispatcher.steps import LogRoom
from worker.logs.stream import Chunk, Gap

log = structlog.get_logger("podrelay.worker")

#: What of one log may wait for Redis.
WAITING_BYTES: Final = 16 * 1024 * 1024
#: For how long what is confirmed is kept, counted back from the last confirmation, which proves that what was before is
#: there. A replica lags by less than a second, or something else is wrong with it.
KEPT_S: Final = 2.0
#: Without a further confirmation it is kept for this long.
IDLE_S: Final = 120.0
#: At most this much is kept, of one log and of all; one log keeps the least however much the others do.
KEPT_BYTES: Final = 4 * 1024 * 1024
ALL_KEPT_BYTES: Final = 64 * 1024 * 1024
LEAST_KEPT_BYTES: Final = 16 * 1024
#: Suspended log is resumed when there is room for this share of Redis' memory limit: not for a chunk now and then.
RESUME_SHARE: Final = 0.02

#: Why bytes were given up.
LATE: Final = "Redis could not take the log in time: the oldest of the buffer was given up"
NO_MEMORY: Final = "Redis is near its memory limit: log was given up, statuses and results go on"

Entry = Chunk | Gap


@dataclass(frozen=True, slots=True)
class LogSource:
    """Which log, and how much of it the job's channel keeps."""

    job_id: str
    namespace: str
    pod: str
    container: str
    attempt: int
    limit_bytes: int


@dataclass(slots=True)
class LogBudget:
    """Bytes buffered by all logs of this worker, and whether Redis has room for them.

    Attributes:
        limit_bytes: how much may wait for Redis.
        redis_limit_bytes: how much of Redis' memory may be used before log stops; 0: what Redis' own limit says.
        waiting_bytes: not yet in Redis.
        kept_bytes: kept for a resend.
        is_suspended: Redis is near its memory limit: statuses and results go on, log does not.
    """

    limit_bytes: int
    redis_limit_bytes: int = 0
    clock: Callable[[], float] = time.monotonic
    waiting_bytes: int = 0
    kept_bytes: int = 0
    is_suspended: bool = False
    _wait_for_room: set[asyncio.Event] = field(default_factory=set)
    _keeping: "dict[Outbox, float]" = field(default_factory=dict)  # since the last confirmation, the oldest first
    _ended: "deque[Outbox]" = field(default_factory=deque)

    def suspend(self) -> None:
        """Have no log appended until Redis has room for a good deal of it."""
        if not self.is_suspended:
            self.is_suspended = True
            log.warning(
                "log suspended: Redis is near its memory limit, beyond which callers cannot submit",
                remedy="raise maxmemory, lower the jobs' retention_s or log_limit_bytes, or remove what else fills it",
            )

    def note_room(self, found: LogRoom) -> None:
        """Suspend log where something else fills Redis, and resume it where there is room again."""
        if found.room_bytes < 0:
            self.suspend()
        elif self.is_suspended and found.room_bytes > RESUME_SHARE * found.limit_bytes:
            self.is_suspended = False
            log.warning("log resumed: Redis has memory again")
            for news in self._wait_for_room:
                news.set()

    async def until_resumed_or(self, news: asyncio.Event) -> None:
        """Wait for this event, which is also set when log is resumed."""
        self._wait_for_room.add(news)
        try:
            await news.wait()
        finally:
            self._wait_for_room.discard(news)

    def confirmed(self, outbox: "Outbox") -> None:
        """Redis has taken something of this log just now."""
        self._keeping.pop(outbox, None)
        self._keeping[outbox] = self.clock()
        self.forget_idle()

    def forget_idle(self) -> None:
        """Forget what is kept of logs that have been silent for long."""
        since = self.clock() - IDLE_S
        for outbox in list(itertools.takewhile(lambda outbox: self._keeping[outbox] <= since, self._keeping)):
            outbox.forget()

    def forgotten(self, outbox: "Outbox") -> None:
        """Nothing is kept of this log any more."""
        self._keeping.pop(outbox, None)

    def keep_ended(self, outboxes: Iterable["Outbox"]) -> None:
        """Keep the ends of a finished job's logs, as long as those leave half of the room to logs that run."""
        self._ended.extend(outboxes)
        while self._ended and (self.kept_bytes > ALL_KEPT_BYTES // 2 or not self._ended[0].kept):
            self._ended.popleft().forget()


class Outbox:
    """The window of one log. No I/O: whoever sends takes a :meth:`batch`, and tells what came of it.

    Attributes:
        budget: the worker's, which this log shares with all others.
        start: the checkpoint before the oldest entry: from here on everything can be sent again.
        has_dropped: something was given up before Redis had it.
        news: set when there is something (more) to send; for the sender to clear.
    """

    def __init__(self, source: LogSource, start: Checkpoint, budget: LogBudget) -> None:
        self.source = source
        self.start = start
        self.has_dropped = False
        self.news = asyncio.Event()
        self.budget = budget
        self._kept: deque[tuple[float, Entry]] = deque()  # with the time of the confirmation
        self._kept_bytes = 0
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._under_way = 0  # how many of the waiting ones are being sent

    @property
    def published(self) -> Checkpoint:
        """What Redis has, as far as is known."""
        return self._kept[-1][1].checkpoint if self._kept else self.start

    @property
    def kept(self) -> list[Entry]:
        """What can be sent again although Redis has it, in order."""
        return [entry for _, entry in self._kept]

    @property
    def is_waiting(self) -> bool:
        """Whether Redis lacks something of it."""
        return bool(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """How much Redis lacks of it; a gap has no bytes."""
        return self._waiting_bytes

    @property
    def record_fields(self) -> Mapping[str, str]:
        """What the job's record says where Redis has all of this; nothing where nothing is kept."""
        if not self._kept:
            return {}
        name, last = checkpoint_field(self.source.attempt, self.source.container), self._kept[-1][1]
        fields = {name: last.checkpoint.encode()}
        if isinstance(last, Gap) and last.is_open:  # moves no checkpoint
            fields[gap_field(name)] = last.checkpoint.encode()
        return fields

    def is_in(self, there: Checkpoint) -> bool:
        """Whether a log that is published up to there has what is kept.

        A checkpoint does not show a gap of unknown length at its end.
        """
        last = self._kept[-1][1] if self._kept else None
        return last is None or (there.end >= last.checkpoint.end and not (isinstance(last, Gap) and last.is_open))

    def append(self, entry: Entry) -> None:
        """Add what comes next of the log."""
        self._waiting.append(entry)
        self._count_waiting(entry.size_bytes)
        self.news.set()

    def batch(self, most: int) -> list[Entry]:
        """Return the oldest of what Redis lacks, to be sent now: it is not given up before :meth:`confirm`."""
        self._under_way = min(most, len(self._waiting))
        return list(itertools.islice(self._waiting, self._under_way))

    def confirm(self, count: int) -> None:
        """Redis has so many of the batch; the others are to be sent again."""
        self._under_way = 0
        if not count:
            return
        now_s = self.budget.clock()
        for _ in range(count):
            entry = self._waiting.popleft()
            self._kept.append((now_s, entry))
            self._count_waiting(-entry.size_bytes)
            self._count_kept(entry.size_bytes)
        self.budget.confirmed(self)
        while self._kept and (self._kept[0][0] < now_s - KEPT_S or self._keeps_too_much):
            self._forget_oldest()

    def seek(self, to: Checkpoint) -> bool:
        """Go where Redis turns out to end; False: that is not in the window, which stays as it is.

        Back, to send again what comes after, or forward over what Redis has already.
        """
        ends = [self.start, *(entry.checkpoint for entry in itertools.chain(self.kept, self._waiting))]
        if to not in ends:
            return False
        wanted = ends.index(to)
        while len(self._kept) > wanted:
            _, entry = self._kept.pop()
            self._waiting.appendleft(entry)
            self._count_kept(-entry.size_bytes)
            self._count_waiting(entry.size_bytes)
        self.confirm(wanted - len(self._kept))
        self.news.set()
        return True

    def bound(self) -> None:
        """Give up the older half of what waits and is not under way, where it is too much of this log or of all."""
        if self._waiting_bytes > WAITING_BYTES or self.budget.waiting_bytes > self.budget.limit_bytes:
            under_way_bytes = sum(entry.size_bytes for entry in itertools.islice(self._waiting, self._under_way))
            keep_bytes = under_way_bytes + (self._waiting_bytes - under_way_bytes) // 2
            self.drop_oldest(NO_MEMORY if self.budget.is_suspended else LATE, keep_bytes=keep_bytes)

    def drop_oldest(self, why: str, *, keep_bytes: int) -> None:
        """Turn the oldest of what waits, but for what is under way, into one gap, until so much is left."""
        under_way = [self._waiting.popleft() for _ in range(self._under_way)]
        dropped: list[Entry] = []
        while self._waiting and self._waiting_bytes > keep_bytes:
            dropped.append(self._waiting.popleft())
            self._count_waiting(-dropped[-1].size_bytes)
        if dropped:
            is_open = any(isinstance(entry, Gap) and entry.is_open for entry in dropped)
            self.has_dropped = True
            self._waiting.appendleft(Gap(dropped[0].start, dropped[-1].checkpoint, why, is_open))
        self._waiting.extendleft(reversed(under_way))

    def restart(self, at: Checkpoint) -> None:
        """Empty the window: the log is read again from where Redis ends."""
        self.discard_waiting()
        self.forget()
        self.start = at
        self.news.set()

    def discard_waiting(self) -> None:
        """Send nothing more."""
        self._count_waiting(-self._waiting_bytes)
        self._waiting.clear()
        self._under_way = 0

    def forget(self) -> None:
        """Keep nothing of what Redis has."""
        self.start = self.published
        self._count_kept(-self._kept_bytes)
        self._kept.clear()
        self.budget.forgotten(self)

    @property
    def _keeps_too_much(self) -> bool:
        is_short = self.budget.kept_bytes > ALL_KEPT_BYTES
        return self._kept_bytes > (LEAST_KEPT_BYTES if is_short else KEPT_BYTES)

    def _forget_oldest(self) -> None:
        _, entry = self._kept.popleft()
        self.start = entry.checkpoint
        self._count_kept(-entry.size_bytes)

    def _count_kept(self, size_bytes: int) -> None:
        self._kept_bytes += size_bytes
        self.budget.kept_bytes += size_bytes

    def _count_waiting(self, size_bytes: int) -> None:
        self._waiting_bytes += size_bytes
        self.budget.waiting_bytes += size_bytes
