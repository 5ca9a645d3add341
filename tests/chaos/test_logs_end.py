"""Kubelets restart under running pods, and logs end: nothing is lost, nothing is waited for that need not be."""

import asyncio

from dispatcher.status import Status
from tests.chaos.caller import a_caller, start
from tests.support.installation import running_installation


async def test_kubelets_that_restart_under_running_pods_cost_not_one_line() -> None:
    with running_installation(nodes=2, latency="kubelet_start=1") as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada")
            jobs = [await caller.submit("--lines=1000", "--rate=100") for _ in range(10)]
            jobs += [await caller.submit("--lines=200", "--rate=100") for _ in range(10)]  # these end meanwhile
            await caller.until_running(*jobs)
            for away_s in (1.0, 0.0):
                await asyncio.to_thread(installation.pocket.control, f"kubelet/restart?seconds={away_s}")
                await asyncio.sleep(away_s + 2)  # the restart itself, not a wait for something
            await caller.all_end()
            assert [job.result.status for job in jobs if job.result] == [Status.SUCCEEDED] * 20
            assert [gap for job in jobs for gap in job.gaps] == []
            assert all(job.result and job.result.log_complete for job in jobs)


async def test_a_job_costs_four_requests() -> None:
    with running_installation(latency="log_eof=30,terminated_to_phase=0.5") as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada")
            before = await asyncio.to_thread(installation.pocket.requests)
            await caller.submit("--lines=20", "--rate=20")
            await caller.all_end()
            after = await asyncio.to_thread(installation.pocket.requests)
    asked = {what: n - before.get(what, 0) for what, n in after.items() if n > before.get(what, 0)}
    asked = {what: n for what, n in asked.items() if what.split()[0] not in ("list", "watch")}
    assert asked == {"create pods": 1, "get pods/log": 2, "delete pods": 1}
