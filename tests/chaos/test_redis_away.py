"""Redis stopped, emptied and lossy."""

import asyncio

from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from tests.chaos.caller import a_caller, start, until
from tests.chaos.failover import fail_over
from tests.support.installation import QUICK, running_installation
from tests.support.laws import Transcript
from tests.support.redis_proxy import RedisProxy

PYTHON = ["python", "-c"]
#: Says something when it may, then nothing until it may end.
SILENT = """import sys, time; from pathlib import Path
def wait_for(name):
    while not (Path(sys.argv[1]) / name).exists(): time.sleep(0.05)
wait_for("say"); print("said", flush=True)
wait_for("end")
"""


async def test_an_emptied_redis_is_filled_again_from_memory_and_pods_and_readers_lose_nothing() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            jobs = [await caller.submit("--lines=200", "--rate=20", "--line-bytes=500") for _ in range(10)]
            await caller.until_running(*jobs)
            before = [(await caller.record(job)).pod_uid for job in jobs]
            keys = [names.job(job.job_id) for job in jobs]
            installation.redis_command("FLUSHALL")
            await until(lambda: installation.redis_command("EXISTS", *keys) == len(jobs))
            assert [(await caller.record(job)).pod_uid for job in jobs] == before
            assert all([(await caller.record(job)).takeovers == 0 for job in jobs])
            # And again, with nobody left who remembers.
            await asyncio.to_thread(ada.kill)
            installation.redis_command("FLUSHALL")
            await start(installation, "bob", **QUICK)
            await until(lambda: installation.redis_command("EXISTS", *keys) == len(jobs))
            assert [(await caller.record(job)).pod_uid for job in jobs] == before
            await caller.all_end()


async def test_redis_comes_back_empty_and_a_key_submitted_before_the_rebuild_gets_its_running_pod() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada", **QUICK)
            asked = ("--lines=200", "--rate=20", "--line-bytes=500")
            lost = await caller.submit(*asked, key="the key")
            await caller.until_running(lost)
            pod_uid = (await caller.record(lost)).pod_uid
            await asyncio.to_thread(installation.stop_redis, forcibly=True)
            caller.close()
            await asyncio.to_thread(installation.redis.forget_data)
            await asyncio.to_thread(installation.start_redis)
        async with a_caller(installation) as caller:
            found = await caller.submit(*asked, key="the key")
            await until(lambda: bool(found.results))
            assert found.result is not None
            assert (found.result.status, found.result.pod_uid) == (Status.SUCCEEDED, pod_uid)
            await asyncio.to_thread(installation.pocket.wait_for_pods, lambda pods: not pods)
            (pod,) = installation.pocket.ever_created()
            stream = found.streams[1, "base"]
            written = pod["containers"]["base"]
            assert (stream.end, stream.digest.hexdigest()) == (written["bytes"], written["sha256"])


async def test_a_failover_loses_the_last_second_of_writes_results_included_and_all_of_it_comes_back() -> None:
    with running_installation() as installation:
        async with RedisProxy(installation.redis.port) as proxy:
            installation.redis_url = proxy.url
            async with a_caller(installation) as caller:
                await start(installation, "ada", **QUICK)
                await start(installation, "bob", **QUICK)
                long = [await caller.submit("--lines=300", "--rate=50", "--line-bytes=500") for _ in range(10)]
                silent = await caller.submit(
                    SILENT, str(installation.processes.directory), image="python:3", command=PYTHON
                )
                await caller.until_running(*long, silent)
                short: list[Transcript] = []

                async def lost() -> None:
                    (installation.processes.directory / "say").touch()
                    await until(lambda: bool(silent.streams))
                    short.extend([await caller.submit("--lines=3") for _ in range(20)])
                    await until(lambda: all(job.results for job in short[:10]))
                    short.extend([await caller.submit("--lines=3") for _ in range(5)])
                    # What no worker had heard of yet would be lost.
                    await until(lambda: all(len(job.statuses) > 1 for job in short))

                await fail_over(installation, proxy, lost)
                # What was lost of its log comes back although it writes nothing more that would show it.
                await until(lambda: installation.redis_command("XLEN", names.log(silent.job_id)) == 1)
                (installation.processes.directory / "end").touch()
                await caller.all_end()
                jobs = [*long, *short, silent]
                assert {job.result.status for job in jobs if job.result} == {Status.SUCCEEDED}
                records = [await caller.record(job) for job in jobs]
                assert {record.status for record in records} == {Status.SUCCEEDED}
                # Who reads only now misses nothing either: also the ends of logs are there again.
                late = [await caller.read_again(job) for job in jobs]
                assert {transcript.job_id: transcript.gaps for transcript in late if transcript.gaps} == {}
                assert [transcript.streams[1, "base"].end for transcript in late] == [
                    job.streams[1, "base"].end for job in jobs
                ]


