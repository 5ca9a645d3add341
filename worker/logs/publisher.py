"""Publish one log: from its outbox into the job's channel, and again where Redis has lost it.

What may not or cannot be appended in time is given up oldest first, with a named gap. The checkpoint in the record is
where another worker would go on.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol

import structlog

from dispatcher.channel import encode_chunk, encode_gap
from dispatcher.record import Checkpoint, checkpoint_field
from dispatcher.steps import Appended, AppendOutcome, Fence, Step, append_log, log_room
from worker.failpoints import Failpoint, failpoint
from worker.logs.outbox import NO_MEMORY, Entry, LogBudget, LogSource, Outbox
from worker.logs.stream import Chunk
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: Entries per round trip.
BATCH: Final = 32


class LetGoError(Exception):
    """Another incarnation owns the job: stop everything about it, write nothing."""


class JobOfLog(Protocol):
    """The job of a log, as its reader and its publisher know it."""

    @property
    def fence(self) -> Fence: ...

    async def reload(self) -> None:
        """Make the record again that Redis has lost."""

    def cancel_requested(self, by: str) -> None: ...

    def mark_stale(self) -> None:
        """Look at the pod: its log cannot be read although the container is not known to have ended."""

    def recheck(self) -> None:
        """Look whose the job is: reading or publishing ended early."""


class Reading(Protocol):
    """The reader of a log, as its publisher knows it; see :class:`worker.logs.reader.LogReader`."""

    @property
    def is_done(self) -> bool: ...

    @property
    def rewind_to(self) -> Checkpoint | None: ...

    def read_again(self, start: Checkpoint) -> None: ...


class LogPublisher:
    """Appends what waits in one outbox, until its reader is done and nothing waits, or the reader must rewind."""

    def __init__(self, outbox: Outbox, reader: Reading, *, job: JobOfLog, store: Store) -> None:
        self._outbox = outbox
        self._reader = reader
        self._job = job
        self._store = store
        self._falls_back_to: Checkpoint | None = None
        self._log = log.bind(job_id=outbox.source.job_id, container=outbox.source.container)

    def fall_back(self, to: Checkpoint) -> None:
        """Redis turns out to end here, before what it had taken."""
        self._falls_back_to = to
        self._outbox.news.set()

    async def run(self) -> None:
        """Publish to the end.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        outbox, reader = self._outbox, self._reader
        while reader.rewind_to is None or not reader.is_done:
            if reader.is_done and not outbox.is_waiting and self._falls_back_to is None:
                return
            if self._falls_back_to is not None and reader.rewind_to is None:
                to, self._falls_back_to = self._falls_back_to, None
                self._seek(to)
            elif not outbox.is_waiting or reader.rewind_to is not None:
                outbox.news.clear()
                await outbox.news.wait()
            elif outbox.budget.is_suspended and not reader.is_done:
                outbox.news.clear()
                await outbox.budget.until_resumed_or(outbox.news)
            elif outbox.budget.is_suspended and outbox.waiting_bytes:
                outbox.drop_oldest(NO_MEMORY, keep_bytes=0)
            else:
                await self._publish_batch()

    def _seek(self, to: Checkpoint) -> None:
        """Go on where Redis turns out to end; where the outbox does not reach, the log is read again from there."""
        was = self._outbox.published
        if not self._outbox.seek(to):
            self._reader.read_again(to)
        elif to.end < was.end:
            self._log.warning("Redis lost log chunks, appending them again", from_byte=to.end)

    async def _publish_batch(self) -> None:
        batch = self._outbox.batch(BATCH)
        at, fence, limit_bytes = self._outbox.source, self._job.fence, self._outbox.budget.redis_limit_bytes
        replies = await self._store.run_many([append_step(at, fence, entry, limit_bytes) for entry in batch])
        done, refused = how_many_applied(batch, replies)
        self._outbox.confirm(done)
        if done:
            failpoint(Failpoint.LOG_APPENDED)
        for reply in replies:
            if reply.cancel_by:
                self._job.cancel_requested(reply.cancel_by)
        if refused is not None:
            await self._after(refused)

    async def _after(self, refused: Appended) -> None:
        match refused.outcome:
            case AppendOutcome.MISSING:
                await self._job.reload()
            case AppendOutcome.MISMATCH:
                self._seek(Checkpoint.decode(refused.checkpoint) if refused.checkpoint else Checkpoint())
            case AppendOutcome.FULL:
                self._outbox.budget.suspend()
            case AppendOutcome.APPLIED | AppendOutcome.FENCED | AppendOutcome.FINAL:
                # Final: what is left to do for the job is found out anew from its record.
                raise LetGoError


def append_step(at: LogSource, fence: Fence, entry: Entry, memory_limit_bytes: int) -> Step[Appended]:
    """Append one entry to the job's channel, fenced and exact (see ``append_log.lua``)."""
    if isinstance(entry, Chunk):
        chain = entry.checkpoint.chain
        fields = encode_chunk(
            container=at.container, attempt=at.attempt, start=entry.start, data=entry.data, chain=chain
        )
    else:
        end = None if entry.is_open else entry.checkpoint.end
        fields = encode_gap(container=at.container, attempt=at.attempt, start=entry.start, end=end, why=entry.why)
    return append_log(
        at.job_id,
        fence,
        checkpoint_field=checkpoint_field(at.attempt, at.container),
        start=entry.start,
        checkpoint=entry.checkpoint.encode(),
        limit_bytes=at.limit_bytes,
        entry=fields,
        memory_limit_bytes=memory_limit_bytes,
    )


def how_many_applied(batch: Sequence[Entry], replies: Sequence[Appended]) -> tuple[int, Appended | None]:
    """Count how many from the front are in Redis, and return the reply that refused the next one.

    Also those count that an earlier try with a lost reply had appended.
    """
    known = [entry.checkpoint.encode() for entry in batch]
    for i, reply in enumerate(replies):
        was_applied_before = reply.outcome is AppendOutcome.MISMATCH and reply.checkpoint in known[i:]
        if reply.outcome is not AppendOutcome.APPLIED and not was_applied_before:
            return i, reply
    return len(batch), None


async def append_again(outbox: Outbox, fence: Fence, store: Store) -> bool:
    """Append again what is kept of a log that is published to its end; Redis refuses what it has.

    False: it was given up, because Redis lacks more than is kept, or has no room.
    """
    kept, replies = outbox.kept, list[Appended]()
    steps = [append_step(outbox.source, fence, entry, outbox.budget.redis_limit_bytes) for entry in kept]
    for first in range(0, len(steps), BATCH):
        replies += await store.run_many(steps[first : first + BATCH])
    _, refused = how_many_applied(kept, replies)
    if refused is None or refused.outcome not in (AppendOutcome.MISMATCH, AppendOutcome.FULL):
        return True
    log.warning("the end of a log is lost with Redis", job_id=outbox.source.job_id, why=refused.outcome.value)
    outbox.forget()
    return False


async def watch_room(budget: LogBudget, store: Store, every_s: float) -> NoReturn:
    """Look whether Redis has room for log.

    Each append looks for itself (append_log.lua); this is for what else fills Redis, and for its end.
    """
    while True:
        budget.note_room(await store.run(log_room(budget.redis_limit_bytes)))
        budget.forget_idle()
        await asyncio.sleep(every_s)
