"""What is done where this worker itself fails at a job, by a defect of ours or data that nobody has foreseen.

The step is tried again for a while, and the job says what fails. Then the job is ended by what its record alone tells:
an exception that comes for ever would keep the caller waiting for ever.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from dispatcher.events import Ended as EndedEvent
from dispatcher.events import StatusChanged
from worker.jobs.finisher import JobFinisher
from worker.jobs.owned_job import OwnedJob
from worker.jobs.owned_record import MovedElsewhereError
from worker.jobs.result import plain_result
from worker.logs.publisher import LetGoError
from worker.rules.backoff_limit import MAX_WAIT_S, BackoffLimit


class LastResort:
    """Tries one job's failing step again, and ends the job where that does not help."""

    def __init__(self, job: OwnedJob, finisher: JobFinisher) -> None:
        self._job = job
        self._finisher = finisher
        self._backoff_limit = BackoffLimit()

    async def failed(self, error: Exception) -> None:
        """Wait until the step may be tried again; end the job, or leave it, after enough tries.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        record, now = self._job.record, asyncio.get_running_loop().time()
        self._job.ctx.guard.failed("job", error, job_id=record.job_id, step=self._job.step)
        step = (self._job.step, str(record.attempt), record.status.value)
        failed = self._backoff_limit.failed(step, now, has_pod=record.pod is not None)
        text = f"this worker failed {failed.times} times at {self._job.step}: {type(error).__name__}: {error}"[:1000]
        if failed.wait_s is None:
            await self._try(self._leave() if record.status.is_final else self._give_up(text))
        elif failed.times > 1 and not record.status.is_final:
            await self._try(self._tell(text))
        has_got_on = self._finisher.has_forgotten or self._job.record.status is not record.status
        await asyncio.sleep(0 if has_got_on else failed.wait_s or MAX_WAIT_S)

    async def _try(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it, or log why it fails: it may need the very thing that has failed."""
        try:
            await doing
        except LetGoError:
            raise
        except Exception as error:  # noqa: BLE001 whatever kept the job from getting on
            self._job.ctx.guard.failed("job", error, job_id=self._job.record.job_id)

    async def _tell(self, text: str) -> None:
        record = self._job.record
        event = StatusChanged(
            status=record.status, detail=text, attempt=record.attempt, pod=record.pod, namespace=record.namespace
        )
        await self._job.owned.move(event=event, only_from=(record.status,), detail=text)

    async def _give_up(self, text: str) -> None:
        await self._job.logs.stop()
        result = plain_result(self._job.record, text)
        try:
            await self._job.owned.end_plainly(EndedEvent(result=result))
        except MovedElsewhereError:
            await self._job.owned.reload()
        else:
            reason = result.reason.value if result.reason else None
            self._job.log.error("given up", status=result.status.value, reason=reason, why=text)

    async def _leave(self) -> None:
        """Give up the clean-up: delete the pod by its name once, and leave the rest to the sweep of stray pods."""
        record = self._job.record
        if record.namespace and record.pod and record.pod_uid:
            await self._try(self._delete(record.namespace, record.pod, record.pod_uid))
        await self._finisher.forget()

    async def _delete(self, namespace: str, pod: str, uid: str) -> None:
        await self._job.ctx.cluster.delete_pod(namespace, pod, uid=uid)
