"""One worker's asyncio core: lease, watches, job controllers, capacity, and the hand-over at its end.

It knows neither threads nor Celery: :mod:`worker.supervisor` runs it beside Celery's consumer, tests in their own loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn

import structlog
from redis.exceptions import AuthenticationError

from dispatcher import connection
from dispatcher.record import WaitReason
from dispatcher.version import VERSION
from worker.cluster.client import Backoff, Cluster
from worker.cluster.observation import Observation
from worker.cluster.watch import PodWatch, PodWatches
from worker.cluster_health import ClusterHealth
from worker.context import Context
from worker.guard import Guard
from worker.jobs.controller import JobController
from worker.jobs.recent_results import RecentResults
from worker.lease import Heartbeat, Lease
from worker.logs.outbox import LogBudget
from worker.logs.publisher import watch_room
from worker.metrics import Metrics
from worker.own_policy import OwnPolicy
from worker.ownership.control import Control
from worker.ownership.job_controllers import JobControllers
from worker.ownership.reconciler import Reconciler
from worker.ownership.sweeper import Sweeper
from worker.rules.slow_pods import SlowPod, SlowPods, report
from worker.settings import WorkerSettings, new_incarnation
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: How long a starting worker waits for the API server before it logs that it does.
FIRST_LOOK_S: Final = 2.0


@asynccontextmanager
async def connect(settings: WorkerSettings) -> AsyncIterator[tuple[Store, Cluster]]:
    """Connect to Redis and the cluster, as the settings and the environment name them.

    Raises:
        ConfigurationError: there is no usable configuration of a cluster.
    """
    async with AsyncExitStack() as stack:
        client = connection.connect_async(
            settings.redis,
            timeout_s=settings.redis_timeout_s,
            retries=settings.redis_retries,
            max_connections=16,
        )
        stack.push_async_callback(client.aclose)
        cluster = await stack.enter_async_context(await Cluster.connect(connections=settings.api_connections))
        yield Store(client), cluster


class WorkerLoop:
    """One worker from its lease to its hand-over, within one event loop.

    ``set_consuming`` is called with False when the worker is full or must not consume yet, and with True when it may
    consume again; not before :meth:`begin_consuming`.

    Attributes:
        jobs: the controllers of the jobs that it owns.
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
        self._has_consumer = False  #: before that there is nothing to pause or resume
        self._guard = Guard(metrics.loop_failed)
        self._slow_pods = SlowPods()
        self._draining = asyncio.Event()
        ctx = self._ctx = self._make_context(cluster, store)
        results = RecentResults(ctx.lease, ctx.log_budget)
        self.jobs = JobControllers(ctx, results, capacity_changed=self._check_capacity, ended=self._ended)
        metrics.jobs.set_function(lambda: len(self.jobs.by_id))
        metrics.buffered.set_function(lambda: ctx.log_budget.waiting_bytes)
        self._heartbeat = Heartbeat(
            ctx.lease, store, incarnation=self.incarnation, settings=settings, info=self._worker_info
        )
        self._sweeper = Sweeper(ctx, self.jobs, Reconciler(ctx, self.jobs, results), self._heartbeat.beat)

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces whose pods the API server shows."""
        return self._ctx.watches.served

    def tell_policy(self) -> None:
        """Log what is risky in where this worker runs jobs."""
        self._ctx.policy.tell(self._ctx.default_namespace)

    def begin_consuming(self) -> None:
        """Pause and resume the queue from now on: its consumer has started."""
        self._has_consumer = True
        self._check_capacity()

    def begin_hand_over(self) -> None:
        """Have :meth:`run` release every job to other workers, and end. May come twice, and before the run."""
        self.jobs.close()
        self._draining.set()

    async def run(self, *, started: Callable[[], None]) -> None:
        """Take the lease, however long Redis is away, and run jobs until the hand-over.

        ``started`` is called when the lease is held and the API server has answered. Cancelled, it ends at once: other
        workers take the jobs over when the lease has ended.

        Raises:
            redis.exceptions.AuthenticationError: Redis does not take the password.
            connection.WrongServerError: podrelay can never use this server.
        """
        if not await self._take_lease(self._heartbeat):
            return
        control = Control(self._ctx, self)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(loop) for loop in self._endless_loops(self._heartbeat, control)]
                await self._until_cluster_answers()
                with suppress(*connection.REFUSED):
                    await self._heartbeat.beat()  # tells the others what it serves, so that they offer it jobs
                started()
                await self._draining.wait()
                await self.jobs.hand_over()
                for task in running:
                    task.cancel()
        finally:
            await self.jobs.stop()

    async def _take_lease(self, heartbeat: Heartbeat) -> bool:
        """Take the lease, however long Redis is away; False: told to end before that.

        A worker that exited instead would be restarted with a back-off, and come back minutes after Redis.
        """
        back_off = Backoff(longest_s=3.0)
        while not self._draining.is_set():
            try:
                await heartbeat.first()
            except (AuthenticationError, connection.WrongServerError):
                raise
            except Exception as error:  # noqa: BLE001 only these two are nothing to wait for
                if back_off.since is None:
                    why = str(error) or type(error).__name__
                    log.warning("Redis unavailable, waiting to start", redis=self.settings.masked_redis_url, why=why)
                with suppress(TimeoutError):
                    async with asyncio.timeout(back_off.failed(error)):
                        await self._draining.wait()
            else:
                return True
        return False

    async def _until_cluster_answers(self) -> None:
        """Wait until the API server has said which namespaces it shows, or until the hand-over."""
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
        self._check_capacity()
        for controller in self.jobs.by_id.values():
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
            log_budget=LogBudget(settings.log_buffer_bytes, settings.redis_memory_limit_bytes),
            policy=OwnPolicy(settings, cluster, cluster.service_account, namespaces=frozenset(watches.namespaces)),
            guard=self._guard,
        )

    def _worker_info(self) -> dict[str, Any]:
        """Return what the worker tells of itself with each heartbeat."""
        return {
            "name": self.settings.worker_name,
            "version": VERSION,
            "namespaces": list(self._ctx.served),
            "refused": self._ctx.refused,
            "blind": self._ctx.health.blind,
            "slow": report(self._look_for_slow_pods()),
            "followed": len(self.jobs.by_id),
            "max_jobs": self.settings.max_jobs,
        }

    def _look_for_slow_pods(self) -> list[SlowPod]:
        watched = [pod for watch in self._ctx.watches for pod in watch.pods.values() if pod.is_being_deleted]
        ended = [controller.known_pod for controller in self.jobs.by_id.values() if controller.record.status.is_final]
        leaving = [*watched, *(pod for pod in ended if pod is not None)]
        slow = self._slow_pods.among(leaving, asyncio.get_running_loop().time())
        self.metrics.slow_pods.set(len(slow))
        return slow

    def _endless_loops(self, heartbeat: Heartbeat, control: Control) -> list[Coroutine[Any, Any, NoReturn]]:
        """Return the loops that run until the hand-over; the guard begins each again, whatever it meets."""
        keep, settings = self._guard.keep, self.settings
        return [
            keep("heartbeat", heartbeat.run, longest_s=min(1.0, settings.heartbeat_s)),
            keep("control", control.run),
            keep("log room", partial(watch_room, self._ctx.log_budget, self._ctx.store, settings.heartbeat_s)),
            keep("sweep", self._sweeper.run),
            keep("sight", self._ctx.health.run),
            *(keep("watch", watch.run, namespace=watch.namespace) for watch in self._ctx.watches),
        ]

    def _ended(self, controller: JobController) -> None:
        self.metrics.job_left(controller.record)
        if (pod := controller.pod_left) is not None:
            self._sweeper.stray_pod(pod)

    def _check_capacity(self) -> None:
        """Pause or resume the queue."""
        if not self._has_consumer:
            return
        may_consume = not self._ctx.health.blind and self.jobs.may_take_more
        if may_consume != self._is_consuming:
            self._is_consuming = may_consume
            log.info("queue resumed" if may_consume else "queue paused", followed=len(self.jobs.by_id))
            self._set_consuming(may_consume)

    # What the watches tell (worker.cluster.watch.PodListener)

    def pod_changed(self, pod: Observation) -> None:
        controller = self.jobs.by_id.get(pod.job_id)
        if controller is not None:
            controller.pod_changed(pod)
        else:
            self._sweeper.stray_pod(pod)

    def pod_deleted(self, pod: Observation) -> None:
        controller = self.jobs.by_id.get(pod.job_id)
        if controller is not None:
            controller.pod_deleted(pod)
        for other in self.jobs.by_id.values():
            if other.record.wait is WaitReason.QUOTA:
                other.wake()

    def pods_listed(self, namespace: str) -> None:
        self._sweeper.sweep_now()  # the namespace may have been refused before, or the API server away
        for controller in self.jobs.by_id.values():
            record = controller.record
            if record.wait is WaitReason.API_SERVER:
                controller.wake()
            if record.pod is None or record.namespace != namespace:
                continue
            known = self._ctx.watches.pod(namespace, record.pod)
            if known is None or known.uid != record.pod_uid:
                controller.mark_stale()

    # What control messages tell (worker.ownership.control.ControlListener)

    def check(self, job_id: str) -> None:
        controller = self.jobs.by_id.get(job_id)
        if controller is not None:
            controller.recheck()

    def wake(self, job_id: str) -> None:
        controller = self.jobs.by_id.get(job_id)
        if controller is not None:
            controller.wake()

    def offered(self, job_id: str, namespace: str, min_worker_version: str) -> None:
        self.jobs.offered(job_id, namespace, min_worker_version)

    def sweep_soon(self) -> None:
        """Sweep now: another worker has let go of jobs."""
        self._sweeper.sweep_now()
