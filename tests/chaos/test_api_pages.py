"""Somebody answers in place of the API server, or no longer takes the worker for who it is: jobs wait, none fails."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from devcluster.apiserver.kubeconfig import write_kubeconfig
from dispatcher.status import FailureReason, Status
from tests.chaos.caller import Caller, a_caller, slow, start, until
from tests.support.api_proxy import PAGES, TOO_LARGE, ApiProxy, Page, in_time
from tests.support.installation import Installation, running_installation

#: Longer than a worker waits for the last look at a pod that a 404 says is gone.
PAGE_S = 12.0
PLUGIN = """#!/bin/sh
echo run >> "$0.runs"
e=$(( $(date +%s) + 4 ))
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t-'$e'",
"expirationTimestamp":"'$(date -u -d @$e +%FT%TZ)'"}}'
"""


@asynccontextmanager
async def behind_a_proxy() -> AsyncIterator[tuple[Installation, ApiProxy, Caller]]:
    with running_installation() as installation:
        async with (
            ApiProxy(installation.pocket.url, random.Random(1), token=installation.pocket.token) as proxy,
            a_caller(installation) as caller,
        ):
            installation.kubeconfig = installation.processes.directory / "kubeconfig-through-the-proxy"
            write_kubeconfig(installation.kubeconfig, proxy.url, installation.pocket.token)
            yield installation, proxy, caller


async def pages_for(proxy: ApiProxy, page: str) -> None:
    proxy.page = PAGES[page]
    proxy.cut()
    await asyncio.sleep(PAGE_S)  # the outage itself, not a wait for something
    proxy.page = None


@pytest.mark.parametrize(
    "page",
    [
        "html404",
        pytest.param("html200", marks=slow),
        pytest.param("html403", marks=slow),
        pytest.param("foreign404", marks=slow),
        pytest.param("path404", marks=slow),
        pytest.param("redirect302", marks=slow),
        pytest.param("bare200", marks=slow),
    ],
)
async def test_pages_in_place_of_answers_end_no_job_and_no_pod(page: str) -> None:
    async with behind_a_proxy() as (installation, proxy, caller):
        await start(installation, "ada", lease_s=2.0, heartbeat_s=0.5, sweep_s=0.3)
        running = [await caller.submit("--lines=200", "--rate=10") for _ in range(3)]
        ending = [await caller.submit("--lines=60", "--rate=10") for _ in range(3)]
        await caller.until_running(*running, *ending)
        uids = {pod["metadata"]["uid"] for pod in caller.pods()}
        pages = asyncio.create_task(pages_for(proxy, page))
        late = [await caller.submit("--lines=3") for _ in range(3)]
        await pages
        assert not any(job.results for job in (*running, *ending, *late))
        await caller.all_end(60)
        ended = [job.result for job in (*running, *ending, *late)]
        assert {result and (result.status, result.reason) for result in ended} == {(Status.SUCCEEDED, None)}
        assert {pod["uid"] for pod in installation.pocket.ever_created()} >= uids
        assert len(installation.pocket.ever_created()) == len(ended)
        assert not any("deleting a stray pod" in line for line in installation.output["ada"])


async def test_a_list_that_somebody_cut_short_is_a_doubt_and_no_proof() -> None:
    async with behind_a_proxy() as (installation, proxy, caller):
        await start(installation, "ada")
        jobs = [await caller.submit("--lines=100", "--rate=10") for _ in range(5)]
        await caller.until_running(*jobs)
        whole = await asyncio.to_thread(installation.pocket.call, "GET", "/api/v1/namespaces/default/pods")
        proxy.list_page = Page(200, "application/json", json.dumps({**whole, "items": []}).encode())
        proxy.page = PAGES["html502"]
        proxy.cut()
        await proxy.until(lambda: proxy.refused[502] > 5)
        proxy.page = None
        await proxy.until(lambda: proxy.refused[200] > 0)
        proxy.list_page = None
        await caller.all_end(60)
        assert {job.result and job.result.status for job in jobs} == {Status.SUCCEEDED}


def write_with_plugin(installation: Installation, proxy: ApiProxy, **user: Any) -> None:
    plugin = installation.processes.directory / "plugin.sh"
    plugin.write_text(PLUGIN)
    plugin.chmod(0o700)
    content = yaml.safe_load(installation.kubeconfig.read_text())
    entry = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin.sh", "interactiveMode": "Never"}
    content["users"][0]["user"] = {"exec": entry, **user}
    installation.kubeconfig.write_text(yaml.safe_dump(content))
    proxy.accepts = in_time


async def test_tokens_of_a_plugin_that_expire_every_few_seconds_cost_nothing() -> None:
    async with behind_a_proxy() as (installation, proxy, caller):
        write_with_plugin(installation, proxy)
        await start(installation, "ada")
        job = await caller.submit("--lines=150", "--rate=10")
        await caller.until_running(job)
        for _ in range(6):
            quick = await caller.submit("--lines=20", "--rate=10")
            await until(lambda quick=quick: bool(quick.results))  # type: ignore[misc]
        await caller.all_end(60)
        runs = (installation.processes.directory / "plugin.sh.runs").read_text().splitlines()
        assert 3 <= len(runs) <= 20


async def test_credentials_that_are_refused_for_a_while_end_no_job() -> None:
    async with behind_a_proxy() as (installation, proxy, caller):
        await start(installation, "ada")
        running = await caller.submit("--lines=200", "--rate=10")
        ending = await caller.submit("--lines=40", "--rate=10")
        await caller.until_running(running, ending)
        proxy.accepts = lambda token: False
        late = await caller.submit("--lines=3")
        await asyncio.sleep(PAGE_S)  # the outage itself
        assert not any(job.results for job in (running, ending, late))
        assert any("credentials" in line and "not accepted" in line for line in installation.output["ada"])
        assert not any("not served" in line for line in installation.output["ada"])
        proxy.accepts = None
        await caller.all_end(60)
        assert {job.result and job.result.status for job in (running, ending, late)} == {Status.SUCCEEDED}


async def test_what_no_repetition_can_change_ends_the_job_whatever_its_code() -> None:
    async with behind_a_proxy() as (installation, proxy, caller):
        await start(installation, "ada")
        proxy.create_page = TOO_LARGE
        job = await caller.submit("--lines=3", env={"LONG": "x" * 100_000})
        await until(lambda: bool(job.results))
        assert job.result
        assert job.result.reason is FailureReason.INVALID_SPEC
        assert "request is too large" in job.result.message
        assert "bytes" in job.result.message
        assert proxy.refused[500] == 1
