"""Job controllers under a test's control: on a real Redis and a pocket cluster in the test's loop, without a worker.

A controller can be stopped at a failpoint, as a worker's death would, and another one begun on what the record says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final

import pytest

from devcluster.cluster import PocketCluster
from dispatcher import connection, names
from dispatcher.record import JobRecord
from dispatcher.spec import parse_spec
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver, Worker
from tests.support.redis_changes import wait_for_key
from worker.cluster.client import Cluster
from worker.cluster.observation import Observation
from worker.cluster.watch import PodWatch, PodWatches
from worker.context import Context
from worker.failpoints import Failpoint
from worker.jobs import controller, finisher, launcher, owned_job, owned_record, pod
from worker.jobs.controller import JobController
from worker.jobs.recent_results import RecentResults

#: What passes failpoints of a job, its logs apart.
MODULES: Final[tuple[ModuleType, ...]] = (controller, finisher, launcher, owned_job, owned_record, pod)


class Died(BaseException):
    """The controller's worker died at a failpoint."""


class ControlledJobs:
    """Jobs of worker ``w1``. Make it with :func:`controlling`."""

    def __init__(self, redis: RedisDriver, pocket: PocketCluster) -> None:
        self.redis = redis
        self.pocket = pocket
        self.worker: Worker = redis.worker("w1")
        self.dies_at: Failpoint | None = None
        self.controllers: dict[str, JobController] = {}
        self.ctx: Context
        self.results: RecentResults

    def claimed(self, *arguments: str, **fields: Any) -> JobRecord:
        """Submit and claim a job whose pod the pocket cluster plays; ``arguments`` as of its image ``simulated``."""
        spec = parse_spec({"image": "simulated:latest", "args": list(arguments), **fields})
        submitted = self.redis.submit(spec)
        claimed = self.worker.claim(submitted.job_id)
        assert claimed.record is not None
        return claimed.record

    def controller(self, record: JobRecord) -> JobController:
        """Make the job's next controller, which knows nothing of the one before."""
        made = self.controllers[record.job_id] = JobController(self.ctx, record, self.results)
        return made

    async def control(self, record: JobRecord) -> JobRecord:
        """Control the job until it is forgotten, or let go of; returns its record then."""
        async with asyncio.timeout(30):
            await self.controller(record).run()
        return self.redis.record(record.job_id)

    async def until_forgotten(self, record: JobRecord) -> None:
        """Wait until nothing is left to do for the job."""
        key = names.job(record.job_id)
        await asyncio.to_thread(
            wait_for_key, self.redis.client, key, lambda: self.redis.record(record.job_id).is_forgotten
        )

    async def control_until(self, failpoint: Failpoint, record: JobRecord) -> JobRecord:
        """Control the job until its worker dies behind this step; returns what the next owner finds."""
        self.dies_at = failpoint
        with pytest.raises(Died):
            await self.control(record)
        self.dies_at = None
        self.results = RecentResults(self.ctx.lease, self.ctx.log_budget)
        return self.redis.record(record.job_id)

    def pass_failpoint(self, what: Failpoint) -> None:
        """Die there, where the test asks for it."""
        if what is self.dies_at:
            raise Died(what)

    @asynccontextmanager
    async def controlled(self, record: JobRecord) -> AsyncIterator[JobController]:
        """Control the job meanwhile."""
        made = self.controller(record)
        running = asyncio.create_task(made.run())
        try:
            async with asyncio.timeout(30):
                yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @property
    def pods(self) -> list[str]:
        """The names of all pods that were ever created."""
        return [entry.name for entry in self.pocket.journal.pods.values()]

    # What the watch tells

    def pod_changed(self, pod: Observation) -> None:
        if (known := self.controllers.get(pod.job_id)) is not None:
            known.pod_changed(pod)

    def pod_deleted(self, pod: Observation) -> None:
        if (known := self.controllers.get(pod.job_id)) is not None:
            known.pod_deleted(pod)

    def pods_listed(self, namespace: str) -> None:
        """Nothing that these tests lose."""


@asynccontextmanager
async def controlling(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlledJobs]:
    """Controllers at this Redis, beside a pocket cluster of their own."""
    async with AsyncExitStack() as stack:
        kubeconfig = Path(stack.enter_context(TemporaryDirectory(prefix="podrelay-test-"))) / "kubeconfig"
        pocket = await stack.enter_async_context(PocketCluster())
        pocket.write_kubeconfig(kubeconfig)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        cluster = await stack.enter_async_context(await Cluster.connect(connections=8))
        client = stack.enter_context(connection.connect(redis_url, timeout_s=5, retries=0))
        jobs = ControlledJobs(RedisDriver(client, "real"), pocket)
        watch = PodWatch(cluster, "default", installation="podrelay", queue="default", listener=jobs)
        watches = PodWatches(lambda _: watch, ["default"])
        jobs.ctx = await stack.enter_async_context(a_context(redis_url, cluster=cluster, watches=watches))
        jobs.results = RecentResults(jobs.ctx.lease, jobs.ctx.log_budget)
        for module in MODULES:
            monkeypatch.setattr(module, "failpoint", jobs.pass_failpoint, raising=False)
        watching = asyncio.create_task(watch.run())
        try:
            await watch.first_list.wait()
            yield jobs
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