async def test_a_job_whose_message_was_lost_is_launched_all_the_same() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            jobs = [await caller.submit("--lines=3") for _ in range(5)]
            lost = installation.redis_command(
                "DEL", *(names.message_list("default", bucket) for bucket in (0, 3, 6, 9))
            )
            assert lost == 1
            await start(installation, "ada", **QUICK)
            await caller.all_end()
            assert {job.result.status for job in jobs if job.result} == {Status.SUCCEEDED}


async def test_a_job_that_ended_before_redis_was_emptied_is_not_run_again_when_it_is_submitted_again() -> None:
    with running_installation() as installation:
        await start(installation, "ada", **QUICK)
        async with AsyncDispatcher(installation.client_settings()) as client:
            spec = JobSpec(image="simulated:1", args=("--lines=3", "--exit-code=4"))
            await client.submit(spec)
            first = await client.result(spec.id, 60)
            installation.redis_command("FLUSHALL")
            await client.submit(spec)
            again = await client.result(spec.id, 60)
        assert (again.status, again.exit_code, again.pod_uid) == (first.status, 4, first.pod_uid)
        assert len(installation.pocket.ever_created()) == 1


async def test_a_worker_that_starts_while_redis_is_away_waits_for_it_and_hears_that_it_should_end() -> None:
    with running_installation() as installation:
        installation.stop_redis()
        ada, bob = [installation.start_worker(name, is_awaited=False, **QUICK) for name in ("ada", "bob")]
        for worker in (ada, bob):
            await asyncio.to_thread(worker.wait_for_line, "waiting to start")
        bob.terminate()
        assert await asyncio.to_thread(bob.wait_for_end, 10) == 0
        installation.start_redis()
        await asyncio.to_thread(ada.wait_until_ready)
        async with a_caller(installation) as caller:
            await caller.submit("--lines=3")
            await caller.all_end()


async def test_a_job_in_its_second_attempt_goes_on_with_it_when_it_is_submitted_again_to_an_emptied_redis() -> None:
    with running_installation() as installation:
        (ada,) = await start(installation, "ada", **QUICK)
        async with a_caller(installation) as caller:
            job = await caller.submit("--lines=150", "--rate=15", retry_on=["evicted"])
            await caller.until_running(job)
            installation.pocket.control(f"namespaces/default/pods/{(await caller.record(job)).pod}/evict")
            await until(lambda: job.statuses[-1] == (2, Status.RUNNING))
            before = await caller.record(job)
            caller.close()
            await asyncio.to_thread(ada.kill)
            installation.redis_command("FLUSHALL")
            await caller.client.submit(before.spec)
            await start(installation, "bob", **QUICK)
            result = await caller.client.result(job.job_id, 60)
        assert (result.status, result.attempt, result.pod_uid) == (Status.SUCCEEDED, 2, before.pod_uid)
        assert len(installation.pocket.ever_created()) == 2


async def test_a_worker_that_slept_while_another_ended_its_job_does_not_bring_it_back_to_an_emptied_redis() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            job = await caller.submit("--lines=60", "--rate=15")
            await caller.until_running(job)
            ada.freeze()
            (bob,) = await start(installation, "bob", **QUICK)
            await caller.all_end()
            installation.redis_command("FLUSHALL")
            ada.thaw()
            await asyncio.to_thread(ada.wait_for_line, "let go")
            record = await caller.record(job)
            assert (record.status, (record.owner or "").partition("-")[0]) == (Status.SUCCEEDED, bob.name)
