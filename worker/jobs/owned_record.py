"""The record of a job that this incarnation owns, as it stands, and the only way to change it.

Each change is one fenced step in Redis; the copy here follows only what Redis has taken. So whoever reads the copy sees
what the next owner would find. Where Redis has lost what it had taken (all of it, or in a failover the last steps), the
copy is the truth, and is put back before anything else is done.
"""

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import structlog

from dispatcher.events import Ended, Notice, StatusChanged
from dispatcher.record import Checkpoint, JobRecord, checkpoint_field
from dispatcher.status import Status
from dispatcher.steps import Fence, Moved, MoveOutcome, RestoreOutcome, Step, move, restore
from worker.context import Context
from worker.failpoints import Failpoint, failpoint
from worker.logs.attempt import JobLogs
from worker.logs.reader import LetGoError

log = structlog.get_logger("podrelay.worker")

#: How often in a row a record is put back for one move: Redis loses writes now and then, not again and again.
MOST_PUT_BACK: Final = 5


class MovedElsewhereError(Exception):
    """Somebody else has ended the job (a queue timeout, a cancel): look at the record again."""


class LogLostError(Exception):
    """Redis has lost more of the attempt's logs than is kept: they are to be read again."""


class NotKeptError(Exception):
    """Redis has taken the record again and again, and does not have it."""


class OwnedRecord:
    """``news`` is set when a cancel is heard of. ``record`` is replaced, never changed."""

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
        """Somebody asks for the job's end."""
        if self.record.cancel_requested_by is None:
            self.record = replace(self.record, cancel_requested_by=by)
            failpoint(Failpoint.CANCEL_SEEN)
            self._news.set()

    async def move(
        self,
        *,
        target: Status | None = None,
        event: StatusChanged | Notice | Ended | None = None,
        fields: Mapping[str, str] | None = None,
        only_from: tuple[Status, ...] | None = None,
        **changes: Any,
    ) -> None:
        """Change the record: ``fields`` in Redis ('' deletes), ``changes`` in the copy; and tell the event.

        Raises:
            LetGoError: another incarnation owns the job.
            MovedElsewhereError: somebody has ended it.
            LogLostError: what the attempt's outcome says of its logs does not hold any more.
            NotKeptError: the record contradicts itself, or somebody else writes it.
        """
        async with self._turn:
            for times_refused in itertools.count(1):
                if self._logs.is_lacking:
                    raise LogLostError
                step = self._step(target=target, event=event, fields=fields, only_from=only_from)
                moved = await self._store.run(step)
                if moved.outcome is MoveOutcome.APPLIED:
                    break
                await self._make_good(moved.outcome, times_refused)
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

    async def end_plainly(self, event: Ended, fields: Mapping[str, str]) -> None:
        """End the job whatever else is known of it: for an owner that failed at everything else. Says nothing of its
        logs, and asks for nothing but the fence.

        Raises:
            LetGoError: another incarnation owns the job.
            MovedElsewhereError: somebody has ended it.
            NotKeptError: as for :meth:`move`.
        """
        async with self._turn:
            result = event.result
            for times_refused in itertools.count(1):
                step = move(self.record.job_id, self.fence, target=result.status, event=event, fields=fields)
                moved = await self._store.run(step)
                if moved.outcome is MoveOutcome.APPLIED:
                    break
                await self._make_good(moved.outcome, times_refused)
            reached_at = {**self.record.reached, result.status.value.lower(): moved.at}
            self.record = replace(
                self.record,
                status=result.status,
                reason=result.reason,
                result=result,
                reached=reached_at,
                last_step=moved.step,
                wait=None,
                detail="",
            )

    def _step(self, **given: Any) -> Step[Moved]:
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
                Or the record cannot be read: a newer version's hand is in it, and the job is left alone.
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
        """Take this record over. What Redis does not have is kept: who asked for a cancel, and a pod that was made."""
        known, was_asked = self.record, self.record.cancel_requested
        if record.pod is None and record.status.is_final:
            record = replace(record, pod=known.pod, pod_uid=known.pod_uid, namespace=known.namespace)
        by = record.cancel_requested_by or known.cancel_requested_by
        self.record = replace(record, cancel_requested_by=by)
        if by is not None and not was_asked:
            failpoint(Failpoint.CANCEL_SEEN)

    def note_published(self) -> None:
        """Take over how far the logs are published."""
        self.record = replace(self.record, checkpoints={**self.record.checkpoints, **self._logs.checkpoints})

    async def _put_back(self) -> None:
        """Make the record again as it stands here. A result is appended again afterwards: the record is restored as
        that of a running job. Not at once where the job may have been taken over before Redis lost it: the new owner,
        if there is one, goes first."""
        await self._ctx.until_certain()
        published = self._logs.checkpoints
        record = replace(self.record, checkpoints={**self.record.checkpoints, **self._logs.kept_from})
        if record.status.is_final:
            record = replace(record, status=Status.RUNNING)
        event = StatusChanged(
            status=record.status,
            detail=record.detail,
            attempt=record.attempt,
            pod=record.pod,
            namespace=record.namespace,
            node=record.node,
        )
        restored = await self._store.run(restore(record, self.fence, event=event, fields=_fields(record)))
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


def _fields(record: JobRecord) -> dict[str, str]:
    """The hash's fields, as far as the owner knows them."""
    optional = {
        "detail": record.detail,
        "pod": record.pod,
        "pod_uid": record.pod_uid,
        "namespace": record.namespace,
        "node": record.node,
        "intent": record.deletion_intent,
        "intent_reason": record.intent_reason,
        "intent_message": record.intent_message,
        "cancel_by": record.cancel_requested_by,
        "predecessor": record.predecessor,
        "wait": record.wait,
        "not_before": f"{record.not_before:.6f}" if record.not_before else None,
    }
    return {
        "attempt": str(record.attempt),
        "takeovers": str(record.takeovers),
        **{name: str(value) for name, value in optional.items() if value},
        **{f"at:{what}": f"{at:.6f}" for what, at in record.reached.items()},
        **{checkpoint_field(a, c): point.encode() for (a, c), point in record.checkpoints.items()},
    }
