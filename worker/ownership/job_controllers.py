"""The jobs that this worker owns, each with its controller: how it claims more, and how it hands all of them over.

Ownership is not kept anywhere else: a worker's jobs are those that have a controller here.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec
from dispatcher.steps import Claimed, ClaimOutcome, Step, claim, release, submit
from dispatcher.version import VERSION, is_older
from worker.context import Context
from worker.guard import QUIET_S
from worker.jobs.controller import JobController
from worker.jobs.recent_results import RecentResults

log = structlog.get_logger("podrelay.worker")

#: How long a worker that shuts down tries to release its jobs, and those that it is just claiming: it is to be gone
#: within 10 s.
HAND_OVER_S: Final = 3.0
#: A launch that takes longer gives up its message: the sweep finds the job's record.
LAUNCH_S: Final = 50.0
#: How many offered jobs are claimed at the same time; the sweep finds the others.
MOST_OFFERS: Final = 100


class JobControllers:
    """The controllers of this worker's jobs, each in a task of its own.

    ``ended`` is called with each controller that has ended.

    Attributes:
        by_id: the controllers, by job id.
        capacity_changed: called when there may be more or less capacity than before.
    """

    def __init__(
        self,
        ctx: Context,
        results: RecentResults,
        *,
        capacity_changed: Callable[[], None],
        ended: Callable[[JobController], None],
    ) -> None:
        self.by_id: dict[str, JobController] = {}
        self.capacity_changed = capacity_changed
        self._ctx = ctx
        self._results = results
        self._ended = ended
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._claiming: set[asyncio.Task[dict[str, ClaimOutcome]]] = set()
        self._offers: set[str] = set()
        self._left_alone_told_at: dict[str, float] = {}

    @property
    def may_take_more(self) -> bool:
        """Whether queued jobs may be claimed now."""
        return self.has_capacity and self._ctx.lease.may_launch and not self._is_closed

    @property
    def has_capacity(self) -> bool:
        """Whether there is room for more jobs.

        Jobs that have their result do not count, nor do those that wait for something else than a worker (see
        :class:`dispatcher.record.WaitReason`), nor those in a namespace whose pods the API server does not show any
        more: they would hold up the others.
        """
        if len(self.by_id) < self._ctx.settings.max_jobs:
            return True
        refused = self._ctx.watches.refused
        counted = sum(one.holds_capacity and one.record.namespace not in refused for one in self.by_id.values())
        return counted < self._ctx.settings.max_jobs

    async def launch(self, job: str | JobSpec) -> ClaimOutcome:
        """Claim the job and start its controller. A spec (a publisher in another language) is recorded first.

        Raises:
            TimeoutError: it cannot be claimed now; the sweep claims it when it can.
        """
        async with asyncio.timeout(LAUNCH_S):
            if isinstance(job, JobSpec):
                submitted = await self._ctx.store.run(submit(job, with_message=False))
                job = submitted.job_id
            if not self._ctx.lease.may_launch:
                return ClaimOutcome.REDIS_CHANGED  # the sweep finds it when its time has come
            outcomes = await self.claim_many({job: ""})
        if job not in outcomes:
            raise TimeoutError(f"job {job} cannot be claimed now")
        return outcomes[job]

    async def claim_many(self, jobs: Mapping[str, str]) -> dict[str, ClaimOutcome]:
        """Claim jobs, each from its former owner ('' for none), in one round trip, and start their controllers.

        Returns each claim's outcome; one that raised has none. Goes on when the caller is cancelled: a job that was
        claimed gets its controller, or is released.
        """
        claiming = asyncio.create_task(self._claim_many(jobs))
        self._claiming.add(claiming)
        claiming.add_done_callback(self._claiming.discard)
        return await asyncio.shield(claiming)

    async def _claim_many(self, jobs: Mapping[str, str]) -> dict[str, ClaimOutcome]:
        wanted = [job_id for job_id in jobs if job_id not in self.by_id and not self._is_closed]
        steps = [self._claim_step(job_id, jobs[job_id]) for job_id in wanted]
        term = self._ctx.lease.term
        claims = dict[str, Claimed]()
        answers = await self._ctx.store.run_each(steps)
        for job_id, claimed in zip(wanted, answers, strict=True):
            if isinstance(claimed, Exception):
                self._ctx.guard.failed("claim", claimed, job_id=job_id)
                continue
            claims[job_id] = claimed
            if claimed.outcome is ClaimOutcome.UNREADABLE:
                self._tell_left_alone(job_id, claimed.unreadable)
        taken = [claimed.record for claimed in claims.values() if claimed.record is not None]
        if taken and self._is_closed:
            job_ids = [record.job_id for record in taken]
            await self._ctx.store.run(release(self._ctx.incarnation, self._ctx.settings.queue, job_ids))
            taken = []
        for record in taken:
            if claims[record.job_id].outcome is ClaimOutcome.CLAIMED or record.job_id not in self._results:
                self.begin(record, term)  # else Redis has lost its result, which is appended again
        if refused := [job_id for job_id, claimed in claims.items() if claimed.outcome is ClaimOutcome.NO_LEASE]:
            log.warning("no lease, jobs not claimed", job_ids=refused)
        followed = dict.fromkeys((job_id for job_id in jobs if job_id not in wanted), ClaimOutcome.OWNED)
        return followed | {job_id: claimed.outcome for job_id, claimed in claims.items()}

    def _tell_left_alone(self, job_id: str, field: str) -> None:
        """Log it now and then for each job, not each time: anybody may offer it again and again."""
        now = asyncio.get_running_loop().time()
        self._left_alone_told_at = {
            x: told_at for x, told_at in self._left_alone_told_at.items() if now - told_at < QUIET_S
        }
        if job_id not in self._left_alone_told_at:
            self._left_alone_told_at[job_id] = now
            why = f"its field {field!r} says something else than this version knows"
            log.warning("job left alone, its record cannot be read", job_id=job_id, why=why)

    def _claim_step(self, job_id: str, former_owner: str) -> Step[Claimed]:
        return claim(
            job_id,
            self._ctx.incarnation,
            namespaces=self._ctx.served,
            default_namespace=self._ctx.default_namespace,
            former_owner=former_owner,
            redis_life=self._ctx.lease.server_run,
        )

    def begin(self, record: JobRecord, term: int | None = None) -> None:
        """Start the controller of a job that this incarnation owns. ``term``: the lease's when the job was claimed."""
        if record.job_id in self.by_id or self._is_closed:
            return
        controller = JobController(self._ctx, record, self._results, term)
        self.by_id[record.job_id] = controller
        self._keep_task(asyncio.create_task(self._control(controller), name=f"job {record.job_id}"))
        self.capacity_changed()

    def _keep_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _control(self, controller: JobController) -> None:
        job_id = controller.record.job_id
        try:
            await controller.run()
        except Exception:
            # A defect of ours must neither lose the job nor spin: the reconciler finds it owned and without controller.
            log.exception("follower failed", job_id=job_id)
        finally:
            del self.by_id[job_id]
            self._ended(controller)
            if not self._is_closed:
                self.capacity_changed()

    def offered(self, job_id: str, namespace: str, min_worker_version: str) -> None:
        """Claim a job that another worker heard of and cannot run, if this one can."""
        # Nobody else may try: a claim by a worker that does not serve it offers the job again, to everybody.
        is_new = job_id not in self._offers and len(self._offers) < MOST_OFFERS
        can_run = namespace in self._ctx.served and not is_older(VERSION, min_worker_version)
        if self.may_take_more and is_new and can_run:
            self._offers.add(job_id)
            self._keep_task(asyncio.create_task(self._take_offer(job_id), name=f"offered job {job_id}"))

    async def _take_offer(self, job_id: str) -> None:
        try:
            with self._ctx.guard.one_of_many("offer", job_id=job_id):
                await self.claim_many({job_id: ""})
        finally:
            self._offers.discard(job_id)

    # Leaving

    def close(self) -> None:
        """Take no more jobs, and release those whose claim is answered from now on."""
        self._is_closed = True

    async def hand_over(self) -> None:
        """Release every job in one step; the pods run on.

        Comes before anything is stopped: Redis refuses from then on whatever is still under way here.
        """
        self._ctx.lease.end_term()
        job_ids = list(self.by_id)
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await self._ctx.store.run(release(self._ctx.incarnation, self._ctx.settings.queue, job_ids))
                while self._claiming:
                    await asyncio.wait(self._claiming)
        except TimeoutError:
            log.warning("jobs not handed over, Redis is away: they are taken over when the lease ends")
        log.info("handed over", jobs=len(job_ids))

    async def stop(self) -> None:
        """Cancel all tasks here, and tell Redis nothing."""
        left = [*self._tasks, *self._claiming]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
