"""Finish and forget: everything from an attempt's outcome on.

Either another attempt follows, and the pod goes first; or this is the job's end: its logs are read to their ends, its
return value is read, its result is appended, its pod is removed or kept, and the job is forgotten.
"""

import asyncio
from dataclasses import replace
from typing import Final

from dispatcher import names
from dispatcher.events import ClusterEvent, LogSummary, Notice, StatusChanged
from dispatcher.events import Ended as EndedEvent
from dispatcher.record import DeletionIntent, WaitReason
from dispatcher.spec import OnFinish
from dispatcher.status import FailureReason, Status
from dispatcher.steps import forget
from worker.cluster.client import Backoff
from worker.cluster.observation import Observation
from worker.failpoints import Failpoint, failpoint
from worker.jobs.last_lines import read_last_lines, unread_failures
from worker.jobs.owned_job import OwnedJob
from worker.jobs.pod import LONGEST_GRACE_S
from worker.jobs.recent_results import RecentResults
from worker.jobs.result import make_result, read_events
from worker.jobs.return_value import LOST_RETURN_VALUE, ReturnValue, read_return_value
from worker.rules.job_end import told_beside
from worker.rules.retry import Conclude, Retry, next_step
from worker.rules.verdict import AttemptEnded, DeletePod

#: A deletion was asked for and the watch does not show it: ask again after this long.
DELETE_AGAIN_S: Final = 5.0

#: How a base container fails by itself: what failed beside it may be the cause.
_OF_BASE: Final = frozenset({FailureReason.EXIT_CODE, FailureReason.OOM_KILLED, FailureReason.START_ERROR})

#: Failures by which containers ended by themselves: the pod is whole, and its return value can be read all the same.
_WITH_A_VALUE: Final = frozenset({FailureReason.EXIT_CODE, FailureReason.OOM_KILLED, FailureReason.CONTAINER_FAILED})


