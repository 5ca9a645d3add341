"""A node that is lost, and one that comes back. Only the pocket cluster can lose one on demand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import PocketCluster
from devcluster.kubelet.latency import Latency
from tests.support.cluster_driver import ClusterDriver, pods, simple_pod, state_of

Json = dict[str, Any]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ClusterDriver]:
    async with PocketCluster(nodes=2, latency=Latency(lost_node_grace_s=0.2)) as pocket:
        pocket.write_kubeconfig(tmp_path / "kubeconfig")
        async with ClusterDriver(tmp_path / "kubeconfig", is_pocket=True) as driver:
            driver.pocket = pocket
            yield driver


async def when(cluster: ClusterDriver, claim: Any, since: Json | None = None) -> Json:
    version = since["metadata"]["resourceVersion"] if since else "0"
    async with asyncio.timeout(20):
        async for event in cluster.stream(pods("default", query=f"watch=1&resourceVersion={version}")):
            if claim(event):
                found: Json = event["object"]
                return found
    raise AssertionError("the watch ended")


async def running_pod(cluster: ClusterDriver, command: list[str]) -> Json:
    pod = simple_pod("job", "busybox:1.36", command, terminationGracePeriodSeconds=1)
    await cluster.request("POST", pods("default"), pod)
    return await when(cluster, lambda event: "running" in state_of(event["object"]))


async def test_pods_take_turns_on_the_nodes(cluster: ClusterDriver) -> None:
    for name in "abcd":
        await cluster.request("POST", pods("default"), simple_pod(name, "simulated:1"))
    await when(
        cluster, lambda event: event["object"]["metadata"]["name"] == "d" and event["object"]["spec"].get("nodeName")
    )
    items = (await cluster.request("GET", pods("default"))).json["items"]
    assert sorted(item["spec"]["nodeName"] for item in items) == ["pocket-0", "pocket-0", "pocket-1", "pocket-1"]


async def test_a_lost_node_never_reports_the_end(cluster: ClusterDriver) -> None:
    node = (await running_pod(cluster, ["sleep", "60"]))["spec"]["nodeName"]
    cluster.pocket.lose_node(node, kill=True)
    marked = await when(cluster, lambda event: "deletionTimestamp" in event["object"]["metadata"])
    assert "running" in state_of(marked)
    reasons = [one.get("reason") for one in marked["status"]["conditions"] if one["type"] == "DisruptionTarget"]
    assert reasons == ["DeletionByTaintManager"]
    log = await cluster.request("GET", pods("default", "job/log"))
    assert log.status == 500
    assert "no route to host" in log.json["message"]


async def test_a_node_that_was_lost_twice_and_is_back_in_time_keeps_its_pods(cluster: ClusterDriver) -> None:
    for name in "ab":
        await cluster.request("POST", pods("default"), simple_pod(name, "busybox:1.36", ["sleep", "60"]))
    pod = await when(cluster, lambda event: "running" in state_of(event["object"]))
    kept, lost = (pod["spec"]["nodeName"], *({"pocket-0", "pocket-1"} - {pod["spec"]["nodeName"]}))
    cluster.pocket.lose_node(kept)
    cluster.pocket.lose_node(kept)
    cluster.pocket.restore_node(kept)
    cluster.pocket.lose_node(lost)
    given_up = await when(cluster, lambda event: "deletionTimestamp" in event["object"]["metadata"])
    assert given_up["spec"]["nodeName"] == lost


async def test_a_follower_is_cut_off_by_the_loss(cluster: ClusterDriver) -> None:
    node = (await running_pod(cluster, ["sh", "-c", "echo up; sleep 60"]))["spec"]["nodeName"]
    url = f"{cluster.url}{pods('default', 'job/log', 'follow=true')}"
    async with asyncio.timeout(10), cluster.session.get(url) as response:
        assert await response.content.readline() == b"up\n"
        cluster.pocket.lose_node(node)
        with pytest.raises(Exception, match="payload"):
            await response.read()


async def test_a_node_that_comes_back_tells_what_happened(cluster: ClusterDriver) -> None:
    node = (await running_pod(cluster, ["sh", "-c", "sleep 0.1; exit 4"]))["spec"]["nodeName"]
    cluster.pocket.lose_node(node)
    marked = await when(cluster, lambda event: "deletionTimestamp" in event["object"]["metadata"])
    assert "running" in state_of(marked)
    cluster.pocket.restore_node(node)
    deleted = await when(cluster, lambda event: event["type"] == "DELETED", since=marked)
    assert state_of(deleted)["terminated"]["exitCode"] == 4


async def test_a_forced_delete_takes_the_object_of_a_lost_node_away(cluster: ClusterDriver) -> None:
    node = (await running_pod(cluster, ["sleep", "60"]))["spec"]["nodeName"]
    cluster.pocket.lose_node(node)
    reply = await cluster.request("DELETE", pods("default", "job", "gracePeriodSeconds=0"))
    assert reply.status == 200
    assert (await cluster.request("GET", pods("default", "job"))).status == 404


async def test_nothing_is_scheduled_on_lost_nodes(cluster: ClusterDriver) -> None:
    for name in ("pocket-0", "pocket-1"):
        assert (await cluster.request("POST", f"/pocket/nodes/{name}/lose")).status == 200
    await cluster.request("POST", pods("default"), simple_pod("job", "simulated:1"))
    waiting = await when(cluster, lambda event: "conditions" in event["object"]["status"])
    assert waiting["status"]["conditions"][0]["reason"] == "Unschedulable"
    await cluster.request("POST", "/pocket/nodes/pocket-1/restore")
    done = await when(cluster, lambda event: event["object"]["status"]["phase"] == "Succeeded")
    assert done["spec"]["nodeName"] == "pocket-1"
