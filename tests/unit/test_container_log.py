"""A log between a cluster and a Redis that loses what it had confirmed; both are played here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dispatcher.record import Checkpoint, JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from dispatcher.steps import Appended, AppendOutcome, Fence, Step
from worker.cluster.client import ClusterRefusedError, ClusterUnavailableError
from worker.cluster.pod_json import observe
from worker.logs import attempt
from worker.logs.attempt import JobLogs
from worker.logs.container_log import ContainerLog
from worker.logs.outbox import LogBudget, LogSource, Outbox


class Redis:
    """Takes appends at the checkpoint only, as ``append_log.lua`` does."""

    def __init__(self) -> None:
        self.checkpoint = ""
        self.half_way = asyncio.Event()
        self.taken = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def run_many(self, steps: Sequence[Step[Appended]]) -> list[Appended]:
        await self.answers.wait()
        return [self._append(int(step.args[4]), str(step.args[5])) for step in steps]

    async def until_at(self, end: int) -> None:
        """Wait until it has so many bytes."""
        async with asyncio.timeout(10):
            while int((self.checkpoint or "0").split()[0]) != end:
                self.taken.clear()
                await self.taken.wait()

    def _append(self, start: int, after: str) -> Appended:
        if self.checkpoint == after:
            return Appended(AppendOutcome.APPLIED, "", "")
        if int((self.checkpoint or "0").split()[0]) != start:
            return Appended(AppendOutcome.MISMATCH, "", self.checkpoint)
        self.checkpoint = after
        self.taken.set()
        if start > 500_000:
            self.half_way.set()
        return Appended(AppendOutcome.APPLIED, "", "")


class Cluster:
    """Has one log, or answers with an error."""

    def __init__(self, log: bytes) -> None:
        self.log_bytes = log
        self.error: Exception | None = None
        self.is_available = asyncio.Event()
        self.is_available.set()

    @asynccontextmanager
    async def log(self, *_: object, since: str | None, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        if self.error is not None:
            raise self.error

        async def pieces() -> AsyncIterator[bytes]:
            yield self.log_bytes

        yield pieces()


class Job:
    """A job that nothing else happens to."""

    fence = Fence("w1", 1)

    async def reload(self) -> None: ...

    def cancel_requested(self, by: str) -> None: ...

    def mark_stale(self) -> None: ...

    def recheck(self) -> None: ...


A_POD_THAT_ENDED = observe(
    {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"containers": [{"name": "base"}]},
        "status": {
            "containerStatuses": [
                {
                    "name": "base",
                    "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "startedAt": "2026-11-22T09:00:00Z"}},
                }
            ]
        },
    }
)


def a_log(lines: int, line_bytes: int) -> bytes:
    line = b"x" * (line_bytes - 1) + b"\n"
    return b"".join(b"2026-11-22T09:00:%02d.%09dZ " % (i // 1000, i) + line for i in range(lines))


def the_log(cluster: Any, redis: Any) -> ContainerLog:
    source = LogSource("j", "ns", "p", "base", 1, 1 << 24)
    return ContainerLog(Outbox(source, Checkpoint(), LogBudget(1 << 24)), job=Job(), cluster=cluster, store=redis)


async def test_what_redis_has_is_passed_over_also_when_it_is_more_than_one_batch_and_cannot_be_read_again() -> None:
    redis, cluster = Redis(), Cluster(a_log(2000, 400))
    log = the_log(cluster, redis)
    running = asyncio.create_task(log.run())
    await asyncio.wait_for(redis.half_way.wait(), 10)
    cluster.error = ClusterRefusedError(404, {"reason": "NotFound"})
    log.reader.pod_gone()
    log.fall_back(log.outbox.start)
    await asyncio.wait_for(running, 10)
    assert log.outbox.published.end == 2000 * 400


@pytest.mark.parametrize("is_kept", [True, False], ids=["appended again", "read again"])
async def test_what_redis_has_lost_of_a_silent_log_comes_back_before_the_container_ends(is_kept: bool) -> None:
    redis, cluster = Redis(), Cluster(a_log(10, 20))
    log = the_log(cluster, redis)
    running = asyncio.create_task(log.run())
    await redis.until_at(200)
    if not is_kept:
        log.outbox.forget()
    redis.checkpoint = ""
    log.fall_back(Checkpoint())
    await redis.until_at(200)
    log.reader.container_ended()
    await asyncio.wait_for(running, 10)
    assert (log.summary.bytes, log.summary.is_complete) == (200, True)


@pytest.mark.parametrize("limit_s", [0.05])
async def test_a_drain_ends_also_when_redis_has_lost_log_that_cannot_be_read_again(
    limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis, cluster = Redis(), Cluster(a_log(10, 20))
    redis.answers.clear()
    followed = list[ContainerLog]()

    def follow(*where: Any, **who: Any) -> ContainerLog:
        followed.append(ContainerLog(*where, **who))
        return followed[-1]

    monkeypatch.setattr(attempt, "ContainerLog", follow)
    logs: Any = JobLogs(Job(), cluster, redis, LogBudget(1 << 20))  # type: ignore[arg-type]
    record = JobRecord(
        "j", JobSpec(id="j", image="i", name="n"), digest="d", status=Status.RUNNING, attempt=1, generation="g"
    )
    logs.see(A_POD_THAT_ENDED, record, is_gone=False)
    await asyncio.wait_for(followed[0].reader.all_read.wait(), 10)
    # Redis comes back with a checkpoint that nobody remembers, and the node has gone.
    redis.checkpoint = Checkpoint(end=7, timestamp="2026-11-22T09:00:00Z", nth=1, line_bytes=7).encode()
    cluster.error = ClusterUnavailableError("the node does not answer")
    redis.answers.set()
    summaries = await asyncio.wait_for(logs.drain(limit_s, record), 10)
    assert not summaries["base"].is_complete
    await logs.stop()
