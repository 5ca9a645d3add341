"""The API server is away for a minute."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from devcluster.apiserver.kubeconfig import write_kubeconfig
from dispatcher.client import Dispatcher
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from tests.chaos.caller import a_caller, start, until
from tests.support.api_proxy import ApiProxy
from tests.support.installation import QUICK, Installation, Worker, clean_environment, running_installation

AWAY_S = 60.0


async def test_the_api_server_is_away_for_a_minute_and_nothing_fails_that_would_have_succeeded() -> None:
    with running_installation() as installation:
        async with ApiProxy(installation.pocket.url, random.Random(1)) as api:
            installation.kubeconfig = installation.processes.directory / "kubeconfig-through-the-proxy"
            write_kubeconfig(installation.kubeconfig, api.url, installation.pocket.token)
            async with a_caller(installation) as caller:
                ada, _ = await start(installation, "ada", "bob")
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


@asynccontextmanager
async def a_blind_worker(installation: Installation, **settings: object) -> AsyncIterator[tuple[ApiProxy, Worker]]:
    """A worker whose way to the API server is cut once it is ready, and has noticed."""
    straight = installation.kubeconfig
    async with ApiProxy(installation.pocket.url, random.Random(1)) as api:
        installation.kubeconfig = installation.processes.directory / "kubeconfig-through-the-proxy"
        write_kubeconfig(installation.kubeconfig, api.url, installation.pocket.token)
        blind = await asyncio.to_thread(installation.start_worker, "blind", api_away_s=1, **{**QUICK, **settings})
        installation.kubeconfig = straight
        api.is_down = True
        api.cut()
        await asyncio.to_thread(blind.wait_for_line, "API server away")
        yield api, blind


def check(installation: Installation, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dispatcher.cli", "workers", "--check", *arguments]
    env = clean_environment(PODRELAY_REDIS_URL=installation.redis_url)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


async def test_what_a_blind_worker_cannot_do_another_does() -> None:
    with running_installation() as installation, Dispatcher(installation.client_settings()) as client:
        async with a_blind_worker(installation) as (_, blind):
            waiting = [JobSpec(image="busybox:1.37", command=("true",)) for _ in range(10)]
            for spec in waiting[:5]:
                client.submit(spec)
            await asyncio.to_thread(installation.start_worker, "seeing", **QUICK)
            for spec in waiting[5:]:
                client.submit(spec)
            results = [await asyncio.to_thread(client.result, spec.id, 60) for spec in waiting]
            assert all(result.succeeded for result in results)
            assert blind.is_alive
            told = await asyncio.to_thread(check, installation, "--name", "blind")
            assert (told.returncode, "its API server cannot be reached" in told.stderr) == (1, True), told
            assert (await asyncio.to_thread(check, installation)).returncode == 0


async def test_a_job_without_a_pod_is_let_go_of_by_a_worker_that_becomes_blind() -> None:
    with (
        running_installation(quotas={"default": 0}) as installation,
        Dispatcher(installation.client_settings()) as client,
    ):
        spec = JobSpec(image="busybox:1.37", command=("true",))
        straight = installation.kubeconfig
        async with ApiProxy(installation.pocket.url, random.Random(1)) as api:
            installation.kubeconfig = installation.processes.directory / "kubeconfig-through-the-proxy"
            write_kubeconfig(installation.kubeconfig, api.url, installation.pocket.token)
            await asyncio.to_thread(installation.start_worker, "blind", api_away_s=1, **QUICK)
            installation.kubeconfig = straight
            client.submit(spec)
            await until(lambda: client.get(spec.id).wait == "quota")
            api.is_down = True
            api.cut()
            await until(lambda: client.get(spec.id).owner is None)
            detail = "no worker serves namespace default: its API server cannot be reached"
            await until(lambda: client.get(spec.id).detail.startswith(detail))
            await asyncio.to_thread(installation.start_worker, "seeing", **QUICK)
            await until(lambda: (client.get(spec.id).owner or "").startswith("seeing"))
            await until(lambda: client.get(spec.id).wait == "quota")


async def test_a_worker_that_starts_without_its_api_server_is_ready_when_it_answers() -> None:
    with running_installation() as installation, Dispatcher(installation.client_settings()) as client:
        async with ApiProxy(installation.pocket.url, random.Random(1)) as api:
            installation.kubeconfig = installation.processes.directory / "kubeconfig-through-the-proxy"
            write_kubeconfig(installation.kubeconfig, api.url, installation.pocket.token)
            api.is_down = True
            worker = installation.start_worker("patient", is_awaited=False, **QUICK)
            await asyncio.to_thread(worker.wait_for_line, "waiting for the API server")
            spec = JobSpec(image="busybox:1.37", command=("true",))
            client.submit(spec)
            assert not any("worker ready" in line for line in list(worker.lines))
            api.is_down = False
            await asyncio.to_thread(worker.wait_until_ready)
            assert (await asyncio.to_thread(client.result, spec.id, 60)).succeeded
