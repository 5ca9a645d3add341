"""Lists and watches: versions, bookmarks, selectors, 410, pages."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.cluster_driver import ClusterDriver, pods, simple_pod
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`
from tests.support.cluster_recordings import recorded_requests

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]
LABELS = "application/merge-patch+json"


def gated(name: str, **labels: str) -> Json:
    """A pod that stays as it is, so that nothing but the test changes it."""
    pod = simple_pod(name, "busybox:1.36", ["true"], schedulingGates=[{"name": "example.com/wait"}])
    pod["metadata"]["labels"] = labels
    return pod


async def created(cluster: ClusterDriver, namespace: str, *bodies: Json) -> list[Json]:
    replies = [await cluster.request("POST", pods(namespace), body) for body in bodies]
    return [reply.json for reply in replies]


async def take(cluster: ClusterDriver, path: str, count: int) -> list[Json]:
    """The first events of a watch."""
    events: list[Json] = []
    async with asyncio.timeout(30):
        async for event in cluster.stream(path):
            events.append(event)
            if len(events) == count:
                break
    return events


def told(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def test_a_watch_without_a_version_begins_with_what_is_there(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a"), gated("b"))
    events = await take(cluster, pods(namespace, query="watch=true"), 2)
    assert sorted(told(events)) == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_watch_goes_on_from_the_version_of_a_list(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a"))
    version = (await cluster.request("GET", pods(namespace))).json["metadata"]["resourceVersion"]
    await created(cluster, namespace, gated("b"))
    await cluster.request("DELETE", pods(namespace, "a"))
    events = await take(cluster, pods(namespace, query=f"watch=1&resourceVersion={version}"), 3)
    assert told(events) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_versions_only_grow(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    versions = [
        int(pod["metadata"]["resourceVersion"]) for pod in await created(cluster, namespace, gated("a"), gated("b"))
    ]
    assert versions == sorted(set(versions))


async def test_leaving_a_selector_is_told_as_deleted_and_entering_it_as_added(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    (pod,) = await created(cluster, namespace, gated("a", done="no"))
    for value in ("yes", "no"):
        patch = {"metadata": {"labels": {"done": value}}}
        await cluster.request("PATCH", pods(namespace, "a"), patch, kind=LABELS)
    since = pod["metadata"]["resourceVersion"]
    query = f"watch=1&labelSelector=done%21%3Dyes&resourceVersion={since}"
    events = await take(cluster, pods(namespace, query=query), 2)
    assert told(events) == [("DELETED", "a"), ("ADDED", "a")]
    assert events[0]["object"]["metadata"]["labels"] == {"done": "no"}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=web", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier in (web, db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier=web,size=big", ["a"]),
        ("tier==db,!size", ["b"]),
    ],
)
async def test_label_selectors(cluster: ClusterDriver, selector: str, names: list[str]) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a", tier="web", size="big"), gated("b", tier="db"), gated("c"))
    query = f"labelSelector={quote(selector, safe='')}"
    items = (await cluster.request("GET", pods(namespace, query=query))).json["items"]
    assert [item["metadata"]["name"] for item in items] == names


@pytest.mark.parametrize("selector", ["metadata.name=a", "status.phase=Pending,metadata.name!=b", "spec.nodeName="])
async def test_field_selectors(cluster: ClusterDriver, selector: str) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a"))
    query = f"fieldSelector={quote(selector, safe='')}"
    items = (await cluster.request("GET", pods(namespace, query=query))).json["items"]
    assert [item["metadata"]["name"] for item in items] == ["a"]


async def test_a_selector_for_a_field_that_does_not_exist_is_declined(cluster: ClusterDriver) -> None:
    reply = await cluster.request("GET", pods("default", query="fieldSelector=no.such%3Dx"))
    assert (reply.status, reply.json["reason"]) == (400, "BadRequest")


async def test_initial_events_end_with_the_recorded_bookmark(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    first, bookmark = await take(cluster, pods(namespace, query=query), 2)
    assert told([first]) == [("ADDED", "a")]
    expected = json.loads(recorded_requests("watch-expired-410")[2]["body"])
    for event in (bookmark, expected):
        assert int(event["object"]["metadata"].pop("resourceVersion")) > 0
    assert bookmark == expected


async def test_initial_events_need_a_match(cluster: ClusterDriver) -> None:
    reply = await cluster.request("GET", pods("default", query="watch=1&sendInitialEvents=true"))
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")


async def test_a_version_that_is_too_old_is_told_in_the_stream(cluster: ClusterDriver) -> None:
    (event,) = await take(cluster, pods("default", query="watch=1&resourceVersion=1"), 1)
    expected = json.loads(recorded_requests("watch-expired-410")[0]["body"])
    for one in (event, expected):
        assert one["object"]["message"].startswith("too old resource version: 1 (")
        del one["object"]["message"]
    assert event == expected


async def test_a_version_from_the_future_is_waited_for(cluster: ClusterDriver) -> None:
    version = int((await cluster.request("GET", pods("default"))).json["metadata"]["resourceVersion"]) + 100_000
    query = f"watch=1&resourceVersion={version}&timeoutSeconds=1"
    reply = await cluster.request("GET", pods("default", query=query))
    assert (reply.status, reply.body) == (200, b"") or not cluster.is_pocket


async def test_after_a_trim_a_watch_must_begin_anew(cluster: ClusterDriver) -> None:
    if not cluster.is_pocket:
        pytest.skip("the history of a real cluster cannot be trimmed from outside")
    namespace = await cluster.namespace()
    await created(cluster, namespace, gated("a"))
    version = (await cluster.request("GET", pods(namespace))).json["metadata"]["resourceVersion"]
    await created(cluster, namespace, gated("b"))
    cluster.pocket.trim_history()
    (event,) = await take(cluster, pods(namespace, query=f"watch=1&resourceVersion={version}"), 1)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_a_watch_ends_after_its_time(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    reply = await cluster.request("GET", pods(namespace, query="watch=1&timeoutSeconds=1&resourceVersion=0"))
    assert (reply.status, reply.body) == (200, b"")


async def test_a_list_comes_in_pages(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await created(cluster, namespace, *(gated(name) for name in "abcde"))
    names: list[str] = []
    token = ""
    while True:
        page = (await cluster.request("GET", pods(namespace, query=f"limit=2&continue={token}"))).json
        assert len(page["items"]) <= 2
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == list("abcde")


async def test_pods_of_all_namespaces_are_listed_together(cluster: ClusterDriver) -> None:
    namespaces = [await cluster.namespace() for _ in range(2)]
    for namespace in namespaces:
        await created(cluster, namespace, gated("everywhere"))
    reply = await cluster.request("GET", "/api/v1/pods?fieldSelector=metadata.name%3Deverywhere")
    assert {item["metadata"]["namespace"] for item in reply.json["items"]} >= set(namespaces)


async def test_events_of_a_pod_can_be_found(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    (pod,) = await created(cluster, namespace, simple_pod("a", "busybox:1.36", ["true"]))
    query = f"watch=1&fieldSelector=involvedObject.uid%3D{pod['metadata']['uid']}"
    (event, *_) = await take(cluster, f"/api/v1/namespaces/{namespace}/events?{query}", 1)
    assert event["object"]["involvedObject"]["name"] == "a"
