"""Compare the jobs that this worker controls with the records that name it as owner, and put right what differs.

So it finds a cancel whose message was lost, a claim whose reply was lost, a record that Redis has lost, a result that a
failover has undone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from dispatcher.steps import SurveyRow, survey
from worker.context import Context
from worker.jobs.controller import JobController
from worker.jobs.owned_record import MovedElsewhereError
from worker.jobs.recent_results import Finished, RecentResults
from worker.logs.publisher import LetGoError
from worker.ownership.job_controllers import JobControllers

T = TypeVar("T")
log = structlog.get_logger("podrelay.worker")

#: How many records one survey reads.
WINDOW: Final = 500
#: How many jobs are put right at the same time: each takes several round trips, and others wait to launch meanwhile.
AT_ONCE: Final = 16


class Reconciler:
    """Puts right where this worker's jobs and the records differ.

    Attributes:
        rows: the queue's active jobs as of the last look, by job id.
    """

    def __init__(self, ctx: Context, jobs: JobControllers, results: RecentResults) -> None:
        self.rows: dict[str, SurveyRow] = {}
        self._server_run = ""
        self._ctx = ctx
        self._jobs = jobs
        self._results = results

    async def reconcile(self) -> None:
        """Survey the queue's records and put right what differs.

        Raises:
            connection.REFUSED: Redis cannot be used now.
        """
        followed = list(self._jobs.by_id.values())
        self._recheck_all_in_another_redis()
        await self._look()
        for row in list(self.rows.values()):
            if row.unreadable:
                continue  # it is left alone
            with self._ctx.guard.one_of_many("reconcile", job_id=row.job_id):
                await self._compare(row)
        if not self._ctx.lease.is_authoritative:
            return
        # Results first: a caller who submits such a job again must not have it run again.
        records = {job_id: controller.record for job_id, controller in self._jobs.by_id.items()}
        await self._each(self._repeat_result, self._results.doubtful(self.rows, records))
        await self._each(self._check_lost, [controller for controller in followed if self._is_lost(controller)])

    async def _compare(self, row: SurveyRow) -> None:
        controller = self._jobs.by_id.get(row.job_id)
        if controller is not None and row.status is not None and row.owner != self._ctx.incarnation:
            controller.recheck()
        elif controller is not None and row.cancel_by:
            controller.cancel_requested(row.cancel_by)
        elif controller is not None and row.last_step != controller.record.last_step:
            controller.recheck()  # Redis has lost our last steps, or we have just made another
        elif controller is None and row.owner == self._ctx.incarnation and not self._is_undone(row):
            await self._follow_again(row.job_id)

    def _recheck_all_in_another_redis(self) -> None:
        """Recheck every job where Redis was emptied, restarted or failed over since the last look.

        It may have lost the last of a silent container's log, and no step would tell of that.
        """
        if self._server_run != self._ctx.lease.server_run:
            self._server_run = self._ctx.lease.server_run
            for controller in self._jobs.by_id.values():
                controller.recheck()

    async def _look(self) -> None:
        rows: dict[str, SurveyRow] = {}
        first = 0
        while True:
            step = survey(self._ctx.settings.queue, first, first + WINDOW - 1)
            (window,) = await self._ctx.store.run_once([step])
            rows.update((row.job_id, row) for row in window)
            if len(window) < WINDOW:
                self.rows = rows
                return
            first += WINDOW

    def _is_undone(self, row: SurveyRow) -> bool:
        """Whether Redis has lost the result that this worker appended: it is appended again, not found out anew."""
        is_final = row.status is not None and row.status.is_final
        return row.job_id in self._results and not is_final

    async def _follow_again(self, job_id: str) -> None:
        record = await self._ctx.store.read_record(job_id)
        if record is None or record.unreadable_state is not None or record.is_forgotten:
            return
        if record.owner == self._ctx.incarnation:
            log.info("following again", job_id=job_id)
            self._jobs.begin(record)

    def _is_lost(self, controller: JobController) -> bool:
        row = self.rows.get(controller.record.job_id)
        return row is None or row.status is None or row.epoch < controller.fence.epoch

    async def _check_lost(self, controller: JobController) -> None:
        """Recheck a job that the survey did not show, or not as ours: it has ended, or Redis has lost it.

        Its caller may have submitted it again by now. The controller itself may be busy for long, with a log's end say.
        """
        job_id = controller.record.job_id
        record = await self._ctx.store.read_record(job_id)
        if self._jobs.by_id.get(job_id) is not controller:
            return
        is_ours = record is not None and record.epoch >= controller.fence.epoch
        if record is None or not (is_ours or record.status.is_final):
            try:
                await controller.reload()
            except LetGoError:
                controller.recheck()
        elif record.status.is_final and not controller.record.status.is_final:
            controller.recheck()

    async def _repeat_result(self, finished: Finished) -> None:
        """Append a result again where Redis turns out to have lost it."""
        job_id, server_run = finished.record.job_id, self._ctx.lease.server_run
        record = await self._ctx.store.read_record(job_id)
        if record is not None and record.status.is_final:
            self._results.confirm(job_id, server_run)
            return
        log.warning("Redis lost a result, appending it again", job_id=job_id)
        try:
            await JobController(self._ctx, finished.record, self._results).append_again(finished)
        except LetGoError:
            log.warning("another worker has the job: its result stands", job_id=job_id)
            self._results.forget(job_id)
        except MovedElsewhereError:
            log.info("it has ended by now", job_id=job_id)

    async def _each(self, do: Callable[[T], Awaitable[None]], what: Sequence[T]) -> None:
        async def one(item: T) -> None:
            with self._ctx.guard.one_of_many("reconcile"):
                await do(item)

        for first in range(0, len(what), AT_ONCE):
            ends = await asyncio.gather(*map(one, what[first : first + AT_ONCE]), return_exceptions=True)
            for error in filter(None, ends):
                raise error
