"""Workers without Celery in the test's own event loop, beside a pocket cluster in the same loop, under its control.

No process is started but Redis' (and none for a pod of the image ``simulated``), so that a test sees and moves whatever
a worker holds. What only a process can show (signals, a freeze, a kill at a failpoint) is tested with processes
(:mod:`tests.support.installation`).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from devcluster.cluster import PocketCluster
from dispatcher.aio import AsyncDispatcher
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec, parse_spec
from dispatcher.steps import ClaimOutcome
from worker.loop import WorkerLoop, connect
from worker.metrics import Metrics
from worker.settings import WorkerSettings

#: What makes takeovers quick enough for a test.
QUICK: Final[dict[str, Any]] = {"lease_s": 1.0, "heartbeat_s": 0.2, "sweep_s": 0.1}


def simulated(*arguments: str, **fields: Any) -> JobSpec:
    """A job whose pod is played by the pocket cluster; ``arguments`` as of its image ``simulated``."""
    return parse_spec({"image": "simulated:latest", "args": list(arguments), **fields})


class WorkerInProcess:
    """One worker. ``may_consume`` is what it said last to the consumer that it does not have."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.may_consume = True
        self.loop: WorkerLoop
        self._task: asyncio.Task[None]

    async def start(self) -> None:
        """Return when it would begin to consume."""
        started = asyncio.Event()
        self._task = asyncio.create_task(self._run(started), name=f"worker {self.settings.worker_name}")
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not started.is_set():
            waiting.cancel()
            await self._task
        self.loop.begin_consuming()

    async def _run(self, started: asyncio.Event) -> None:
        async with connect(self.settings) as (store, cluster):
            self.loop = WorkerLoop(self.settings, store, cluster, metrics=self.metrics, set_consuming=self._consume)
            await self.loop.run(started=started.set)

    def _consume(self, may_consume: bool) -> None:
        self.may_consume = may_consume

    @property
    def incarnation(self) -> str:
        return self.loop.incarnation

    @property
    def job_ids(self) -> set[str]:
        """The jobs that it owns."""
        return set(self.loop.jobs.by_id)

    async def hand_over(self) -> None:
        """Tell it to end, and wait until it has."""
        self.loop.begin_hand_over()
        await self._task

    async def kill(self) -> None:
        """End it where it stands: it lets go of nothing, and its lease lasts on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class InProcess:
    """What runs. Make it with :func:`running_in_process`."""

    def __init__(self, redis_url: str, pocket: PocketCluster, client: AsyncDispatcher) -> None:
        self.redis_url = redis_url
        self.pocket = pocket
        self.client = client
        self.workers: list[WorkerInProcess] = []

    async def start_worker(self, name: str = "ada", **settings: Any) -> WorkerInProcess:
        given = {"worker_name": name, **QUICK, **settings}
        worker = WorkerInProcess(WorkerSettings.from_environment({}, redis_url=self.redis_url, **given))
        await worker.start()
        self.workers.append(worker)
        return worker

    async def submit(self, spec: JobSpec, *, to: WorkerInProcess) -> str:
        """Submit a job, and hand this worker its message as Celery would; returns the job's id."""
        submitted = await self.client.submit(spec)
        assert await to.loop.jobs.launch(submitted.job_id) is ClaimOutcome.CLAIMED
        return submitted.job_id


@asynccontextmanager
async def running_in_process(
    redis_url: str, *, token: str | None = None, namespaces: Sequence[str] = ("default",)
) -> AsyncIterator[InProcess]:
    """A pocket cluster and a client at this Redis; its workers are killed at the end.

    ``token``: as whom workers speak to the cluster; the first of ``namespaces`` is their own.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="podrelay-test-")))
        pocket = await stack.enter_async_context(PocketCluster(token=token, namespaces=namespaces))
        pocket.write_kubeconfig(directory / "kubeconfig", namespace=namespaces[0])
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("KUBECONFIG", str(directory / "kubeconfig"))
        client = AsyncDispatcher(ClientSettings.from_environment({}, redis_url=redis_url))
        await stack.enter_async_context(client)
        running = InProcess(redis_url, pocket, client)
        try:
            yield running
        finally:
            for worker in running.workers:
                await worker.kill()
