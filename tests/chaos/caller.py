"""A caller of simulated jobs, and what a test waits for."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec, parse_spec
from dispatcher.status import Status
from tests.support.installation import Site, Worker
from tests.support.laws import Told, broken_laws

WITHIN_S = 30.0
#: For what shows another side of what a quicker test shows.
slow = pytest.mark.skipif(
    not os.environ.get("PODRELAY_TEST_SLOW"), reason="takes long beside others: set PODRELAY_TEST_SLOW=1"
)


class Caller:
    """Submits jobs and follows each to its end. ``installation``: whose pods theirs are."""

    def __init__(self, site: Site, client: AsyncDispatcher, installation: str) -> None:
        self.site = site
        self.client = client
        self.installation = installation
        self._followed: list[tuple[JobSpec, Told, asyncio.Task[None]]] = []

    async def submit(self, *args: str, **fields: Any) -> Told:
        """Submit a simulated job and follow it."""
        spec = parse_spec({"image": "simulated:latest", "args": list(args), **fields}, "test")
        submitted = await self.client.submit(spec)
        told = Told(submitted.job_id)
        self._followed.append((spec, told, asyncio.create_task(self._follow(told))))
        return told

    async def _follow(self, told: Told) -> None:
        async for _ in told.listen(self.client.follow(told.job_id)):
            pass

    async def read_again(self, told: Told) -> Told:
        """What somebody hears who reads the job's channel from its beginning now."""
        late = Told(told.job_id)
        await self._follow(late)
        return late

    async def until_running(self, *jobs: Told) -> None:
        await until(lambda: all(job.statuses and job.statuses[-1][1] is Status.RUNNING for job in jobs))

    async def record(self, told: Told) -> JobRecord:
        return await self.client.get(told.job_id)

    async def all_end(self, within_s: float = WITHIN_S) -> None:
        """Wait for the ends, for the last pod to go, and hold everything to the laws."""
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(task for _, _, task in self._followed))
        await until(lambda: not self.pods() and not self.site.redis_command("ZCARD", names.active("default")))
        created = [
            pod
            for pod in self.site.pocket.ever_created()
            if pod["labels"].get(names.LABEL_INSTALLATION) == self.installation
        ]
        problems = [f"{told.job_id}: {p}" for spec, told, _ in self._followed for p in broken_laws(spec, told, created)]
        assert problems == [], problems

    def pods(self) -> list[dict[str, Any]]:
        """The installation's pods that are there now, in all namespaces."""
        selector = f"{names.LABEL_INSTALLATION}%3D{self.installation}"
        return list(self.site.pocket.call("GET", f"/api/v1/pods?labelSelector={selector}")["items"])

    def close(self) -> None:
        for _, _, task in self._followed:
            task.cancel()


@asynccontextmanager
async def a_caller(site: Site, installation: str = "podrelay") -> AsyncIterator[Caller]:
    async with AsyncDispatcher(site.client_settings()) as client:
        caller = Caller(site, client, installation)
        try:
            yield caller
        finally:
            caller.close()


async def until(is_so: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Wait for what the outside can only be asked about."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(is_so):
            await asyncio.sleep(0.05)


async def start(site: Site, *named: str, **settings: Any) -> list[Worker]:
    """Start workers side by side."""
    return list(await asyncio.gather(*(asyncio.to_thread(site.start_worker, n, **settings) for n in named)))


def was_taken_over(told: Told, *, since: float = 0.0, giver: str = "") -> bool:
    """Whether the job was taken over after this time (seconds), from this former owner (a part of its name)."""
    return any("took over" in text and at.timestamp() >= since and giver in text for at, text in told.notices)
