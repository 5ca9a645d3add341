"""Laws with a number or a single fault of their own: each on an installation of its own, from outside."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis as redis_library
from celery import Celery

from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec, parse_spec
from dispatcher.status import FailureReason, Status
from tests.laws import Told, broken_laws
from tests.processes import QUICK, Site, Worker, running_site

WITHIN_S = 30.0


class Caller:
    """Submits jobs and follows each to its end."""

    def __init__(self, site: Site, client: AsyncDispatcher) -> None:
        self.site = site
        self.client = client
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

    async def until_running(self, *jobs: Told) -> None:
        await until(lambda: all(job.statuses and job.statuses[-1][1] is Status.RUNNING for job in jobs))

    async def record(self, told: Told) -> JobRecord:
        return await self.client.get(told.job_id)

    async def all_end(self, within_s: float = WITHIN_S) -> None:
        """Wait for the ends, for the last pod to go, and hold everything to the laws."""
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(task for _, _, task in self._followed))
        await until(
            lambda: not self.site.pocket.pods() and not self.site.redis_command("ZCARD", names.active("default"))
        )
        created = self.site.pocket.ever_created()
        assert [p for spec, told, _ in self._followed for p in broken_laws(spec, told, created)] == []

    def close(self) -> None:
        for _, _, task in self._followed:
            task.cancel()


@asynccontextmanager
async def a_caller(site: Site) -> AsyncIterator[Caller]:
    async with AsyncDispatcher(site.client_settings()) as client:
        caller = Caller(site, client)
        try:
            yield caller
        finally:
            caller.close()


async def until(is_so: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Wait for what the outside can only be asked about."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(is_so):
            await asyncio.sleep(0.05)


async def start(site: Site, *named: str, **settings: object) -> list[Worker]:
    """Start workers side by side."""
    return list(await asyncio.gather(*(asyncio.to_thread(site.start_worker, n, **settings) for n in named)))


def taken_over_at(told: Told, since: float, giver: str = "") -> float | None:
    """When the job was taken over after ``since`` (seconds)."""
    for at, text in told.notices:
        if "took over" in text and at.timestamp() >= since and giver in text:
            return at.timestamp()
    return None


async def test_workers_are_restarted_one_by_one_and_then_killed_and_sixty_jobs_do_not_notice() -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            ada, bob = await start(site, "ada", "bob")
            jobs = [await caller.submit("--lines=300", "--rate=10", "--line-bytes=300") for _ in range(60)]
            await caller.until_running(*jobs)
            for leaving in (ada, bob):
                owned = [job for job in jobs if ((await caller.record(job)).owner or "").startswith(leaving.name)]
                assert owned
                told_at = time.time()
                leaving.terminate()
                await until(lambda owned=owned, at=told_at: all(taken_over_at(job, at) for job in owned))
                assert max(taken_over_at(job, told_at) or 0 for job in owned) - told_at < 1
                assert await asyncio.to_thread(leaving.wait_for_end, 10 - (time.time() - told_at)) == 0
                await start(site, leaving.name)
            # Only the last of them has jobs now: with the default lease, its death is noticed in time.
            await asyncio.to_thread(ada.kill)
            heir, victim = [worker for worker in site.workers if worker.is_alive]
            if (await caller.record(jobs[0])).owner.startswith(f"{heir.name}-{heir.pid}"):
                heir, victim = victim, heir
            killed_at = time.time()
            await asyncio.to_thread(victim.kill)
            await until(lambda: all(taken_over_at(job, killed_at, str(victim.pid)) for job in jobs))
            assert max(taken_over_at(job, killed_at) or 0 for job in jobs) - killed_at < 15
            await caller.all_end(60)


async def test_a_worker_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes() -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            (ada,) = await start(site, "ada", **QUICK)
            jobs = [await caller.submit("--lines=150", "--rate=15", "--line-bytes=500") for _ in range(5)]
            await caller.until_running(*jobs)
            (bob,) = await start(site, "bob", **QUICK)
            ada.freeze()
            await until(lambda: all(taken_over_at(job, 0, "from ada") for job in jobs))
            ada.thaw()
            await until(lambda: sum("let go" in line for line in ada.lines) >= len(jobs))
            for job in jobs:
                record = await caller.record(job)
                assert (record.owner or "").startswith("bob")
                assert record.epoch == 2
            await caller.all_end()
            assert bob.is_alive


async def test_an_emptied_redis_is_filled_again_from_memory_and_pods_and_readers_lose_nothing() -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            (ada,) = await start(site, "ada", **QUICK)
            jobs = [await caller.submit("--lines=200", "--rate=20", "--line-bytes=500") for _ in range(10)]
            await caller.until_running(*jobs)
            before = [(await caller.record(job)).pod_uid for job in jobs]
            site.redis_command("FLUSHALL")
            await until(lambda: site.redis_command("ZCARD", names.active("default")) == len(jobs))
            assert [(await caller.record(job)).pod_uid for job in jobs] == before
            assert all([(await caller.record(job)).takeovers == 0 for job in jobs])
            # And again, with nobody left who remembers.
            await asyncio.to_thread(ada.kill)
            site.redis_command("FLUSHALL")
            await start(site, "bob", **QUICK)
            await until(lambda: site.redis_command("ZCARD", names.active("default")) == len(jobs))
            assert [(await caller.record(job)).pod_uid for job in jobs] == before
            await caller.all_end()


async def test_redis_comes_back_empty_and_a_key_submitted_before_the_rebuild_gets_its_running_pod() -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            await start(site, "ada", **QUICK)
            asked = ("--lines=200", "--rate=20", "--line-bytes=500")
            lost = await caller.submit(*asked, key="the key")
            await caller.until_running(lost)
            pod_uid = (await caller.record(lost)).pod_uid
            await asyncio.to_thread(site.stop_redis, forcibly=True)
            caller.close()
            await asyncio.to_thread(site.redis.forget_data)
            await asyncio.to_thread(site.start_redis)
        async with a_caller(site) as caller:
            found = await caller.submit(*asked, key="the key")
            await until(lambda: bool(found.results))
            assert found.result is not None
            assert (found.result.status, found.result.pod_uid) == (Status.SUCCEEDED, pod_uid)
            await until(lambda: not site.pocket.pods())
            (pod,) = site.pocket.ever_created()
            stream = found.streams[1, "base"]
            written = pod["containers"]["base"]
            assert (stream.end, stream.digest.hexdigest()) == (written["bytes"], written["sha256"])


async def test_a_full_namespace_waits_for_quota_and_holds_up_nobody_else() -> None:
    with running_site(namespaces=("default", "full"), quotas={"full": 0}) as site:
        async with a_caller(site) as caller:
            await start(site, "ada", **QUICK, namespaces="default,full", max_jobs=3)
            stuck = [await caller.submit(namespace="full", queue_timeout_s=6) for _ in range(5)]
            others = [await caller.submit("--lines=3") for _ in range(10)]
            await until(lambda: all(job.results for job in others), within_s=5)
            assert not any(job.results for job in stuck)
            assert "quota" in (await caller.record(stuck[0])).detail
            await caller.all_end()
            assert {job.result.reason for job in stuck if job.result} == {FailureReason.QUOTA_TIMEOUT}
            assert {job.result.status for job in others if job.result} == {Status.SUCCEEDED}


async def test_neighbours_in_one_redis_and_one_namespace_are_not_touched() -> None:
    """Another installation's pods, and another Celery application's queue and unacknowledged messages."""
    with running_site() as site:
        neighbour = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "neighbour"}}
        labels = {names.LABEL_INSTALLATION: "another", names.LABEL_QUEUE: "default", names.LABEL_JOB: "theirs"}
        neighbour["metadata"]["labels"] = {**labels, names.LABEL_ATTEMPT: "1"}  # type: ignore[index]
        container = {"name": "base", "image": "simulated:latest", "args": ["--duration=600"]}
        neighbour["spec"] = {"restartPolicy": "Never", "containers": [container]}
        site.pocket.call("POST", "/api/v1/namespaces/default/pods", neighbour)
        theirs = Celery("theirs", broker=site.redis_url, set_as_current=False)
        theirs.send_task("theirs.task", queue="default")
        with redis_library.Redis.from_url(site.redis_url) as client:
            client.hset("unacked", "tag", "theirs")
            before = {key: client.dump(key) for key in ("default", "unacked")}
            async with a_caller(site) as caller:
                await start(site, "ada", **QUICK)
                jobs = [await caller.submit("--lines=3") for _ in range(5)]
                await until(lambda: all(job.results for job in jobs))
                await until(lambda: not client.zcard(names.active("default")))
            assert {key: client.dump(key) for key in before} == before
        (left,) = site.pocket.pods()
        assert left["metadata"]["name"] == "neighbour"
        assert "deletionTimestamp" not in left["metadata"]


@pytest.mark.parametrize("has_worker", [True, False], ids=["while a worker lives", "while none does"])
async def test_a_cancel_leaves_no_pod_and_says_who_asked(*, has_worker: bool) -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            (ada,) = await start(site, "ada", **QUICK)
            running = [await caller.submit("--duration=600", "--lines=5") for _ in range(3)]
            await caller.until_running(*running)
            if not has_worker:
                await asyncio.to_thread(ada.kill)
            jobs = [*running, *[await caller.submit("--duration=600") for _ in range(10)]]
            for job in jobs * 2:
                await caller.client.cancel(job.job_id, by="the test")
            if not has_worker:
                await start(site, "bob", **QUICK)
            await caller.all_end()
            assert {(job.result.status, job.result.cancelled_by) for job in jobs if job.result} == {
                (Status.CANCELLED, "the test")
            }


@pytest.mark.parametrize("has_owner", [True, False], ids=["while it is followed", "while its worker is dead"])
async def test_a_pod_that_is_taken_away_is_reported_for_what_happened_to_it(*, has_owner: bool) -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            (ada,) = await start(site, "ada", **QUICK)
            jobs = [await caller.submit("--duration=600", "--lines=5") for _ in range(4)]
            await caller.until_running(*jobs)
            await start(site, "bob", **QUICK)
            if not has_owner:
                await asyncio.to_thread(ada.kill)
            deeds = {"evict": "evicted", "preempt": "preempted", "press-out": "evicted"}
            for job, deed in zip(jobs, deeds, strict=False):
                site.pocket.control(f"namespaces/default/pods/{(await caller.record(job)).pod}/{deed}")
            site.pocket.delete_pod((await caller.record(jobs[3])).pod or "")
            await until(lambda: all(job.results for job in jobs))
            reasons = [job.result.reason for job in jobs if job.result]
            assert reasons == [*(FailureReason(reason) for reason in deeds.values()), FailureReason.POD_DELETED]


async def test_redis_is_away_for_four_leases_and_nobody_takes_a_living_owners_jobs_when_it_is_back() -> None:
    with running_site(append_only=True) as site:
        async with a_caller(site) as caller:
            await start(site, "ada", **QUICK)
            jobs = [await caller.submit("--lines=240", "--rate=20", "--line-bytes=2000") for _ in range(20)]
            await caller.until_running(*jobs)
            await start(site, "bob", **QUICK)
            await asyncio.to_thread(site.stop_redis)
            await asyncio.sleep(4 * QUICK["lease_s"])  # the outage itself, not a wait for something
            await asyncio.to_thread(site.start_redis)
            await caller.all_end()
            assert [(await caller.record(job)).takeovers for job in jobs] == [0] * len(jobs)
            assert all(job.result and job.result.log_complete for job in jobs)


async def test_a_job_whose_message_was_lost_is_launched_all_the_same() -> None:
    with running_site() as site:
        async with a_caller(site) as caller:
            jobs = [await caller.submit("--lines=3") for _ in range(5)]
            lost = site.redis_command("DEL", *(names.message_list("default", bucket) for bucket in (0, 3, 6, 9)))
            assert lost == 1
            await start(site, "ada", **QUICK)
            await caller.all_end()
            assert {job.result.status for job in jobs if job.result} == {Status.SUCCEEDED}


async def test_a_second_pod_of_an_ended_job_is_deleted_on_sight() -> None:
    """As a process frozen between its lease check and its POST would make it."""
    with running_site() as site:
        async with a_caller(site) as caller:
            await start(site, "ada", **QUICK)
            job = await caller.submit("--lines=3", "--duration=1")
            await caller.until_running(job)
            (pod,) = site.pocket.pods()
            await caller.all_end()
            metadata = {key: pod["metadata"][key] for key in ("name", "labels", "annotations")}
            containers = [{**pod["spec"]["containers"][0], "args": ["--duration=600"]}]
            late = {"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": containers}}
            site.pocket.call("POST", "/api/v1/namespaces/default/pods", {"kind": "Pod", "apiVersion": "v1", **late})
            await until(lambda: not site.pocket.pods())
            assert len(site.pocket.ever_created()) == 2


async def test_a_worker_frozen_while_it_waits_to_create_a_pod_does_not_create_it_when_it_wakes() -> None:
    with running_site(quotas={"default": 0}) as site:
        async with a_caller(site) as caller:
            (ada,) = await start(site, "ada", **QUICK)
            jobs = [await caller.submit("--lines=3") for _ in range(5)]
            await until(lambda: sum("waiting for quota" in line for line in ada.lines) >= len(jobs))
            ada.freeze()
            site.pocket.control("namespaces/default/quota")
            await start(site, "bob", **QUICK)
            await caller.all_end()
            ada.thaw()
            await until(lambda: sum("let go" in line for line in ada.lines) >= len(jobs))
            assert len(site.pocket.ever_created()) == len(jobs)
