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
from tests.support.installation import Installation, Worker
from tests.support.laws import Transcript, broken_laws

WITHIN_S = 30.0
#: For what shows another side of what a quicker test shows.
slow = pytest.mark.skipif(
    not os.environ.get("PODRELAY_TEST_SLOW"), reason="takes long beside others: set PODRELAY_TEST_SLOW=1"
)


class Caller:
    """Submits jobs and follows each to its end. ``label``: of the installation whose pods theirs are."""

    def __init__(self, installation: Installation, client: AsyncDispatcher, label: str) -> None:
        self.installation = installation
        self.client = client
        self.label = label
        self._followed: list[tuple[JobSpec, Transcript, asyncio.Task[None]]] = []

    async def submit(self, *args: str, **fields: Any) -> Transcript:
        """Submit a simulated job and follow it."""
        spec = parse_spec({"image": "simulated:latest", "args": list(args), **fields}, "test")
        submitted = await self.client.submit(spec)
        transcript = Transcript(submitted.job_id)
        self._followed.append((spec, transcript, asyncio.create_task(self._follow(transcript))))
        return transcript

    async def _follow(self, transcript: Transcript) -> None:
        async for _ in transcript.listen(self.client.follow(transcript.job_id)):
            pass

    async def read_again(self, transcript: Transcript) -> Transcript:
        """What somebody hears who reads the job's channel from its beginning now."""
        late = Transcript(transcript.job_id)
        await self._follow(late)
        return late

    async def until_running(self, *jobs: Transcript) -> None:
        await until(lambda: all(job.statuses and job.statuses[-1][1] is Status.RUNNING for job in jobs))

    async def record(self, transcript: Transcript) -> JobRecord:
        return await self.client.get(transcript.job_id)

    async def all_end(self, within_s: float = WITHIN_S) -> None:
        """Wait for the ends, for the last pod to go, and hold everything to the laws."""
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(task for _, _, task in self._followed))
        await until(lambda: not self.pods() and not self.installation.redis_command("ZCARD", names.active("default")))
        created = [
            pod
            for pod in self.installation.pocket.ever_created()
            if pod["labels"].get(names.LABEL_INSTALLATION) == self.label
        ]
        problems = [
            f"{transcript.job_id}: {p}"
            for spec, transcript, _ in self._followed
            for p in broken_laws(spec, transcript, created)
        ]
        assert problems == [], problems

    def pods(self) -> list[dict[str, Any]]:
        """The installation's pods that are there now, in all namespaces."""
        selector = f"{names.LABEL_INSTALLATION}%3D{self.label}"
        return list(self.installation.pocket.call("GET", f"/api/v1/pods?labelSelector={selector}")["items"])

    def close(self) -> None:
        for _, _, task in self._followed:
            task.cancel()


@asynccontextmanager
async def a_caller(installation: Installation, label: str = "podrelay") -> AsyncIterator[Caller]:
    async with AsyncDispatcher(installation.client_settings()) as client:
        caller = Caller(installation, client, label)
        try:
            yield caller
        finally:
            caller.close()


async def until(is_so: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Wait for what the outside can only be asked about."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(is_so):
            await asyncio.sleep(0.05)  # asks again: nobody tells


async def start(installation: Installation, /, *named: str, **settings: Any) -> list[Worker]:
    """Start workers side by side."""
    return list(await asyncio.gather(*(asyncio.to_thread(installation.start_worker, n, **settings) for n in named)))


def was_taken_over(transcript: Transcript, *, since: float = 0.0, giver: str = "") -> bool:
    """Whether the job was taken over after this time (seconds), from this former owner (a part of its name)."""
    return any("took over" in text and at.timestamp() >= since and giver in text for at, text in transcript.notices)
