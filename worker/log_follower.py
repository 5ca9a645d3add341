"""One container's log: from the API server's stream to the job's channel, every byte once.

Two halves that never wait for each other. The reader reads the stream always, whatever Redis does, because a follower
that lags a whole rotated file behind loses it unseen; when a stream breaks it opens the next one after the last byte it
has. The publisher appends what was read; what it may not or cannot append in time is given up oldest first, with a
named gap. The checkpoint in the record is where another worker would go on.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from dispatcher.events import LogSummary
from dispatcher.record import Checkpoint
from dispatcher.steps import Appended, AppendOutcome, Fence
from worker.cluster import BackOff, Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.kill_points import Reached, reached
from worker.ledger import Ledger
from worker.log_entries import BATCH, Given, LogSource, LogTail, append_step, how_many_applied
from worker.log_lines import LogLines, Piece
from worker.recent_log import RecentBytes, RecentLog

log = structlog.get_logger("podrelay.worker")

CHUNK_BYTES: Final = 16_000  # a stream entry of at most this size costs Redis 1.02 times its size in memory
CHUNK_S: Final = 0.2
JOB_BUFFER_BYTES: Final = 16 * 1024 * 1024

#: A log of at most this size is read again from its start after an interruption, which is exact also when the node's
#: clock has stepped back; a larger one from a second before the checkpoint.
WHOLE_LOG_BYTES: Final = 4 * 1024 * 1024
#: A followed stream without the checkpoint's line that is silent for this long is not likely to bring it.
SEARCH_SILENCE_S: Final = 2.0
#: How long after a container's end its stream may stay open (0.3 s was measured) before it is read once more instead.
EOF_GRACE_S: Final = 5.0
#: After an outage of the API server the logs are asked for again over this long, not all at once.
WELL_AGAIN_S: Final = 1.0
#: A stream that lasted this long was sound: the next one is opened without the back-off of earlier failures.
STEADY_S: Final = 10.0


#: Why bytes were given up.
LATE: Final = "Redis could not take the log in time: the oldest of the buffer was given up"
NO_MEMORY: Final = "Redis is near its memory limit: log was given up, statuses and results go on"


class LetGoError(Exception):
    """Another incarnation owns the job: stop everything about it, write nothing."""


class JobOfLog(Protocol):
    """What a log follower knows of its job."""

    @property
    def fence(self) -> Fence: ...

    async def reload(self) -> None:
        """Make the record again that Redis has lost."""

    def cancel_requested(self, by: str) -> None: ...

    def doubt(self) -> None:
        """The stream ended although the container is not known to have: look at the pod."""

    def reconsider(self) -> None:
        """A log follower ended early: look whose the job is."""


@dataclass(slots=True)
class Buffers:
    """What all jobs of this worker hold in memory for want of Redis, in bytes; ``recent``: and in case of its loss."""

    limit_bytes: int
    used_bytes: int = 0
    recent: RecentBytes = field(default_factory=RecentBytes)


class LogFollower:
    """Follows one container from the record's checkpoint (or its start) to its end.

    :meth:`run` returns when everything is published; :meth:`container_ended` must be called when the pod shows the end.
    """

    def __init__(
        self,
        source: LogSource,
        checkpoint: Checkpoint,
        *,
        job: JobOfLog,
        cluster: Cluster,
        ledger: Ledger,
        buffers: Buffers,
    ) -> None:
        self._source = source
        self._job = job
        self._cluster = cluster
        self._ledger = ledger
        self._buffers = buffers
        self.published = checkpoint  #: what Redis has
        self._recent = RecentLog[Piece | Given](buffers.recent)
        self._lines = LogLines(checkpoint)
        self._must_prove = False  # a stream lacked the checkpoint's line: read the whole log to its end
        self._is_past_gap = False  # it is not there either: take all that is
        self._gives_up = False
        self._waiting: deque[Piece | Given] = deque()
        self._waiting_bytes = 0
        self._is_ended = False
        self._is_read = False
        self._has_gap = False
        self._saw_end = False
        self._was_ended_at_eof = False
        self._rewind_to: Checkpoint | None = None
        self._falls_back_to: Checkpoint | None = None
        self.all_read = asyncio.Event()  #: nothing more is read; it may still have to be published
        self._turn = asyncio.Event()  # for the reader: the container ended, a rewind is due, bytes came
        self._work = asyncio.Event()  # for the publisher
        self._cut_timer: asyncio.TimerHandle | None = None
        self._log = log.bind(job_id=source.job_id, container=source.container)

    def container_ended(self) -> None:
        """The container is terminated, or its pod is gone: no more bytes will come."""
        if not self._is_ended:
            self._is_ended = True
            self._turn.set()

    def stop_reading(self) -> None:
        """Read no more: what was read is still published, then :meth:`run` returns. The summary is incomplete."""
        self._gives_up = True
        self._turn.set()

    def fall_back(self, to: Checkpoint) -> None:
        """Redis turns out to end here, before what it had taken."""
        self._falls_back_to = to
        self._work.set()

    @property
    def tail(self) -> LogTail:
        """What can be appended again when all is published."""
        return LogTail(self._source, self._recent)

    @property
    def kept_from(self) -> Checkpoint:
        """What Redis has, but for what can be appended again."""
        return self._recent.start or self.published

    @property
    def summary(self) -> LogSummary:
        """What was published so far."""
        is_complete = self._saw_end and not self._has_gap and not self._waiting
        return LogSummary(bytes=self.published.end, sha256=self.published.chain, is_complete=is_complete)

    async def run(self) -> None:
        """Follow to the end.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        try:
            while True:
                async with asyncio.TaskGroup() as halves:
                    halves.create_task(self._read())
                    halves.create_task(self._publish())
                if self._rewind_to is None:
                    return
                self._rewind()
        except* LetGoError:
            raise LetGoError from None
        finally:
            self._discard_waiting()

    # Reading

    async def _read(self) -> None:
        self._is_read = self._saw_end = False
        self.all_read.clear()
        back_off = BackOff()
        while not await self._read_once(back_off):
            pass
        self._is_read = True
        self.all_read.set()
        self._work.set()

    async def _read_once(self, back_off: BackOff) -> bool:
        """Read one stream; True when there is nothing more to read."""
        if self._gives_up:
            return True
        was_ended, began = self._is_ended, time.monotonic()
        is_bounded = was_ended or self._must_prove
        try:
            is_eof = await self._one_stream(follow=not is_bounded)
        except ClusterRefusedError as error:
            self._log.info("log refused", status=error.status, why=error.message)
            if error.status == 404:
                self._job.doubt()
            if error.status == 404 or (error.status == 400 and was_ended):
                return True
            await self._pause(back_off.failed())
            return False
        except ClusterUnavailableError as error:
            if time.monotonic() - began > STEADY_S:
                back_off.succeeded()
            self._log.info("log stream interrupted", why=str(error))
            await self._pause(back_off.failed(error))
            await self._until_cluster_is_well()
            return False
        if self._rewind_to is not None:
            self._rewind()
            return False
        return await self._after_stream(back_off, is_bounded=is_bounded, is_eof=is_eof, was_ended=was_ended)

    async def _after_stream(self, back_off: BackOff, *, is_bounded: bool, is_eof: bool, was_ended: bool) -> bool:
        """What the end of a stream means; True when it is the log's end."""
        if not self._lines.found:
            self._search_on(is_proof=is_bounded and is_eof)
        elif is_bounded and not was_ended:
            self._must_prove = False  # the line is there; what came after it is taken, now follow on
        elif is_eof and self._is_ended:
            # A followed stream that ended before the end was known may have been cut: it is read once more.
            self._saw_end = True
            return was_ended or self._was_ended_at_eof
        elif is_eof:
            self._job.doubt()
            await self._pause(back_off.failed())
        return False

    async def _one_stream(self, *, follow: bool) -> bool:
        """Read one stream, on from the last byte that was read; False when it was given up before its end."""
        self._lines = LogLines(self._lines.checkpoint, is_gap=self._is_past_gap)
        self._is_past_gap = False
        pump = asyncio.create_task(self._pump(follow))
        guard = asyncio.create_task(self._until_given_up(follow))
        try:
            await asyncio.wait({pump, guard}, return_when=asyncio.FIRST_COMPLETED)
            self._was_ended_at_eof = self._is_ended
            if pump.done():
                pump.result()
                return True
            return False
        finally:
            pump.cancel()
            guard.cancel()
            await asyncio.gather(pump, guard, return_exceptions=True)
            self._cut_now()

    async def _pump(self, follow: bool) -> None:
        at = self._source
        async with self._cluster.log(at.namespace, at.pod, at.container, since=self._since(), follow=follow) as pieces:
            async for data in pieces:
                self._lines.feed(data)
                if self._lines.found:
                    self._arrived()
                else:
                    self._turn.set()
        self._lines.end()
        if self._lines.foreign:
            self._log.warning("text in place of a log", text=self._lines.foreign.decode("utf-8", "replace"))
            self._lines.foreign = b""

    async def _until_given_up(self, follow: bool) -> None:
        """Wait for what makes a stream useless: a rewind, no sign of the checkpoint's line in a followed one, or no end
        of it although the container has ended."""
        while self._rewind_to is None and not self._gives_up:
            self._turn.clear()
            was_found, limit_s = self._lines.found, None
            if follow and not was_found:
                limit_s = SEARCH_SILENCE_S
            elif follow and self._is_ended:
                limit_s = EOF_GRACE_S
            try:
                async with asyncio.timeout(limit_s):
                    await self._turn.wait()
            except TimeoutError:
                if self._lines.found == was_found:
                    return

    async def _pause(self, wait_s: float) -> None:
        """Wait before the next stream; news (the container's end) cuts it short."""
        self._turn.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._turn.wait()

    async def _until_cluster_is_well(self) -> None:
        """Ask for no log while not even the pods can be watched: the jobs are many, the watches few."""
        while not self._cluster.is_well.is_set() and not self._gives_up:
            self._turn.clear()
            news = [asyncio.create_task(event.wait()) for event in (self._cluster.is_well, self._turn)]
            try:
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in news:
                    waiting.cancel()
            if self._cluster.is_well.is_set():
                await self._pause(random.uniform(0, WELL_AGAIN_S))

    def _since(self) -> str | None:
        at = self._lines.checkpoint
        if not at.timestamp or at.end <= WHOLE_LOG_BYTES or self._must_prove:
            return None
        return _a_second_before(at.timestamp)

    def _search_on(self, *, is_proof: bool) -> None:
        """The stream did not contain the checkpoint's line. Only the whole log, read to its end, proves that it is not
        there: then it was rotated away, and all that is there comes after a gap."""
        if not is_proof or not self._must_prove:
            self._must_prove = True
            return
        at = self._lines.checkpoint
        self._log.warning("log lines were rotated away unread", after_bytes=at.end)
        self._has_gap = self._is_past_gap = True
        self._must_prove = False
        self._waiting.append(Given(at.end, at, "rotated away by the kubelet before it could be read", is_open=True))
        self._work.set()

    def _rewind(self) -> None:
        """Redis has lost appended chunks: read again from its checkpoint."""
        assert self._rewind_to is not None
        self._log.warning("Redis lost log chunks, reading them again", from_byte=self._rewind_to.end)
        self._discard_waiting()
        self._recent.clear()
        self.published = self._rewind_to
        self._lines, self._rewind_to = LogLines(self._rewind_to), None
        self._work.set()

    # Between the halves

    def _arrived(self) -> None:
        if self._lines.buffered_bytes >= CHUNK_BYTES:
            self._cut(at_least_bytes=CHUNK_BYTES)
        if self._lines.buffered_bytes and self._cut_timer is None:
            self._cut_timer = asyncio.get_running_loop().call_later(CHUNK_S, self._cut_now)

    def _cut_now(self) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None
        self._cut(at_least_bytes=1)

    def _cut(self, *, at_least_bytes: int) -> None:
        while self._lines.buffered_bytes >= at_least_bytes and (piece := self._lines.take(CHUNK_BYTES)):
            self._waiting.append(piece)
            self._count(len(piece.data))
        if self._waiting_bytes > JOB_BUFFER_BYTES or self._buffers.used_bytes > self._buffers.limit_bytes:
            why = NO_MEMORY if self._ledger.is_log_suspended else LATE
            self._give_up_oldest(keep_bytes=self._waiting_bytes // 2, why=why)
        self._work.set()

    def _count(self, size_bytes: int) -> None:
        self._waiting_bytes += size_bytes
        self._buffers.used_bytes += size_bytes

    def _give_up_oldest(self, *, keep_bytes: int, why: str) -> None:
        """Turn the oldest of what waits into one gap."""
        given: list[Piece | Given] = []
        while self._waiting and self._waiting_bytes > keep_bytes:
            given.append(self._waiting.popleft())
            self._count(-given[-1].size_bytes)
        if given:
            is_open = any(isinstance(entry, Given) and entry.is_open for entry in given)
            self._has_gap = True
            self._waiting.appendleft(Given(given[0].start, given[-1].checkpoint, why, is_open))

    def _discard_waiting(self) -> None:
        self._count(-self._waiting_bytes)
        self._waiting.clear()

    # Publishing

    async def _publish(self) -> None:
        while self._rewind_to is None or not self._is_read:
            if self._is_read and not self._waiting and self._falls_back_to is None:
                return
            if self._falls_back_to is not None and self._rewind_to is None:
                self._fall_back(self._falls_back_to)
            elif not self._waiting or self._rewind_to is not None:
                self._work.clear()
                await self._work.wait()
            elif self._ledger.is_log_suspended and not self._is_read:
                self._work.clear()
                await self._ledger.until_log_resumed_or(self._work)
            elif self._ledger.is_log_suspended and self._waiting_bytes:
                self._give_up_oldest(keep_bytes=0, why=NO_MEMORY)
            else:
                await self._publish_batch()

    def _take_back(self, to: Checkpoint) -> bool:
        """Put what was appended after this place in front of what waits; False where it is not there any more."""
        again = self._recent.take(to)
        if again:
            self.published = to
            self._put_in_front(again)
        return bool(again)

    def _fall_back(self, to: Checkpoint) -> None:
        """Redis ends here: append again what it lacks, or read it again."""
        self._falls_back_to = None
        if self._take_back(to):
            self._log.warning("Redis lost log chunks, appending them again", from_byte=to.end)
        else:
            self._rewind_to = to
            self._turn.set()

    def _pass_over(self, to: Checkpoint) -> bool:
        """Redis has what waits up to this place, from before; False where nothing that waits ends there."""
        if all(entry.checkpoint != to for entry in self._waiting):
            return False
        self._recent.clear()  # what it ends with is not what Redis ends with any more
        while self.published != to:
            entry = self._waiting.popleft()
            self._count(-entry.size_bytes)
            self.published = entry.checkpoint
        return True

    def _put_in_front(self, entries: Sequence[Piece | Given]) -> None:
        self._waiting.extendleft(reversed(entries))
        self._count(sum(entry.size_bytes for entry in entries))

    async def _publish_batch(self) -> None:
        # Out of the buffer while under way: what is given up meanwhile must not be this.
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._count(-sum(entry.size_bytes for entry in batch))
        fence, limit_bytes = self._job.fence, self._ledger.memory_limit_bytes
        steps = [append_step(self._source, fence, entry, limit_bytes) for entry in batch]
        replies = await self._ledger.persist_many(steps)
        done, refused = how_many_applied(batch, replies)
        if done:
            self._recent.note(self.published, batch[:done])
            self.published = batch[done - 1].checkpoint
            reached(Reached.LOG_APPENDED)
        for reply in replies:
            if reply.cancel_by:
                self._job.cancel_requested(reply.cancel_by)
        if refused is not None:
            self._put_in_front(batch[done:])
            await self._after(refused)

    async def _after(self, refused: Appended) -> None:
        match refused.outcome:
            case AppendOutcome.MISSING:
                await self._job.reload()
            case AppendOutcome.MISMATCH:
                at = Checkpoint.decode(refused.checkpoint) if refused.checkpoint else Checkpoint()
                if not self._pass_over(at):
                    self._fall_back(at)
            case AppendOutcome.FULL:
                self._ledger.suspend_log()
            case AppendOutcome.APPLIED | AppendOutcome.FENCED | AppendOutcome.FINAL:
                # Final: what is left to do for the job is found out anew from its record.
                raise LetGoError


def _a_second_before(timestamp: str) -> str:
    at = datetime.fromisoformat(timestamp).astimezone(UTC) - timedelta(seconds=1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
