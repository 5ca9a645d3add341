"""The life of one job: claim → launch → follow → finish → forget.

Each turn looks at the present, the record and then the pod, and does the one thing that is next. Whatever was being
done when a process died, the next owner's controller finds the same present and goes on from there. It waits for news
only: from the watch, from control, or for the time that a verdict names.

- **claim** (:mod:`worker.ownership.job_controllers`): claim the record, and make a controller for it.
- **launch** (:mod:`worker.jobs.launcher`): wait for what must come first, create the pod, record it.
- **follow** (here): tell what the pod does, and read its logs, until its attempt has an outcome.
- **finish** (:mod:`worker.jobs.finisher`): begin another attempt; or read the logs to their ends, append the result.
- **forget** (:mod:`worker.jobs.finisher`): remove or keep the pod; the job leaves the queue's active jobs.

Where this worker itself fails at a step: :mod:`worker.jobs.last_resort`.
"""

from dataclasses import replace
from typing import Final

from dispatcher.events import Notice
from dispatcher.record import DeletionIntent, JobRecord
from dispatcher.status import FailureReason, Status
from dispatcher.steps import Fence
from worker.cluster.client import Backoff
from worker.cluster.observation import Observation
from worker.context import Context
from worker.failpoints import Failpoint, failpoint
from worker.jobs.finisher import JobFinisher
from worker.jobs.last_resort import LastResort
from worker.jobs.launcher import JobLauncher
from worker.jobs.owned_job import OwnedJob
from worker.jobs.owned_record import LogLostError, MovedElsewhereError
from worker.jobs.pod import UNWATCHED_S
from worker.jobs.recent_results import Finished, RecentResults
from worker.logs.attempt import discard
from worker.logs.publisher import LetGoError
from worker.rules.history import PodHistory
from worker.rules.judge import judge
from worker.rules.verdict import AttemptEnded, DeletePod, Running, Settled, Starting, Verdict

#: A cancel is told to its caller after this long, also where the pod has a longer grace and uses it.
CANCEL_TOLD_AFTER_S: Final = 600.0