class JobFinisher:
    """Brings one job from an attempt's outcome to the next attempt, or to its end."""

    def __init__(self, job: OwnedJob, results: RecentResults) -> None:
        self._job = job
        self._ctx = job.ctx
        self._results = results
        self._back_off = Backoff(longest_s=30.0)
        self.has_forgotten = False

    # An attempt's end

    async def end_pod(self, verdict: DeletePod, pod: Observation | None) -> float:
        """Record the intent, then ask for the pod's deletion. Returns in how many seconds to ask again."""
        record = self._job.record
        if record.deletion_intent is not verdict.intent:
            await self._job.owned.move(
                deletion_intent=verdict.intent, intent_reason=verdict.reason, intent_message=verdict.message
            )
            self._job.log.info("ending the pod", intent=verdict.intent.value, why=verdict.message)
            failpoint(Failpoint.INTENT_RECORDED)
        error = None if pod is None else await self._job.pod.ask_to_go(pod)
        if error is None:
            self._back_off.succeeded()
            return DELETE_AGAIN_S
        # A right that was taken away, a webhook: the pod may end by itself meanwhile.
        await self._job.tell(self._job.record.status, f"the pod cannot be deleted yet: {error}")
        return self._back_off.failed(error)

    async def attempt_ended(self, ended: AttemptEnded, pod: Observation | None) -> None:
        """Record that another attempt follows, or conclude the job."""
        match next_step(self._job.record.spec, self._job.record, ended):
            case Retry(attempt, backoff_s, why):
                await self._drain_logs()
                await self._record_retry(attempt, backoff_s, why)
            case Conclude():
                await self.conclude(ended, pod)

    async def _record_retry(self, attempt: int, backoff_s: float, why: str) -> None:
        await self._job.owned.move(
            event=Notice(level="warning", text=f"{why} Attempt {attempt} follows in {backoff_s:.0f} s."),
            deletion_intent=DeletionIntent.NEXT_ATTEMPT,
            not_before=self._ctx.lease.now() + backoff_s,
        )
        self._job.log.info("attempt failed", attempt=self._job.record.attempt, why=why)
        failpoint(Failpoint.RETRY_RECORDED)

    async def requeue(self) -> None:
        """Remove the failed attempt's pod; the job then waits for its next one."""
        await self._job.remove_pod(await self._job.present_pod())
        attempt = self._job.record.attempt
        detail = f"backing off before attempt {attempt + 1}"
        await self._job.owned.move(
            target=Status.QUEUED,
            event=StatusChanged(status=Status.QUEUED, detail=detail, attempt=attempt),
            pod=None,
            pod_uid=None,
            node=None,
            deletion_intent=None,
            intent_reason=None,
            intent_message="",
            wait=WaitReason.BACK_OFF,
            detail=detail,
        )
        self._job.pod.begin(None)
        failpoint(Failpoint.REQUEUED)

    # The job's end

    async def settle(self, pod: Observation | None) -> None:
        """Conclude a job without a result whose record says that we removed this pod at the job's end.

        Its worker died between deletion and result (only possible with extra containers and a return value).
        """
        record = self._job.record
        if record.deletion_intent is not DeletionIntent.FINISHED:
            await self._job.owned.reload()
            return
        status = Status.SUCCEEDED if record.intent_reason is None else Status.FAILED
        ended = AttemptEnded(status, record.intent_reason, record.intent_message, None, user_code_started=True)
        await self.conclude(ended, pod)

    async def conclude(self, ended: AttemptEnded, pod: Observation | None = None) -> None:
        """Gather what belongs to the result, and append it."""
        job, return_value = self._job, ReturnValue()
        job.step = "gathering its result"
        is_asked, has_succeeded = job.record.spec.return_value, ended.status is Status.SUCCEEDED
        if is_asked and pod is not None and (has_succeeded or ended.reason in _WITH_A_VALUE):
            return_value, logs = await self._collect(ended, pod)
        else:
            logs = await self._drain_logs()
            if is_asked and has_succeeded:
                return_value = LOST_RETURN_VALUE
        ended = await self._tell_beside(ended)
        result = make_result(
            job.record,
            ended,
            pod,
            return_value=return_value,
            events=await self._events(ended),
            logs=logs,
            log_url=self._log_url(),
            last_lines=await self._last_lines(ended),
        )
        event = EndedEvent(result=result)
        await job.owned.end(event)
        self._results.keep(job.record, event, job.logs.tails)
        reason = result.reason.value if result.reason else None
        job.log.info("ended", status=result.status.value, reason=reason, why=result.message)
        failpoint(Failpoint.RESULT_APPENDED)

    async def _tell_beside(self, ended: AttemptEnded) -> AttemptEnded:
        """Say what was not well besides: in the message, and as a warning where that is not shown as a failure's is."""
        pod, has_failed = self._job.pod.last, ended.reason in _OF_BASE
        if pod is None or not (has_failed or ended.status is Status.SUCCEEDED):
            return ended
        said = told_beside(self._job.record.spec, pod, has_failed=has_failed)
        message = " ".join(text for text in (ended.message, said) if text)
        if message and not has_failed:
            await self._job.owned.move(event=Notice(level="warning", text=message))
        return replace(ended, message=message)

    async def _last_lines(self, ended: AttemptEnded) -> dict[str, str]:
        job = self._job
        if job.pod.last is None or job.pod.is_gone:
            return {}
        unread = unread_failures(job.record.spec, ended.reason, job.pod.last)
        return await read_last_lines(self._ctx.cluster, job.pod.last, unread) if unread else {}

    async def _drain_logs(self) -> dict[str, LogSummary]:
        job = self._job
        summaries = await job.logs.drain(job.record.spec.log_drain_timeout_s, job.record, is_gone=job.pod.is_gone)
        job.owned.note_published()
        job.logs.end_attempt()
        failpoint(Failpoint.LOG_DRAINED)
        return summaries

    async def _collect(self, ended: AttemptEnded, pod: Observation) -> tuple[ReturnValue, dict[str, LogSummary]]:
        """Drain the logs and read the return value.

        The sidecar prints when it is told to end, which the kubelet does after all plain containers have ended: one
        that goes on is ended by deleting the pod.
        """
        goes_on = any(c.state != "terminated" for c in pod.plain_containers)
        grace_s = min(pod.termination_grace_s, LONGEST_GRACE_S) if goes_on else 0.0
        reading = asyncio.create_task(read_return_value(self._ctx.cluster, pod.namespace, pod.name, grace_s=grace_s))
        try:
            logs = await self._drain_logs()
            if goes_on:
                await self.end_pod(DeletePod(DeletionIntent.FINISHED, ended.reason, ended.message), pod)
            return_value = await reading
        finally:
            reading.cancel()
        failpoint(Failpoint.RETURN_VALUE_READ)
        return return_value, logs

    async def _events(self, ended: AttemptEnded) -> tuple[ClusterEvent, ...] | None:
        record = self._job.record
        if ended.status is not Status.FAILED or record.namespace is None or record.pod_uid is None:
            return None
        return await read_events(self._ctx.cluster, record.namespace, record.pod_uid)

    def _log_url(self) -> str | None:
        record = self._job.record
        return self._ctx.log_url(
            namespace=record.namespace or "",
            pod=record.pod or "",
            pod_uid=record.pod_uid or "",
            container=record.spec.base_container,
            job_id=record.job_id,
            attempt=record.attempt,
        )

    # After the result

    async def clean_up(self) -> None:
        """Remove the pod, or mark and keep it; then forget the job."""
        self._results.keep_found(self._job.record)
        if self._job.record.pod is not None:
            pod = await self._job.present_pod()
            if pod is not None and self._is_kept(pod):
                await self._job.pod.patch(pod, {"labels": self._marks_of_a_kept_pod()})
            else:
                await self._job.remove_pod(pod)
        await self.forget()

    def _marks_of_a_kept_pod(self) -> dict[str, str]:
        is_kpos = self._job.record.spec.labels.get(names.LABEL_OF_KPO) == "True"
        return {names.LABEL_DONE: "true", **({names.LABEL_CHECKED_BY_KPO: "True"} if is_kpos else {})}

    def _is_kept(self, pod: Observation) -> bool:
        status = self._job.record.status
        if status is Status.CANCELLED or pod.is_being_deleted or self._job.pod.is_gone:
            return False
        match self._job.record.spec.on_finish:
            case OnFinish.DELETE_POD:
                return False
            case OnFinish.KEEP_POD:
                return True
            case OnFinish.DELETE_SUCCEEDED_POD:
                return status is not Status.SUCCEEDED
            case OnFinish.DELETE_ACTIVE_POD:
                return all(c.state == "terminated" for c in pod.containers) or pod.has_ended

    async def forget(self) -> None:
        """Take the job off the queue's active jobs: nothing is left to do for it."""
        record = self._job.record
        reply = await self._ctx.store.run(forget(record.job_id, self._job.owned.fence, record.spec.queue))
        self.has_forgotten = True
        self._job.log.info("forgotten", reply=reply)
        failpoint(Failpoint.FORGOTTEN)
