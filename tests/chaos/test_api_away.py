"""The API server is away for a minute."""

import asyncio
import random

from devcluster.kubeconfig import write_kubeconfig
from dispatcher.status import FailureReason, Status
from tests.chaos.api_door import ApiDoor
from tests.chaos.caller import a_caller, start, until
from tests.processes import running_site

AWAY_S = 60.0


async def test_the_api_server_is_away_for_a_minute_and_nothing_fails_that_would_have_succeeded() -> None:
    with running_site() as site:
        async with ApiDoor(site.pocket.url, random.Random(1)) as api:
            site.kubeconfig = site.processes.directory / "kubeconfig-through-the-door"
            write_kubeconfig(site.kubeconfig, api.url, site.pocket.token)
            async with a_caller(site) as caller:
                ada, _ = await start(site, "ada", "bob")
                lasting = [await caller.submit("--lines=700", "--rate=10", "--line-bytes=500") for _ in range(30)]
                ending = [await caller.submit("--lines=300", "--rate=20", "--line-bytes=500") for _ in range(20)]
                failing = [await caller.submit("--lines=100", "--rate=10", "--exit-code=3") for _ in range(5)]
                cancelled = [await caller.submit("--duration=600") for _ in range(5)]
                await caller.until_running(*lasting, *ending, *failing, *cancelled)
                api.is_down = True
                api.cut()
                late = [await caller.submit("--lines=3") for _ in range(10)]
                for job in cancelled:
                    await caller.client.cancel(job.job_id, by="the test")
                await asyncio.to_thread(ada.kill)
                await until(lambda: all(job.statuses[-1][1] is Status.QUEUED for job in late))
                await asyncio.sleep(AWAY_S)  # the outage itself, not a wait for something
                assert not any(job.results for job in (*lasting, *ending, *failing, *cancelled, *late))
                api.is_down = False
                await caller.all_end(90)
                assert {job.result.status for job in (*lasting, *ending, *late) if job.result} == {Status.SUCCEEDED}
                assert {job.result.reason for job in failing if job.result} == {FailureReason.EXIT_CODE}
                assert {job.result.status for job in cancelled if job.result} == {Status.CANCELLED}
                # Some sixty logs were followed by two workers, of which one took over what the other had.
                assert api.asked["log"] < 2 * 60
                assert api.asked["GET"] < 3 * 60
