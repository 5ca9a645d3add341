"""How what was read of a log becomes entries of the job's channel, and again where Redis has lost them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from dispatcher.channel import encode_chunk, encode_gap
from dispatcher.record import Checkpoint, checkpoint_field, gap_field
from dispatcher.steps import Appended, AppendOutcome, Fence, Step, append_log
from worker.logs.recent import RecentLog
from worker.logs.stream import Chunk
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: Entries per round trip.
BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes given up before they were appended: from ``start`` to the checkpoint's end, or unknown (``is_open``)."""

    start: int
    checkpoint: Checkpoint
    why: str
    is_open: bool = False

    @property
    def size_bytes(self) -> int:
        """What it holds of memory."""
        return 0


@dataclass(frozen=True, slots=True)
class LogSource:
    """Which log."""

    job_id: str
    namespace: str
    pod: str
    container: str
    attempt: int
    limit_bytes: int


def append_step(at: LogSource, fence: Fence, entry: Chunk | Gap, memory_limit_bytes: int) -> Step[Appended]:
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


def how_many_applied(batch: Sequence[Chunk | Gap], replies: Sequence[Appended]) -> tuple[int, Appended | None]:
    """How many from the front are in Redis, also those that an earlier try with a lost reply had appended; and the
    reply that refused the next one."""
    known = [entry.checkpoint.encode() for entry in batch]
    for i, reply in enumerate(replies):
        was_applied_before = reply.outcome is AppendOutcome.MISMATCH and reply.checkpoint in known[i:]
        if reply.outcome is not AppendOutcome.APPLIED and not was_applied_before:
            return i, reply
    return len(batch), None


@dataclass(frozen=True, slots=True)
class LogTail:
    """What was appended last of a log that is published to its end. Its container may be gone."""

    source: LogSource
    recent: RecentLog[Chunk | Gap]

    @property
    def known(self) -> Mapping[str, str]:
        """The record's fields that say that Redis has it; none where nothing is kept."""
        if not (entries := self.recent.entries):
            return {}
        field, last = checkpoint_field(self.source.attempt, self.source.container), entries[-1]
        found = {field: last.checkpoint.encode()}
        if isinstance(last, Gap) and last.is_open:  # moves no checkpoint
            found[gap_field(field)] = last.checkpoint.encode()
        return found

    def is_in(self, there: Checkpoint) -> bool:
        """Whether a log that is published up to there has it (a gap of unknown length at its end cannot be seen so)."""
        last = self.recent.entries[-1] if self.recent.start is not None else None
        return last is None or (there.end >= last.checkpoint.end and not (isinstance(last, Gap) and last.is_open))

    async def append(self, fence: Fence, store: Store) -> bool:
        """Append it again; Redis refuses what it has. False: it was given up, because Redis lacks more than is kept, or
        has no room."""
        entries = self.recent.entries
        steps = [append_step(self.source, fence, entry, store.memory_limit_bytes) for entry in entries]
        replies: list[Appended] = []
        for first in range(0, len(steps), BATCH):
            replies += await store.run_many(steps[first : first + BATCH])
        _, refused = how_many_applied(entries, replies)
        if refused is None or refused.outcome not in (AppendOutcome.MISMATCH, AppendOutcome.FULL):
            return True
        log.warning("the end of a log is lost with Redis", job_id=self.source.job_id, why=refused.outcome.value)
        self.recent.clear()
        return False
