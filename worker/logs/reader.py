"""Read one container's log: from the API server's stream into its outbox, every byte once.

The stream is read always, whatever Redis does, because a reader that lags a whole rotated file behind loses it unseen;
when a stream breaks, the next one is opened after the last byte that was read.

Where a log ends, only the pod can say. A stream's end proves nothing: a kubelet that dies ends it as cleanly as a
container does, and the API server hides the difference; nor does a refusal, nor text in place of a log. So the log is
whole when a read that was *sent after* the container was seen terminated has brought all that there is; what cannot be
had so is told as a gap with its reason, and the log is not called complete.
"""

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from dispatcher.record import Checkpoint
from worker.cluster.backoff import Backoff
from worker.cluster.client import Cluster
from worker.cluster.responses import ClusterRefusedError, ClusterUnavailableError
from worker.logs.outbox import Outbox
from worker.logs.publisher import JobOfLog
from worker.logs.stream import Gap, LogLines

log = structlog.get_logger("podrelay.worker")

CHUNK_BYTES: Final = 16_000  # a stream entry of at most this size costs Redis 1.02 times its size in memory
CHUNK_S: Final = 0.2

#: A log of at most this size is read again from its start after an interruption, which is exact also when the node's
#: clock has stepped back; a larger one from a second before the checkpoint.
WHOLE_LOG_BYTES: Final = 4 * 1024 * 1024
#: A followed stream without the checkpoint's line that is silent for this long is not likely to bring it.
SEARCH_SILENCE_S: Final = 2.0
#: A log that was followed up to the container's end is read for its end from its start up to this size, else likewise
#: from a second before the checkpoint: only moments of it are unread.
NEAR_WHOLE_LOG_BYTES: Final = 128 * 1024
#: A read for the log's end that brought more than this, or a last line without newline, may have been cut by a kubelet
#: that died meanwhile: what it brought is accepted when another read brings nothing more.
CONFIRM_BYTES: Final = 64 * 1024
#: A log's end is asked for again after at most this long: the job's result waits for it, and does not wait for ever.
END_RETRY_S: Final = 2.0
#: How long the stream of a pod that is gone may still bring something (its end comes 0.3 s after the container's).
EOF_GRACE_S: Final = 5.0
#: A stream's end may be up to a second ahead of the watch's word of the container's end: so long nothing is asked.
EOF_NEWS_S: Final = 1.0
#: After an outage of the API server the logs are asked for again over this long, not all at once.
WELL_AGAIN_S: Final = 1.0
#: A stream that lasted this long, or brought something, was sound: the next one waits as after a first failure.
STEADY_S: Final = 10.0


#: Why bytes could not be had.
ROTATED: Final = "rotated away by the kubelet before it could be read"
POD_GONE: Final = "the pod was gone before it was certain that its log was read to its end"
STILL_RUNNING: Final = "the job ended while this container was running: its log is read no further"


