"""The owner's copy of a job's record, and the only way to change the record.

Each change is one fenced step in Redis, and the copy changes only after Redis has taken it: whoever reads the copy sees
what the next owner would find. Where Redis loses what it had taken (all of it, or in a failover the last steps), the
copy is the truth, and is put back before anything else is done.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Unpack

import structlog

from dispatcher.events import Ended, JobResult, Notice, StatusChanged
from dispatcher.record import Changes, Checkpoint, DeletionIntent, JobRecord, encode_changes, encode_record
from dispatcher.status import Status
from dispatcher.steps import Fence, Moved, MoveOutcome, RestoreOutcome, Step, move, restore
from worker.context import Context
from worker.failpoints import Failpoint, failpoint
from worker.logs.attempt import JobLogs
from worker.logs.publisher import LetGoError

log = structlog.get_logger("podrelay.worker")

#: How often in a row a record is put back for one move: Redis loses writes now and then, not again and again.
MOST_PUT_BACK: Final = 5
#: Redis is told with a result that from here on we delete the pod, and the copy is not. Where Redis loses the result,
#: the record is put back as the copy tells it, and the job's outcome is what its pod shows. With this intent it would
#: be settled without a look at the pod, and as succeeded, also where the job has failed.
NOT_COPIED: Final = {"intent": DeletionIntent.FINISHED.value}


class MovedElsewhereError(Exception):
    """Somebody else has ended the job (a queue timeout, a cancel): look at the record again."""


class LogLostError(Exception):
    """Redis has lost more of the attempt's logs than is kept: they are to be read again."""


class NotKeptError(Exception):
    """Redis takes the record whenever it is put back, and does not keep it."""


