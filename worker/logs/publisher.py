"""How what was read of a log becomes entries of the job's channel, and again where Redis has lost them."""

import asyncio
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol

import structlog

from dispatcher.channel import encode_chunk, encode_gap
from dispatcher.record import checkpoint_field
from dispatcher.steps import Appended, AppendOutcome, Fence, Step, append_log, log_room
from worker.logs.outbox import Entry, LogBudget, LogSource, Outbox
from worker.logs.stream import Chunk
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: Entries per round trip.
BATCH: Final = 32


class LetGoError(Exception):
    """Another incarnation owns the job: stop everything about it, write nothing."""


class JobOfLog(Protocol):
    """What a log follower knows of its job."""

    @property
    def fence(self) -> Fence: ...

    async def reload(self) -> None:
        """Make the record again that Redis has lost."""

    def cancel_requested(self, by: str) -> None: ...

    def mark_stale(self) -> None:
        """The log cannot be read although the container is not known to have ended: look at the pod."""

    def recheck(self) -> None:
        """A log follower ended early: look whose the job is."""


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
    """How many from the front are in Redis, also those that an earlier try with a lost reply had appended; and the
    reply that refused the next one."""
    known = [entry.checkpoint.encode() for entry in batch]
    for i, reply in enumerate(replies):
        was_applied_before = reply.outcome is AppendOutcome.MISMATCH and reply.checkpoint in known[i:]
        if reply.outcome is not AppendOutcome.APPLIED and not was_applied_before:
            return i, reply
    return len(batch), None


async def append_again(outbox: Outbox, fence: Fence, store: Store) -> bool:
    """Append again what is kept of a log that is published to its end; Redis refuses what it has. False: it was given
    up, because Redis lacks more than is kept, or has no room."""
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
    """Look whether Redis has room for log; each append looks for itself (append_log.lua), this is for what else fills
    Redis, and for its end."""
    while True:
        budget.note_room(await store.run(log_room(budget.redis_limit_bytes)))
        budget.forget_idle()
        await asyncio.sleep(every_s)
