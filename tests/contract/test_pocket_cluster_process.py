"""The pocket cluster as a process: its first words, its end, and that its containers never outlive it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from devcluster.cluster import PocketCluster
from tests.support.cluster_driver import ClusterDriver, pods, process_end, simple_pod


@asynccontextmanager
async def started(directory: Path, *arguments: str) -> AsyncIterator[tuple[Process, str, ClusterDriver]]:
    """A pocket cluster in a process of its own, with its banner."""
    kubeconfig = directory / "kubeconfig"
    command = [sys.executable, "-m", "devcluster", "--kubeconfig", str(kubeconfig), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None
    banner = ""
    try:
        async with asyncio.timeout(30):
            while not banner.splitlines()[-1:] or not banner.splitlines()[-1].startswith("ready "):
                banner += (await process.stdout.readline()).decode()
        async with ClusterDriver(kubeconfig, is_pocket=True) as driver:
            yield process, banner, driver
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def long_sleeper(driver: ClusterDriver) -> int:
    """The pid of a grandchild that only a kill of the whole group reaches."""
    script = "sleep 300 & echo $!; trap '' TERM; wait"
    await driver.request("POST", pods("default"), simple_pod("job", "busybox:1.36", ["sh", "-c", script]))
    async for event in driver.stream(pods("default", query="watch=1")):
        if event["object"]["status"]["phase"] == "Running":
            break
    url = f"{driver.url}{pods('default', 'job/log', 'follow=true')}"
    async with driver.session.get(url) as response:
        return int(await response.content.readline())


async def test_it_says_what_it_is_not_and_then_that_it_is_ready(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, banner, driver):
        assert "It is not a cluster" in banner
        assert banner.splitlines()[-1] == f"ready {driver.url}"
        assert (tmp_path / "kubeconfig").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_asked_to_end_it_takes_its_containers_along(tmp_path: Path, number: signal.Signals) -> None:
    async with started(tmp_path, "--data-dir", str(tmp_path / "data")) as (process, _banner, driver):
        pid = await long_sleeper(driver)
        process.send_signal(number)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        await process_end(pid)


async def test_killed_it_takes_its_containers_along(tmp_path: Path) -> None:
    async with started(tmp_path) as (process, _banner, driver):
        pid = await long_sleeper(driver)
        process.kill()
        await process.wait()
        await process_end(pid)


async def test_quota_and_namespaces_can_be_given(tmp_path: Path) -> None:
    arguments = ("--namespace", "jobs", "--quota", "jobs=pods:1", "--nodes", "3", "--latency", "terminated_to_phase=0")
    async with started(tmp_path, *arguments) as (_process, _banner, driver):
        sleeper = simple_pod("a", "simulated:1", ["--duration=60"])
        assert (await driver.request("POST", pods("jobs"), sleeper)).status == 201
        assert (await driver.request("POST", pods("jobs"), simple_pod("b", "simulated:1"))).status == 403
        assert len((await driver.request("GET", "/api/v1/nodes")).json["items"]) == 3


async def test_rotation_loses_what_a_plain_read_comes_too_late_for(tmp_path: Path) -> None:
    async with PocketCluster(log_rotate_bytes=2000) as pocket:
        pocket.write_kubeconfig(tmp_path / "kubeconfig")
        async with ClusterDriver(tmp_path / "kubeconfig", is_pocket=True) as driver:
            command = ["--lines=60", "--rate=300", "--line-bytes=50"]
            await driver.request("POST", pods("default"), simple_pod("job", "simulated:1", command))
            async for event in driver.stream(pods("default", query="watch=1")):
                if event["object"]["status"]["phase"] == "Running":
                    break
            followed = await driver.request("GET", pods("default", "job/log", "follow=true"))
            late = await driver.request("GET", pods("default", "job/log"))
    assert len(followed.body.splitlines()) == 60
    assert 0 < len(late.body.splitlines()) < 60
    assert followed.body.endswith(late.body)


async def test_nothing_stays_behind(tmp_path: Path) -> None:
    async with PocketCluster() as pocket:
        directory = pocket.data_dir
        assert directory.exists()
    assert not directory.exists()
    assert os.path.isdir(tmp_path)


async def test_a_reply_that_is_lost_leaves_the_pod_behind(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, _banner, driver):
        await driver.request("POST", "/pocket/lose-replies?verb=create&resource=pods&times=1")
        with pytest.raises(aiohttp.ClientError):
            await driver.request("POST", pods("default"), simple_pod("job", "simulated:1"))
        again = await driver.request("POST", pods("default"), simple_pod("job", "simulated:1"))
        assert again.json["reason"] == "AlreadyExists"
        assert len((await driver.request("GET", "/pocket/pods")).json["pods"]) == 1


async def test_an_outage_cuts_streams_and_spares_pods(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, _banner, driver):
        watch = driver.stream(pods("default", query="watch=1"))
        await driver.request("POST", pods("default"), simple_pod("job", "simulated:1", ["--duration=0.2"]))
        assert (await anext(watch))["type"] == "ADDED"
        await driver.request("POST", "/pocket/outage?seconds=0.3")
        assert (await driver.request("GET", pods("default", "job"))).status == 503
        rest = [event["type"] async for event in watch]
        assert "DELETED" not in rest
        while (reply := await driver.request("GET", pods("default", "job"))).status == 503:
            pass
        async for event in driver.stream(pods("default", query="watch=1")):
            if event["object"]["status"]["phase"] == "Succeeded":
                break
        assert reply.status == 200


async def test_denied_verbs_are_forbidden_in_the_words_of_rbac(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, _banner, driver):
        await driver.request("POST", "/pocket/deny?verb=create&resource=pods")
        reply = await driver.request("POST", pods("default"), simple_pod("job", "simulated:1"))
        assert (reply.status, reply.json["reason"]) == (403, "Forbidden")
        await driver.request("POST", "/pocket/allow?verb=create&resource=pods")
        assert (await driver.request("POST", pods("default"), simple_pod("job", "simulated:1"))).status == 201


async def test_a_verb_can_be_denied_in_one_namespace(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, _banner, driver):
        await driver.request("POST", "/pocket/deny?verb=list&resource=pods&namespace=kube-system")
        reply = await driver.request("GET", pods("kube-system"))
        said = 'pods is forbidden: User "pocket" cannot list resource "pods" in API group "" in the namespace '
        assert (reply.status, reply.json["reason"], reply.json["message"]) == (403, "Forbidden", f'{said}"kube-system"')
        assert (await driver.request("GET", pods("default"))).status == 200
        await driver.request("POST", "/pocket/allow?verb=list&resource=pods&namespace=kube-system")
        assert (await driver.request("GET", pods("kube-system"))).status == 200


async def test_an_unknown_control_or_node_is_said_so(tmp_path: Path) -> None:
    async with started(tmp_path) as (_process, _banner, driver):
        assert (await driver.request("POST", "/pocket/nothing")).status == 404
        assert (await driver.request("POST", "/pocket/nodes/none/lose")).status == 404
        assert (await driver.request("POST", "/pocket/outage")).status == 400