class OwnedRecord:
    """The copy of one job's record, changed by fenced steps.

    ``record`` is replaced, never changed. ``news`` is set when a cancel is heard of.
    """

    def __init__(
        self,
        record: JobRecord,
        fence: Fence,
        ctx: Context,
        *,
        news: asyncio.Event,
        logs: JobLogs,
    ) -> None:
        self.record = record
        self._logs = logs
        self.fence = fence
        self._ctx = ctx
        self._store = ctx.store
        self._news = news
        self._turn = asyncio.Lock()  # what is put back must not be older than what is moved at the same time

    def cancel_requested(self, by: str) -> None:
        """Take note that somebody asks for the job's end."""
        if self.record.cancel_requested_by is None:
            self.record = replace(self.record, cancel_requested_by=by)
            failpoint(Failpoint.CANCEL_SEEN)
            self._news.set()

    async def move(
        self,
        *,
        target: Status | None = None,
        event: StatusChanged | Notice | Ended | None = None,
        only_from: tuple[Status, ...] | None = None,
        **changes: Unpack[Changes],
    ) -> None:
        """Change the record, and tell the event.

        Raises:
            LetGoError: another incarnation owns the job.
            MovedElsewhereError: somebody has ended it.
            LogLostError: what the attempt's outcome says of its logs does not hold any more.
            NotKeptError: the record contradicts itself, or somebody else writes it.
        """
        step = partial(self._step, target=target, event=event, fields=encode_changes(changes), only_from=only_from)
        await self._carry_out(step, target, changes)

    async def end(self, event: Ended) -> None:
        """Append the job's result.

        Raises:
            LetGoError, MovedElsewhereError, LogLostError, NotKeptError: as for :meth:`move`.
        """
        target, changes = event.result.status, _changes_at_end(event.result)
        step = partial(self._step, target=target, event=event, fields={**encode_changes(changes), **NOT_COPIED})
        await self._carry_out(step, target, changes)

    async def end_plainly(self, event: Ended) -> None:
        """End the job by nothing but the fence, its logs untold: for an owner that failed at everything else.

        Raises:
            LetGoError, MovedElsewhereError, NotKeptError: as for :meth:`move`.
        """
        target, changes = event.result.status, _changes_at_end(event.result)
        fields = {**encode_changes(changes), **NOT_COPIED}
        step = partial(move, self.record.job_id, self.fence, target=target, event=event, fields=fields)
        await self._carry_out(step, target, changes)

    async def _carry_out(self, step: Callable[[], Step[Moved]], target: Status | None, changes: Changes) -> None:
        """Move the record in Redis, then the copy."""
        async with self._turn:
            moved = await self._until_applied(step)
            times = dict(self.record.reached)
            status = target or self.record.status
            if status is not self.record.status:
                times[status.value.lower()] = moved.at
                if status is Status.QUEUED:
                    times.pop("starting", None)
                    times.pop("running", None)
            self.record = replace(self.record, status=status, reached=times, last_step=moved.step, **changes)
        if moved.cancel_by:
            self.cancel_requested(moved.cancel_by)

    async def _until_applied(self, step: Callable[[], Step[Moved]]) -> Moved:
        """Repeat a step until Redis applies it, and put right what it is refused for."""
        times_refused = 0
        while (moved := await self._store.run(step())).outcome is not MoveOutcome.APPLIED:
            times_refused += 1
            await self._make_good(moved.outcome, times_refused)
        return moved

    def _step(self, **given: Any) -> Step[Moved]:
        if self._logs.is_lacking:
            raise LogLostError
        return move(self.record.job_id, self.fence, after=self.record.last_step, known=self._logs.known, **given)

    async def _make_good(self, refused: MoveOutcome, times_refused: int) -> None:
        """Put right what a move was refused for; returns where it may be tried again."""
        match refused:
            case MoveOutcome.FENCED:
                raise LetGoError
            case MoveOutcome.ILLEGAL:
                raise MovedElsewhereError
            case _ if times_refused > MOST_PUT_BACK:
                raise NotKeptError(f"its record was put back {MOST_PUT_BACK} times, and Redis does not have it")
            case _:
                await self._put_back()

    async def reload(self) -> None:
        """Take the record as it stands in Redis, or put it back where Redis has lost it or our last steps.

        Raises:
            LetGoError: another incarnation owns the job, or its key was submitted again: that job takes the pod over.
                Or the record cannot be read (a newer version wrote it): the job is left alone.
        """
        async with self._turn:
            published = self._logs.checkpoints
            record = await self._store.read_record(self.record.job_id)
            if record is not None and record.unreadable_state is not None:
                log.warning("job left alone, its record cannot be read", why=record.unreadable_state)
                raise LetGoError
            found = Fence(record.owner or "", record.epoch) if record is not None else None
            if record is not None and found is not None and found != self.fence:
                if found.epoch >= self.fence.epoch or record.status.is_final:
                    raise LetGoError
            elif record is not None and (record.status.is_final or record.last_step == self.record.last_step):
                self._take(record)
                if not record.status.is_final:
                    await self._append_lost_log(record, published)
                return
            with suppress(MovedElsewhereError):  # by now; the next move finds out
                await self._put_back()

    def _take(self, record: JobRecord) -> None:
        """Copy this record, and keep what Redis does not have: who asked for a cancel, and a pod that was made."""
        known, was_asked = self.record, self.record.cancel_requested
        if record.pod is None and record.status.is_final:
            record = replace(record, pod=known.pod, pod_uid=known.pod_uid, namespace=known.namespace)
        by = record.cancel_requested_by or known.cancel_requested_by
        self.record = replace(record, cancel_requested_by=by)
        if by is not None and not was_asked:
            failpoint(Failpoint.CANCEL_SEEN)

    def note_published(self) -> None:
        """Copy how far the logs are published."""
        self.record = replace(self.record, checkpoints={**self.record.checkpoints, **self._logs.checkpoints})

    async def _put_back(self) -> None:
        """Restore the record from the copy.

        An ended job's is restored as that of a running one: its result is appended again afterwards. Where the job may
        have been taken over before Redis lost it, this waits: the new owner, if there is one, goes first.
        """
        await self._ctx.lease.until_authoritative()
        published = self._logs.checkpoints
        record = replace(self.record, checkpoints={**self.record.checkpoints, **self._logs.kept_from})
        if record.status.is_final:
            record = replace(record, status=Status.RUNNING)
        record = replace(record, reason=None, result=None)
        event = StatusChanged(
            status=record.status,
            detail=record.detail,
            attempt=record.attempt,
            pod=record.pod,
            namespace=record.namespace,
            node=record.node,
        )
        restored = await self._store.run(restore(record, self.fence, event=event, fields=encode_record(record)))
        log.warning("record restored", job_id=record.job_id, outcome=restored.outcome.value)
        match restored.outcome:
            case RestoreOutcome.SUPERSEDED:
                raise LetGoError
            case RestoreOutcome.EXISTS:
                found = await self._store.read_record(record.job_id)
                if found is None or Fence(found.owner or "", found.epoch) != self.fence:
                    raise LetGoError
                raise MovedElsewhereError
            case RestoreOutcome.RESTORED:
                self.record = replace(self.record, last_step=restored.step)
                if (found := await self._store.read_record(record.job_id)) is not None:
                    await self._append_lost_log(found, published)

    async def _append_lost_log(self, record: JobRecord, published: Mapping[tuple[int, str], Checkpoint]) -> None:
        await self._logs.append_lost(record, published)
        if self._logs.is_lacking and (found := await self._store.read_record(record.job_id)) is not None:
            self.record = replace(self.record, checkpoints=found.checkpoints)


def _changes_at_end(result: JobResult) -> Changes:
    return {"reason": result.reason, "result": result, "wait": None, "detail": ""}