class LogReader:
    """Reads one container's log from where its outbox stands to its end.

    What the pod shows must be told: that the container ended (:meth:`container_ended`), was started again, that the pod
    is gone; and that the job waits for no more than is there now (:meth:`job_ended`).

    Attributes:
        all_read: set while nothing more is to be read.
        is_whole: everything that the container wrote was read, but for gaps.
        has_gap: something could not be read.
        rewind_to: Redis has lost what came after this checkpoint: it is to be read again from there.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        job: JobOfLog,
        cluster: Cluster,
        restarts: int = 0,
    ) -> None:
        self._outbox = outbox
        self._source = outbox.source
        self._job = job
        self._cluster = cluster
        self._lines = LogLines(outbox.published)
        self._must_prove = False  # a stream lacked the checkpoint's line: read the whole log to its end
        self._proofs = 0  # how many readings of the whole log lacked it
        self._is_past_gap = False  # it is not there either: take all that is
        self._is_near = False  # the stream was sound up to now: only moments of the log are unread
        self._opened: tuple[int, int] | None = None  # the open stream: restarts when asked for, end when it began
        self._read_run = 0  # the restarts before the run of which something was read
        self._followed: asyncio.Task[None] | None = None  # a stream that is read on until a read for the end begins
        self._gives_up = False
        self._has_ended = False
        self._is_gone = False
        self._is_last = False
        self._restarts = restarts
        self.has_gap = False
        self.is_whole = False
        self._missing: str | None = None  # why the end cannot be had any more
        self._trouble = "there was too much of it"  # what was in the way last
        self.rewind_to: Checkpoint | None = None
        self.all_read = asyncio.Event()
        self._turn = asyncio.Event()  # for the reader: the container ended, a rewind is due, bytes came
        self._news = self._heard = 0  # how often it was told something, and how much of it before the present stream
        self._cut_timer: asyncio.TimerHandle | None = None
        self._cut_at_s = 0.0  # when last, on the loop's clock
        self._log = log.bind(job_id=outbox.source.job_id, container=outbox.source.container)

    def container_ended(self) -> None:
        """Take note that the container is terminated: no more bytes will come of this run."""
        if not self._has_ended:
            self._has_ended = True
            self._tell()

    def started_again(self, restarts: int) -> None:
        """Take note that the pod shows another run of the container, which has a log of its own."""
        if restarts > self._restarts:
            self._restarts, self._has_ended = restarts, False
            self._tell()

    def pod_gone(self, *, is_gone: bool = True) -> None:
        """Take note that the pod is gone for certain (or is there after all): what cannot be read now never will."""
        if is_gone is not self._is_gone:
            self._is_gone = is_gone
            self._tell()

    def job_ended(self) -> None:
        """Read what is there now, and no more: the job's outcome waits for this log."""
        self._is_last = True
        self._tell()

    def _tell(self) -> None:
        self._news += 1
        self._turn.set()

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be read."""
        return self.all_read.is_set()

    @property
    def restarts(self) -> int:
        """Of the container, as far as is known here."""
        return self._restarts

    def stop_reading(self) -> None:
        """Read no more: the log is not whole then."""
        self._gives_up = True
        self._tell()

    def read_again(self, start: Checkpoint) -> None:
        """Read again from here: Redis has lost what comes after, and the outbox does not reach so far back."""
        self.rewind_to = start
        self._turn.set()

    def rewind(self) -> None:
        """Go back to where Redis ends, to read from there what it has lost."""
        assert self.rewind_to is not None
        self.all_read.clear()
        self._log.warning("Redis lost log chunks, reading them again", from_byte=self.rewind_to.end)
        self._outbox.restart(self.rewind_to)
        self._lines, self.rewind_to = LogLines(self.rewind_to), None

    async def run(self) -> None:
        """Read to the end; what was read may still have to be published then."""
        self.is_whole = False
        self._missing = None
        back_offs = Backoff(), Backoff(longest_s=END_RETRY_S)
        try:
            while not (self.is_whole or self._gives_up or self._missing):
                if self.rewind_to is not None:
                    await self._stop_followed()
                    self.rewind()
                await self._read_on(back_offs[self._is_for_end])
        finally:
            await self._stop_followed()
        if not self.is_whole:
            self._tell_gap(self._missing or f"it could not be read to its end in time: {self._trouble}")
        self.all_read.set()
        self._outbox.news.set()

    @property
    def _is_for_end(self) -> bool:
        """Whether a stream that goes on for ever is of no more use."""
        return self._has_ended or self._is_gone or self._is_last

    async def _read_on(self, back_off: Backoff) -> None:
        """Read one stream; what was not the log's end is tried again after a pause."""
        has_ended, is_bounded, began = self._has_ended, self._must_prove or self._is_for_end, time.monotonic()
        self._heard = self._news
        try:
            is_eof = await self._one_stream(follow=not is_bounded)
        except ClusterRefusedError as error:
            if error.is_not_found and self._is_gone:
                await self._until_followed_ends()
                self._missing = POD_GONE
                return
            self._job.mark_stale()
            await self._try_again(back_off, error, began)
        except ClusterUnavailableError as error:
            await self._try_again(back_off, error, began)
            await self._until_cluster_is_well()
        else:
            if is_eof and (text := self._lines.foreign_end):
                self._job.mark_stale()
                await self._try_again(back_off, f"text in place of a log: {_one_line(text)}", began)
            elif is_eof and self._lines.is_cut:
                await self._try_again(back_off, "the stream was cut within a line", began)
            elif not self._lines.found:
                self._search_on(is_proof=is_bounded and is_eof)
            elif is_bounded:
                await self._after_bounded(back_off, has_ended=has_ended)
            elif is_eof:
                await self._after_eof(back_off, began)

    async def _try_again(self, back_off: Backoff, trouble: Exception | str, began: float) -> None:
        self._is_near = False
        self._trouble = str(trouble)
        self._log.info("log interrupted", why=self._trouble)
        if self._was_sound(began):
            back_off.succeeded()
        await self._pause(back_off.failed(trouble if isinstance(trouble, Exception) else None))

    def _was_sound(self, began: float) -> bool:
        """Whether the stream lasted, or brought something: the next one need not wait as after a failure."""
        has_brought = self._opened is not None and self._lines.checkpoint.end > self._opened[1]
        return has_brought or time.monotonic() - began > STEADY_S

    async def _after_eof(self, back_off: Backoff, began: float) -> None:
        """Go on after a clean end of a followed stream: its container's (the watch will tell), or its kubelet's."""
        self._is_near = False
        self._log.info("log stream ended")
        if self._was_sound(began):
            back_off.succeeded()
        await self._pause(max(EOF_NEWS_S, back_off.failed()))
        if not self._is_for_end:
            self._job.mark_stale()

    async def _after_bounded(self, back_off: Backoff, *, has_ended: bool) -> None:
        """Everything that there was when it was asked for is read."""
        self._must_prove, self._is_near = False, True
        assert self._opened is not None
        new_bytes = self._lines.checkpoint.end - self._opened[1]
        if has_ended and self._has_ended:  # else it was started again meanwhile
            self.is_whole = not new_bytes or (new_bytes <= CONFIRM_BYTES and not self._lines.is_in_line)
        elif self._is_last and not self._has_ended:
            self._missing = STILL_RUNNING
        elif self._is_gone and not self._has_ended:  # then it would have been refused
            self._job.mark_stale()
            await self._pause(back_off.failed())

    async def _one_stream(self, *, follow: bool) -> bool:
        """Read one stream, on from the last byte that was read; False when it was given up before its end.

        A followed one that is given up for a read for the end is read on until that begins: its pod may be going.
        """
        streams = [asyncio.create_task(self._pump(follow=follow)), asyncio.create_task(self._until_given_up(follow))]
        try:
            await asyncio.wait(streams, return_when=asyncio.FIRST_COMPLETED)
            if streams[0].done():
                streams[0].result()
                return True
            if follow and self._is_for_end and self._opened is not None:
                self._is_near = self._lines.found
                self._followed = streams.pop(0)
            return False
        finally:
            for task in streams:
                task.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
            self._cut_now()

    async def _pump(self, *, follow: bool) -> None:
        at, restarts, self._opened = self._source, self._restarts, None
        async with self._cluster.log(at.namespace, at.pod, at.container, since=self._since(), follow=follow) as pieces:
            await self._stop_followed()
            lines = self._lines = LogLines(self._lines.checkpoint, is_gap=self._is_past_gap)
            self._is_past_gap = False
            self._opened = (restarts, lines.checkpoint.end)
            self._turn.set()
            async for data in pieces:
                lines.feed(data)
                if lines.found:
                    self._read_run = restarts
                    self._arrived()
                else:
                    self._turn.set()
        lines.end()

    async def _stop_followed(self) -> None:
        if self._followed is not None:
            followed, self._followed = self._followed, None
            followed.cancel()
            await asyncio.gather(followed, return_exceptions=True)
            self._cut_now()

    async def _until_followed_ends(self) -> None:
        """Wait for what the stream of a pod that is gone still brings: it is all that is left of it."""
        if self._followed is not None:
            await asyncio.wait({self._followed}, timeout=EOF_GRACE_S)
            await self._stop_followed()

    async def _until_given_up(self, follow: bool) -> None:
        """Wait for what makes a stream useless.

        A rewind, an end that it must not be waited for, no sign of the checkpoint's line in a followed one.
        """
        while self.rewind_to is None and not self._gives_up and not (follow and self._is_for_end):
            self._turn.clear()
            was_found = self._lines.found
            try:
                async with asyncio.timeout(SEARCH_SILENCE_S if follow and not was_found else None):
                    await self._turn.wait()
            except TimeoutError:
                if self._lines.found == was_found:
                    return

    async def _pause(self, wait_s: float) -> None:
        """Wait before the next stream.

        News (the container's end) cuts it short, also what came while the last one ended.
        """
        if self._news != self._heard or self.rewind_to is not None:
            return
        self._turn.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._turn.wait()

    async def _until_cluster_is_well(self) -> None:
        """Ask for no log while not even the pods can be watched: the jobs are many, the watches few.

        Few jobs are at their ends; their logs are asked for nevertheless, for their results do not wait for ever.
        """
        while not self._cluster.is_available.is_set() and not self._gives_up and not self._is_for_end:
            self._turn.clear()
            news = [asyncio.create_task(event.wait()) for event in (self._cluster.is_available, self._turn)]
            try:
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in news:
                    waiting.cancel()
            if self._cluster.is_available.is_set():
                await self._pause(random.uniform(0, WELL_AGAIN_S))

    def _since(self) -> str | None:
        at = self._lines.checkpoint
        whole_bytes = NEAR_WHOLE_LOG_BYTES if self._is_near else WHOLE_LOG_BYTES
        if not at.timestamp or at.end <= whole_bytes or self._must_prove:
            return None
        return _a_second_before(at.timestamp)

    def _search_on(self, *, is_proof: bool) -> None:
        """Go on after a stream that did not contain the checkpoint's line.

        Only the whole log, read to its end, proves that it is not there; where nothing younger was read, which a cut
        stream shows too, it is read once more. Then what is there comes after a gap.
        """
        self._is_near = False
        if not is_proof or not self._must_prove:
            self._must_prove, self._proofs = True, 0
            self._job.mark_stale()
            return
        self._proofs += 1
        if self._proofs == 1 and not self._lines.has_passed:
            return
        why = ROTATED
        if self._restarts > self._read_run:
            run = self._restarts + 1
            why = f"the container was started again (run {run}): the log of the run before is not available"
        self._log.warning("log lines are not there any more", after_bytes=self._lines.checkpoint.end, why=why)
        self.has_gap = self._is_past_gap = True
        self._must_prove = False
        self._tell_gap(why)

    def _tell_gap(self, why: str) -> None:
        """Nobody knows how much is missing here."""
        at = self._lines.checkpoint
        self._outbox.append(Gap(at.end, at, why, is_open=True))

    # Into the outbox

    def _arrived(self) -> None:
        if self._lines.buffered_bytes >= CHUNK_BYTES:
            self._cut(at_least_bytes=CHUNK_BYTES)
        if self._lines.buffered_bytes and self._cut_timer is None:  # after a silence at once
            self._cut_timer = asyncio.get_running_loop().call_at(self._cut_at_s + CHUNK_S, self._cut_now)

    def _cut_now(self) -> None:
        if self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None
        self._cut_at_s = asyncio.get_running_loop().time()
        self._cut(at_least_bytes=1)

    def _cut(self, *, at_least_bytes: int) -> None:
        while self._lines.buffered_bytes >= at_least_bytes and (piece := self._lines.take(CHUNK_BYTES)):
            self._outbox.append(piece)
        self._outbox.bound()


def _a_second_before(timestamp: str) -> str:
    at = datetime.fromisoformat(timestamp).astimezone(UTC) - timedelta(seconds=1)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_line(text: bytes) -> str:
    """Foreign text for a person to read."""
    words = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace"))
    return " ".join(words.split())[:300]
