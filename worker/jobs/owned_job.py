"""A job in its owner's hands: its record, its pod, its logs, and the news of all three."""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from dispatcher.events import StatusChanged
from dispatcher.record import JobRecord
from dispatcher.status import Status
from dispatcher.steps import Fence
from worker.cluster.observation import Observation
from worker.context import Context
from worker.failpoints import Failpoint, failpoint
from worker.jobs.owned_record import OwnedRecord
from worker.jobs.pod import JobPod
from worker.logs.attempt import JobLogs
from worker.logs.publisher import JobOfLog

DEFAULT_GRACE_S: Final = 30


class OwnedJob:
    """One job, as all phases of its life share it.

    Attributes:
        step: what is being done for it, for a person.
        news: set whenever something is heard of the record, the pod or what the job waits for.
    """

    def __init__(self, ctx: Context, record: JobRecord, of_log: JobOfLog) -> None:
        """``of_log``: what the job's log readers know of it."""
        self.ctx = ctx
        self.step = ""
        self.news = asyncio.Event()
        self.log = structlog.get_logger("podrelay.worker").bind(job_id=record.job_id)
        self.logs = JobLogs(of_log, ctx.cluster, ctx.store, ctx.log_budget)
        fence = Fence(ctx.incarnation, record.epoch)
        self.owned = OwnedRecord(record, fence, ctx, news=self.news, logs=self.logs)
        self.pod = JobPod(ctx.cluster, ctx.watches, record.job_id, self.news)

    @property
    def record(self) -> JobRecord:
        """The job's record as Redis has it."""
        return self.owned.record

    async def present_pod(self) -> Observation | None:
        """Look at the recorded pod; None where its absence is proved."""
        record = self.record
        assert record.pod is not None
        assert record.namespace is not None
        return await self.pod.present(record.spec, namespace=record.namespace, name=record.pod, uid=record.pod_uid)

    async def remove_pod(self, pod: Observation | None) -> None:
        """Delete the pod, and wait until it is gone, but not for ever."""
        if pod is None or self.pod.is_gone:
            return
        await self.pod.delete(pod)
        grace_s = pod.deletion_grace_s or self.record.spec.termination_grace_period_s or DEFAULT_GRACE_S
        await self.pod.until_gone(pod, grace_s)

    async def tell(self, status: Status, detail: str) -> None:
        """Record the job's status, detail and node, and tell the caller, where they are new."""
        record, node = self.record, self.pod.last.node if self.pod.last else None
        if record.status is status and record.detail == detail and record.node == node:
            return
        event = StatusChanged(
            status=status,
            detail=detail,
            attempt=record.attempt,
            pod=record.pod,
            namespace=record.namespace,
            node=node,
        )
        await self.owned.move(target=status, event=event, detail=detail, node=node)
        if record.status is not status:
            self.log.info("status", status=status.value, pod=record.pod, node=node)
            if status is Status.RUNNING:
                failpoint(Failpoint.RUNNING_RECORDED)

    async def wait(self, limit_s: float | None) -> None:
        """Wait for news, or until the time is over."""
        # Not wait_for: it can swallow a cancellation that comes with the news.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if limit_s is None else max(0.0, limit_s)):
                await self.news.wait()
                self.news.clear()
