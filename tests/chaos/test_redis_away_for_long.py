"""Redis is away for a minute: for many leases, and for longer than any time limit of a connection."""

import asyncio
import os
from pathlib import Path

from dispatcher.status import FailureReason, Status
from tests.chaos.caller import a_caller, start
from tests.support.installation import Worker, running_installation

AWAY_S = 60.0


async def test_redis_is_away_for_a_minute_and_workers_and_readers_go_on_where_they_were() -> None:
    with running_installation(append_only=True) as installation:
        async with a_caller(installation) as caller:
            workers = await start(installation, "ada", "bob")
            lasting = [await caller.submit("--lines=700", "--rate=10", "--line-bytes=2000") for _ in range(30)]
            ending = [await caller.submit("--lines=300", "--rate=20", "--line-bytes=500") for _ in range(20)]
            failing = [await caller.submit("--lines=100", "--rate=10", "--exit-code=3") for _ in range(5)]
            await caller.until_running(*lasting, *ending, *failing)
            await asyncio.to_thread(installation.stop_redis)
            before = [_cpu_s(worker) for worker in workers]
            await asyncio.sleep(AWAY_S)  # the outage itself, not a wait for something
            spent = [_cpu_s(worker) - was for worker, was in zip(workers, before, strict=True)]
            assert all(worker.is_alive for worker in workers)
            assert max(spent) < AWAY_S / 4  # nobody spins
            await asyncio.to_thread(installation.start_redis)
            await caller.all_end(60)
            assert {job.result.status for job in (*lasting, *ending) if job.result} == {Status.SUCCEEDED}
            assert {job.result.reason for job in failing if job.result} == {FailureReason.EXIT_CODE}
            records = [await caller.record(job) for job in (*lasting, *ending, *failing)]
            assert {record.takeovers for record in records} == {0}
            assert not any(job.gaps for job in (*lasting, *ending, *failing))


def _cpu_s(worker: Worker) -> float:
    """The processor time (seconds) that the worker has used."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
