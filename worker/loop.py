"""One worker's asyncio core: lease, watches, controllers, capacity, claims, and the hand-over at its end.

It knows neither threads nor Celery: :mod:`worker.supervisor` runs it beside Celery's consumer, tests in their own loop.
What it owns is derived, never counted: the controllers are the jobs that it follows.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

import structlog
from redis.exceptions import AuthenticationError

from dispatcher import connection
from dispatcher.record import JobRecord, WaitReason
from dispatcher.spec import JobSpec
from dispatcher.steps import Claimed, ClaimOutcome, Step, claim, release, submit
from worker.cluster.client import Backoff, Cluster
from worker.cluster.observation import Observation
from worker.cluster.watch import PodWatch, PodWatches
from worker.cluster_health import ClusterHealth
from worker.context import Context
from worker.guard import QUIET_S, Guard
from worker.jobs.controller import JobController
from worker.jobs.recent_results import RecentResults
from worker.lease import Heartbeat, Lease
from worker.logs.reader import Buffers
from worker.metrics import Metrics
from worker.ownership.control import Control
from worker.ownership.reconciler import Reconciler
from worker.ownership.sweeper import Sweeper
from worker.rules.slow_pods import SlowPod, SlowPods, report
from worker.settings import WorkerSettings, new_incarnation
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: A starting worker that does not know after this long which namespaces the API server shows it says that it waits.
FIRST_LOOK_S: Final = 2.0
#: How long a leaving worker tries to tell Redis that its jobs, and those that it is just claiming, are not its own any
#: more: it is to be gone within 10 s.
HAND_OVER_S: Final = 3.0
#: How long a launch may take until the message is given up: the sweep finds the job's record.
LAUNCH_S: Final = 50.0
#: Offers that are taken at a time; the sweep finds the jobs of the others.
MOST_OFFERS: Final = 100


@asynccontextmanager
async def doors(settings: WorkerSettings) -> AsyncIterator[tuple[Store, Cluster]]:
    """Open Redis and the cluster, as the settings and the environment name them.

    Raises:
        ConfigurationError: there is no usable configuration of a cluster.
    """
    async with AsyncExitStack() as stack:
        client = connection.connect_async(
            settings.redis_url.get_secret_value(),
            timeout_s=settings.redis_timeout_s,
            retries=settings.redis_retries,
            max_connections=16,
        )
        stack.push_async_callback(client.aclose)
        cluster = await stack.enter_async_context(await Cluster.connect(connections=settings.api_connections))
        yield Store(client, memory_limit_bytes=settings.redis_memory_limit_bytes), cluster


class WorkerLoop:
    """Belongs to one event loop. :meth:`run` returns when it has handed over.

    ``set_consuming`` is called with False when the worker is full or must not consume yet, and with True when it may
    consume again; not before :meth:`begin_consuming`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        store: Store,
        cluster: Cluster,
        *,
        metrics: Metrics,
        set_consuming: Callable[[bool], None],
    ) -> None:
        self.settings = settings
        self.incarnation = new_incarnation(settings)
        self.metrics = metrics
        self._set_consuming = set_consuming
        self._is_consuming = True
        self._has_consumer = False  #: before it consumes, it can be told neither to pause nor to go on
        self._controllers: dict[str, JobController] = {}
        self._guard = Guard(metrics.loop_failed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._offers: set[str] = set()
        self._left_alone: dict[str, float] = {}
        self._slow_pods = SlowPods()
        self._claiming: set[asyncio.Task[dict[str, ClaimOutcome]]] = set()
        self._draining = asyncio.Event()
        ctx = self._ctx = self._make_context(cluster, store)
        self._results = RecentResults(ctx.lease, ctx.buffers)
        self._heartbeat = Heartbeat(ctx.lease, store, incarnation=self.incarnation, settings=settings, info=self._info)
        self._sweeper = Sweeper(ctx, self, Reconciler(ctx, self, self._results))

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces whose pods the API server shows."""
        return self._ctx.watches.served

    def begin_consuming(self) -> None:
        """Tell from now on whether the queue may be consumed."""
        self._has_consumer = True
        self.check_capacity()

    def begin_hand_over(self) -> None:
        """Let go of every job at once, so that other workers take them, and end. May come twice, and before the run."""
        self._draining.set()

    async def run(self, *, started: Callable[[], None]) -> None:
        """Take the lease, however long Redis is away, and run jobs until it is told to hand over.

        ``started`` is called when the lease is held and the API server has answered. Cancelled, it ends at once: other
        workers take the jobs over when the lease ends.

        Raises:
            redis.exceptions.AuthenticationError: Redis does not take the password.
        """
        if not await self._has_lease(self._heartbeat):
            return
        control = Control(self._ctx, self)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(loop) for loop in self._kept(self._heartbeat, control)]
                await self._until_it_sees()
                with suppress(*connection.REFUSED):
                    await self._heartbeat.beat()  # others are to know whom they may offer jobs
                started()
                await self._draining.wait()
                await self._hand_over()
                for task in running:
                    task.cancel()
        finally:
            left = [*self._tasks, *self._claiming]
            for job in left:
                job.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _has_lease(self, heartbeat: Heartbeat) -> bool:
        """Take the lease, however long Redis is away; False: told to end before that. A worker that died of it instead
        would come back at its restarter's pace, minutes after Redis."""
        back_off = Backoff(longest_s=3.0)
        while not self._draining.is_set():
            try:
                await heartbeat.first()
            except AuthenticationError:
                raise
            except Exception as error:  # noqa: BLE001 only a wrong password is nothing to wait for
                if back_off.since is None:
                    why = str(error) or type(error).__name__
                    log.warning("Redis unavailable, waiting to start", redis=self.settings.masked_redis_url, why=why)
                with suppress(TimeoutError):
                    async with asyncio.timeout(back_off.failed(error)):
                        await self._draining.wait()
            else:
                return True
        return False

    async def _until_it_sees(self) -> None:
        """Wait until the API server has said which namespaces it shows, however long it is away, or to be told to
        end."""
        ends = [asyncio.create_task(event.wait()) for event in (self._ctx.health.sees, self._draining)]
        done, _ = await asyncio.wait(ends, timeout=FIRST_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            log.warning("waiting for the API server to answer", namespaces=list(self._ctx.watches.namespaces))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    def _health_changed(self) -> None:
        self.metrics.sees_cluster.set(0 if self._ctx.health.blind else 1)
        self._heartbeat.beat_now()
        self.check_capacity()
        for controller in self._controllers.values():
            controller.wake()
        self._sweeper.sweep_now()

    def _make_context(self, cluster: Cluster, store: Store) -> Context:
        settings = self.settings
        default = settings.default_namespace or cluster.default_namespace

        def watch(namespace: str) -> PodWatch:
            return PodWatch(cluster, namespace, installation=settings.installation, queue=settings.queue, listener=self)

        watches = PodWatches(watch, settings.namespaces or (default,))
        return Context(
            settings=settings,
            incarnation=self.incarnation,
            cluster=cluster,
            store=store,
            lease=Lease(settings.lease_s),
            watches=watches,
            health=ClusterHealth(cluster, watches, away_s=settings.api_away_s, changed=self._health_changed),
            buffers=Buffers(settings.log_buffer_bytes),
            guard=self._guard,
        )

    def _info(self) -> dict[str, Any]:
        """What the worker tells of itself with each heartbeat."""
        return {
            "name": self.settings.worker_name,
            "namespaces": list(self._ctx.served),
            "refused": self._ctx.refused,
            "blind": self._ctx.health.blind,
            "slow": report(self._look_for_slow_pods()),
            "followed": len(self._controllers),
            "max_jobs": self.settings.max_jobs,
        }

    def _look_for_slow_pods(self) -> list[SlowPod]:
        watched = [pod for watch in self._ctx.watches for pod in watch.pods.values() if pod.is_being_deleted]
        ended = [controller.known_pod for controller in self._controllers.values() if controller.record.status.is_final]
        leaving = [*watched, *(pod for pod in ended if pod is not None)]
        slow = self._slow_pods.among(leaving, asyncio.get_running_loop().time())
        self.metrics.slow_pods.set(len(slow))
        return slow

    def _kept(self, heartbeat: Heartbeat, control: Control) -> list[Coroutine[Any, Any, NoReturn]]:
        """What a worker does for ever. Only its being asked to end ends any of it."""
        keep, settings = self._guard.keep, self.settings
        return [
            keep("heartbeat", heartbeat.run, longest_s=min(1.0, settings.heartbeat_s)),
            keep("control", control.run),
            keep("log room", partial(self._ctx.store.watch_log_room, settings.heartbeat_s)),
            keep("sweep", self._sweeper.run),
            keep("sight", self._ctx.health.run),
            *(keep("watch", watch.run, namespace=watch.namespace) for watch in self._ctx.watches),
        ]

    async def _hand_over(self) -> None:
        """Let go of every job with one message. Done first: whatever is still under way here is refused from then on.
        The pods go on."""
        self._ctx.lease.end_term()
        job_ids = list(self._controllers)
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await self._ctx.store.run(release(self.incarnation, self.settings.queue, job_ids))
                while self._claiming:
                    await asyncio.wait(self._claiming)
        except TimeoutError:
            log.warning("jobs not handed over, Redis is away: they are taken over when the lease ends")
        log.info("handed over", jobs=len(job_ids))

    # Jobs

    async def launch(self, job: str | JobSpec) -> ClaimOutcome:
        """Claim the job and begin to follow it. A spec (a publisher in another language) is recorded first.

        Raises:
            TimeoutError: it cannot be claimed now; the sweep does when it can.
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
        """Claim these jobs, each of its former owner ('' for none), in one round trip, and follow them, unless they are
        followed already. Of one whose claim failed nothing is returned. Goes on when it is cancelled: what was claimed
        is followed or let go of."""
        claiming = asyncio.create_task(self._claim_many(jobs))
        self._claiming.add(claiming)
        claiming.add_done_callback(self._claiming.discard)
        return await asyncio.shield(claiming)

    async def _claim_many(self, jobs: Mapping[str, str]) -> dict[str, ClaimOutcome]:
        wanted = [job_id for job_id in jobs if job_id not in self._controllers and not self._draining.is_set()]
        steps = [self._claim(job_id, jobs[job_id]) for job_id in wanted]
        term = self._ctx.lease.term
        claims = dict[str, Claimed]()
        answers = await self._ctx.store.run_each(steps)
        for job_id, claimed in zip(wanted, answers, strict=True):
            if isinstance(claimed, Exception):
                self._guard.failed("claim", claimed, job_id=job_id)
                continue
            claims[job_id] = claimed
            if claimed.outcome is ClaimOutcome.UNREADABLE:
                self._tell_left_alone(job_id, claimed.unreadable)
        taken = [claimed.record for claimed in claims.values() if claimed.record is not None]
        if taken and self._draining.is_set():
            job_ids = [record.job_id for record in taken]
            await self._ctx.store.run(release(self.incarnation, self.settings.queue, job_ids))
            taken = []
        for record in taken:
            if claims[record.job_id].outcome is ClaimOutcome.CLAIMED or record.job_id not in self._results:
                self.follow(record, term)  # else Redis has lost its result, which is appended again
        if refused := [job_id for job_id, claimed in claims.items() if claimed.outcome is ClaimOutcome.NO_LEASE]:
            log.warning("no lease, jobs not claimed", job_ids=refused)
        followed = dict.fromkeys((job_id for job_id in jobs if job_id not in wanted), ClaimOutcome.OWNED)
        return followed | {job_id: claimed.outcome for job_id, claimed in claims.items()}

    def _tell_left_alone(self, job_id: str, field: str) -> None:
        """Once in a while for each job: anybody may offer it again and again."""
        now = asyncio.get_running_loop().time()
        self._left_alone = {x: told_at for x, told_at in self._left_alone.items() if now - told_at < QUIET_S}
        if job_id not in self._left_alone:
            self._left_alone[job_id] = now
            why = f"its field {field!r} says something else than this version knows"
            log.warning("job left alone, its record cannot be read", job_id=job_id, why=why)

    def _claim(self, job_id: str, former_owner: str) -> Step[Claimed]:
        return claim(
            job_id,
            self.incarnation,
            namespaces=self._ctx.served,
            default_namespace=self._ctx.default_namespace,
            former_owner=former_owner,
            redis_life=self._ctx.lease.server_run,
        )

    def follow(self, record: JobRecord, term: int | None = None) -> None:
        """Begin to follow a job that this incarnation owns."""
        if record.job_id in self._controllers or self._draining.is_set():
            return
        controller = JobController(self._ctx, record, self._results, term)
        self._controllers[record.job_id] = controller
        self._keep(asyncio.create_task(self._follow(controller), name=f"job {record.job_id}"))
        self.check_capacity()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, controller: JobController) -> None:
        job_id = controller.record.job_id
        try:
            await controller.run()
        except Exception:
            # A defect of ours must neither lose the job nor spin: the heartbeat finds it owned and not followed.
            log.exception("follower failed", job_id=job_id)
        finally:
            del self._controllers[job_id]
            self.metrics.job_left(controller.record)
            if (pod := controller.pod_left) is not None:
                self._sweeper.stray_pod(pod)
            if not self._draining.is_set():
                self.check_capacity()

    @property
    def controllers(self) -> dict[str, JobController]:
        """What this worker follows, by job id."""
        return self._controllers

    @property
    def has_capacity(self) -> bool:
        """Whether it may take more jobs. Those that have their result do not count, nor those that wait for
        quota, back-off or a predecessor, nor those in a namespace that it is not shown any more: they would hold up the
        others."""
        refused = self._ctx.watches.refused
        controllers = self._controllers.values()
        counted = sum(f.holds_capacity and f.record.namespace not in refused for f in controllers)
        return counted < self.settings.max_jobs

    def check_capacity(self) -> None:
        """Pause or resume the queue."""
        if not self._has_consumer:
            return
        can_launch = not self._ctx.health.blind and not self._draining.is_set()
        may_consume = can_launch and self._ctx.lease.may_launch and self.has_capacity
        if may_consume != self._is_consuming:
            self._is_consuming = may_consume
            log.info("queue resumed" if may_consume else "queue paused", followed=len(self._controllers))
            self._set_consuming(may_consume)

    # What the watches tell

    def pod_changed(self, pod: Observation) -> None:
        controller = self._controllers.get(pod.job_id)
        if controller is not None:
            controller.pod_changed(pod)
        else:
            self._sweeper.stray_pod(pod)

    def pod_deleted(self, pod: Observation) -> None:
        controller = self._controllers.get(pod.job_id)
        if controller is not None:
            controller.pod_deleted(pod)
        for other in self._controllers.values():
            if other.record.wait is WaitReason.QUOTA:
                other.wake()

    def pods_listed(self, namespace: str) -> None:
        self._sweeper.sweep_now()  # it may have been refused before, or away
        for controller in self._controllers.values():
            record = controller.record
            if record.wait is WaitReason.API_SERVER:
                controller.wake()
            if record.pod is None or record.namespace != namespace:
                continue
            known = self._ctx.watches.pod(namespace, record.pod)
            if known is None or known.uid != record.pod_uid:
                controller.mark_stale()

    # What control tells

    def check(self, job_id: str) -> None:
        controller = self._controllers.get(job_id)
        if controller is not None:
            controller.recheck()

    def wake(self, job_id: str) -> None:
        controller = self._controllers.get(job_id)
        if controller is not None:
            controller.wake()

    def offered(self, job_id: str, namespace: str) -> None:
        # Only who serves it may answer: a claim by anybody else offers the job again, to everybody.
        is_free = self.has_capacity and self._ctx.lease.may_launch and not self._draining.is_set()
        is_new = job_id not in self._offers and len(self._offers) < MOST_OFFERS
        if is_free and is_new and namespace in self._ctx.served:
            self._offers.add(job_id)
            self._keep(asyncio.create_task(self._take_offer(job_id), name=f"offered job {job_id}"))

    async def _take_offer(self, job_id: str) -> None:
        try:
            with self._guard.one_of_many("offer", job_id=job_id):
                await self.claim_many({job_id: ""})
        finally:
            self._offers.discard(job_id)

    def sweep_soon(self) -> None:
        """Somebody let go of jobs: look for them now."""
        self._sweeper.sweep_now()
