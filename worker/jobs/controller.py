"""One job, from its claim until it is forgotten.

It looks at the present (the record, then the pod) and does the one thing that is next; whatever it was doing when a
process died, the next owner's follower finds the same present and goes on. It waits for news only: from the watch, from
control, or for the time that a verdict names.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import structlog

from dispatcher import names
from dispatcher.events import ClusterEvent, LogSummary, Notice, StatusChanged
from dispatcher.events import Ended as EndedEvent
from dispatcher.record import DeletionIntent, JobRecord, WaitReason
from dispatcher.spec import OnFinish
from dispatcher.status import FailureReason, Status
from dispatcher.steps import ExpireOutcome, Fence, expire, forget, release
from worker.cluster.client import BackOff, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.context import Context
from worker.failpoints import Failpoint, failpoint
from worker.jobs.owned_record import LogLostError, MovedElsewhereError, OwnedRecord
from worker.jobs.pod import UNWATCHED_S, JobPod
from worker.jobs.pod_creation import Later, Launched, Refused, Unserved, ensure_pod
from worker.jobs.recent_results import Finished, RecentResults
from worker.jobs.result import make_result, plain_result, read_warnings
from worker.jobs.return_value import LOST_RETURN_VALUE, ReturnValue, read_return_value
from worker.logs.attempt import JobLogs, discard
from worker.logs.reader import LetGoError
from worker.rules.history import PodHistory
from worker.rules.judge import Ended, MustEnd, Running, Settled, Starting, Verdict, judge
from worker.rules.manifest import namespace_of
from worker.rules.patience import LONGEST_WAIT_S, Patience
from worker.rules.retry import Conclude, Retry, next_step

log = structlog.get_logger("podrelay.worker")

PREDECESSOR_LOOK_S: Final = 5.0
#: Redis may find that a job may still wait (its clock was set back, the record says something else): asked again then.
EARLY_LOOK_S: Final = 1.0
#: A deletion was asked for and the watch does not show it: ask again after this long.
DELETE_AGAIN_S: Final = 5.0
DEFAULT_GRACE_S: Final = 30
#: A cancel is told to its caller after this long, also where the pod has a longer grace and uses it.
CANCEL_TOLD_AFTER_S: Final = 600.0


class JobController:
    """Owns one job. :meth:`run` returns when the job is forgotten, or when another incarnation owns it.

    ``term``: of the worker's lease when it asked for the job.
    """

    def __init__(self, ctx: Context, record: JobRecord, results: RecentResults, term: int | None = None) -> None:
        self._ctx = ctx
        self._results = results
        self._term = ctx.lease.term if term is None else term
        self._news = asyncio.Event()
        self._logs = JobLogs(self, ctx.cluster, ctx.store, ctx.buffers)
        fence = Fence(ctx.incarnation, record.epoch)
        self._job = OwnedRecord(record, fence, ctx, news=self._news, logs=self._logs)
        self._pod = JobPod(ctx.cluster, ctx.watches, record.job_id, self._news)
        self._seen = PodHistory()
        self._is_in_question = False
        self._is_forgotten = False
        self._is_unlabelled = False  # and it was told
        self._step = ""  #: what it is doing, for a person
        self._patience = Patience()
        self._launch_back_off = BackOff(first_s=0.5, longest_s=30.0)
        self._deletion_back_off = BackOff(longest_s=30.0)
        self._log = log.bind(job_id=record.job_id)

    @property
    def record(self) -> JobRecord:
        """The job's record as Redis has it."""
        return self._job.record

    @property
    def fence(self) -> Fence:
        return self._job.fence

    @property
    def waits_outside(self) -> bool:
        """It waits for quota, back-off or a predecessor, and holds none of the worker's capacity."""
        return self.record.wait is not None

    @property
    def holds_capacity(self) -> bool:
        """Not with its result, whatever its pod still does, nor while it waits outside."""
        return not self.record.status.is_final and not self.waits_outside

    @property
    def known_pod(self) -> Observation | None:
        """Its pod, where the watch still shows one."""
        record = self.record
        if record.pod is None or record.namespace is None:
            return None
        return self._ctx.watches.pod(record.namespace, record.pod)

    @property
    def pod_left(self) -> Observation | None:
        """The same, and also a pod of which the record does not tell: made by a former owner, or just before something
        failed."""
        if self.record.pod is not None:
            return self.known_pod
        name = self._next_pod_name()
        shown = [watch.pods[name] for watch in self._ctx.watches if name in watch.pods]
        return next((pod for pod in shown if pod.job_id == self.record.job_id), None)

    # What the supervisor and the log controllers tell

    def pod_changed(self, pod: Observation) -> None:
        """The watch shows a pod of this job."""
        if self._is_ours(pod):
            self._pod.changed(pod)

    def pod_deleted(self, pod: Observation) -> None:
        """The watch shows the deletion of a pod of this job."""
        if self._is_ours(pod):
            self._pod.deleted(pod)
            self._logs.pod_gone()

    def _is_ours(self, pod: Observation) -> bool:
        """Whether it is the pod of the present attempt, recorded or just made."""
        return pod.uid == (self._pod.last.uid if self._pod.last else self.record.pod_uid)

    def mark_stale(self) -> None:
        """Something hints that the pod is not what the watch last showed."""
        self._pod.mark_stale()

    def cancel_requested(self, by: str) -> None:
        """Somebody asks for the job's end."""
        self._job.cancel_requested(by)

    def wake(self) -> None:
        """What the job waits for (quota, a predecessor) may be there."""
        self._news.set()

    def recheck(self) -> None:
        """The record may be another owner's, or none's, or ask for a cancel: read it before anything else."""
        self._is_in_question = True
        self._news.set()

    async def reload(self) -> None:
        """Make the record again, or put it back, where Redis has lost it or our last steps.

        Raises:
            LetGoError: another incarnation owns the job, or a newer job of the same key is to have the pod.
        """
        await self._job.reload()

    async def append_again(self, finished: Finished) -> None:
        """Append a result that Redis has lost.

        Raises:
            LetGoError: another incarnation owns the job.
            MovedElsewhereError: it has ended by now.
        """
        self._logs.tails = finished.tails
        await self._job.end(finished.ended)

    # The life of a job

    async def run(self) -> None:
        """Follow the job to its end."""
        failpoint(Failpoint.CLAIMED)
        back_off = BackOff()
        try:
            while not self._is_forgotten:
                try:
                    await self._go_on()
                    back_off.succeeded()
                except LogLostError:
                    self._log.warning("Redis has lost the end of the log, it is read again")
                    self._logs.read_again()
                except MovedElsewhereError:
                    await self._job.reload()
                    if not self.record.status.is_final:  # nobody has ended it: the record contradicts itself
                        self._log.warning("move refused", status=self.record.status.value)
                        await self._wait(back_off.failed())
                except LetGoError:
                    raise
                except Exception as error:  # noqa: BLE001 a defect of ours, or data that nobody has foreseen
                    await self._failed(error)
        except LetGoError:
            self._log.info("let go", epoch=self.fence.epoch)
            discard(self._logs.tails)
        finally:
            await self._logs.stop()

    async def _go_on(self) -> None:
        if self.record.status.is_final:
            self._step = "cleaning up"
            await self._clean_up()
        elif self._is_in_question:
            self._step = "reading its record"
            self._is_in_question = False
            await self._job.reload()
        else:
            self._step = "launching its pod" if self.record.pod is None else "following its pod"
            await self._get_on()

    async def _get_on(self) -> None:
        if self.record.unreadable is not None:
            text = f"this worker cannot read the spec: {self.record.unreadable}. Mend it, or upgrade the workers."
            await self._conclude(Ended(Status.FAILED, FailureReason.INVALID_SPEC, text, None, user_code_started=False))
        elif (finished := self._results.of_resubmitted(self.record)) is not None:
            await self.append_again(finished)
        elif self.record.pod is None and self.record.status is not Status.QUEUED:
            await self._look_for_pod()
        elif self.record.pod is None:
            await self._launch()
        elif self.record.deletion_intent is DeletionIntent.NEXT_ATTEMPT:
            await self._requeue()
        else:
            await self._follow()

    async def _look_for_pod(self) -> None:
        """The record speaks of a pod and does not name it (Redis has lost that): it is found where it would be made."""
        detail = "Redis has lost which pod it is"
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=self.record.attempt)
        await self._job.move(target=Status.QUEUED, event=event, detail=detail)

    # Failing

    async def _failed(self, error: Exception) -> None:
        """It failed at a step: try again for a while, and say so; then end the job by its record's fields alone."""
        record, now = self.record, asyncio.get_running_loop().time()
        self._ctx.guard.failed("job", error, job_id=record.job_id, step=self._step)
        step = (self._step, str(record.attempt), record.status.value)
        failed = self._patience.failed(step, now, has_pod=record.pod is not None)
        text = f"this worker failed {failed.times} times at {self._step}: {type(error).__name__}: {error}"[:1000]
        if failed.wait_s is None:
            await self._best(self._leave() if record.status.is_final else self._give_up(text))
        elif failed.times > 1 and not record.status.is_final:
            await self._best(self._tell_failure(text))
        has_got_on = self._is_forgotten or self.record.status is not record.status
        await asyncio.sleep(0 if has_got_on else failed.wait_s or LONGEST_WAIT_S)

    async def _best(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it if it can be done: it may need what has failed."""
        try:
            await doing
        except LetGoError:
            raise
        except Exception as error:  # noqa: BLE001 whatever kept the job from getting on
            self._ctx.guard.failed("job", error, job_id=self.record.job_id)

    async def _tell_failure(self, text: str) -> None:
        record = self.record
        event = StatusChanged(
            status=record.status, detail=text, attempt=record.attempt, pod=record.pod, namespace=record.namespace
        )
        await self._job.move(event=event, only_from=(record.status,), detail=text)

    async def _give_up(self, text: str) -> None:
        await self._logs.stop()
        result = plain_result(self.record, text)
        try:
            await self._job.end_plainly(EndedEvent(result=result))
        except MovedElsewhereError:
            await self._job.reload()
        else:
            reason = result.reason.value if result.reason else None
            self._log.error("given up", status=result.status.value, reason=reason, why=text)

    async def _leave(self) -> None:
        """Clean-up fails: ask for the pod's deletion by its name, and leave the rest to the sweep of stray pods."""
        record = self.record
        if record.namespace and record.pod and record.pod_uid:
            await self._best(self._delete(record.namespace, record.pod, record.pod_uid))
        await self._forget()

    # Launching

    async def _launch(self) -> None:
        """Do the next thing towards a pod."""
        record, now = self.record, self._ctx.lease.now()
        if self._ctx.health.blind and record.attempt == 0:
            # One that has run before is kept: a Redis that loses a job without an owner loses that it has run, too.
            await self._release()
        elif self._term != self._ctx.lease.term:
            # The lease may have lapsed, and another worker may have had the job meanwhile, to its end.
            self._term = self._ctx.lease.term
            await self._job.reload()
        elif record.cancel_requested:
            await self._cancel_unlaunched()
        elif now >= record.deadline_to_queue():
            if await self._ctx.store.run(expire(record.job_id, record.spec.queue)) is ExpireOutcome.EARLY:
                await self._wait(EARLY_LOOK_S)
            await self._job.reload()
        elif record.predecessor is not None and not await self._is_gone(record.predecessor):
            await self._tell_wait(
                WaitReason.PREDECESSOR, f"waiting for the pod of its predecessor {record.predecessor}"
            )
            await self._wait(PREDECESSOR_LOOK_S)
        elif now < record.not_before:
            await self._wait(record.not_before - now)
        else:
            await self._create()

    async def _create(self) -> None:
        attempt = self.record.attempt + 1
        match await ensure_pod(self._ctx, self.record, attempt, may_create=self._may_create):
            case Launched(pod, number, was_adopted):
                failpoint(Failpoint.POD_CREATED)
                await self._record_pod(pod, number, was_adopted=was_adopted)
            case Refused(reason, message):
                await self._conclude(Ended(Status.FAILED, reason, message, None, user_code_started=False))
            case Unserved():
                await self._release()
            case Later(wait, detail, error):
                if isinstance(error, ClusterUnavailableError):
                    self._ctx.health.doubt()
                await self._tell_wait(wait, detail)
                limit_s = self.record.deadline_to_queue() - self._ctx.lease.now()
                await self._wait(min(limit_s, self._launch_back_off.failed(error)))

    async def _release(self) -> None:
        """Another worker can launch it, this one cannot."""
        release_it = release(self.fence.owner, self.record.spec.queue, [self.record.job_id])
        await self._ctx.store.run(release_it)
        raise LetGoError

    def _may_create(self) -> bool:
        return self._ctx.lease.held and self._ctx.lease.term == self._term

    async def _record_pod(self, pod: Observation, attempt: int, *, was_adopted: bool) -> None:
        event = StatusChanged(status=Status.STARTING, attempt=attempt, pod=pod.name, namespace=pod.namespace)
        self._pod.begin(pod)
        try:
            await self._job.move(
                target=Status.STARTING,
                event=event,
                attempt=attempt,
                pod=pod.name,
                pod_uid=pod.uid,
                namespace=pod.namespace,
                wait=None,
                not_before=0.0,
                predecessor=None,
                detail="",
            )
        except MovedElsewhereError:
            # The job was ended while its pod was being made. Forgotten only when it is gone: a successor may wait.
            await self._remove(pod)
            raise
        failpoint(Failpoint.POD_RECORDED)
        self._log.info("pod adopted" if was_adopted else "pod created", pod=pod.name, attempt=attempt)

    async def _cancel_unlaunched(self) -> None:
        """No pod is recorded, but an earlier try, or a former owner, may have created one and not heard of it."""
        pod = await self._stray_pod()
        if pod is not None:
            await self._record_pod(pod, self.record.attempt + 1, was_adopted=True)
            return
        text = f"cancelled by {self.record.cancel_requested_by}"
        await self._conclude(Ended(Status.CANCELLED, None, text, None, user_code_started=False))

    async def _stray_pod(self) -> Observation | None:
        namespace = namespace_of(self.record.spec, self._ctx.default_namespace)
        pod = await self._pod.read(namespace, self._next_pod_name())
        return pod if pod is not None and pod.job_id == self.record.job_id else None

    def _next_pod_name(self) -> str:
        return names.pod_name(
            name=self.record.spec.name,
            installation=self._ctx.settings.installation,
            job_id=self.record.job_id,
            attempt=self.record.attempt + 1,
        )

    async def _is_gone(self, predecessor: str) -> bool:
        """Whether the pods of everything before are gone: a predecessor that was ended while it waited itself hands on
        what it waited for."""
        waited_for: str | None = predecessor
        seen = set[str]()
        while waited_for is not None and waited_for not in seen:
            seen.add(waited_for)
            record = await self._ctx.store.read_record(waited_for)
            if record is not None and not record.is_forgotten:
                return False
            waited_for = record.predecessor if record else None
        return True

    async def _tell_wait(self, wait: WaitReason, detail: str) -> None:
        if self.record.wait is wait and self.record.detail == detail:
            return
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=self.record.attempt)
        await self._job.move(event=event, only_from=(Status.QUEUED,), wait=wait, detail=detail)
        self._log.info("waiting", wait=wait.value, detail=detail)

    # Following

    async def _follow(self) -> None:
        """Follow the record's pod until its attempt has an outcome."""
        spec = self.record.spec
        while not self._is_in_question:
            pod = await self._present()
            now = self._ctx.lease.now()
            if pod is None and self._pod.last is not None and self._pod.last.uid == self.record.pod_uid:
                self._seen = self._seen.after(self._pod.last, spec.base_container, now)
            verdict = self._verdict(pod, now)
            if pod is not None:
                self._seen = self._seen.after(pod, spec.base_container, now)
                self._logs.see(pod, self.record, is_gone=self._pod.is_gone)
                await self._tell_unlabelled(pod)
            match verdict:
                case Starting(detail, look_again_at):
                    await self._tell(Status.STARTING, detail)
                case Running(detail, look_again_at):
                    await self._tell(Status.RUNNING, detail)
                case MustEnd():
                    again_s = await self._end_pod(verdict, pod)
                    look_again_at = self._ctx.lease.now() + again_s
                case Ended():
                    await self._attempt_ended(verdict, pod or self._pod.final_observation)
                    return
                case Settled():
                    await self._settle(pod)
                    return
            limits_s = [self._pod.unwatched_s()]
            limits_s.append(None if look_again_at is None else look_again_at - self._ctx.lease.now())
            await self._wait(min((limit_s for limit_s in limits_s if limit_s is not None), default=None))

    async def _tell_unlabelled(self, pod: Observation) -> None:
        """Tell once that somebody (an admission webhook, kubectl) took away what the watch finds the pod by."""
        if pod.job_id == self.record.job_id or self._is_unlabelled:
            return
        self._is_unlabelled = True
        text = (
            f"pod {pod.name} does not bear podrelay's labels (any more), so it is only looked at every "
            f"{UNWATCHED_S:.0f} s. Find out who changes the labels of pods."
        )
        await self._job.move(event=Notice(level="warning", text=text))
        self._log.warning("pod without its labels", pod=pod.name)

    def _verdict(self, pod: Observation | None, now: float) -> Verdict:
        spec = self.record.spec
        verdict = judge(spec, self.record, pod, now, seen=self._seen)
        if self._pod.is_gone and isinstance(verdict, Starting | Running | MustEnd):
            # The last look at a pod that is gone told no outcome by itself: its absence does.
            return judge(spec, self.record, None, now, seen=self._seen)
        if pod is None or not isinstance(verdict, Starting | Running):
            return verdict
        since = self._seen.after(pod, spec.base_container, now).deletion_seen_at
        if since is None or self.record.deletion_intent is not DeletionIntent.CANCELLED:
            return verdict
        # A cancelled job whose pod takes its time: the pod goes on to the end of its grace without it.
        told_at = since + CANCEL_TOLD_AFTER_S
        if now < told_at:
            return replace(verdict, look_again_at=min(verdict.look_again_at or told_at, told_at))
        text = f"cancelled by {self.record.cancel_requested_by}; its pod {pod.name} still runs: it was told to end"
        text = f"{text} {CANCEL_TOLD_AFTER_S:.0f} s ago, and has {pod.deletion_grace_s or 0:g} s for it"
        return Ended(Status.CANCELLED, None, text, None, user_code_started=True)

    async def _present(self) -> Observation | None:
        record = self.record
        assert record.pod is not None
        assert record.namespace is not None
        return await self._pod.present(record.spec, namespace=record.namespace, name=record.pod, uid=record.pod_uid)

    async def _tell(self, status: Status, detail: str) -> None:
        record, node = self.record, self._pod.last.node if self._pod.last else None
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
        await self._job.move(target=status, event=event, detail=detail, node=node)
        if record.status is not status:
            self._log.info("status", status=status.value, pod=record.pod, node=node)
            if status is Status.RUNNING:
                failpoint(Failpoint.RUNNING_RECORDED)

    async def _end_pod(self, verdict: MustEnd, pod: Observation | None) -> float:
        """Record the intent, then ask for the pod's deletion. Returns after how many seconds to ask again."""
        if self.record.deletion_intent is not verdict.intent:
            await self._job.move(
                deletion_intent=verdict.intent,
                intent_reason=verdict.reason,
                intent_message=verdict.message,
            )
            self._log.info("ending the pod", intent=verdict.intent.value, why=verdict.message)
            failpoint(Failpoint.INTENT_RECORDED)
        error = None if pod is None else await self._pod.ask_to_go(pod)
        if error is None:
            self._deletion_back_off.succeeded()
            return DELETE_AGAIN_S
        # A right that was taken away, a webhook: the pod may end by itself meanwhile.
        await self._tell(self.record.status, f"the pod cannot be deleted yet: {error}")
        return self._deletion_back_off.failed(error)

    # Ending

    async def _attempt_ended(self, ended: Ended, pod: Observation | None) -> None:
        match next_step(self.record.spec, self.record, ended):
            case Retry(attempt, back_off_s, why):
                await self._drain_logs()
                await self._record_retry(attempt, back_off_s, why)
            case Conclude():
                await self._conclude(ended, pod)

    async def _record_retry(self, attempt: int, back_off_s: float, why: str) -> None:
        not_before = self._ctx.lease.now() + back_off_s
        await self._job.move(
            event=Notice(level="warning", text=f"{why} Attempt {attempt} follows in {back_off_s:.0f} s."),
            deletion_intent=DeletionIntent.NEXT_ATTEMPT,
            not_before=not_before,
        )
        self._log.info("attempt failed", attempt=self.record.attempt, why=why)
        failpoint(Failpoint.RETRY_RECORDED)

    async def _requeue(self) -> None:
        """Remove the failed attempt's pod; the job then waits for its next one."""
        await self._remove(await self._present())
        detail = f"backing off before attempt {self.record.attempt + 1}"
        await self._job.move(
            target=Status.QUEUED,
            event=StatusChanged(status=Status.QUEUED, detail=detail, attempt=self.record.attempt),
            pod=None,
            pod_uid=None,
            node=None,
            deletion_intent=None,
            intent_reason=None,
            intent_message="",
            wait=WaitReason.BACK_OFF,
            detail=detail,
        )
        self._pod.begin(None)
        self._seen = PodHistory()
        failpoint(Failpoint.REQUEUED)

    async def _settle(self, pod: Observation | None) -> None:
        """The record says that we removed this pod at the job's end, but it has no result: its worker died between
        asking for the deletion and the result (only possible with extra containers and a return value)."""
        if self.record.deletion_intent is not DeletionIntent.FINISHED:
            await self._job.reload()
            return
        status = Status.SUCCEEDED if self.record.intent_reason is None else Status.FAILED
        ended = Ended(status, self.record.intent_reason, self.record.intent_message, None, user_code_started=True)
        await self._conclude(ended, pod)

    async def _conclude(self, ended: Ended, pod: Observation | None = None) -> None:
        """Gather what belongs to the result, and append it."""
        self._step = "gathering its result"
        return_value = ReturnValue()
        if self.record.spec.return_value and ended.status is Status.SUCCEEDED and pod is not None:
            return_value, logs = await self._collect(ended, pod)
        else:
            logs = await self._drain_logs()
            if self.record.spec.return_value and ended.status is Status.SUCCEEDED:
                return_value = LOST_RETURN_VALUE
        result = make_result(
            self.record,
            ended,
            pod,
            return_value=return_value,
            warnings=await self._warnings(ended),
            logs=logs,
            log_url=self._log_url(),
        )
        event = EndedEvent(result=result)
        await self._job.end(event)
        self._results.keep(self.record, event, self._logs.tails)
        reason = result.reason.value if result.reason else None
        self._log.info("ended", status=result.status.value, reason=reason, why=result.message)
        failpoint(Failpoint.RESULT_APPENDED)

    async def _drain_logs(self) -> dict[str, LogSummary]:
        summaries = await self._logs.drain(self.record.spec.log_drain_timeout_s, self.record, is_gone=self._pod.is_gone)
        self._job.note_published()
        self._logs.end_attempt()
        failpoint(Failpoint.LOG_DRAINED)
        return summaries

    async def _collect(self, ended: Ended, pod: Observation) -> tuple[ReturnValue, dict[str, LogSummary]]:
        """Drain the logs and read the return value. The sidecar prints when it is told to end, which the kubelet does
        after all plain containers have ended: one that goes on is ended by deleting the pod."""
        reading = asyncio.create_task(read_return_value(self._ctx.cluster, pod.namespace, pod.name))
        try:
            logs = await self._drain_logs()
            if any(c.kind == "main" and c.state != "terminated" for c in pod.containers):
                await self._end_pod(MustEnd(DeletionIntent.FINISHED, ended.reason, ended.message), pod)
            return_value = await reading
        finally:
            reading.cancel()
        failpoint(Failpoint.RETURN_VALUE_READ)
        return return_value, logs

    async def _warnings(self, ended: Ended) -> tuple[ClusterEvent, ...]:
        record = self.record
        if ended.status is not Status.FAILED or record.namespace is None or record.pod_uid is None:
            return ()
        return await read_warnings(self._ctx.cluster, record.namespace, record.pod_uid)

    def _log_url(self) -> str | None:
        record = self.record
        return self._ctx.log_url(
            namespace=record.namespace or "",
            pod=record.pod or "",
            pod_uid=record.pod_uid or "",
            container=record.spec.base_container,
            job_id=record.job_id,
            attempt=record.attempt,
        )

    async def _clean_up(self) -> None:
        """Remove the pod, or mark and keep it; then forget the job."""
        if self.record.pod is not None:
            pod = await self._present()
            if pod is not None and self._is_kept(pod):
                await self._pod.patch(pod, {"labels": {names.LABEL_DONE: "true"}})
            else:
                await self._remove(pod)
        await self._forget()

    async def _delete(self, namespace: str, pod: str, uid: str) -> None:
        await self._ctx.cluster.delete_pod(namespace, pod, uid=uid)

    async def _forget(self) -> None:
        reply = await self._ctx.store.run(forget(self.record.job_id, self.fence, self.record.spec.queue))
        self._is_forgotten = True
        self._log.info("forgotten", reply=reply.value)
        failpoint(Failpoint.FORGOTTEN)

    def _is_kept(self, pod: Observation) -> bool:
        status = self.record.status
        if status is Status.CANCELLED or pod.is_being_deleted or self._pod.is_gone:
            return False
        match self.record.spec.on_finish:
            case OnFinish.DELETE_POD:
                return False
            case OnFinish.KEEP_POD:
                return True
            case OnFinish.DELETE_SUCCEEDED_POD:
                return status is not Status.SUCCEEDED
            case OnFinish.DELETE_ACTIVE_POD:
                return all(c.state == "terminated" for c in pod.containers) or pod.has_ended

    async def _remove(self, pod: Observation | None) -> None:
        if pod is None or self._pod.is_gone:
            return
        await self._pod.delete(pod)
        grace_s = pod.deletion_grace_s or self.record.spec.termination_grace_period_s or DEFAULT_GRACE_S
        await self._pod.until_gone(pod, grace_s)

    async def _wait(self, limit_s: float | None) -> None:
        """Wait for news, or until the time is over."""
        # Not wait_for: it can swallow a cancellation that comes with the news.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if limit_s is None else max(0.0, limit_s)):
                await self._news.wait()
                self._news.clear()
