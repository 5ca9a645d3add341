"""Launch: everything between a job's claim and its pod in the record.

A job waits here for its predecessor's pod to go, for its back-off, for quota, for the API server, but no longer than
its queue timeout. Each call does the one thing that is next; what that is, the record tells.
"""

from typing import Final

from dispatcher import names
from dispatcher.events import StatusChanged
from dispatcher.record import WaitReason
from dispatcher.status import Status
from dispatcher.steps import ExpireOutcome, expire, release
from worker.cluster.client import Backoff, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.failpoints import Failpoint, failpoint
from worker.jobs.owned_job import OwnedJob
from worker.jobs.owned_record import MovedElsewhereError
from worker.jobs.pod_creation import Later, Launched, Refused, Unserved, ensure_pod
from worker.logs.publisher import LetGoError
from worker.rules.manifest import namespace_of
from worker.rules.verdict import AttemptEnded
from worker.store import Store

#: How often to look whether the predecessor's pod is gone.
PREDECESSOR_LOOK_S: Final = 5.0
#: Redis may find that a job may still wait (its clock was set back, the record says something else): asked again then.
EARLY_LOOK_S: Final = 1.0


class JobLauncher:
    """Brings one job to its pod.

    ``term``: of the worker's lease when it asked for the job.
    """

    def __init__(self, job: OwnedJob, term: int) -> None:
        self._job = job
        self._ctx = job.ctx
        self._term = term
        self._back_off = Backoff(first_s=0.5, longest_s=30.0)

    @property
    def next_pod_name(self) -> str:
        """The name of the pod of the attempt that is next."""
        record = self._job.record
        return names.pod_name(
            name=record.spec.name,
            installation=self._ctx.settings.installation,
            job_id=record.job_id,
            attempt=record.attempt + 1,
        )

    async def launch(self) -> AttemptEnded | None:
        """Do the next thing towards a pod. Returns how the job ends where it is to have none.

        Raises:
            LetGoError: another worker is to launch it.
            MovedElsewhereError: the job was ended meanwhile.
        """
        record, now = self._job.record, self._ctx.lease.now()
        if self._ctx.health.blind and record.attempt == 0:
            # One that has run before is kept: a Redis that loses a job without an owner loses that it has run, too.
            await self._release()
        elif self._term != self._ctx.lease.term:
            # The lease may have lapsed, and another worker may have had the job meanwhile, to its end.
            self._term = self._ctx.lease.term
            await self._job.owned.reload()
        elif record.cancel_requested:
            return await self._cancel()
        elif now >= record.deadline_to_queue():
            await self._expire()
        elif record.predecessor is not None and not await are_gone(self._ctx.store, record.predecessor):
            detail = f"waiting for the pod of its predecessor {record.predecessor}"
            await self._tell_wait(WaitReason.PREDECESSOR, detail)
            await self._job.wait(PREDECESSOR_LOOK_S)
        elif now < record.not_before:
            await self._job.wait(record.not_before - now)
        else:
            return await self._create()
        return None

    async def _release(self) -> None:
        """Let go of a job that another worker can launch and this one cannot."""
        record = self._job.record
        await self._ctx.store.run(release(self._job.owned.fence.owner, record.spec.queue, [record.job_id]))
        raise LetGoError

    async def _expire(self) -> None:
        record = self._job.record
        if await self._ctx.store.run(expire(record.job_id, record.spec.queue)) is ExpireOutcome.EARLY:
            await self._job.wait(EARLY_LOOK_S)
        await self._job.owned.reload()

    async def _create(self) -> AttemptEnded | None:
        record = self._job.record
        match await ensure_pod(self._ctx, record, record.attempt + 1, may_create=self._may_create):
            case Launched(pod, number, was_adopted):
                failpoint(Failpoint.POD_CREATED)
                await self._record_pod(pod, number, was_adopted=was_adopted)
            case Refused(reason, message):
                return AttemptEnded(Status.FAILED, reason, message, None, user_code_started=False)
            case Unserved():
                await self._release()
            case Later(wait, detail, error):
                if isinstance(error, ClusterUnavailableError):
                    self._ctx.health.doubt()
                await self._tell_wait(wait, detail)
                limit_s = self._job.record.deadline_to_queue() - self._ctx.lease.now()
                await self._job.wait(min(limit_s, self._back_off.failed(error)))
        return None

    def _may_create(self) -> bool:
        return self._ctx.lease.held and self._ctx.lease.term == self._term

    async def _record_pod(self, pod: Observation, attempt: int, *, was_adopted: bool) -> None:
        event = StatusChanged(status=Status.STARTING, attempt=attempt, pod=pod.name, namespace=pod.namespace)
        self._job.pod.begin(pod)
        try:
            await self._job.owned.move(
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
            await self._job.remove_pod(pod)
            raise
        failpoint(Failpoint.POD_RECORDED)
        self._job.log.info("pod adopted" if was_adopted else "pod created", pod=pod.name, attempt=attempt)

    async def _cancel(self) -> AttemptEnded | None:
        """Cancel a job without a recorded pod; record first one that an earlier try, or a former owner, has created."""
        record = self._job.record
        pod = await self._job.pod.read(namespace_of(record.spec, self._ctx.default_namespace), self.next_pod_name)
        if pod is not None and pod.job_id == record.job_id:
            await self._record_pod(pod, self._job.record.attempt + 1, was_adopted=True)
            return None
        text = f"cancelled by {self._job.record.cancel_requested_by}"
        return AttemptEnded(Status.CANCELLED, None, text, None, user_code_started=False)

    async def _tell_wait(self, wait: WaitReason, detail: str) -> None:
        record = self._job.record
        if record.wait is wait and record.detail == detail:
            return
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=record.attempt)
        await self._job.owned.move(event=event, only_from=(Status.QUEUED,), wait=wait, detail=detail)
        self._job.log.info("waiting", wait=wait.value, detail=detail)

    async def find_pod(self) -> None:
        """Queue a job again whose record speaks of a pod and does not name it: Redis has lost that.

        The next attempt's pod is that pod: it is found where it would be made.
        """
        detail = "Redis has lost which pod it is"
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=self._job.record.attempt)
        await self._job.owned.move(target=Status.QUEUED, event=event, detail=detail)


async def are_gone(store: Store, predecessor: str) -> bool:
    """Tell whether the pods of the predecessor, and of those that it waited for itself, are gone."""
    waited_for: str | None = predecessor
    seen = set[str]()
    while waited_for is not None and waited_for not in seen:
        seen.add(waited_for)
        record = await store.read_record(waited_for)
        if record is not None and not record.is_forgotten:
            return False
        waited_for = record.predecessor if record else None
    return True