class JobController:
    """Takes one job through its life, until it is forgotten or another incarnation owns it.

    ``term``: of the worker's lease when it asked for the job.
    """

    def __init__(self, ctx: Context, record: JobRecord, results: RecentResults, term: int | None = None) -> None:
        self._ctx = ctx
        self._results = results
        self._job = OwnedJob(ctx, record, of_log=self)
        self._launcher = JobLauncher(self._job, ctx.lease.term if term is None else term)
        self._finisher = JobFinisher(self._job, results)
        self._last_resort = LastResort(self._job, self._finisher)
        self._seen = PodHistory()
        self._is_in_question = False
        self._is_unlabelled = False  # and it was told

    # The life of a job

    async def run(self) -> None:
        """Control the job until it is forgotten, or let go of."""
        failpoint(Failpoint.CLAIMED)
        back_off = Backoff()
        try:
            while not self._finisher.has_forgotten:
                await self._turn(back_off)
        except LetGoError:
            self._job.log.info("let go", epoch=self.fence.epoch)
            discard(self._job.logs.tails)
        finally:
            await self._job.logs.stop()

    async def _turn(self, back_off: Backoff) -> None:
        try:
            await self._go_on()
            back_off.succeeded()
        except LogLostError:
            self._job.log.warning("Redis has lost the end of the log, it is read again")
            self._job.logs.read_again()
        except MovedElsewhereError:
            await self._job.owned.reload()
            if not self.record.status.is_final:  # nobody has ended it: the record contradicts itself
                self._job.log.warning("move refused", status=self.record.status.value)
                await self._job.wait(back_off.failed())
        except LetGoError:
            raise
        except Exception as error:  # noqa: BLE001 a defect of ours, or data that nobody has foreseen
            await self._last_resort.failed(error)

    async def _go_on(self) -> None:
        if self.record.status.is_final:
            self._job.step = "cleaning up"
            await self._finisher.clean_up()
        elif self._is_in_question:
            self._job.step = "reading its record"
            self._is_in_question = False
            await self._job.owned.reload()
        else:
            self._job.step = "launching its pod" if self.record.pod is None else "following its pod"
            await self._get_on()

    async def _get_on(self) -> None:
        record = self.record
        if record.unreadable is not None:
            text = f"this worker cannot read the spec: {record.unreadable}. Mend it, or upgrade the workers."
            ended = AttemptEnded(Status.FAILED, FailureReason.INVALID_SPEC, text, None, user_code_started=False)
            await self._finisher.conclude(ended)
        elif (finished := self._results.of_resubmitted(record)) is not None:
            await self.append_again(finished)
        elif record.pod is None and record.status is not Status.QUEUED:
            await self._launcher.find_pod()
        elif record.pod is None:
            if (unlaunched := await self._launcher.launch()) is not None:
                await self._finisher.conclude(unlaunched)
        elif record.deletion_intent is DeletionIntent.NEXT_ATTEMPT:
            await self._finisher.requeue()
            self._seen = PodHistory()
        else:
            await self._follow()

    async def _follow(self) -> None:
        """Follow the record's pod until its attempt has an outcome."""
        while not self._is_in_question:
            pod = await self._job.present_pod()
            verdict = self._judge(pod)
            if pod is not None:
                self._job.logs.see(pod, self.record, is_gone=self._job.pod.is_gone)
                await self._tell_unlabelled(pod)
            match verdict:
                case Starting(detail, recheck_at):
                    await self._job.tell(Status.STARTING, detail)
                case Running(detail, recheck_at):
                    await self._job.tell(Status.RUNNING, detail)
                case DeletePod():
                    again_s = await self._finisher.end_pod(verdict, pod)
                    recheck_at = self._ctx.lease.now() + again_s
                case AttemptEnded():
                    await self._finisher.attempt_ended(verdict, pod or self._job.pod.final_observation)
                    return
                case Settled():
                    await self._finisher.settle(pod)
                    return
            limits_s = [self._job.pod.unwatched_s()]
            limits_s.append(None if recheck_at is None else recheck_at - self._ctx.lease.now())
            await self._job.wait(min((limit_s for limit_s in limits_s if limit_s is not None), default=None))

    def _judge(self, pod: Observation | None) -> Verdict:
        """Judge the pod by what it is and what earlier looks taught, and learn from this one."""
        now, base, last = self._ctx.lease.now(), self.record.spec.base_container, self._job.pod.last
        if pod is None and last is not None and last.uid == self.record.pod_uid:
            self._seen = self._seen.after(last, base, now)
        verdict = self._verdict(pod, now)
        if pod is not None:
            self._seen = self._seen.after(pod, base, now)
        return verdict

    def _verdict(self, pod: Observation | None, now: float) -> Verdict:
        spec = self.record.spec
        verdict = judge(spec, self.record, pod, now, seen=self._seen)
        if self._job.pod.is_gone and isinstance(verdict, Starting | Running | DeletePod):
            # The last look at a pod that is gone told no outcome by itself: its absence does.
            seen = self._seen if pod is None else self._seen.after(pod, spec.base_container, now)
            return judge(spec, self.record, None, now, seen=seen)
        if pod is None or not isinstance(verdict, Starting | Running):
            return verdict
        since = self._seen.after(pod, spec.base_container, now).deletion_seen_at
        if since is None or self.record.deletion_intent is not DeletionIntent.CANCELLED:
            return verdict
        # A cancelled job whose pod takes its time: the pod goes on to the end of its grace without it.
        told_at = since + CANCEL_TOLD_AFTER_S
        if now < told_at:
            return replace(verdict, recheck_at=min(verdict.recheck_at or told_at, told_at))
        text = f"cancelled by {self.record.cancel_requested_by}; its pod {pod.name} still runs: it was told to end"
        text = f"{text} {CANCEL_TOLD_AFTER_S:.0f} s ago, and has {pod.deletion_grace_s or 0:g} s for it"
        return AttemptEnded(Status.CANCELLED, None, text, None, user_code_started=True)

    async def _tell_unlabelled(self, pod: Observation) -> None:
        """Tell once that somebody (an admission webhook, kubectl) took away what the watch finds the pod by."""
        if pod.job_id == self.record.job_id or self._is_unlabelled:
            return
        self._is_unlabelled = True
        text = (
            f"pod {pod.name} does not bear podrelay's labels (any more), so it is only looked at every "
            f"{UNWATCHED_S:.0f} s. Find out who changes the labels of pods."
        )
        await self._job.owned.move(event=Notice(level="warning", text=text))
        self._job.log.warning("pod without its labels", pod=pod.name)

    # What others see of it

    @property
    def record(self) -> JobRecord:
        """The job's record as Redis has it."""
        return self._job.record

    @property
    def fence(self) -> Fence:
        """The owner and epoch that every write of the record shows."""
        return self._job.owned.fence

    @property
    def holds_capacity(self) -> bool:
        """Whether it counts for its worker's limit.

        Not with its result, whatever its pod still does, nor while it waits for something else than a worker.
        """
        return not self.record.status.is_final and self.record.wait is None

    @property
    def known_pod(self) -> Observation | None:
        """The recorded pod, where the watch still shows it."""
        record = self.record
        if record.pod is None or record.namespace is None:
            return None
        return self._ctx.watches.pod(record.namespace, record.pod)

    @property
    def pod_left(self) -> Observation | None:
        """The job's pod where the watch still shows one, also one of which the record does not tell.

        A former owner made such a pod, or it was made just before something failed.
        """
        if self.record.pod is not None:
            return self.known_pod
        name = self._launcher.next_pod_name
        shown = [watch.pods[name] for watch in self._ctx.watches if name in watch.pods]
        return next((pod for pod in shown if pod.job_id == self.record.job_id), None)

    # What the loop, the reconciler and the logs tell

    def pod_changed(self, pod: Observation) -> None:
        """Hear how the watch shows a pod of this job."""
        if self._is_ours(pod):
            self._job.pod.changed(pod)

    def pod_deleted(self, pod: Observation) -> None:
        """Hear that the watch shows the deletion of a pod of this job."""
        if self._is_ours(pod):
            self._job.pod.deleted(pod)
            self._job.logs.pod_gone()

    def _is_ours(self, pod: Observation) -> bool:
        """Whether it is the pod of the present attempt, recorded or just made."""
        last = self._job.pod.last
        return pod.uid == (last.uid if last else self.record.pod_uid)

    def mark_stale(self) -> None:
        """Hear a hint that the pod is not what the watch last showed."""
        self._job.pod.mark_stale()

    def cancel_requested(self, by: str) -> None:
        """Hear that somebody asks for the job's end."""
        self._job.owned.cancel_requested(by)

    def wake(self) -> None:
        """Hear that what the job waits for (quota, a predecessor) may be there."""
        self._job.news.set()

    def recheck(self) -> None:
        """Read the record before anything else: it may be another owner's, or none's, or ask for a cancel."""
        self._is_in_question = True
        self._job.news.set()

    async def reload(self) -> None:
        """Make the record again, or put it back, where Redis has lost it or our last steps.

        Raises:
            LetGoError: another incarnation owns the job, or a newer job of the same key is to have the pod.
        """
        await self._job.owned.reload()

    async def append_again(self, finished: Finished) -> None:
        """Append a result that Redis has lost.

        Raises:
            LetGoError: another incarnation owns the job.
            MovedElsewhereError: it has ended by now.
        """
        self._job.logs.tails = finished.tails
        await self._job.owned.end(finished.ended)
