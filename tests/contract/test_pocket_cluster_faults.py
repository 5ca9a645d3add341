"""What stands between a worker and its pods fails in the pocket cluster as it does in a real one."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devcluster.cluster import PocketCluster
from devcluster.kubelet.latency import Latency
from tests.support.cluster_driver import ClusterDriver, Reply, pods, simple_pod, state_of
from tests.support.cluster_recordings import recorded_logs, recorded_pod

Json = dict[str, Any]
STAMP = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", re.MULTILINE)
FOLLOW = "container=base&follow=true&timestamps=true"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterDriver]:
    async with PocketCluster(latency=Latency(kubelet_start_s=0.2)) as pocket:
        pocket.write_kubeconfig(tmp_path / "kubeconfig")
        async with ClusterDriver(tmp_path / "kubeconfig", is_pocket=True) as driver:
            driver.pocket = pocket
            yield driver


async def until(cluster: ClusterDriver, state: str) -> Json:
    async with asyncio.timeout(30):
        async for event in cluster.stream(pods("default", query="watch=1")):
            if state in state_of(event["object"]):
                return dict(event["object"])
    raise AssertionError(state)


async def changes_of_answer(cluster: ClusterDriver, path: str) -> list[Reply]:
    """The answers to one question, without repeats of a status, until it is 200."""
    found: list[Reply] = []
    async with asyncio.timeout(30):
        while not found or found[-1].status != 200:
            reply = await cluster.request("GET", path)
            if not found or found[-1].status != reply.status:
                found.append(reply)
    return found


async def test_a_kubelet_restarts_as_recorded(cluster: ClusterDriver) -> None:
    pod = recorded_pod("kubelet-restart")
    pod["metadata"].pop("namespace", None)
    await cluster.request("POST", pods("default"), pod)
    before = await until(cluster, "running")
    async with cluster.session.get(f"{cluster.url}{pods('default', 'job/log', FOLLOW)}") as response:
        first = await response.content.readline()
        await cluster.request("POST", "/pocket/kubelet/restart?seconds=0.2")
        followed = first + await response.read()  # a clean end: a cut one would raise
    tail = "container=base&tailLines=1&timestamps=true"
    answers = await changes_of_answer(cluster, pods("default", "job/log", tail))
    recorded = [row for row in recorded_logs("kubelet-restart") if row["query"] == tail]
    assert [reply.status for reply in answers] == [row["status"] for row in recorded] == [500, 404, 200]
    assert plain(answers[0]) == plain(Reply(500, recorded[0]["data"], {}))
    assert answers[1].body == recorded[1]["data"]
    whole = (await cluster.request("GET", pods("default", "job/log", "timestamps=true"))).body
    assert STAMP.sub(b"", first) == b"tick-0\n"
    assert whole.startswith(followed)
    assert (await cluster.request("GET", pods("default", "job"))).json == before


def plain(reply: Reply) -> Json:
    """The answer without the kubelet's address and the pod's namespace."""
    message = re.sub(r"https://[^/]+/containerLogs/[^/]+/", "https://KUBELET/", reply.json["message"])
    return {**reply.json, "message": re.sub(r"dial tcp \S+:", "dial tcp ADDRESS:", message)}


async def test_what_happens_while_the_kubelet_is_dead_is_told_when_it_is_back(cluster: ClusterDriver) -> None:
    await cluster.request("POST", pods("default"), simple_pod("job", "simulated:1", ["--lines=3", "--duration=0.1"]))
    before = await until(cluster, "running")
    await cluster.request("POST", "/pocket/kubelet/restart?seconds=0.5&node=pocket-0")
    await cluster.request("POST", pods("default"), simple_pod("late", "simulated:1", ["--lines=3"]))
    assert (await cluster.request("GET", pods("default", "job"))).json == before
    ended = await until(cluster, "terminated")
    assert state_of(ended)["terminated"]["exitCode"] == 0
    assert (await cluster.request("POST", "/pocket/kubelet/restart?seconds=1&node=none")).status == 404


async def test_an_api_server_that_restarts_resets_refuses_and_goes_on_from_the_same_version(
    cluster: ClusterDriver,
) -> None:
    await cluster.request("POST", pods("default"), simple_pod("job", "simulated:1", ["--lines=3", "--duration=0.3"]))
    listed = (await cluster.request("GET", pods("default"))).json
    watch = cluster.stream(pods("default", query="watch=1"))
    await anext(watch)
    assert (await cluster.request("POST", "/pocket/apiserver/restart?seconds=0.3")).status == 200
    with pytest.raises(aiohttp.ClientError):
        async for _ in watch:
            pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await cluster.request("GET", pods("default"))
    async with asyncio.timeout(30):
        while True:
            try:
                await cluster.request("GET", "/readyz")
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0)
    version = listed["metadata"]["resourceVersion"]
    async for event in cluster.stream(pods("default", query=f"watch=1&resourceVersion={version}")):
        assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)
        if event["object"]["status"]["phase"] == "Succeeded":
            break


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "html"), (403, "html"), (502, "empty"), (200, "html"), (404, "json")]
)
async def test_a_proxy_answers_in_its_own_words(cluster: ClusterDriver, status: int, kind: str) -> None:
    watch = cluster.stream(pods("default", query="watch=1"))
    await cluster.request("POST", pods("default"), simple_pod("job", "simulated:1"))
    await anext(watch)
    await cluster.request("POST", f"/pocket/proxy?status={status}&seconds=0.3&kind={kind}")
    reply = await cluster.request("GET", pods("default", "job"))
    assert reply.status == status
    assert b'"kind"' not in reply.body
    assert [event["type"] async for event in watch if event["type"] == "DELETED"] == []
    async with asyncio.timeout(30):
        while b'"kind"' not in reply.body:
            reply = await cluster.request("GET", pods("default", "job"))
    assert reply.json["metadata"]["name"] == "job"
    assert (await cluster.request("POST", "/pocket/proxy?status=99&seconds=1")).status == 400


def with_env(size: int) -> Json:
    pod = simple_pod("job", "simulated:1")
    pod["spec"]["containers"][0]["env"] = [{"name": "A", "value": "x" * size}]
    return pod


async def test_the_real_limits_of_size_hold(cluster: ClusterDriver) -> None:
    large = {**simple_pod("job", "simulated:1"), "metadata": {"name": "job", "annotations": {"a": "x" * 262_144}}}
    reply = await cluster.request("POST", pods("default"), large)
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")
    said = 'Pod "job" is invalid: metadata.annotations: Too long: may not be more than 262144 bytes'
    assert reply.json["message"] == said
    reply = await cluster.request("POST", pods("default"), with_env(1_800_000))
    assert (reply.status, reply.json["message"]) == (500, "etcdserver: request is too large")
    reply = await cluster.request("POST", pods("default"), with_env(3_500_000))
    assert (reply.status, reply.json["reason"]) == (413, "RequestEntityTooLarge")
    assert reply.json["message"] == "Request entity too large: limit is 3145728"
    assert (await cluster.request("POST", pods("default"), with_env(1_000_000))).status == 201
    patch = {"metadata": {"annotations": {"a": "x" * 262_144}}}
    reply = await cluster.request("PATCH", pods("default", "job"), patch, kind="application/merge-patch+json")
    assert reply.status == 422
