"""Whose a job is: takeovers with their times, and former owners."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from dispatcher import names
from dispatcher.status import Status
from tests.chaos.caller import Caller, a_caller, start, until, was_taken_over
from tests.support.installation import QUICK, Worker, running_installation
from tests.support.laws import Transcript
from tests.support.redis_proxy import RedisProxy


async def test_workers_are_restarted_one_by_one_and_then_killed_and_two_hundred_jobs_do_not_notice() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            ada, bob = await start(installation, "ada", "bob")
            jobs = [await caller.submit("--lines=120", "--rate=2", "--line-bytes=300") for _ in range(200)]
            await caller.until_running(*jobs)
            for leaving in (ada, bob):
                owned = await running_with(caller, jobs, leaving)
                assert owned
                told_at = time.time()
                leaving.terminate()
                await until(partial(have_new_owners, owned, since=told_at))
                # Handed over, not given up when a lease had ended.
                assert any(was_taken_over(job, since=told_at) for job in owned)
                assert not any(was_taken_over(job, giver=f"from {leaving.name}") for job in owned)
                assert await asyncio.to_thread(leaving.wait_for_end, 10) == 0
                await start(installation, leaving.name)
            # Only the last of them has jobs now.
            alive = [worker for worker in installation.workers if worker.is_alive]
            (victim,) = [worker for worker in alive if await running_with(caller, jobs, worker)]
            owned = await running_with(caller, jobs, victim)
            await asyncio.to_thread(victim.kill)
            giver = f"from {victim.name}-{victim.pid}"
            await until(lambda: all(was_taken_over(job, giver=giver) or job.results for job in owned))
            assert any(was_taken_over(job, giver=giver) for job in owned)
            await caller.all_end(120)


def have_new_owners(jobs: Iterable[Transcript], *, since: float) -> bool:
    """Whether each was taken over after this time, or has ended."""
    return all(was_taken_over(job, since=since) or job.results for job in jobs)


async def running_with(caller: Caller, jobs: list[Transcript], worker: Worker) -> list[Transcript]:
    """Those of the jobs that run and are this worker's."""
    records = [(job, await caller.record(job)) for job in jobs]
    owner = f"{worker.name}-{worker.pid}-"
    return [job for job, at in records if at.status is Status.RUNNING and (at.owner or "").startswith(owner)]


async def test_a_claim_that_is_under_way_when_its_worker_is_told_to_end_is_let_go_of_too() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller, RedisProxy(installation.redis.port) as proxy:
            direct, installation.redis_url = installation.redis_url, proxy.url
            (ada,) = await start(installation, "ada", lease_s=60)
            proxy.delay_s = 1.0
            job = await caller.submit("--lines=3")
            await until(lambda: bool(installation.redis_command("HGET", names.job(job.job_id), "owner")))
            proxy.delay_s = 0.0  # the hand-over overtakes the answer to the claim
            ada.terminate()
            assert await asyncio.to_thread(ada.wait_for_end, 10) == 0
            record = await caller.record(job)
            assert (record.owner, record.epoch) == (None, 1)
            installation.redis_url = direct
            await start(installation, "bob", lease_s=60)
            await caller.all_end()


async def test_a_worker_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            jobs = [await caller.submit("--lines=150", "--rate=15", "--line-bytes=500") for _ in range(5)]
            await caller.until_running(*jobs)
            (bob,) = await start(installation, "bob", **QUICK)
            ada.freeze()
            await until(lambda: all(was_taken_over(job, giver="from ada") for job in jobs))
            ada.thaw()
            await asyncio.to_thread(ada.wait_for_line, "let go", times=len(jobs))
            for job in jobs:
                record = await caller.record(job)
                assert (record.owner or "").startswith("bob")
                assert record.epoch == 2
            await caller.all_end()
            assert bob.is_alive


async def test_a_worker_frozen_while_it_waits_to_create_a_pod_does_not_create_it_when_it_wakes() -> None:
    with running_installation(quotas={"default": 0}) as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            jobs = [await caller.submit("--lines=3") for _ in range(5)]
            await asyncio.to_thread(ada.wait_for_line, "waiting for quota", times=len(jobs))
            ada.freeze()
            installation.pocket.control("namespaces/default/quota")
            await start(installation, "bob", **QUICK)
            await caller.all_end()
            ada.thaw()
            await asyncio.to_thread(ada.wait_for_line, "let go", times=len(jobs))
            assert len(installation.pocket.ever_created()) == len(jobs)
