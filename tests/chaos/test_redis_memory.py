"""A Redis near its memory limit loses log, never statuses or results."""

import asyncio

import pytest

from dispatcher.errors import RedisUnavailableError
from dispatcher.status import Status
from tests.chaos.caller import Caller, a_caller, start, until
from tests.support.installation import QUICK, Installation, Worker, running_installation
from tests.support.laws import Transcript

MIB = 1024 * 1024
#: 5 MB that do not compress well, as fast as they can be written (simulated lines are all alike).
CHATTY = {"image": "busybox:1.37", "command": ["sh", "-c", "head -c 3700000 /dev/urandom | base64"]}


def used_bytes(installation: Installation) -> int:
    return int(installation.redis_command("INFO", "memory")["used_memory"])


def leave_memory(installation: Installation, size_bytes: int) -> None:
    """Redis may use so much more than it does."""
    installation.redis_command("CONFIG", "SET", "maxmemory", used_bytes(installation) + size_bytes)


def times_told(worker: Worker, words: str) -> int:
    return sum(words in line for line in list(worker.lines))


def log_is_suspended(worker: Worker) -> bool:
    return times_told(worker, "log suspended") > times_told(worker, "log resumed")


async def all_succeeded(caller: Caller, *jobs: Transcript) -> None:
    assert {job.result.status for job in jobs if job.result} == {Status.SUCCEEDED}
    assert {(await caller.record(job)).takeovers for job in jobs} == {0}


async def test_chatty_jobs_that_fill_redis_lose_log_but_neither_status_nor_result() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            workers = await start(installation, "ada", "bob")
            leave_memory(installation, 12 * MIB)
            chatty = [await caller.submit(**CHATTY) for _ in range(15)]
            fast = [await caller.submit("--lines=3") for _ in range(10)]
            await until(lambda: any(times_told(worker, "log suspended") for worker in workers))
            fast += [await caller.submit("--lines=3") for _ in range(10)]
            patient = await caller.submit("--lines=100", "--duration=600")
            await until(lambda: all(job.results for job in (*chatty, *fast)), within_s=20)
            await all_succeeded(caller, *chatty, *fast)
            # Given up and said so, or complete.
            complete = [job.result.log_complete for job in chatty if job.result]
            assert [not job.gaps for job in chatty] == complete
            assert not all(complete)
            assert not any(times_told(worker, "lease had lapsed") for worker in workers)

            # What a job that still runs has written is told as soon as there is room, and so is all that follows.
            await caller.until_running(patient)
            leave_memory(installation, 40 * MIB)
            await until(lambda: not any(log_is_suspended(worker) for worker in workers))
            await until(lambda: bool(patient.streams) and patient.streams[1, "base"].end == 100 * 80)
            await caller.client.cancel(patient.job_id, by="me")
            later = [await caller.submit(**CHATTY) for _ in range(2)]
            await caller.all_end()
            assert not patient.gaps
            assert all(job.result and job.result.log_complete for job in later)


async def test_a_redis_that_somebody_else_has_filled_still_takes_statuses_and_results_and_workers_outlive_it() -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", max_jobs=5, **QUICK)
            going = [await caller.submit("--lines=50", "--rate=10", "--line-bytes=500") for _ in range(5)]
            await caller.until_running(*going)
            queued = [await caller.submit("--lines=3") for _ in range(3)]
            leave_memory(installation, -MIB)
            bob = installation.start_worker("bob", is_awaited=False, **QUICK)
            with pytest.raises(RedisUnavailableError, match="maxmemory"):
                await caller.submit("--lines=3")
            await until(lambda: all(job.results for job in going), within_s=15)
            await asyncio.to_thread(bob.wait_for_line, "queue not read")
            # It cannot read the queue either, or had just taken a message, and cannot keep it.
            await until(lambda: bool(times_told(ada, "message not kept") or times_told(ada, "queue not read")))
            assert ada.is_alive
            assert bob.is_alive
            assert not times_told(ada, "lease had lapsed")

            leave_memory(installation, 40 * MIB)
            await until(lambda: not log_is_suspended(ada) and not log_is_suspended(bob))
            later = [await caller.submit("--lines=30") for _ in range(5)]
            await caller.all_end()
            await all_succeeded(caller, *going, *queued, *later)
            assert all(job.result and job.result.log_complete for job in later)
